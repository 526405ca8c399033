"""Close idle connections, and pass the client's certificate to the application."""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from memberscope.guard.admission.connections import ConnectionRoom, Seat
from memberscope.guard.asgi.asgi_types import JOINED, App, Receive, Scope, Send
from memberscope.guard.asgi.refusals import PROBLEM_JSON, build_refusal_reply, encode_problem
from memberscope.guard.refused import RequestRefused

if TYPE_CHECKING:
    from asyncio import TimerHandle

LONGEST_HEAD = 2**16  # bytes of a request's line and headers, and of what is no body behind them
PROTOCOL: Any = object  # uvicorn's class comes in behind it, without an import at the start


class JoinedWrites:
    """Write the head of a whole answer together with its body, as each write costs a system call.

    It stands in the place of a connection's transport for what answers, to which `join` says that
    the next write is such a head.

    >>> class Written(list):
    ...     def write(self, data: bytes) -> None:
    ...         self.append(data)
    >>> written = Written()
    >>> writes = JoinedWrites(written)
    >>> writes.join(); writes.write(b"head,"); writes.write(b"body"); writes.write(b"rest")
    >>> written
    [b'head,body', b'rest']
    """

    __slots__ = ("_head", "_joins", "_transport", "is_closing")

    def __init__(self, transport: Any) -> None:
        """Hold nothing back yet."""
        self._transport, self.is_closing = transport, getattr(transport, "is_closing", None)
        self._head, self._joins = b"", False

    def join(self) -> None:
        """Hold back what is written next, until more is written or the connection is closed."""
        self._joins = True

    def write(self, data: bytes) -> None:
        """Write, with what was held back before it."""
        if self._joins:
            # A head that nothing followed goes out before the next one
            self._head, self._joins = self._head + data, False
        elif self._head:
            data, self._head = self._head + data, b""
            self._transport.write(data)
        else:
            self._transport.write(data)

    def close(self) -> None:
        """Close the connection, when what was held back is written."""
        if self._head:
            self.write(b"")
        self._transport.close()


def build_problem_protocol_class() -> Any:
    """Build uvicorn's protocol class with problem documents in the place of its plain texts."""
    from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

    class ProblemConnection(HttpToolsProtocol):
        """Answer what uvicorn itself refuses with a problem document."""

        def send_400_response(self, msg: str) -> None:
            """Refuse what is no HTTP, as a problem document in the place of uvicorn's text."""
            self.send_problem("malformed-http", 400)

        def send_problem(self, name: str, status: int) -> None:
            """Send a problem document, and end the connection."""
            # Written by hand: there is no request yet that an application could answer
            body = encode_problem(name, status)
            lines = [
                b"HTTP/1.1 %d %s" % (status, HTTPStatus(status).phrase.encode()),
                *(b"%s: %s" % header for header in self.server_state.default_headers),
                b"content-type: " + PROBLEM_JSON,
                b"content-length: %d" % len(body),
                b"connection: close",
            ]
            self.transport.write(b"\r\n".join(lines) + b"\r\n\r\n" + body)
            self.transport.close()

        def on_headers_complete(self) -> None:
            """Refuse what is beyond the server's limit before uvicorn does."""
            most, app = self.limit_concurrency, self.app
            if most is not None and max(len(self.connections), len(self.tasks)) >= most:
                self.logger.warning("Exceeded concurrency limit.")
                self.app = _refuse_overload
            # Else uvicorn would answer first, with a text of its own
            self.limit_concurrency = None
            # A copy: uvicorn adds the trailers behind a body to the same list, and a proxy that
            # strips or writes headers leaves those as the client sent them
            self.scope["headers"] = [*self.scope["headers"]]
            try:
                super().on_headers_complete()
            finally:
                # Later requests of this connection are checked anew
                self.limit_concurrency, self.app = most, app

    return ProblemConnection


def build_protocol_class(patience: float, room: ConnectionRoom | None = None) -> Any:
    """Build uvicorn's protocol class with time limits of `patience` seconds.

    The limits are for a request's head, and for a client that stops reading an answer. In a `room`,
    each address has its share of the connections.

    What is sent after an answer, and is no new request, keeps a connection for as long again at
    most: bodies that nobody reads, blank lines.
    """
    limits = {"patience": patience, "room": room}
    return type("Connection", (LimitedConnection, build_problem_protocol_class()), limits)


