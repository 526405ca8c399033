"""Whole answers of the guard leave in one write; others pass part by part, as they come."""

from __future__ import annotations

import asyncio
from typing import Any

from memberscope.guard.asgi import http_protocol
from memberscope.guard.asgi.asgi_types import Receive, Scope, Send
from memberscope.guard.asgi.bodies import GuardReply
from memberscope.guard.server.request_entry import serve_with_request_id
from memberscope.guard.server.worker import build_server, open_listener


async def answer(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with a whole reply, or on /parts with a body in two parts.

    On /refused the reply does not know that a HEAD was sent, as that of a proxy without a server.
    """
    if scope["path"] == "/refused":
        await GuardReply(200, b'"refused"').send(send)
        return
    if scope["path"] != "/parts":
        await GuardReply(200, b'"whole"').send(send, head=scope["method"] == "HEAD")
        return
    headers = [(b"content-length", b"4")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"ab", "more_body": True})
    await send({"type": "http.response.body", "body": b"cd"})


async def ask(requests: bytes, n: int, writes: list[bytes]) -> list[bytes]:
    """Ask `n` requests at once over one connection, and give what was written in answer."""

    async def entry(scope: Scope, receive: Receive, send: Send) -> None:
        await serve_with_request_id(answer, scope, receive, send)

    listening = open_listener("127.0.0.1", 0)
    server = build_server(entry, {"http": http_protocol.build_protocol_class(5.0)})
    serving = asyncio.create_task(server.serve([listening]))
    reader, writer = await asyncio.open_connection(*listening.getsockname())
    writer.write(requests)
    found = b""
    async with asyncio.timeout(20):
        while found.count(b"HTTP/1.1 200") < n or len(found) < sum(map(len, writes)):
            found += await reader.read(65536)
    writer.close()
    server.should_exit = True
    await serving
    assert found == b"".join(writes)
    return writes


def test_whole_answers_are_written_at_once_and_parts_as_they_come(monkeypatch):
    writes: list[bytes] = []

    class Counted:
        """A connection's transport that keeps what is written."""

        def __init__(self, transport: Any) -> None:
            self.close, self.is_closing = transport.close, transport.is_closing
            self._transport = transport

        def write(self, data: bytes) -> None:
            writes.append(data)
            self._transport.write(data)

    joined = http_protocol.JoinedWrites
    monkeypatch.setattr(http_protocol, "JoinedWrites", lambda given: joined(Counted(given)))
    lines = ("GET /", "HEAD /", "HEAD /refused", "GET /parts", "GET /")
    requests = "".join(f"{line} HTTP/1.1\r\nhost: a\r\n\r\n" for line in lines).encode()
    asyncio.run(ask(requests, len(lines), writes))
    ends = [written.partition(b"\r\n\r\n")[2] for written in writes if b"HTTP/1.1" in written]
    assert ends == [b'"whole"', b"", b"", b"", b'"whole"']
    assert [written for written in writes if b"HTTP/1.1" not in written] == [b"ab", b"cd"]


def test_what_is_held_back_is_written_before_the_connection_ends():
    done: list[object] = []

    class Transport:
        """A transport that keeps what is done with it."""

        def write(self, data: bytes) -> None:
            done.append(data)

        def close(self) -> None:
            done.append("closed")

    writes = http_protocol.JoinedWrites(Transport())
    writes.join()
    writes.write(b"head")
    writes.close()
    assert done == [b"head", "closed"]
