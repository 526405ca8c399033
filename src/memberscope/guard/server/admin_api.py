"""What operators ask a running guard, on a port of its own.

Health, metrics, the policy in force, and reload.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

from memberscope.guard.asgi.bodies import App
from memberscope.guard.asgi.openapi import build_openapi
from memberscope.guard.server.reload import Reloads
from memberscope.guard.state.interface import State, StateError

NOBODY = "0" * 16
Reach = Callable[[], Awaitable[bool]]


def build_admin_app(
    reloads: Reloads, reachable: Reach, metrics: Callable[[], bytes], reload: Callable[[], bool]
) -> App:
    """The application. `reachable` asks for the upstream, and `reload` reads the policy again.

    Here or in all workers.
    """
    from starlette.applications import Starlette
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
        return JSONResponse(
            {"ready": all(found.values()), **found, **said}, 200 if all(found.values()) else 503
        )

    async def measured(request: Request) -> Response:
        return Response(metrics(), media_type=CONTENT_TYPE)

    async def policy(request: Request) -> Response:
        return JSONResponse(_describe_active_policy(reloads))

    async def again(request: Request) -> Response:
        good = reload()
        return JSONResponse(_describe_active_policy(reloads), 200 if good else 409)

    async def described(request: Request) -> Response:
        return JSONResponse(build_openapi(guard.rules.policy))

    return Starlette(
        routes=[
            Route("/health/live", live),
            Route("/health/ready", ready),
            Route("/metrics", measured),
            Route("/policy", policy),
            Route("/reload", again, methods=["POST"]),
            Route("/openapi.json", described),
        ]
    )


def _describe_active_policy(reloads: Reloads) -> dict[str, Any]:
    """Which policy is in force, since when, and what is wrong with the file if it is broken."""
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
    """Whether the state answers."""
    try:
        if state is not None:
            await state.standing(NOBODY)
    except StateError:
        return False
    return True