class LimitedConnection(PROTOCOL):  # type: ignore[misc]
    """Close a connection whose client is too slow, or whose address has too many."""

    patience: float
    room: ConnectionRoom | None
    app: App
    _timer: TimerHandle | None = None
    _reader: TimerHandle | None = None
    _rest: TimerHandle | None = None
    _overhead = 0  # bytes since the last whole head or part of a body
    _heading = True
    _begun = False
    _seat: Seat | None = None
    _joined: JoinedWrites

    def connection_made(self, transport: Any) -> None:
        """Start the clock; read the certificate."""
        super().connection_made(transport)
        self._joined = JoinedWrites(transport)
        name = _read_certificate_name(transport.get_extra_info("ssl_object"))
        if name is not None:
            self.app = _add_certificate_name(self.app, name)
        self._await_head()
        if self.room is not None:
            peer = None if self.client is None else self.client[0]
            self._seat = self.room.enter(peer, self.transport.close)
            if self._seat is None:
                self.send_problem("too-many-at-once", 429)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clocks, and leave the seat to another."""
        if self._seat is not None:
            self._seat.leave()
        self._stop(self._timer, self._reader, self._rest)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse, unless what is neither a whole head nor body grows without end.

        That may be a head, trailers, the extensions of a chunk, or blank lines.
        """
        self._overhead += len(data)
        super().data_received(data)
        if self._overhead > LONGEST_HEAD:
            self.transport.abort()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header, and leave out trailers, which come when the head is over."""
        if self._heading:
            super().on_header(name, value)

    def on_body(self, body: bytes) -> None:
        """Take a part of a body, for which there are other limits."""
        self._overhead = 0
        super().on_body(body)

    def on_message_begin(self) -> None:
        """Start the clock when a request begins."""
        self._stop(self._timer, self._rest)
        self._begun = True
        if self._seat is not None:
            self._seat.occupy()
        self._await_head()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Stop the clock when its head is whole."""
        self._heading = self._begun = False
        self._overhead = 0
        self._stop(self._timer)
        self.scope[JOINED] = self._joined
        super().on_headers_complete()
        # What answers a request writes there; none is made for an upgrade that was not spoken
        if self.cycle is not None:
            self.cycle.transport = self._joined

    def on_response_complete(self) -> None:
        """Expect another request after an answer."""
        super().on_response_complete()
        if self._seat is not None and self.cycle.response_complete and not self._begun:
            self._seat.rest()
        # What is left of a body that nobody reads must not keep the connection
        if self.cycle.response_complete and not self._heading:
            self._stop(self._rest)
            self._rest = self.loop.call_later(
                self.timeout_keep_alive + self.patience, self.transport.abort
            )

    def pause_writing(self) -> None:
        """Start the clock when the client stops reading."""
        super().pause_writing()
        self._reader = self.loop.call_later(self.patience, self.transport.abort)

    def resume_writing(self) -> None:
        """Stop the clock when it reads again."""
        self._stop(self._reader)
        super().resume_writing()

    def _await_head(self) -> None:
        self._heading = True
        self._timer = self.loop.call_later(self.patience, self.transport.abort)

    def _stop(self, *timers: asyncio.TimerHandle | None) -> None:
        for timer in timers:
            if timer is not None:
                timer.cancel()


async def _refuse_overload(scope: Scope, receive: Receive, send: Send) -> None:
    """Refuse one request of a connection beyond the server's limit, and end the connection."""
    await build_refusal_reply(RequestRefused("overloaded")).last().send(send)


def _read_certificate_name(connection: Any) -> str | None:
    """Read the subject (RFC 4514) of the client's verified certificate, or None."""
    der = None if connection is None else connection.getpeercert(binary_form=True)
    if not der:
        return None
    from cryptography import x509

    return x509.load_der_x509_certificate(der).subject.rfc4514_string()


def _add_certificate_name(app: App, name: str) -> App:
    """Add the name in the client's certificate to the scope (ASGI TLS extension)."""

    async def told(scope: Scope, receive: Receive, send: Send) -> None:
        tls = {"client_cert_name": name, "client_cert_chain": (), "client_cert_error": None}
        await app(
            {**scope, "extensions": {**(scope.get("extensions") or {}), "tls": tls}}, receive, send
        )

    return told
