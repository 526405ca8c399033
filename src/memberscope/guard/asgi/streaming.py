"""Stream responses through without buffering; back-pressure reaches the upstream."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from memberscope.guard.asgi.asgi_types import App, Headers, Message, Receive, Scope, Send
from memberscope.guard.asgi.bodies import CLOSE, ClientDisconnected, select_neutral_headers
from memberscope.guard.refused import RequestRefused


class StreamingSend:
    """Send an answer through as it comes.

    With `neutral`, only a success passes, and of its headers only those that may.
    """

    def __init__(self, send: Send, *, neutral: bool = False) -> None:
        """Pass to `send`."""
        self._send, self._neutral = send, neutral
        # 499 is what is counted where no answer comes
        self.status, self.started, self.headers = 499, False, Headers()

    async def __call__(self, message: Message) -> None:
        """Pass one message on."""
        if message["type"] == "http.response.start":
            self.status, self.headers = message["status"], list(message.get("headers", ()))
            if self._neutral:
                message = {**message, "headers": _select_content_headers(self.headers)}
            # An error's text may quote the record, so that it is held back
            if self._neutral and not 200 <= self.status < 300:
                return
            self.started = True
        elif self._neutral and (not self.started or message["type"] != "http.response.body"):
            return
        await self._send(message)


async def stream_answer(
    app: App,
    scope: Scope,
    receive: Receive,
    passing: StreamingSend,
    *,
    seconds: float,
    record: Callable[[Exception], None],
) -> None:
    """Have `app` answer in parts within `seconds`; `record` hears of a fault of its own.

    Raises:
        RequestRefused: The request's body is refused, or no answer came.
        ClientDisconnected: An answer has begun and did not end: so must the connection.
    """
    try:
        async with asyncio.timeout(seconds):
            await app(scope, receive, passing)
    except Exception as error:
        # Refusals of limit_receive are the client's fault, all else is the upstream's
        if not isinstance(error, RequestRefused):
            record(error)
        # Too late for another answer: the connection ends
        if passing.started:
            raise ClientDisconnected from None
        if isinstance(error, RequestRefused):
            raise
        late = isinstance(error, TimeoutError)
        raise RequestRefused("gateway-timeout" if late else "bad-gateway") from None


def limit_receive(
    receive: Receive, seconds: float, *, total: float | None = None, most: int | None = None
) -> Receive:
    """Refuse a body whose next part takes longer than `seconds` (408) or exceeds `most` bytes (413).

    The whole body may take `total` seconds, or `seconds` too where that is not given.
    """
    size, whole = 0, False
    end = asyncio.get_running_loop().time() + (seconds if total is None else total)

    async def one() -> Message:
        nonlocal size, whole
        # After the body only the client's leaving is waited for, which may take any time
        if whole:
            return await receive()
        try:
            async with asyncio.timeout_at(min(end, asyncio.get_running_loop().time() + seconds)):
                message = await receive()
        except TimeoutError:
            raise RequestRefused("request-timeout", CLOSE) from None
        size, whole = size + len(message.get("body", b"")), not message.get("more_body", False)
        if most is not None and size > most:
            raise RequestRefused("content-too-large", CLOSE)
        return message

    return one


def _select_content_headers(headers: Headers) -> Headers:
    """Select the headers of content and the neutral ones."""
    about = (b"content-type", b"content-length", b"content-encoding")
    return [(name, value) for name, value in headers if name.lower() in about] + list(
        select_neutral_headers(headers)
    )
