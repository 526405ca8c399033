"""Read, unfold and write bodies within limits of bytes and seconds."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Coroutine, Generator, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple, Protocol

from memberscope.guard.asgi.asgi_types import WHOLE, Headers, Message, Receive, Send
from memberscope.guard.refused import RequestRefused

JSON = b"application/json"
TOLD = {b"date", b"x-request-id", b"traceparent", b"retry-after"}  # of an answer's headers
ABOUT = {
    b"content-length",
    b"content-type",
    b"content-encoding",
    b"inference-header-content-length",
}  # a request's body
# What a proxy says of the client, and a client could say of itself
FORWARDED = {
    b"forwarded",
    b"x-forwarded-for",
    b"x-forwarded-host",
    b"x-forwarded-proto",
    b"x-real-ip",
}
# What some servers take for the path or the method in the place of the request's own
REROUTING = {
    b"x-original-url",
    b"x-rewrite-url",
    b"x-http-method",
    b"x-http-method-override",
    b"x-method-override",
}
CLOSE = (("connection", "close"),)
SHORT = 65_536  # bytes of a body that costs little, whatever it holds
SKIPPING = 1.0  # seconds that a short body may take which nobody reads


class ClientDisconnected(Exception):
    """Raised when the client leaves before its request is whole."""


class UnreadableAnswer(Exception):
    """Raised for an answer that is too long, or in a form that is not read."""


def read_header(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> bytes | None:
    """Give a header's value, joined by commas where it is repeated, or None."""
    found = [value for key, value in headers if key.lower() == name]
    return b",".join(found) if found else None


def list_hop_headers(headers: Headers) -> set[bytes]:
    """List the headers that the Connection header keeps to this hop.

    >>> sorted(list_hop_headers([(b"Connection", b"close, X-Once")]))
    [b'close', b'x-once']
    """
    value = read_header(headers, b"connection")
    return {word.strip().lower() for word in value.split(b",")} if value else set()


class RequestBody(NamedTuple):
    """Body of a request as it was sent, and the coding that it is in."""

    raw: bytes
    coding: bytes | None = None


class Holder(Protocol):
    """Interface of what counts a request's bytes while they come."""

    size: int

    def hold(self, size: int) -> None:
        """Count so many bytes in all."""
        ...


BodyHeaders = dict[bytes, bytes]


def read_body_headers(headers: Headers) -> BodyHeaders:
    """Read what a request's headers say of its body; what is repeated is joined by commas."""
    found: BodyHeaders = {}
    for name, value in headers:
        name = name.lower()
        if name in ABOUT:
            found[name] = value if name not in found else found[name] + b"," + value
    return found


def find_declared_length(about: BodyHeaders) -> int | None:
    """Find the length that a request declares; None where it declares none that is a number.

    >>> find_declared_length({b"content-length": b"17"}), find_declared_length({})
    (17, None)
    """
    declared = about.get(b"content-length")
    # The digits are cut, as long ones take long to parse
    return int(declared[:20]) if declared is not None and declared.isdigit() else None


async def read_body(
    receive: Receive, about: BodyHeaders, most: int, seconds: float, held: Holder | None = None
) -> RequestBody:
    """Read a request's body of at most `most` bytes within `seconds`, still compressed.

    Raises:
        RequestRefused: It is too long (413), too slow (408), or of another form than JSON (415).
        ClientDisconnected: The client left.
    """
    # Refused before anything is read
    declared = find_declared_length(about)
    if b"content-length" in about and (declared is None or declared > most):
        raise RequestRefused("content-too-large", CLOSE)
    kind = (about.get(b"content-type") or JSON).partition(b";")[0].strip().lower()
    # With the binary extension, JSON is followed by what nobody would count
    if (
        kind != JSON and not kind.endswith(b"+json")
    ) or b"inference-header-content-length" in about:
        raise RequestRefused("unsupported-media-type", CLOSE)
    collecting = BegunCoroutine(_collect_body(receive, most, held))
    # Most bodies are there with their head, and need no timer
    if collecting.result is not None:
        return RequestBody(collecting.result, about.get(b"content-encoding"))
    try:
        async with asyncio.timeout(seconds):
            raw = await collecting
    except TimeoutError:
        raise RequestRefused("request-timeout", CLOSE) from None
    return RequestBody(raw, about.get(b"content-encoding"))


class BegunCoroutine:
    """Run a coroutine that gives bytes up to where it first waits; await this for the rest.

    `result` is what it gave, None while it waits.

    >>> async def read() -> bytes:
    ...     return b"[1]"
    >>> BegunCoroutine(read()).result
    b'[1]'
    """

    def __init__(self, coroutine: Coroutine[Any, Any, bytes]) -> None:
        self._coroutine = coroutine
        self.result: bytes | None = None
        try:
            self._awaited = coroutine.send(None)
        except StopIteration as ended:
            self.result = ended.value

    def __await__(self) -> Generator[Any, Any, bytes]:
        """Go on as the coroutine itself would: what it waits for, and what ends it, passes."""
        while self.result is None:
            try:
                sent = yield self._awaited
            except BaseException as error:
                step = partial(self._coroutine.throw, error)
            else:
                step = partial(self._coroutine.send, sent)
            try:
                self._awaited = step()
            except StopIteration as ended:
                self.result = ended.value
        return self.result


