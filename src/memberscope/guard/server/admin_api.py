"""Serve operators on a port of its own: health, metrics, the policy in force, reload."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from memberscope.guard.asgi.asgi_types import App, Receive, Scope, Send
from memberscope.guard.asgi.openapi import build_openapi
from memberscope.guard.asgi.refusals import PROBLEM_JSON, build_refusal_reply, encode_problem
from memberscope.guard.logs.operational_log import log_event
from memberscope.guard.refused import RequestRefused
from memberscope.guard.server.admin_token import AdminToken
from memberscope.guard.server.reload import Reloads
from memberscope.guard.state.interface import State, StateError

# A client's hash that is asked for only to see whether the state answers
NOBODY = "0" * 16
Reach = Callable[[], Awaitable[bool]]


@dataclass(frozen=True, eq=False)
class AdminParts:
    """What the operators' port shows and does.

    `reloads` has one entry for each served model, `reachable` asks their upstreams, `metrics` gives
    the exposition, `reload` reads the policies again, here or in all workers, `token` gives what a
    request must send, and `draining` tells whether the guard is about to end.
    """

    reloads: Sequence[Reloads]
    reachable: Reach
    metrics: Callable[[], bytes]
    reload: Callable[[], bool]
    token: Callable[[], AdminToken] = lambda: AdminToken(None)
    draining: Callable[[], bool] = lambda: False

    async def check(self, *, details: bool) -> dict[str, object]:
        """Find out whether the guard can serve; `details` are for operators alone."""
        reloads = self.reloads
        states = [await _is_state_reachable(entry.guard.state) for entry in reloads]
        found = {"upstream": await self.reachable(), "state": all(states)}
        ready = all(found.values()) and not self.draining()
        document: dict[str, object] = {"ready": ready, "draining": self.draining(), **found}
        if details:
            broken = "; ".join(entry.broken for entry in reloads if entry.broken)
            restart = "; ".join(entry.restart for entry in reloads if entry.restart)
            document |= {"policy_broken": broken or None, "needs_restart": restart or None}
        return document

    def describe(self) -> dict[str, object]:
        """Describe the policies in force: the first, and those of further models."""
        first, *others = map(_describe_active_policy, self.reloads)
        return first | ({"models": others} if others else {})


def build_admin_app(parts: AdminParts) -> App:
    """Build the application; where there is a token, only health answers without it."""
    from starlette.applications import Starlette
    from starlette.exceptions import HTTPException
    from starlette.requests import Request
    from starlette.responses import JSONResponse, Response
    from starlette.routing import Route

    from memberscope.guard.alerting.prometheus import CONTENT_TYPE

    async def live(request: Request) -> Response:
        return JSONResponse({"live": True})

    async def ready(request: Request) -> Response:
        document = await parts.check(details=parts.token().accepts(request.headers.raw))
        return JSONResponse(document) if document["ready"] else problem("not-ready", 503, document)

    async def measured(request: Request) -> Response:
        return Response(parts.metrics(), media_type=CONTENT_TYPE)

    async def policy(request: Request) -> Response:
        return JSONResponse(parts.describe())

    async def again(request: Request) -> Response:
        good = parts.reload()
        document = parts.describe()
        return JSONResponse(document) if good else problem("policy-rejected", 409, document)

    async def described(request: Request) -> Response:
        documents = [build_openapi(entry.guard.rules.policy) for entry in parts.reloads]
        paths: dict[str, object] = {}
        for document in documents:
            found = document["paths"]
            assert isinstance(found, dict)
            paths |= found
        return JSONResponse({**documents[0], "paths": paths})

    async def refused(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        name = "method-not-allowed" if error.status_code == 405 else "not-found"
        return problem(name, error.status_code, headers=error.headers)

    async def failed(request: Request, error: Exception) -> Response:
        return problem("internal-error", 500)

    def problem(
        name: str,
        status: int,
        members: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Response:
        body = encode_problem(name, status, **(members or {}))
        return Response(body, status, headers, PROBLEM_JSON.decode())

    inside = Starlette(
        exception_handlers={HTTPException: refused, Exception: failed},
        routes=[
            Route("/health/live", live),
            Route("/health/ready", ready),
            Route("/metrics", measured),
            Route("/policy", policy),
            Route("/reload", again, methods=["POST"]),
            Route("/openapi.json", described),
        ],
    )
    return require_admin_token(inside, parts.token)


def require_admin_token(app: App, token: Callable[[], AdminToken]) -> App:
    """Refuse (401) requests without the token, but for health: orchestrators send none."""

    async def checked(scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("path", "")
        free = path in ("/health/live", "/health/ready")
        if scope["type"] != "http" or free or token().accepts(scope["headers"]):
            await app(scope, receive, send)
            return
        log_event(logging.WARNING, "admin_refused", path=path)
        challenge = (("www-authenticate", "Bearer"),)
        reply = build_refusal_reply(RequestRefused("credentials-required", challenge))
        await reply.last().send(send)

    return checked


def _describe_active_policy(reloads: Reloads) -> dict[str, object]:
    """Describe the policy in force, and what is wrong with the file if it is broken."""
    rules = reloads.guard.rules
    return {
        "digest": rules.digest,
        "mode": rules.policy.guard.mode,
        "on_fault": rules.policy.guard.on_fault,
        "prefix": rules.policy.serving.prefix or None,
        "loaded_at": datetime.fromtimestamp(reloads.loaded_at, UTC).isoformat(),
        "broken": reloads.broken or None,
        "needs_restart": reloads.restart or None,
    }


async def _is_state_reachable(state: State | None) -> bool:
    """Tell whether the state answers."""
    try:
        if state is not None:
            await state.standing(NOBODY)
    except StateError:
        return False
    return True
