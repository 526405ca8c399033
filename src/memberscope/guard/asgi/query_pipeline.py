"""Answer one query: identify, check, admit, read, count, ask, and answer as the policy allows.

The order is the protection: who asks, what stands against them, their share of what is at once, a
charge, and only then their body. An answer leaves only through `protect`, which either applies the
defence or, where the policy fails closed, refuses. Whatever goes wrong on the way, also what nobody
foresaw, ends in a refusal.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from memberscope.errors import MemberscopeError
from memberscope.guard.admission.admit import Turn, Visit
from memberscope.guard.asgi.asgi_types import App, Receive, Scope, Send
from memberscope.guard.asgi.bodies import (
    CLOSE,
    JSON,
    BodyHeaders,
    Captured,
    ClientDisconnected,
    GuardReply,
    UnreadableAnswer,
    find_declared_length,
    read_body,
    read_body_headers,
    read_header,
    select_neutral_headers,
    skip_body,
)
from memberscope.guard.asgi.body_parsing import parse_query
from memberscope.guard.asgi.compiled_policy import Group, Rules
from memberscope.guard.asgi.model_request import replay_body, rewrite_scope
from memberscope.guard.asgi.refusals import (
    GATEWAY,
    build_failure_reply,
    build_refusal_reply,
    find_refusal_reason,
)
from memberscope.guard.asgi.streaming import StreamingSend, limit_receive, stream_answer
from memberscope.guard.asgi.text_streams import EVENTS, EventSend, run_while_connected
from memberscope.guard.asgi.trace import Trace
from memberscope.guard.counters import Counters, Faulty
from memberscope.guard.hashing.pseudonyms import Names
from memberscope.guard.identity.client_classes import DEFAULT
from memberscope.guard.identity.client_identity import Client
from memberscope.guard.logs.operational_log import LOGGER, log_event
from memberscope.guard.policy.tables import RateLimit
from memberscope.guard.query_event import Watch
from memberscope.guard.refused import AT_FAULT, CredentialRefused, RequestRefused
from memberscope.guard.rewriting.request_parser import ParsedQuery
from memberscope.guard.rewriting.text_exchange import TextExchange
from memberscope.guard.state.in_memory import MemoryState
from memberscope.guard.state.interface import Bucket, State, StateError, Taken
from memberscope.guard.state.token_buckets import format_retry_after
from memberscope.types import OutputDefence
from memberscope.wire import Batch

LATER = 16  # records up to which an answer that passes as it is is read by the monitor
UNKNOWN = Client("network", "unknown", False)  # all who cannot be identified, as one client
# What was turned away unread is not charged for that
UNCHARGED = AT_FAULT | {"too-many-refusals", "too-many-at-once"}
TENTH = 0.1  # of a charge: a query that only lacks a budget costs no more than an answered one


class Treatment(NamedTuple):
    """What a client gets in the light of responses in force: its defence, and a throttle.

    Without a state (`away`) no budget is counted.
    """

    defence: OutputDefence | None
    throttle: RateLimit | None = None
    away: bool = False


@dataclass
class QueryPipeline:
    """Answer queries to `app` under rules; the parts are those of the middleware around it."""

    app: App | None
    state: State | None
    watch: Watch | None
    counters: Counters
    names: Names
    clock: Callable[[], float]

    async def answer(self, rules: Rules, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one query, whatever happens."""
        trace = Trace(self.clock())
        self.counters.in_flight(1)
        try:
            client, group = self.identify(rules, trace, scope)
            # Nothing to restrict, count or watch: the query streams through
            if self._is_free(rules, group):
                await self._stream(rules, trace, client, scope, receive, send)
                return
            reply = await self._reply(rules, trace, (client, group), (scope, receive, send))
            # An answer in parts has been sent
            if reply is not None:
                await self._send(rules, trace, reply, send)
        except RequestRefused as refused:
            trace.reason = trace.reason or find_refusal_reason(refused)
            self.counters.refused(trace.reason)
            reply = build_refusal_reply(refused)
            # A body that was not read must not keep the connection, unless it is short
            if not trace.whole and (
                trace.begun
                or CLOSE[0] in refused.headers
                or not await skip_body(receive, scope["headers"])
            ):
                reply = reply.last()
            # Time can tell of records only where they were read: other refusals are not held
            await self._send(rules, trace, reply, send, hold=trace.batch is not None)
        except ClientDisconnected:
            trace.reason = "gone"
        except Exception as error:
            # What nobody foresaw ends in a refusal too
            self.record_fault(trace, "internal", error)
            await self._send(rules, trace, build_refusal_reply(RequestRefused("unavailable")), send)
        finally:
            self.counters.in_flight(-1)
            self.finish(trace)

    def _is_free(self, rules: Rules, group: Group) -> bool:
        """Tell whether neither the query nor its answer needs to be read."""
        unbound = group.defence is None and group.unlimited and rules.policy.guard.total is None
        return (
            unbound
            and self.watch is None
            and not rules.responds
            and rules.policy.limits.least_seconds == 0
        )

    async def _send(
        self, rules: Rules, trace: Trace, reply: GuardReply, send: Send, *, hold: bool = True
    ) -> None:
        """Send the reply, not before the policy's `least_seconds`."""
        rest = rules.policy.limits.least_seconds - (self.clock() - trace.start)
        if hold and rest > 0:
            await asyncio.sleep(rest)
        trace.status = reply.status
        if trace.told:
            reply = GuardReply(reply.status, reply.body, (*reply.headers, *trace.told), reply.kind)
        await reply.send(send)

    def identify(self, rules: Rules, trace: Trace, scope: Scope) -> tuple[Client, Group]:
        """Find out who asks, and the class of the client."""
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
            self.record_fault(trace, "identity", error)
            if rules.policy.guard.on_fault == "closed":
                raise RequestRefused("unavailable") from None
            # With on_fault = "open", all who cannot be identified count as one client
            trace.client, trace.key, trace.group = "unknown", self.names.client("unknown"), DEFAULT
            return UNKNOWN, rules.groups[DEFAULT]
        trace.client, trace.key, trace.group = (
            client.text,
            self.names.client(client.text),
            group.name,
        )
        return client, group

    async def _reply(
        self,
        rules: Rules,
        trace: Trace,
        who: tuple[Client, Group],
        ends: tuple[Scope, Receive, Send],
    ) -> GuardReply | None:
        group, (scope, receive, _) = who[1], ends
        treatment = await self.find_treatment(rules, trace, group)
        about = read_body_headers(scope["headers"])
        visit = self.admit(rules, trace, who, about)
        try:
            query = await self._read(rules, trace, visit, treatment, (about, receive))
            # A query that would find the queue full is refused before it takes from any budget
            rules.admission.places.check(visit.loads)
            await self.take(rules, trace, group, query.batch, treatment)
            if query.streams:
                return await self._stream_events(
                    rules, trace, visit, query, treatment.defence, ends=ends
                )
            captured = await self._ask_in_turn(rules, trace, visit, query, scope, receive)
        except (RequestRefused, ClientDisconnected) as error:
            charge_refusal(visit, trace, error)
            raise
        finally:
            visit.leave()
        return await self.protect(rules, trace, captured, len(query.batch), treatment.defence)

    def admit(
        self, rules: Rules, trace: Trace, who: tuple[Client, Group], about: BodyHeaders
    ) -> Visit:
        """Admit a request before anything of its body is read.

        Raises:
            RequestRefused: Its client's budget is spent, it has too much under way, or had too many
                requests refused.
        """
        client, group = who
        admission = rules.admission
        if admission.has_spent:
            own = f"{group.name}:{trace.key}"
            try:
                admission.check_spent("a")
                admission.check_spent(own)
            except RequestRefused:
                # As it was found: nothing is looked up for a request that is not read
                owed = admission.find_full_after(own)
                known = None if owed is None else Taken(False, full_after=owed)
                trace.told = group.tell_limits(known)
                raise
        return admission.enter(client, trace.key, find_declared_length(about) or 0)

    async def _read(
        self,
        rules: Rules,
        trace: Trace,
        visit: Visit,
        treatment: Treatment,
        sent: tuple[BodyHeaders, Receive],
    ) -> ParsedQuery:
        """Read the body, unfold it and parse it."""
        limits = rules.policy.limits
        about, receive = sent
        trace.begun = True
        body = await read_body(receive, about, limits.max_body_bytes, limits.body_timeout, visit)
        trace.whole = True
        self.counters.parsed()
        query = await parse_query(rules, visit, body, treatment.defence)
        visit.release()
        trace.batch = query.batch
        return query

    async def find_treatment(self, rules: Rules, trace: Trace, group: Group) -> Treatment:
        """Find what responses in force leave a client; they come before everything that costs.

        Raises:
            RequestRefused: The client may not ask now.
        """
        if self.state is None or not rules.responds:
            return Treatment(group.defence)
        try:
            standing = await self.state.standing(trace.key)
        except StateError as error:
            self._refuse_without_state(rules, trace, error)
            return Treatment(group.defence, away=True)
        response = None if standing is None else standing.response
        if response == "block":
            raise RequestRefused("forbidden")
        if response == "step_up":
            trace.reason = "step_up"
            challenge = 'Bearer error="insufficient_user_authentication"'
            raise RequestRefused(
                "stronger-credentials-required", (("www-authenticate", challenge),)
            )
        return Treatment(
            group.coarse if response == "coarsen" else group.defence,
            rules.policy.respond.throttle if response == "throttle" else None,
        )

    async def take(
        self, rules: Rules, trace: Trace, group: Group, batch: Batch, treatment: Treatment
    ) -> None:
        """Take what a query costs from the budgets; the trace keeps what was taken.

        Raises:
            RequestRefused: A budget does not have that much.
        """
        if self.state is None or treatment.away:
            return
        buckets = rules.buckets(
            group, trace.key, batch, self.names, treatment.throttle, sender=trace.client
        )
        buckets += rules.older_buckets(group, trace.client, batch, self.names)
        # Those of older keys too are given back where no answer comes
        trace.buckets, trace.counted = buckets, bool(buckets)
        if not buckets:
            return
        try:
            taken = await self.state.take(buckets)
        except StateError as error:
            self._refuse_without_state(rules, trace, error)
            return
        trace.told = group.tell_limits(taken)
        if not taken.allowed:
            is_shared = not isinstance(self.state, MemoryState)
            note_spent_budget(rules, trace, taken, is_shared=is_shared)
            wait = format_retry_after(taken.retry_after)
            raise RequestRefused(
                "budget-exhausted", () if wait is None else (("retry-after", wait),)
            )
        trace.taken = taken

    def _refuse_without_state(self, rules: Rules, trace: Trace, error: StateError) -> None:
        """Record that the state is away, and refuse where the policy fails closed."""
        self.record_fault(trace, "state", error)
        if rules.policy.guard.on_fault == "closed":
            raise RequestRefused("unavailable") from None

    async def _ask_in_turn(
        self,
        rules: Rules,
        trace: Trace,
        visit: Visit,
        query: ParsedQuery,
        scope: Scope,
        receive: Receive,
    ) -> Captured:
        """Wait for a place and ask; what was taken is given back where no answer came."""
        places = rules.admission.places
        try:
            if not places.take_free(visit.loads):
                await places.take(visit.loads, rules.policy.limits.answer_timeout)
            try:
                captured = await self._ask(rules, trace, query, scope, receive)
            finally:
                places.give(visit.loads)
        except RequestRefused as refused:
            if refused.problem in AT_FAULT or refused.problem == "too-many-at-once":
                await self._refund(rules, trace)
            raise
        if captured.status in GATEWAY:
            await self._refund(rules, trace)
        return captured

    async def _refund(self, rules: Rules, trace: Trace) -> None:
        """Give back what budgets took for a query that got no answer."""
        if self.state is None or trace.taken is None:
            return
        try:
            await self.state.refund(trace.buckets, trace.taken)
        except StateError as error:
            self.record_fault(trace, "state", error)
            return
        rules.admission.forget_spent("a", f"{trace.group}:{trace.key}")
        self.counters.refunded()

    async def _ask(
        self, rules: Rules, trace: Trace, query: ParsedQuery, scope: Scope, receive: Receive
    ) -> Captured:
        """Ask the application and hold its answer back."""
        assert self.app is not None
        limits = rules.policy.limits
        captured = Captured(limits.max_answer_bytes)
        try:
            with rules.admission.answers.start():
                await self.app(
                    rewrite_scope(scope, query.body), replay_body(query.body, receive), captured
                )
        except TimeoutError:
            self.record_fault(trace, "upstream", TimeoutError("no answer in time"))
            raise RequestRefused("gateway-timeout") from None
        except UnreadableAnswer as error:
            self.record_fault(trace, "answer", error)
            raise RequestRefused("bad-gateway") from None
        except Exception as error:
            self.record_fault(trace, "upstream", error)
            # An application that fails after its answer is whole has still answered
            if not captured.ended:
                raise RequestRefused("bad-gateway") from None
        return captured

    async def protect(
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
                    trace.labels = rules.exchange.read_tops(body, n)
                elif n > LATER:
                    trace.labels = rules.exchange.tops(body, n)
                else:
                    trace.passed, trace.serving = body, rules.policy.serving
                return build_unchanged_reply(captured, body)
            # MemGuard searches for milliseconds a record, in which others would wait
            if "memguard" in defence.name:
                found, labels = await asyncio.to_thread(rules.exchange.answer, body, n, defence)
            else:
                found, labels = rules.exchange.answer(body, n, defence)
        except Exception as error:
            self.record_fault(
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
            return build_unchanged_reply(captured, body)
        trace.labels = labels
        return GuardReply(captured.status, found, select_neutral_headers(captured.headers))

    async def _stream(
        self,
        rules: Rules,
        trace: Trace,
        client: Client,
        scope: Scope,
        receive: Receive,
        send: Send,
    ) -> None:
        """Stream a query and its answer; errors still say nothing about the record."""
        assert self.app is not None
        limits = rules.policy.limits
        visit = rules.admission.enter(client, trace.key, 0)
        # Nothing of it is parsed
        visit.release()
        trace.begun = True
        passing = StreamingSend(send, neutral=True)
        limited = limit_receive(receive, limits.body_timeout, most=limits.max_body_bytes)
        try:
            async with Turn(rules.admission.places, visit.loads, limits):
                await stream_answer(
                    self.app,
                    scope,
                    limited,
                    passing,
                    seconds=limits.answer_timeout,
                    record=lambda error: self.record_fault(trace, "upstream", error),
                )
        except RequestRefused as refused:
            charge_refusal(visit, trace, refused)
            raise
        finally:
            visit.leave()
        trace.status = passing.status
        # The application answered with an error, whose text was held back
        if not passing.started:
            failure = build_failure_reply(passing.status, passing.headers)
            await self._send(rules, trace, failure, send)

    async def _stream_events(
        self,
        rules: Rules,
        trace: Trace,
        visit: Visit,
        query: ParsedQuery,
        defence: OutputDefence | None,
        *,
        ends: tuple[Scope, Receive, Send],
    ) -> GuardReply | None:
        """Send a language model's answer in parts; give a reply where there is no such answer."""
        assert self.app is not None and isinstance(rules.exchange, TextExchange)
        scope, receive, send = ends
        limits = rules.policy.limits
        events = None if defence is None else rules.exchange.stream(len(query.batch), defence)
        passing = EventSend(send, events, list(trace.told))
        try:
            async with Turn(rules.admission.places, visit.loads, limits):
                answering = stream_answer(
                    self.app,
                    rewrite_scope(scope, query.body, EVENTS),
                    replay_body(query.body, receive),
                    passing,
                    seconds=limits.passed_timeout,
                    record=lambda error: self.record_fault(trace, "upstream", error),
                )
                await run_while_connected(receive, answering, passing)
        except RequestRefused as refused:
            if refused.problem in AT_FAULT or refused.problem == "too-many-at-once":
                await self._refund(rules, trace)
            raise
        trace.status = passing.status
        if passing.started:
            return None
        if passing.status in GATEWAY:
            await self._refund(rules, trace)
        return build_failure_reply(passing.status, passing.headers)

    def record_fault(self, trace: Trace, which: Faulty, error: Exception) -> None:
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

    def finish(self, trace: Trace) -> None:
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
            self.record_fault(trace, "watch", error)


def build_unchanged_reply(captured: Captured, body: bytes) -> GuardReply:
    """Build the reply of an answer that passes as it is."""
    kind = read_header(captured.headers, b"content-type") or JSON
    return GuardReply(captured.status, body, select_neutral_headers(captured.headers), kind)


def charge_refusal(visit: Visit, trace: Trace, error: RequestRefused | ClientDisconnected) -> None:
    """Charge a request that was not answered because of its sender."""
    if isinstance(error, ClientDisconnected):
        if not trace.whole:
            visit.refuse()
    elif error.problem == "budget-exhausted":
        visit.refuse(TENTH)
    elif error.problem not in UNCHARGED and trace.batch is None:
        visit.refuse()


def note_spent_budget(rules: Rules, trace: Trace, taken: Taken, *, is_shared: bool) -> None:
    """Remember that a client, or all together, have not even one record left."""
    lacking = None if taken.lacking is None else trace.buckets[taken.lacking]
    # A bucket under an older key is the same client's: while it is empty, no query is allowed
    if not isinstance(lacking, Bucket) or lacking.key.partition(":")[0] not in ("a", "c"):
        return
    kind = lacking.key.partition(":")[0]
    # One record needs less than the whole query: until then no body need be read
    rest = taken.retry_after - (lacking.n - 1) * lacking.rate.seconds / lacking.rate.n
    if rest < lacking.rate.seconds:
        name = "a" if kind == "a" else f"{trace.group}:{trace.key}"
        rules.admission.note_spent(name, rest, taken.full_after, is_shared=is_shared)
