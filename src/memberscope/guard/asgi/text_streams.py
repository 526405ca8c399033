"""Send a language model's answer event by event, each written anew, without holding it back."""

from __future__ import annotations

from memberscope.guard.asgi.asgi_types import Headers, Message, Send
from memberscope.guard.asgi.bodies import UnreadableAnswer, read_header, select_neutral_headers
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
                await self._send({**message, "body": found})

    def _require_events(self) -> None:
        """Refuse what is no stream of events that can be read."""
        kind = (read_header(self.headers, b"content-type") or b"").partition(b";")[0]
        coding = read_header(self.headers, b"content-encoding") or b"identity"
        if kind.strip().lower() != EVENTS or coding.strip().lower() != b"identity":
            raise UnreadableAnswer("an answer that is no stream of events")
