"""Send a language model's answer event by event, each written anew, without holding it back."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine

from memberscope.guard.asgi.asgi_types import Headers, Message, Receive, Send
from memberscope.guard.asgi.bodies import (
    ClientDisconnected,
    UnreadableAnswer,
    read_header,
    select_neutral_headers,
)
from memberscope.guard.asgi.streaming import StreamingSend
from memberscope.guard.rewriting.event_streams import EventStream

EVENTS = b"text/event-stream"


class EventSend(StreamingSend):
    """Send the events of a success through `events`, or as they are without it.

    An answer of another form than events is refused: it would have to be read in another way.
    """

    def __init__(self, send: Send, events: EventStream | None, told: Headers) -> None:
        """Pass to `send`; `told` are further headers."""
        super().__init__(send, neutral=True)
        self._events, self._told = events, told
        self.ended = False  # whether all of the answer was sent

    async def __call__(self, message: Message) -> None:
        """Pass one message on.

        Raises:
            UnreadableAnswer: The answer is no stream of events.
            TargetError: An event cannot be read.
        """
        if message["type"] == "http.response.start":
            self.status, self.headers = message["status"], list(message.get("headers", ()))
            if 200 <= self.status < 300:
                self._require_events()
                self.started = True
                headers = [
                    (b"content-type", EVENTS),
                    (b"cache-control", b"no-cache"),
                    *select_neutral_headers(self.headers),
                    *self._told,
                ]
                await self._send({**message, "headers": headers})
        elif message["type"] == "http.response.body" and self.started:
            part, more = message.get("body", b""), message.get("more_body", False)
            found = part if self._events is None else self._events.feed(bytes(part))
            # Nothing is sent while an event is not whole
            if found or not more:
                self.ended = not more
                await self._send({**message, "body": found})

    def _require_events(self) -> None:
        """Refuse what is no stream of events that can be read."""
        kind = (read_header(self.headers, b"content-type") or b"").partition(b";")[0]
        coding = read_header(self.headers, b"content-encoding") or b"identity"
        if kind.strip().lower() != EVENTS or coding.strip().lower() != b"identity":
            raise UnreadableAnswer("an answer that is no stream of events")


async def run_while_connected(
    receive: Receive, answering: Coroutine[None, None, None], passing: EventSend
) -> None:
    """Run `answering` until it ends or the client leaves, for whom nothing more is generated.

    `passing` is what it sends to.

    Raises:
        ClientDisconnected: The client left.
    """
    tasks = [asyncio.ensure_future(answering), asyncio.ensure_future(_wait_for_departure(receive))]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        # Servers tell of the end of a whole answer as of a client that leaves
        if not tasks[0].done() and not passing.ended:
            raise ClientDisconnected
        await tasks[0]
    finally:
        for task in tasks:
            task.cancel()
        # What was cancelled gives its connection back before its place is free
        await asyncio.gather(*tasks, return_exceptions=True)


async def _wait_for_departure(receive: Receive) -> None:
    """Wait until the client's connection ends."""
    while (await receive())["type"] != "http.disconnect":
        pass
