"""Guard an ASGI application: identify, count, ask, and answer as the policy allows.

An answer leaves only through `_protected`, which either applies the defence or, where the policy
fails closed, refuses. Whatever goes wrong on the way, also what nobody foresaw, ends in a refusal.
WebSockets are refused: their messages have no protocol that could be read, so that nothing could be
restricted in them.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from memberscope.errors import MemberscopeError
from memberscope.guard.asgi.asgi_types import App, Receive, Scope, Send
from memberscope.guard.asgi.bodies import (
    JSON,
    Captured,
    ClientDisconnected,
    GuardReply,
    UnreadableAnswer,
    read_body,
    read_header,
    select_neutral_headers,
)
from memberscope.guard.asgi.compiled_policy import (
    Group,
    Identify,
    Rules,
    build_rules,
    load_guard_policy,
)
from memberscope.guard.asgi.model_request import replay_body, rewrite_scope
from memberscope.guard.asgi.observe_mode import MessageTee
from memberscope.guard.asgi.refusals import REASONS, build_failure_reply, build_refusal_reply
from memberscope.guard.asgi.routes import Route, read_request_path, route_request
from memberscope.guard.asgi.streaming import StreamingSend, limit_receive
from memberscope.guard.asgi.trace import Trace
from memberscope.guard.counters import Counters, Faulty, Uncounted
from memberscope.guard.hashing.pseudonyms import KeyedHasher, Names
from memberscope.guard.identity.client_classes import DEFAULT
from memberscope.guard.logs.operational_log import LOGGER, log_event
from memberscope.guard.policy.config import GuardPolicy
from memberscope.guard.policy.measured_level import require_measured
from memberscope.guard.query_event import Watch
from memberscope.guard.refused import CredentialRefused, Problem, RequestRefused
from memberscope.guard.rewriting.exchange import find_answered_classes
from memberscope.guard.rewriting.request_parser import ParsedQuery
from memberscope.guard.state.in_memory import MemoryState
from memberscope.guard.state.interface import State, StateError
from memberscope.guard.state.token_buckets import format_retry_after
from memberscope.types import OutputDefence
from memberscope.wire import Batch

LATER = 16  # records up to which an answer that passes as it is is read by the monitor


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

    `state` keeps budgets and responses, `watch` is told of each query after it was answered,
    `counters` count, and `names` are the keyed names of clients and records. `identify` tells who
    sent an ASGI scope. A policy that serves more than its `[measured]` is refused, or with
    `allow_looser` logged. `lifecycle` starts and stops with the application.

    >>> guard = PolicyMiddleware(None, policy=GuardPolicy.model_validate({"serving": {"n_classes": 3}}))
    >>> list(guard.rules.groups)
    ['default']
    """

    def __init__(
        self,
        app: App | None,
        *,
        policy: GuardPolicy | str | Path,
        state: State | None = None,
        identify: Identify | None = None,
        watch: Watch | None = None,
        counters: Counters | None = None,
        names: Names | None = None,
        clock: Callable[[], float] = time.monotonic,
        allow_looser: bool = False,
        lifecycle: Lifecycle | None = None,
    ) -> None:
        """Read the policy.

        Raises:
            InputError: It is not usable.
        """
        self.app, self.state, self.watch, self.clock, self._identify = (
            app,
            state,
            watch,
            clock,
            identify,
        )
        self.lifecycle, self.allow_looser = lifecycle, allow_looser
        self.counters = counters or Uncounted()
        self.names = names or KeyedHasher()
        self.rules = self.prepared(policy)

    def prepared(self, policy: GuardPolicy | str | Path) -> Rules:
        """Compile a policy for `swap`.

        Raises:
            InputError: It is not usable.
        """
        rules = build_rules(load_guard_policy(policy), self._identify)
        require_measured(rules.policy, allow_looser=self.allow_looser)
        if self.state is None and rules.keeps:
            self.state = MemoryState(
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
                await self._observe(rules, found, scope, receive, send)
            elif found.kind == "query":
                await self._query(rules, scope, receive, send)
            elif found.kind == "passed":
                await self._pass(rules, scope, receive, send)
            else:
                await self._refuse(found, scope, send)

    async def _pass(self, rules: Rules, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on unchanged, part by part; GET and HEAD bring no body."""
        assert self.app is not None
        start, passing = self.clock(), StreamingSend(send)
        reads = scope["method"] in ("GET", "HEAD")
        receive = (
            replay_body(b"", receive)
            if reads
            else limit_receive(receive, rules.policy.limits.body_timeout)
        )
        try:
            await self.app(scope, receive, passing)
        except RequestRefused as refused:
            # Once an answer has begun no other can be sent
            if passing.started:
                raise
            await build_refusal_reply(refused).send(passing)
        finally:
            self.counters.request("passed", passing.status, self.clock() - start)

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

    async def _query(self, rules: Rules, scope: Scope, receive: Receive, send: Send) -> None:
        trace = Trace(self.clock())
        self.counters.in_flight(1)
        try:
            group = self._who(rules, trace, scope)
            # Nothing to restrict, count or watch: the query streams through
            if self._free(rules, group):
                await self._stream(rules, trace, scope, receive, send)
                return
            reply = await self._reply(rules, trace, group, scope, receive)
            await self._answer(rules, trace, reply, send)
        except RequestRefused as refused:
            trace.reason = trace.reason or REASONS.get(refused.status, "other")
            self.counters.refused(trace.reason)
            reply = build_refusal_reply(refused)
            # A body that was not read must not keep the connection
            reply = reply if trace.whole else reply.last()
            # Time can tell of records only where they were read: other refusals are not held
            await self._answer(rules, trace, reply, send, hold=trace.batch is not None)
        except ClientDisconnected:
            trace.reason = "gone"
        except Exception as error:
            # What nobody foresaw ends in a refusal too
            self._fault(trace, "internal", error)
            await self._answer(
                rules, trace, build_refusal_reply(RequestRefused("unavailable")), send
            )
        finally:
            self.counters.in_flight(-1)
            self._done(trace)

    def _free(self, rules: Rules, group: Group) -> bool:
        """Tell whether neither the query nor its answer needs to be read."""
        unbound = group.defence is None and group.unlimited and rules.policy.guard.total is None
        return (
            unbound
            and self.watch is None
            and not rules.responds
            and rules.policy.limits.least_seconds == 0
        )

    async def _answer(
        self, rules: Rules, trace: Trace, reply: GuardReply, send: Send, *, hold: bool = True
    ) -> None:
        """Send the reply, not before the policy's `least_seconds`."""
        rest = rules.policy.limits.least_seconds - (self.clock() - trace.start)
        if hold and rest > 0:
            await asyncio.sleep(rest)
        trace.status = reply.status
        await reply._replace(headers=(*reply.headers, *trace.told)).send(send)

    def _who(self, rules: Rules, trace: Trace, scope: Scope) -> Group:
        try:
            client = rules.identify(scope)
            group = rules.group(client)
        except CredentialRefused as refused:
            # The log names the sender's network; the sender has no class and no budget
            trace.client, trace.key = refused.client, self.names.client(refused.client)
            trace.reason = "credential" if refused.status == 401 else "guesses"
            log_event(
                logging.INFO,
                "credential_refused",
                source=refused.source,
                why=refused.why,
                client=trace.key,
            )
            raise
        except RequestRefused:
            raise
        except Exception as error:
            self._fault(trace, "identity", error)
            if rules.policy.guard.on_fault == "closed":
                raise RequestRefused("unavailable") from None
            # With on_fault = "open", all who cannot be identified count as one client
            trace.client, trace.key, trace.group = "unknown", self.names.client("unknown"), DEFAULT
            return rules.groups[DEFAULT]
        trace.client, trace.key, trace.group = (
            client.text,
            self.names.client(client.text),
            group.name,
        )
        return group

    async def _reply(
        self, rules: Rules, trace: Trace, group: Group, scope: Scope, receive: Receive
    ) -> GuardReply:
        limits = rules.policy.limits
        body = await read_body(
            receive, scope["headers"], limits.max_body_bytes, limits.body_timeout
        )
        trace.whole = True
        query = rules.exchange.query(body, restricted=group.defence is not None)
        if len(query.batch) > limits.max_records:
            raise RequestRefused("content-too-large")
        trace.batch = query.batch
        # A query that would find the queue full is refused before it takes from any budget
        rules.slots.check()
        defence = await self._allowed(rules, trace, group, query.batch)
        # A response coarsens a class without a defence: the declared output alone is asked for
        if defence is not None and group.defence is None:
            query = rules.exchange.query(body, restricted=True)
        try:
            async with rules.slots.one(limits.answer_timeout):
                captured = await self._asked(rules, trace, query, scope, receive)
        except RequestRefused as refused:
            # Nobody learnt anything, and not for anything that the client did
            if refused.problem in ("overloaded", "gateway-timeout"):
                await self._refund(trace)
            raise
        return await self._protected(rules, trace, captured, len(query.batch), defence)

    async def _allowed(
        self, rules: Rules, trace: Trace, group: Group, batch: Batch
    ) -> OutputDefence | None:
        """Give the defence of the answer, after active responses and budgets.

        Raises:
            RequestRefused: The client may not ask now.
        """
        defence, throttle = group.defence, None
        try:
            standing = (
                await self.state.standing(trace.key)
                if self.state is not None and rules.responds
                else None
            )
            # Active responses come before budgets: who is blocked takes no tokens
            response = None if standing is None else standing.response
            if response == "block":
                raise RequestRefused("forbidden")
            if response == "step_up":
                trace.reason = "step_up"
                challenge = 'Bearer error="insufficient_user_authentication"'
                raise RequestRefused(
                    "stronger-credentials-required", (("www-authenticate", challenge),)
                )
            if response == "throttle":
                throttle = rules.policy.respond.throttle
            if response == "coarsen":
                defence = group.coarse
            buckets = rules.buckets(
                group, trace.key, batch, self.names, throttle, sender=trace.client
            )
            buckets += rules.older_buckets(group, trace.client, batch, self.names)
            # Those of older keys too are given back where no answer comes
            trace.buckets, trace.counted = buckets, bool(buckets)
            taken = trace.taken = (
                await self.state.take(buckets) if self.state is not None and buckets else None
            )
        except StateError as error:
            self._fault(trace, "state", error)
            if rules.policy.guard.on_fault == "closed":
                raise RequestRefused("unavailable") from None
            return defence
        trace.told = group.tell_limits(taken)
        if taken is not None and not taken.allowed:
            wait = format_retry_after(taken.retry_after)
            raise RequestRefused(
                "budget-exhausted", () if wait is None else (("retry-after", wait),)
            )
        return defence

    async def _refund(self, trace: Trace) -> None:
        """Give back what budgets took for a query that the guard could not have answered."""
        if self.state is None or trace.taken is None:
            return
        try:
            await self.state.refund(trace.buckets, trace.taken)
        except StateError as error:
            # The client is refused anyway, and has less than it should
            self._fault(trace, "state", error)

    async def _asked(
        self, rules: Rules, trace: Trace, query: ParsedQuery, scope: Scope, receive: Receive
    ) -> Captured:
        """Ask the application and hold its answer back."""
        assert self.app is not None
        limits = rules.policy.limits
        captured = Captured(limits.max_answer_bytes)
        try:
            async with asyncio.timeout(limits.answer_timeout):
                await self.app(
                    rewrite_scope(scope, query.body), replay_body(query.body, receive), captured
                )
        except TimeoutError:
            self._fault(trace, "upstream", TimeoutError("no answer in time"))
            raise RequestRefused("gateway-timeout") from None
        except UnreadableAnswer as error:
            self._fault(trace, "answer", error)
            raise RequestRefused("bad-gateway") from None
        except Exception as error:
            self._fault(trace, "upstream", error)
            # An application that fails after its answer is whole has still answered
            if not captured.ended:
                raise RequestRefused("bad-gateway") from None
        return captured

    async def _protected(
        self,
        rules: Rules,
        trace: Trace,
        captured: Captured,
        n: int,
        defence: OutputDefence | None,
    ) -> GuardReply:
        """Apply the defence: the only way out for an answer."""
        # An error's text may quote the record, so that its status alone is answered
        if not 200 <= captured.status < 300:
            return build_failure_reply(captured.status, captured.headers)
        try:
            body = captured.body()
            if defence is None:
                # Where records count, the answer must be about as many as were asked for: several
                # in the place of one would cost one
                if trace.counted:
                    trace.labels = find_answered_classes(
                        rules.exchange.read(body, n).outputs, rules.exchange.declared.level
                    )
                elif n > LATER:
                    trace.labels = rules.exchange.tops(body, n)
                else:
                    trace.passed, trace.serving = body, rules.policy.serving
                return GuardReply(
                    captured.status,
                    body,
                    select_neutral_headers(captured.headers),
                    read_header(captured.headers, b"content-type") or JSON,
                )
            # MemGuard searches for milliseconds a record, in which others would wait
            if "memguard" in defence.name:
                found, labels = await asyncio.to_thread(rules.exchange.answer, body, n, defence)
            else:
                found, labels = rules.exchange.answer(body, n, defence)
        except Exception as error:
            self._fault(
                trace,
                "defence"
                if not isinstance(error, MemberscopeError | UnreadableAnswer)
                else "answer",
                error,
            )
            # Without a body that can be read nothing can pass, even with on_fault = "open"
            if rules.policy.guard.on_fault == "closed" or isinstance(error, UnreadableAnswer):
                raise RequestRefused("bad-gateway") from None
            self.counters.exposed()
            log_event(logging.ERROR, "exposed", client=trace.key)
            return GuardReply(
                captured.status,
                body,
                select_neutral_headers(captured.headers),
                read_header(captured.headers, b"content-type") or JSON,
            )
        trace.labels = labels
        return GuardReply(captured.status, found, select_neutral_headers(captured.headers))

    async def _stream(
        self, rules: Rules, trace: Trace, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Stream a query and its answer; errors still say nothing about the record."""
        assert self.app is not None
        limits = rules.policy.limits
        passing = StreamingSend(send, neutral=True)
        receive = limit_receive(receive, limits.body_timeout, limits.max_body_bytes)
        async with rules.slots.one(limits.answer_timeout):
            try:
                async with asyncio.timeout(limits.answer_timeout):
                    await self.app(scope, receive, passing)
            except Exception as error:
                # Refusals of limit_receive are the client's fault, all else is the upstream's
                late, client = isinstance(error, TimeoutError), isinstance(error, RequestRefused)
                if not client:
                    self._fault(trace, "upstream", error)
                # Too late for another answer: the connection ends
                if passing.started:
                    raise ClientDisconnected from None
                raise (
                    error
                    if client
                    else RequestRefused("gateway-timeout")
                    if late
                    else RequestRefused("bad-gateway")
                ) from None
        trace.status = passing.status
        # The application answered with an error, whose text was held back
        if not passing.started:
            await self._answer(
                rules,
                trace,
                build_failure_reply(passing.status, passing.headers),
                send,
            )

    async def _observe(
        self, rules: Rules, found: Route, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Pass request and answer on unchanged, then find out what enforcing would have done."""
        assert self.app is not None
        limits = rules.policy.limits
        trace, heard = (
            Trace(self.clock()),
            MessageTee(receive, send, limits.max_body_bytes, limits.max_answer_bytes),
        )
        await self.app(scope, heard.receive, heard.send)
        trace.status = heard.answer.status
        # Requests that are no queries have nothing to judge but whether they are refused
        if found.kind != "query":
            self.counters.request("passed", trace.status, self.clock() - trace.start)
            if found.kind == "refused":
                self._would(trace, found.status)
            return
        try:
            status = await self._judged(rules, trace, scope, heard)
        except RequestRefused as refused:
            status = refused.status
        except Exception as error:
            self._fault(trace, "internal", error)
            status = 503
        self._would(trace, status)
        self._done(trace)

    async def _judged(self, rules: Rules, trace: Trace, scope: Scope, heard: MessageTee) -> int:
        """Give the status that enforcing would have answered with."""
        group = self._who(rules, trace, scope)
        if heard.too_long:
            raise RequestRefused("content-too-large")
        # The body has been heard whole, so that the time limit does not matter
        body = await read_body(
            heard.again, scope["headers"], rules.policy.limits.max_body_bytes, 1.0
        )
        query = rules.exchange.query(body, restricted=group.defence is not None)
        if len(query.batch) > rules.policy.limits.max_records:
            raise RequestRefused("content-too-large")
        trace.batch = query.batch
        defence = await self._allowed(rules, trace, group, query.batch)
        reply = await self._protected(rules, trace, heard.answer, len(query.batch), defence)
        return reply.status

    def _would(self, trace: Trace, status: int) -> None:
        self.counters.would(status)
        # What the server refuses by itself is not told
        if status >= 400 and status != trace.status:
            log_event(
                logging.INFO, "would_refuse", status=status, client=trace.key, group=trace.group
            )

    def _fault(self, trace: Trace, which: Faulty, error: Exception) -> None:
        """Count and log a fault; foreign errors by type alone, as they may quote inputs."""
        trace.faults.append(which)
        self.counters.fault(which)
        said = (
            str(error)
            if isinstance(error, MemberscopeError | StateError | UnreadableAnswer)
            else ""
        )
        log_event(
            logging.ERROR,
            "fault",
            which=which,
            error=type(error).__name__,
            said=said,
            client=trace.key,
        )

    def _done(self, trace: Trace) -> None:
        """Count the query, log it, and tell the monitor, whose own errors change nothing."""
        seconds = self.clock() - trace.start
        self.counters.request("query", trace.status, seconds)
        # Answers are many, and of interest one by one only in debugging
        level = logging.DEBUG if trace.status < 400 else logging.INFO
        if LOGGER.isEnabledFor(level):
            log_event(
                level,
                "query",
                status=trace.status,
                reason=trace.reason,
                client=trace.key,
                group=trace.group,
                records=0 if trace.batch is None else len(trace.batch),
                milliseconds=round(1000 * seconds, 3),
            )
        if self.watch is None or trace.batch is None:
            return
        try:
            self.watch(trace.build_event(trace.batch, seconds))
        except Exception as error:
            self._fault(trace, "watch", error)
