"""Observe mode: change nothing, and find out what enforcing would have done."""

from __future__ import annotations

import logging

from memberscope.errors import TargetError
from memberscope.guard.asgi.asgi_types import Message, Receive, Scope, Send
from memberscope.guard.asgi.bodies import Captured, UnreadableAnswer, read_body, read_body_headers
from memberscope.guard.asgi.body_parsing import parse_query
from memberscope.guard.asgi.compiled_policy import Rules
from memberscope.guard.asgi.query_pipeline import QueryPipeline, charge_refusal
from memberscope.guard.asgi.routes import Route
from memberscope.guard.asgi.trace import Trace
from memberscope.guard.logs.operational_log import log_event
from memberscope.guard.refused import RequestRefused
from memberscope.guard.rewriting.text_exchange import TextExchange
from memberscope.types import OutputDefence


class MessageTee:
    """Pass each message on, and keep a copy within limits."""

    def __init__(self, receive: Receive, send: Send, most: int, most_answer: int) -> None:
        """Listen between a server and its application."""
        self._receive, self._send, self._most = receive, send, most
        self._parts: list[bytes] = []
        self._size = 0
        self.answer = Captured(most_answer, 499)

    @property
    def too_long(self) -> bool:
        """Whether the request was above the limit."""
        return self._size > self._most

    async def receive(self) -> Message:
        """Receive the client's next message."""
        message = await self._receive()
        if message["type"] == "http.request":
            part = message.get("body", b"")
            self._size += len(part)
            if self.too_long:
                # What is over the limit is refused anyway, and need not take memory
                self._parts.clear()
            else:
                self._parts.append(part)
        return message

    async def send(self, message: Message) -> None:
        """Pass an answer's message on."""
        # Passed on first: what goes wrong with the copy changes nothing for the client
        await self._send(message)
        try:
            await self.answer(message)
        except UnreadableAnswer:
            self.answer.ended = False

    async def again(self) -> Message:
        """Give the request's body again, whole."""
        return {"type": "http.request", "body": b"".join(self._parts), "more_body": False}


async def observe_request(
    queries: QueryPipeline, rules: Rules, found: Route, scope: Scope, receive: Receive, send: Send
) -> None:
    """Pass request and answer on unchanged, then find out what enforcing would have done."""
    assert queries.app is not None
    limits = rules.policy.limits
    trace = Trace(queries.clock())
    heard = MessageTee(receive, send, limits.max_body_bytes, limits.max_answer_bytes)
    await queries.app(scope, heard.receive, heard.send)
    trace.status = heard.answer.status
    # Requests that are no queries have nothing to judge but whether they are refused
    if found.kind != "query":
        queries.counters.request("passed", trace.status, queries.clock() - trace.start)
        if found.kind == "refused":
            _count_outcome(queries, trace, found.status)
        return
    try:
        status = await _judge_query(queries, rules, trace, scope, heard)
    except RequestRefused as refused:
        status = refused.status
    except Exception as error:
        queries.record_fault(trace, "internal", error)
        status = 503
    _count_outcome(queries, trace, status)
    queries.finish(trace)


async def _judge_query(
    queries: QueryPipeline, rules: Rules, trace: Trace, scope: Scope, heard: MessageTee
) -> int:
    """Give the status that enforcing would have answered with."""
    who = queries.identify(rules, trace, scope)
    treatment = await queries.find_treatment(rules, trace, who[1])
    # Here too, so that bodies which enforcing would not read cost nothing
    about = read_body_headers(scope["headers"])
    visit = queries.admit(rules, trace, who, about)
    try:
        if heard.too_long:
            raise RequestRefused("content-too-large")
        # The body has been heard whole, so that the time limit does not matter
        body = await read_body(heard.again, about, rules.policy.limits.max_body_bytes, 1.0, visit)
        queries.counters.parsed()
        query = await parse_query(rules, visit, body, treatment.defence)
        trace.batch = query.batch
        await queries.take(rules, trace, who[1], query.batch, treatment)
    except RequestRefused as refused:
        charge_refusal(visit, trace, refused)
        raise
    finally:
        visit.leave()
    if query.streams:
        return _judge_events(rules, heard.answer, len(query.batch), treatment.defence)
    reply = await queries.protect(rules, trace, heard.answer, len(query.batch), treatment.defence)
    return reply.status


def _judge_events(rules: Rules, answer: Captured, n: int, defence: OutputDefence | None) -> int:
    """Give the status that enforcing would have answered with to a stream of events."""
    assert isinstance(rules.exchange, TextExchange)
    if 200 <= answer.status < 300 and defence is not None:
        try:
            rules.exchange.stream(n, defence).feed(answer.body())
        except (TargetError, UnreadableAnswer):
            return 502
    return answer.status


def _count_outcome(queries: QueryPipeline, trace: Trace, status: int) -> None:
    """Count the status that enforcing would have answered with, and log refusals."""
    queries.counters.would(status)
    # What the server refuses by itself is not told
    if status >= 400 and status != trace.status:
        log_event(logging.INFO, "would_refuse", status=status, client=trace.key, group=trace.group)
