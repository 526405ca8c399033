"""Answers that pass part by part, so that nothing is held in memory and a slow client slows the server."""

from __future__ import annotations

from memberscope.guard.bodies import CLOSE, TOO_LONG, Headers, Message, Receive, Send, told
from memberscope.guard.refused import Refused


class Passing:
    """A `send` that lets an answer through; with `neutral`, only one that is a success, and of its headers those that may pass."""

    def __init__(self, send: Send, *, neutral: bool = False, most: int | None = None) -> None:
        """Pass to `send`; a request may hold `most` bytes."""
        self._send, self._neutral, self._most = send, neutral, most
        self.status, self.started, self.headers, self._size = 499, False, Headers(), 0

    async def __call__(self, message: Message) -> None:
        """Pass one message on."""
        if message["type"] == "http.response.start":
            self.status, self.headers = message["status"], list(message.get("headers", ()))
            if self._neutral:
                message = {**message, "headers": kept(self.headers)}
            if self._neutral and not 200 <= self.status < 300:
                return
            self.started = True
        elif self._neutral and (not self.started or message["type"] != "http.response.body"):
            return
        await self._send(message)

    def counted(self, receive: Receive) -> Receive:
        """A `receive` that refuses (413) what is too long."""

        async def one() -> Message:
            message = await receive()
            self._size += len(message.get("body", b""))
            if self._most is not None and self._size > self._most:
                raise Refused(413, TOO_LONG, CLOSE)
            return message

        return one


def kept(headers: Headers) -> Headers:
    """Of an answer that passes as it is: what it is, and the headers that tell nothing."""
    about = (b"content-type", b"content-length", b"content-encoding")
    return [(name, value) for name, value in headers if name.lower() in about] + list(told(headers))
