"""A guard in front of an upstream, both on the loopback interface, and raw requests to it."""

from __future__ import annotations

import asyncio
import http.client
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from memberscope.guard.asgi.http_protocol import build_protocol_class
from memberscope.guard.asgi.middleware import PolicyMiddleware
from memberscope.guard.forwarding.proxy import Proxy
from memberscope.guard.policy.config import GuardPolicy, parse_guard_policy
from memberscope.guard.query_event import QueryEvent
from memberscope.guard.server.worker import build_server, open_listener
from memberscope.guard.state.interface import ActiveResponse, StateError, Taken

JSON = {
    "protocol": "json",
    "path": "/score",
    "body": '{"records": "$records"}',
    "answer": "predictions",
    "n_classes": 3,
}
ROWS = {"records": [[0.5, 0.25], [1.0, -1.0]]}


def policy(**tables: Any) -> GuardPolicy:
    """A policy for the unruly server.

    Restricted to two classes with two digits unless said otherwise.
    """
    return parse_guard_policy({"serving": JSON, "default": {"restrict": "top:2+round:2"}} | tables)


class Guarded:
    """A guard that serves."""

    def __init__(self, url: str, guard: PolicyMiddleware, seen: list[QueryEvent]) -> None:
        self.url, self.guard, self.seen = url, guard, seen

    def watched(self, n: int) -> list[QueryEvent]:
        """What the monitor was told of n queries, which it is after they were answered."""
        end = time.monotonic() + 20
        while len(self.seen) < n and time.monotonic() < end:
            time.sleep(0.01)
        return self.seen

    def ask(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> Answer:
        """One request on a connection of its own; `body` is sent as it is, or as JSON."""
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        parts = urlsplit(self.url)
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=30)
        try:
            connection.request(method, path, data, headers or {})
            response = connection.getresponse()
            return Answer(
                response.status, {k.lower(): v for k, v in response.getheaders()}, response.read()
            )
        finally:
            connection.close()

    def score(self, body: Any = ROWS, headers: dict[str, str] | None = None) -> Answer:
        """A query."""
        return self.ask(
            "POST", "/score", body, {"content-type": "application/json"} | (headers or {})
        )


class Answer:
    """Status, headers and body of an answer."""

    def __init__(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.status, self.headers, self.body = status, headers, body

    @property
    def json(self) -> Any:
        """The body's document."""
        return json.loads(self.body)


class Broken:
    """A state that cannot be reached."""

    async def take(self, buckets: Any) -> Taken:
        raise StateError("away")

    async def refund(self, buckets: Any, taken: Taken) -> None:
        raise StateError("away")

    async def standing(self, client: str) -> ActiveResponse | None:
        raise StateError("away")

    async def stand(self, client: str, standing: ActiveResponse, seconds: float) -> None:
        raise StateError("away")

    async def publish(self, line: str) -> None:
        raise StateError("away")

    async def close(self) -> None:
        """Nothing to let go of."""


@contextmanager
def guarded(upstream: Any, rules: GuardPolicy, **parts: Any) -> Iterator[Guarded]:
    """The guard with this policy in front of an upstream's URL.

    Or of an application in the same process.
    """
    seen: list[QueryEvent] = []
    app = Proxy(upstream, rules) if isinstance(upstream, str) else upstream
    guard = PolicyMiddleware(app, policy=rules, **{"watch": seen.append} | parts)
    listening = open_listener("127.0.0.1", 0)
    public = build_server(
        guard,
        {"http": build_protocol_class(rules.limits.body_timeout), "timeout_graceful_shutdown": 5},
    )

    async def serve() -> None:
        await public.serve([listening])
        if isinstance(app, Proxy):
            await app.close()

    thread = threading.Thread(target=lambda: asyncio.run(serve()), daemon=True)
    thread.start()
    try:
        yield Guarded(f"http://127.0.0.1:{listening.getsockname()[1]}", guard, seen)
    finally:
        public.should_exit = True
        thread.join(20)
        listening.close()
        assert not thread.is_alive()
