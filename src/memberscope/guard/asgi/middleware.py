"""Guard an ASGI application by a policy: route its requests, and refuse what has no protection.

WebSockets are refused: their messages have no protocol that could be read, so that nothing could be
restricted in them.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol, TypedDict, Unpack

from memberscope.guard.asgi.asgi_types import App, Receive, Scope, Send
from memberscope.guard.asgi.bodies import GuardReply
from memberscope.guard.asgi.compiled_policy import Identify, Rules, build_rules, load_guard_policy
from memberscope.guard.asgi.model_request import replay_body
from memberscope.guard.asgi.observe_mode import observe_request
from memberscope.guard.asgi.query_pipeline import QueryPipeline
from memberscope.guard.asgi.refusals import build_refusal_reply
from memberscope.guard.asgi.routes import Route, read_request_path, route_request
from memberscope.guard.asgi.streaming import StreamingSend, limit_receive
from memberscope.guard.counters import Counters, Uncounted
from memberscope.guard.hashing.pseudonyms import KeyedHasher, Names
from memberscope.guard.policy.config import GuardPolicy
from memberscope.guard.policy.measured_level import require_measured
from memberscope.guard.query_event import Watch
from memberscope.guard.refused import Problem, RequestRefused
from memberscope.guard.state.in_memory import MemoryState
from memberscope.guard.state.interface import State


class GivenParts(TypedDict, total=False):
    """Parts that a caller may give a guard in the place of those that its policy names.

    `state` keeps budgets and responses, `watch` is told of each query after it was answered,
    `counters` count, and `names` are the keyed names of clients and records. `identify` tells who
    sent an ASGI scope. A policy that serves more than its `[measured]` is refused, or with
    `allow_looser` logged. `trailers_apart` says that the server leaves the trailers of a body out of
    its headers.
    """

    state: State | None
    identify: Identify | None
    watch: Watch | None
    counters: Counters | None
    names: Names | None
    clock: Callable[[], float]
    allow_looser: bool
    trailers_apart: bool


class Lifecycle(Protocol):
    """Interface of what starts and stops with the application around the guard."""

    started: bool

    async def start(self) -> None:
        """Start, unless it is started."""
        ...

    def around(self, receive: Receive, send: Send) -> tuple[Receive, Send]:
        """Give the two ends of a lifespan, with a start before it and a stop after it."""
        ...


class PolicyMiddleware:
    """Guard `app` by a policy; state, monitor and counters are given by the caller.

    `lifecycle` starts and stops with the application.

    >>> guard = PolicyMiddleware(None, policy=GuardPolicy.model_validate({"serving": {"n_classes": 3}}))
    >>> list(guard.rules.groups)
    ['default']
    """

    def __init__(
        self,
        app: App | None,
        *,
        policy: GuardPolicy | str | Path,
        lifecycle: Lifecycle | None = None,
        **parts: Unpack[GivenParts],
    ) -> None:
        """Read the policy.

        Raises:
            InputError: It is not usable.
        """
        self.app, self.lifecycle = app, lifecycle
        self._identify, self.allow_looser = parts.get("identify"), parts.get("allow_looser", False)
        self.queries = QueryPipeline(
            app,
            parts.get("state"),
            parts.get("watch"),
            parts.get("counters") or Uncounted(),
            parts.get("names") or KeyedHasher(),
            parts.get("clock", time.monotonic),
        )
        self.rules = self.prepared(policy)

    @property
    def state(self) -> State | None:
        """Store of budgets and responses, if the policy keeps any."""
        return self.queries.state

    @property
    def names(self) -> Names:
        """Keyed names of clients and records."""
        return self.queries.names

    @property
    def counters(self) -> Counters:
        """What counts requests, refusals and faults."""
        return self.queries.counters

    def prepared(self, policy: GuardPolicy | str | Path) -> Rules:
        """Compile a policy for `swap`.

        Raises:
            InputError: It is not usable.
        """
        rules = build_rules(load_guard_policy(policy), self._identify, self.queries.clock)
        require_measured(rules.policy, allow_looser=self.allow_looser)
        if self.state is None and rules.keeps:
            self.queries.state = MemoryState(
                rules.policy.monitor.clients,
                record_bytes=rules.policy.state.record_megabytes * 2**20,
            )
        return rules

    def swap(self, rules: Rules) -> None:
        """Put other rules in force; queries that have begun end under those they began with."""
        self.rules = rules

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        assert self.app is not None
        # Taken once: queries that have begun end under the rules that they began with
        rules = self.rules
        if self.lifecycle is not None and scope["type"] == "lifespan":
            receive, send = self.lifecycle.around(receive, send)
        # For hosts that send no lifespan, the first request starts it
        elif self.lifecycle is not None and not self.lifecycle.started:
            await self.lifecycle.start()
        observed = rules.policy.guard.mode == "observe"
        if scope["type"] == "websocket" and not observed:
            # A connection is announced before it can be closed; 1008: policy violation (RFC 6455)
            await receive()
            await send({"type": "websocket.close", "code": 1008})
        elif scope["type"] != "http":
            await self.app(scope, receive, send)
        else:
            found = route_request(rules.policy.serving, scope["method"], read_request_path(scope))
            if observed:
                await observe_request(self.queries, rules, found, scope, receive, send)
            elif found.kind == "query":
                await self.queries.answer(rules, scope, receive, send)
            elif found.kind == "passed":
                await self._pass(rules, scope, receive, send)
            else:
                await self._refuse(found, scope, send)

    async def _pass(self, rules: Rules, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on unchanged, part by part; GET and HEAD bring no body."""
        assert self.app is not None
        limits = rules.policy.limits
        start, passing = self.queries.clock(), StreamingSend(send)
        reads = scope["method"] in ("GET", "HEAD")
        receive = (
            replay_body(b"", receive)
            if reads
            else limit_receive(receive, limits.body_timeout, total=limits.passed_timeout)
        )
        try:
            await self.app(scope, receive, passing)
        except RequestRefused as refused:
            # Once an answer has begun no other can be sent
            if passing.started:
                raise
            await build_refusal_reply(refused).send(passing)
        finally:
            self.counters.request("passed", passing.status, self.queries.clock() - start)

    async def _refuse(self, found: Route, scope: Scope, send: Send) -> None:
        """Answer a request that is neither guarded nor passed, and OPTIONS of a guarded one."""
        allow = ((b"allow", b"POST, OPTIONS"),) if found.status == 405 else ()
        if found.status == 405 and scope["method"] == "OPTIONS":
            reply = GuardReply(200, b"{}", allow)
        else:
            problem: Problem = "method-not-allowed" if found.status == 405 else "not-found"
            reply = build_refusal_reply(RequestRefused(problem))._replace(headers=allow)
        # A body that nobody reads must not keep the connection, so that other methods end it
        reads = scope["method"] in ("GET", "HEAD", "OPTIONS")
        await (reply if reads else reply.last()).send(send, head=scope["method"] == "HEAD")
        self.counters.request("refused", reply.status, 0.0)