async def _collect_body(receive: Receive, most: int, held: Holder | None) -> bytes:
    """Join the body's parts."""
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnected
        part = message.get("body", b"")
        size += len(part)
        if size > most:
            raise RequestRefused("content-too-large", CLOSE)
        if held is not None:
            held.size = size
            held.hold(size)
        parts.append(part)
        if not message.get("more_body", False):
            return parts[0] if len(parts) == 1 else b"".join(parts)


async def skip_body(receive: Receive, headers: Headers, seconds: float = SKIPPING) -> bool:
    """Read and forget a short body, and tell whether it came whole.

    So a refusal need not end the connection, which would cost both sides a new one.
    """
    declared = find_declared_length(read_body_headers(headers))
    if declared is None or declared > SHORT:
        return False
    try:
        async with asyncio.timeout(seconds):
            while (message := await receive()).get("more_body", False):
                pass
    except TimeoutError:
        return False
    return bool(message["type"] == "http.request")


def find_unfolded_bound(body: RequestBody, most: int, ratio: float) -> int:
    """Find how many bytes a body may have when it is decompressed."""
    if body.coding is None:
        return len(body.raw)
    # A few records that are all zeros may unfold further without being much
    return min(most, max(SHORT, int(ratio * len(body.raw))))


def unfold_body(body: RequestBody, most: int, ratio: float) -> bytes:
    """Decompress a request's body to at most `most` bytes, and `ratio` times its length.

    Raises:
        RequestRefused: It unfolds to more (413), or is in a coding that is not read (415).

    >>> unfold_body(RequestBody(zlib.compress(b"[1]"), b"deflate"), 10, 100.0)
    b'[1]'
    """
    if body.coding is None:
        return body.raw
    try:
        return _decompress_body(body.raw, body.coding, find_unfolded_bound(body, most, ratio))
    except UnreadableAnswer:
        raise RequestRefused("content-too-large") from None
    except ValueError:
        raise RequestRefused("unsupported-media-type") from None


def _decompress_body(raw: bytes, coding: bytes, most: int) -> bytes:
    """Decompress a body.

    Raises:
        UnreadableAnswer: It unfolds to more than `most` bytes.
        ValueError: It is not whole, or in a coding that is not read.

    >>> _decompress_body(zlib.compress(b"[1]"), b"deflate", 10)
    b'[1]'
    """
    word = coding.strip().lower()
    if word in (b"", b"identity"):
        return raw
    if word not in (b"gzip", b"x-gzip", b"deflate"):
        raise ValueError(word)
    # Deflate comes with the zlib header (0x78) or, from some clients, without
    reader = zlib.decompressobj(31 if word != b"deflate" else 15 if raw[:1] == b"\x78" else -15)
    try:
        # No more than one byte beyond the limit is ever unfolded
        found = reader.decompress(raw, most + 1)
    except zlib.error as error:
        raise ValueError(str(error)) from None
    if len(found) > most:
        raise UnreadableAnswer
    # Something behind the end would be another body for another reader
    if not reader.eof or reader.unused_data:
        raise ValueError("cut off, or with something behind it")
    return found


@dataclass
class Captured:
    """Hold an answer back: the `send` of the application that gives it."""

    most: int
    status: int = 0
    headers: Headers = field(default_factory=list)
    parts: list[bytes] = field(default_factory=list)
    size: int = 0
    ended: bool = False

    async def __call__(self, message: Message) -> None:
        """Keep one message.

        Raises:
            UnreadableAnswer: The body grows beyond `most` bytes.
        """
        if message["type"] == "http.response.start":
            self.status, self.headers = message["status"], list(message.get("headers", ()))
        elif message["type"] == "http.response.body":
            part = message.get("body", b"")
            self.size += len(part)
            if self.size > self.most:
                # What is refused need not take memory
                self.parts.clear()
                raise UnreadableAnswer("an answer above max_answer_bytes")
            self.parts.append(bytes(part))
            self.ended = not message.get("more_body", False)

    def body(self) -> bytes:
        """Give the whole body, decompressed.

        Raises:
            UnreadableAnswer: It has not ended, unfolds to too much, or is in a form that is not read.
        """
        if not self.ended:
            raise UnreadableAnswer("an answer that was cut off")
        raw = b"".join(self.parts)
        try:
            coding = read_header(self.headers, b"content-encoding")
            return raw if coding is None else _decompress_body(raw, coding, self.most)
        except ValueError:
            raise UnreadableAnswer("an answer in a coding that is not read") from None


class GuardReply(NamedTuple):
    """Answer of the guard to a client."""

    status: int
    body: bytes
    headers: tuple[tuple[bytes, bytes], ...] = ()
    kind: bytes = JSON

    def last(self) -> GuardReply:
        """Copy this reply with `Connection: close`.

        A client must not keep the connection with a body that is not read.
        """
        return (
            self
            if (b"connection", b"close") in self.headers
            else self._replace(headers=(*self.headers, (b"connection", b"close")))
        )

    async def send(self, send: Send, *, head: bool = False) -> None:
        """Answer, without the body where HEAD was asked."""
        headers = [
            (b"content-type", self.kind),
            (b"content-length", b"%d" % len(self.body)),
            *self.headers,
        ]
        start: Message = {
            "type": "http.response.start",
            "status": self.status,
            "headers": headers,
            WHOLE: True,
        }
        await send(start)
        await send({"type": "http.response.body", "body": b"" if head else self.body})


def select_neutral_headers(headers: Headers) -> tuple[tuple[bytes, bytes], ...]:
    """Select the headers of an answer that may pass."""
    return tuple([(name.lower(), value) for name, value in headers if name.lower() in TOLD])
