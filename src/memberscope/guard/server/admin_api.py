"""Serve operators on a port of its own: health, metrics, the policy in force, reload."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from memberscope.guard.asgi.asgi_types import App
from memberscope.guard.asgi.openapi import build_openapi
from memberscope.guard.asgi.refusals import PROBLEM_JSON, encode_problem
from memberscope.guard.server.reload import Reloads
from memberscope.guard.state.interface import State, StateError

# A client's hash that is asked for only to see whether the state answers
NOBODY = "0" * 16
Reach = Callable[[], Awaitable[bool]]


def build_admin_app(
    reloads: Reloads, reachable: Reach, metrics: Callable[[], bytes], reload: Callable[[], bool]
) -> App:
    """Build the application; `reload` reads the policy again, here or in all workers."""
    from starlette.applications import Starlette
    from starlette.exceptions import HTTPException
    from starlette.requests import Request
    from starlette.responses import JSONResponse, Response
    from starlette.routing import Route

    from memberscope.guard.alerting.prometheus import CONTENT_TYPE

    guard = reloads.guard

    async def live(request: Request) -> Response:
        return JSONResponse({"live": True})

    async def ready(request: Request) -> Response:
        found = {"upstream": await reachable(), "state": await _is_state_reachable(guard.state)}
        said = {"policy_broken": reloads.broken or None, "needs_restart": reloads.restart or None}
        document = {"ready": all(found.values()), **found, **said}
        return JSONResponse(document) if document["ready"] else problem("not-ready", 503, document)

    async def measured(request: Request) -> Response:
        return Response(metrics(), media_type=CONTENT_TYPE)

    async def policy(request: Request) -> Response:
        return JSONResponse(_describe_active_policy(reloads))

    async def again(request: Request) -> Response:
        good = reload()
        document = _describe_active_policy(reloads)
        return JSONResponse(document) if good else problem("policy-rejected", 409, document)

    async def described(request: Request) -> Response:
        return JSONResponse(build_openapi(guard.rules.policy))

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

    return Starlette(
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


def _describe_active_policy(reloads: Reloads) -> dict[str, Any]:
    """Describe the policy in force, and what is wrong with the file if it is broken."""
    rules = reloads.guard.rules
    return {
        "digest": rules.digest,
        "mode": rules.policy.guard.mode,
        "on_fault": rules.policy.guard.on_fault,
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
