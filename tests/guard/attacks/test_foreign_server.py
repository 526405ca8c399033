"""Attempts on the middleware inside a foreign uvicorn, which may take trailers for headers."""

from __future__ import annotations

import hashlib
import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import pytest
from raw_guard import read_answers
from unruly import Unruly, serving

from memberscope.guard import GuardMiddleware, parse_guard_policy
from memberscope.guard.identity.client_identity import Client

KEY = "partner-key-" + "7" * 20
SERVING = {
    "protocol": "json",
    "path": "/score",
    "body": '{"records": "$records"}',
    "answer": "predictions",
    "n_classes": 3,
    "columns": ["x", "y"],
}
IDENTITY = {
    "by": ["api_key", "network"],
    "trusted_proxies": ["127.0.0.1/32"],
    "keys": [{"name": "partner", "sha256": hashlib.sha256(KEY.encode()).hexdigest()}],
    "failures": "1000/m",
}
CHUNKED = b"transfer-encoding: chunked\r\n"


class Foreign:
    """A middleware in a uvicorn with one of its two parsers, and requests in chunks to it."""

    def __init__(self, app: Unruly, url: str) -> None:
        self.app, self.place = app, (urlsplit(url).hostname, urlsplit(url).port)

    def send(self, headers: bytes = b"", trailers: bytes = b"", *, framing: bytes = CHUNKED) -> int:
        """Status of the answer to a query about one record."""
        body = json.dumps({"records": [[1.0, 2.0]]}).encode()
        if framing == CHUNKED:
            body = b"%x\r\n%b\r\n0\r\n%b\r\n" % (len(body), body, trailers)
        else:
            framing = b"content-length: %d\r\n" % len(body)
        head = b"POST /score HTTP/1.1\r\nhost: a\r\nconnection: close\r\n"
        connection = socket.create_connection(self.place, timeout=30)
        ((status, _),) = read_answers(connection, head + framing + headers + b"\r\n" + body)
        return status


@contextmanager
def foreign(http: str, identity: dict[str, Any] | None = None, **parts: Any) -> Iterator[Foreign]:
    app = Unruly()
    policy = parse_guard_policy(
        {
            "serving": SERVING,
            "identity": IDENTITY if identity is None else identity,
            "default": {"restrict": "label", "per_record": "1/365d"},
            "limits": {"refused": "1000/m"},
        }
    )
    guarded = GuardMiddleware(app, policy=policy, **parts)
    with serving(guarded, http=http, proxy_headers=False) as url:
        yield Foreign(app, url)


ADDRESS, NEW_ADDRESS = b"x-forwarded-for: 192.0.2.1\r\n", b"x-forwarded-for: 9.9.9.9\r\n"
PROOF = f"x-api-key: {KEY}\r\n".encode()
TRAILERS = {
    "an address": (b"", NEW_ADDRESS),
    "an address behind the proxy's": (ADDRESS, NEW_ADDRESS),
    "a key": (ADDRESS, PROOF),
    "a key in capitals": (ADDRESS, PROOF.upper().replace(KEY.upper().encode(), KEY.encode())),
    "a wrong key": (b"", b"x-api-key: made-up\r\n"),
    "declared": (ADDRESS + b"trailer: x-forwarded-for\r\n", NEW_ADDRESS),
}


@pytest.mark.parametrize("name", TRAILERS)
def test_no_trailer_says_who_asks_where_the_server_mixes_them(name):
    with foreign("httptools") as server:
        assert server.send(ADDRESS, framing=b"") == 200
        headers, trailers = TRAILERS[name]
        assert server.send(headers, trailers) == 411
        assert sum(server.app.reached.values()) == 1


@pytest.mark.parametrize("name", TRAILERS)
def test_no_trailer_says_who_asks_where_the_server_drops_them(name):
    with foreign("h11") as server:
        for own in (ADDRESS, b""):
            assert server.send(own, framing=b"") == 200
        headers, trailers = TRAILERS[name]
        assert server.send(headers, trailers) == 429
        assert sum(server.app.reached.values()) == 2


def test_chunks_without_what_says_who_asks_are_answered():
    """There a trailer cannot have been taken for a header that counts."""
    with foreign("httptools") as server:
        assert [server.send(), server.send()] == [200, 429]
        assert server.send(b"accept: */*\r\n", b"x-other: 1\r\n") == 429
        assert server.send(PROOF, framing=b"") == 200
    # Without listed proxies an address that is sent counts for nothing
    with foreign("httptools", {"by": ["network"]}) as server:
        assert [server.send(ADDRESS), server.send(NEW_ADDRESS)] == [200, 429]


def test_a_server_that_keeps_trailers_apart_may_be_named():
    with foreign("httptools", trailers_apart=True) as server:
        assert server.send(ADDRESS) == 200


def test_a_callers_own_identification_is_asked_about_no_mixed_headers():
    asked = []

    def identify(scope: Any) -> Client:
        asked.append(dict(scope["headers"]))
        return Client("network", "any", False)

    with foreign("httptools", identify=identify) as server:
        assert server.send(b"", b"x-user: root\r\n") == 411 and not asked
        assert server.send(framing=b"") == 200 and len(asked) == 1
