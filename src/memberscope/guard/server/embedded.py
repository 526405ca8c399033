"""Run the guard as middleware of another application.

Its monitor starts and ends with the application, or starts at the first request.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Unpack

from memberscope.errors import InputError
from memberscope.guard.asgi.asgi_types import App, Message, Receive, Scope, Send
from memberscope.guard.asgi.compiled_policy import Identify, load_guard_policy
from memberscope.guard.asgi.middleware import GivenParts, PolicyMiddleware
from memberscope.guard.identity.client_identity import MIXED_TRAILERS, Client
from memberscope.guard.logs.operational_log import log_event
from memberscope.guard.policy.config import GuardPolicy
from memberscope.guard.refused import RequestRefused
from memberscope.guard.server.assembly import GuardAssembly, assemble_guard
from memberscope.guard.server.request_entry import serve_with_request_id

ASSEMBLED = ("state", "watch", "names", "counters")  # parts that the policy names
APART = "uvicorn.protocols.http.h11_impl"  # the module of a server that drops trailers


class Embedded:
    """Start and stop the parts of a guard inside another application."""

    def __init__(self, parts: GuardAssembly) -> None:
        """Start nothing yet: there may be no loop."""
        self.parts, self.started = parts, False
        self._lock = asyncio.Lock()

    async def start(self) -> None:
        """Start, unless it is started."""
        # First requests may come together, and the parts start once
        async with self._lock:
            if not self.started:
                await self.parts.start()
                self.started = True

    async def stop(self) -> None:
        """Look at what waits, and let go of everything."""
        if self.started:
            self.started = False
            await self.parts.stop()
        await self.parts.state.close()

    def around(self, receive: Receive, send: Send) -> tuple[Receive, Send]:
        """Wrap the two ends of a lifespan to start the parts before it and stop them after it."""

        async def begun() -> Message:
            message = await receive()
            # Before the application's own start, so that it can serve at once
            if message["type"] == "lifespan.startup":
                await self.start()
            return message

        async def ended(message: Message) -> None:
            # After the application's own end: until then it may answer queries
            if message["type"] in ("lifespan.shutdown.complete", "lifespan.shutdown.failed"):
                await self.stop()
            await send(message)

        return begun, ended


class GuardMiddleware(PolicyMiddleware):
    """Guard `app` by a policy: a file's name or a policy that was read.

    Use it as `app.add_middleware(GuardMiddleware, policy="guard.toml")`.

    State, watcher, counters and names are what the policy names, unless one of them is given; the
    monitor begins and ends with the application.

    >>> guard = GuardMiddleware(None, policy=GuardPolicy.model_validate({"serving": {"n_classes": 3}}))
    >>> list(guard.rules.groups)
    ['default']
    """

    def __init__(
        self,
        app: App | None,
        *,
        policy: GuardPolicy | str | Path,
        **parts: Unpack[GivenParts],
    ) -> None:
        """Read the policy, and assemble what it names.

        Raises:
            InputError: It is not usable, or workers that share a Redis have no key to know clients
                by.
        """
        self._apart, self._told = parts.get("trailers_apart", False), False
        identify = parts.get("identify")
        if identify is not None:
            parts["identify"] = _refuse_mixed_trailers(identify)
        lifecycle = None
        # Whoever gives one of the parts puts the guard together alone
        if app is not None and not any(parts.get(name) is not None for name in ASSEMBLED):
            lifecycle = _build_embedded_parts(load_guard_policy(policy))
            if lifecycle is not None:
                found = lifecycle.parts
                parts["state"], parts["watch"] = found.state, found.watch
                parts["names"], parts["counters"] = found.names, found.counters
        super().__init__(app, policy=policy, lifecycle=lifecycle, **parts)

    def _tell_once(self) -> None:
        """Log, once a process, that headers of bodies in chunks do not count."""
        if not self._told:
            self._told = True
            log_event(
                logging.WARNING,
                "trailers_not_told_apart",
                why="the server may put trailers behind a body among its headers, so that requests "
                "with a body in chunks and a header that says who asks get 411; run uvicorn with "
                "--http h11, or give trailers_apart=True for a server that leaves trailers out",
            )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request under its ID."""
        if scope["type"] == "http" and not self._apart and _has_mixed_trailers(scope, receive):
            self._tell_once()
            extensions = {**(scope.get("extensions") or {}), MIXED_TRAILERS: {}}
            scope = {**scope, "extensions": extensions}
        await serve_with_request_id(super().__call__, scope, receive, send)


def _has_mixed_trailers(scope: Scope, receive: Receive) -> bool:
    """Tell whether the headers of a request may hold trailers of its body.

    uvicorn with httptools adds them to the same list. With h11 it drops them; other servers are not
    known here.
    """
    if not any(name.lower() == b"transfer-encoding" for name, _ in scope["headers"]):
        return False
    server = type(getattr(receive, "__self__", None)).__module__
    return not server.startswith(APART)


def _refuse_mixed_trailers(identify: Identify) -> Identify:
    """Wrap a caller's `identify`, which may read any header, to refuse where that may be a trailer."""

    def identify_or_refuse(scope: Mapping[str, Any]) -> Client:
        if MIXED_TRAILERS in (scope.get("extensions") or {}):
            raise RequestRefused("length-required", (("connection", "close"),))
        return identify(scope)

    return identify_or_refuse


def _build_embedded_parts(policy: GuardPolicy) -> Embedded | None:
    """Build what the policy names beside its rules; None for budgets in this process alone.

    Raises:
        InputError: It is not usable, or workers that share a Redis have no key to know clients by.
    """
    # Nothing beside budgets in this process, which the middleware keeps by itself
    kept = policy.state.folder is not None
    if policy.state.redis is None and policy.monitor.key is None and not kept:
        return None
    if policy.monitor.key is None and not kept:
        raise InputError(
            "Expected key in [monitor] beside [state] redis, got none: workers would not know the "
            "same client. Name a key file."
        )
    # The secret is the monitor's key, or lies with the budgets, so that no other is needed
    return Embedded(assemble_guard(policy, b""))
