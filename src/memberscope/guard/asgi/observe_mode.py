"""Observe mode: tee request and response bodies."""

from __future__ import annotations

from memberscope.guard.asgi.asgi_types import Message, Receive, Send
from memberscope.guard.asgi.bodies import Captured, UnreadableAnswer


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
