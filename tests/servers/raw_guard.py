"""A running guard that can be killed and started again, and bytes sent to it as they are."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from running_guard import Process

Headers = list[tuple[str, str]]


class RawGuard:
    """A guard of the policies in a folder, with an upstream."""

    def __init__(self, folder: Path, upstream: str, *policies: str) -> None:
        self.folder, self.upstream = folder, upstream
        self.files = [folder / f"guard{number}.toml" for number in range(len(policies))]
        for file, text in zip(self.files, policies, strict=True):
            file.write_text(text)

    def start(self, *, fresh: bool = False) -> None:
        options = ["--upstream", self.upstream, "--policy", str(self.files[0])]
        for file in self.files[1:]:
            options += ["--model", str(file)]
        self.process = Process(*options, fresh=fresh)
        self.ports = self.process.said("serving")

    def kill(self) -> None:
        self.process.process.kill()
        self.end()

    def end(self) -> None:
        self.process.process.wait()
        assert self.process.process.stderr is not None
        self.process.process.stderr.close()

    def connect(self, port: str = "port") -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.ports[port]), timeout=30)

    def exchange(self, data: bytes) -> list[int]:
        """Statuses of the answers to what is sent, the last of which ends the connection."""
        return [status for status, _ in read_answers(self.connect(), data)]

    def score(self, record: object, *headers: tuple[str, str], path: str = "/score") -> int:
        """Status of the answer to a query about one record."""
        body = json.dumps({"records": [record]}).encode()
        return self.post(body, *headers, path=path)

    def post(self, body: bytes, *headers: tuple[str, str], path: str = "/score") -> int:
        """Status of the answer to a body, with headers as they are."""
        (status,) = self.exchange(write_request(body, *headers, path=path, last=True))
        return status


def write_request(
    body: bytes, *headers: tuple[str, str], path: str = "/score", last: bool = False
) -> bytes:
    """A request with a body; the last one of a connection says so."""
    lines = [f"POST {path} HTTP/1.1", "Host: a", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers]
    lines += ["Connection: close"] * last
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


def read_answers(connection: socket.socket, data: bytes) -> list[tuple[int, bytes]]:
    """Status and head of each answer, until the connection ends."""
    with connection:
        connection.sendall(data)
        found = b""
        while part := connection.recv(65536):
            found += part
    heads = re.findall(rb"HTTP/1\.1 (\d{3}) (.*?)\r\n\r\n", found, re.DOTALL)
    return [(int(status), head) for status, head in heads]


@contextmanager
def started(folder: Path, upstream: str, *policies: str) -> Iterator[RawGuard]:
    """A guard that runs, with these policies."""
    guard = RawGuard(folder, upstream, *policies)
    try:
        guard.start()
        yield guard
    finally:
        guard.kill()
