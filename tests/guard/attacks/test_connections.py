"""Attempts by what a connection carries: pipelines, trailers, heads, headers and addresses."""

from __future__ import annotations

import hashlib
import json
import socket
from collections.abc import Iterator

import psutil
import pytest
from raw_guard import RawGuard, read_answers, started, write_request
from unruly import Unruly, serving

KEY = "partner-key-" + "7" * 20
POLICY = f"""
[serving]
protocol = "json"
path = "/score"
body = '{{"records": "$records"}}'
answer = "predictions"
n_classes = 3
columns = ["x", "y"]
passed = ["GET /docs"]
[identity]
by = ["api_key", "network"]
trusted_proxies = ["127.0.0.1/32"]
failures = "1000/m"
[[identity.keys]]
name = "partner"
sha256 = "{hashlib.sha256(KEY.encode()).hexdigest()}"
[default]
restrict = "label"
per_record = "1/365d"
[limits]
refused = "1000/m"
body_timeout = 5.0
"""
MOST = 4 * 2**20  # bytes that a connection takes of what is neither a head nor a body, at most


@pytest.fixture(scope="module")
def app() -> Unruly:
    return Unruly()


@pytest.fixture(scope="module")
def guard(tmp_path_factory: pytest.TempPathFactory, app: Unruly) -> Iterator[RawGuard]:
    with (
        serving(app) as upstream,
        started(tmp_path_factory.mktemp("guard"), upstream, POLICY) as running,
    ):
        yield running


def ask(record: list[float], *headers: tuple[str, str], last: bool = False) -> bytes:
    """A query about one record."""
    return write_request(json.dumps({"records": [record]}).encode(), *headers, last=last)


START = b"POST /score HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n"
BODY = b'16\r\n{"records": [[1, 2]]}\n\r\n'
ENDLESS: dict[str, tuple[bytes, bytes, str]] = {
    "trailers": (START + BODY + b"0\r\n", b"a: b\r\n" * 8192, "port"),
    "one trailer": (START + BODY + b"0\r\na: ", b"b" * 65536, "port"),
    "trailers of a request that is refused": (
        START.replace(b"/score", b"/nothing") + BODY + b"0\r\n",
        b"a: b\r\n" * 8192,
        "port",
    ),
    "trailers of a request that passes": (
        START.replace(b"POST /score", b"GET /docs") + BODY + b"0\r\n",
        b"a: b\r\n" * 8192,
        "port",
    ),
    "extensions of a chunk": (START + b"16;a=", b"b" * 65536, "port"),
    "blank lines": (b"\r\n", b"\r\n" * 32768, "port"),
    "a target": (b"GET /", b"a" * 65536, "port"),
    "behind an upgrade": (
        b"GET /docs HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n",
        b"a" * 65536,
        "port",
    ),
    "a head for the operators": (b"GET / HTTP/1.1\r\n", b"a: b\r\n" * 8192, "admin_port"),
    "trailers for the operators": (
        START.replace(b"/score", b"/reload") + BODY + b"0\r\n",
        b"a: b\r\n" * 8192,
        "admin_port",
    ),
}


@pytest.mark.parametrize("name", ENDLESS)
def test_nothing_beside_bodies_grows_without_end(guard, name):
    """Each trailer was kept as two objects, some 25 times its length, for as long as a body may take."""
    start, part, port = ENDLESS[name]
    before = psutil.Process(guard.process.process.pid).memory_info().rss
    sent = 0
    with guard.connect(port) as connection:
        connection.sendall(start)
        # A connection that has ended is told by the system after some more bytes
        with pytest.raises(OSError):
            while sent < 64 * MOST:
                connection.sendall(part)
                sent += len(part)
    assert sent < MOST
    assert psutil.Process(guard.process.process.pid).memory_info().rss - before < 64 * 2**20
    assert guard.score([0.0, 1.0], ("x-forwarded-for", "203.0.113.9")) in (200, 429)


PIPELINES: dict[str, tuple[bytes, list[int]]] = {
    "one record three times": (
        ask([1.0, 1.5]) + ask([1.0, 1.5]) + ask([1.0, 1.5], last=True),
        [200, 429, 429],
    ),
    "a key, then nobody's": (
        ask([1.0, 2.5], ("x-api-key", KEY)) + ask([1.0, 1.5], last=True),
        [200, 429],
    ),
    "an address, then another": (
        ask([1.0, 3.5], ("x-forwarded-for", "192.0.2.1"))
        + ask([1.0, 3.5], ("x-forwarded-for", "192.0.2.2"))
        + ask([1.0, 3.5], ("x-forwarded-for", "192.0.2.1"), last=True),
        [200, 200, 429],
    ),
    "behind one that ends the connection": (
        ask([1.0, 4.5], last=True) + ask([1.0, 5.5], last=True),
        [200],
    ),
    "behind one that is refused unread": (
        b"PUT /score HTTP/1.1\r\nhost: a\r\ncontent-length: 300\r\n\r\n"
        + ask([1.0, 6.5], last=True).ljust(300),
        [405],
    ),
    "in the body of one that passes": (
        b"GET /docs HTTP/1.1\r\nhost: a\r\ncontent-length: 300\r\nconnection: close\r\n\r\n"
        + ask([1.0, 6.5], last=True).ljust(300),
        [404],
    ),
    "behind a wrong length": (
        ask([1.0, 6.5]).replace(b"Content-Length: 25", b"Content-Length: 4")
        + ask([1.0, 6.5], last=True),
        [400],
    ),
    "behind a chunked body with a second length": (
        START + b"2\r\n[]\r\n0\r\ncontent-length: 400\r\n\r\n" + ask([1.0, 6.5], last=True),
        [400],
    ),
}


@pytest.mark.parametrize("name", PIPELINES)
def test_each_request_of_a_pipeline_is_guarded_by_itself(guard, app, name):
    data, statuses = PIPELINES[name]
    guard.score([1.0, 1.5])
    expected = [429 if name == "one record three times" else statuses[0], *statuses[1:]]
    assert guard.exchange(data) == expected
    # Nobody ever got this one
    assert app.reached[1.0, 6.5] == 0


SAME_V4 = {
    "as it is": "192.0.2.77",
    "with a port": "192.0.2.77:81",
    "mapped": "::ffff:192.0.2.77",
    "mapped, in hexadecimal": "::FFFF:c000:24d",
    "mapped, in brackets": "[::ffff:192.0.2.77]:81",
    "with blanks": "  192.0.2.77\t",
    "with a zone": "192.0.2.77%1",
    "behind what it made up": "9.9.9.9, 192.0.2.77",
    # What cannot be read is the proxy, which has asked too
    "octal": "192.0.2.077",
    "hexadecimal": "0xc0.0.2.77",
    "one number": "3221226061",
    "digits of another script": "\u00b992.0.2.77",
    "a name": "localhost",
    "empty": "",
    "a comma": ",",
}
SAME_V6 = {
    "as it is": "2001:db8:7::1",
    "upper case": "2001:DB8:7::1",
    "all zeros": "2001:0db8:0007:0000:0000:0000:0000:0001",
    "dotted": "2001:db8:7::0.0.0.1",
    "in brackets": "[2001:db8:7::1]",
    "with a port": "[2001:db8:7::1]:443",
    "with a zone": "2001:db8:7::1%eth0",
    "with a zone and a port": "[2001:db8:7::1%25eth0]:443",
    "another of its network": "2001:db8:7::ffff:ffff:ffff:ffff",
    "a zone with a slash": "2001:db8:7::1%/../../",
    "too many groups": "2001:db8:7:0:0:0:0:0:1",
}
ADDRESSES = [("192.0.2.77", form) for form in SAME_V4.values()] + [
    ("2001:db8:7::1", form) for form in SAME_V6.values()
]
NAMES = [*(f"IPv4 {name}" for name in SAME_V4), *(f"IPv6 {name}" for name in SAME_V6)]


@pytest.mark.parametrize(("address", "form"), ADDRESSES, ids=NAMES)
def test_no_form_of_an_address_is_another_client(guard, app, address, form):
    record = [2.0, 1.0]
    for own in ([("x-forwarded-for", address)], []):
        guard.score(record, *own)
    reached = app.reached[2.0, 1.0]
    for name in ("x-forwarded-for", "X-Forwarded-For", "X-FORWARDED-FOR"):
        assert guard.score(record, (name, form)) == 429
    assert app.reached[2.0, 1.0] == reached


HEADERS: dict[str, tuple[list[tuple[str, str]], tuple[int, ...]]] = {
    "the key in another case": ([("X-aPi-KeY", KEY)], (429,)),
    "the key in two cases": ([("x-api-key", KEY), ("X-API-KEY", KEY)], (401,)),
    "the key with blanks around it": ([("x-api-key", f"\t {KEY}  ")], (429,)),
    "the key in other letters": ([("x-api-key", KEY.upper())], (401,)),
    "two types": ([("content-type", "application/json"), ("Content-Type", "text/csv")], (415,)),
    "two codings": ([("content-encoding", "identity"), ("Content-Encoding", "gzip")], (415,)),
    "a coding in a list": ([("content-encoding", "identity, identity")], (415,)),
    "a coding of nothing": ([("content-encoding", "")], (429,)),
    "binary tensors": ([("inference-header-content-length", "22")], (415,)),
    "binary tensors, in another case": ([("Inference-Header-Content-Length", "0")], (415,)),
    "a length of other digits": ([("content-length", "\u00b2")], (400,)),
    "the length again": ([("content-length", "24")], (400,)),
    "a length with a sign": ([("content-length", "+24")], (400,)),
    "a method by a header": ([("X-HTTP-Method", "GET")], (429,)),
    "a form": ([("content-type", "application/x-www-form-urlencoded")], (415,)),
    "JSON of another name": ([("content-type", "application/x+json; charset=utf-16")], (429,)),
}


@pytest.mark.parametrize("name", HEADERS)
def test_no_case_or_repetition_of_a_header_is_another_request(guard, app, name):
    record = [3.0, 1.0]
    for own in ([("x-api-key", KEY)], []):
        guard.score(record, *own)
    reached = app.reached[3.0, 1.0]
    headers, allowed = HEADERS[name]
    assert guard.score(record, *headers) in allowed
    assert app.reached[3.0, 1.0] == reached


LINES = {
    "a path of other letters": b"POST /sc\xf6re HTTP/1.1",
    "a path in two lines": b"POST /score\n HTTP/1.1",
    "a tab": b"POST\t/score\tHTTP/1.1",
    "a method in small letters": b"post /score HTTP/1.1",
    "a connection through it": b"CONNECT /score HTTP/1.1",
    "an address that is none": b"POST http://[/score HTTP/1.1",
    "a star": b"POST * HTTP/1.1",
    "a parameter": b"POST /score;a=1 HTTP/1.1",
    "a null": b"POST /score\x00 HTTP/1.1",
    "an escaped null": b"POST /score%00 HTTP/1.1",
    "an escaped slash": b"POST /.%2fscore HTTP/1.1",
    "overlong dots": b"POST /a/%c0%ae%c0%ae/score HTTP/1.1",
    "capitals": b"POST /SCORE HTTP/1.1",
}


@pytest.mark.parametrize("name", LINES)
def test_no_line_of_a_request_reaches_the_model_otherwise(guard, app, name):
    record, requests = [4.0, 1.0], app.requests
    data = ask(record, last=True).replace(b"POST /score HTTP/1.1", LINES[name], 1)
    try:
        answers = read_answers(guard.connect(), data)
    except OSError:
        answers = []
    assert all(status in (400, 404, 405) for status, _ in answers)
    assert app.requests == requests and app.reached[4.0, 1.0] == 0


def test_another_version_or_a_fragment_is_guarded_all_the_same(guard, app):
    data = ask([4.5, 1.0], last=True)
    for version, status in ((b"", 200), (b" HTTP/2.0", 429), (b" HTTP/1.0", 429)):
        assert guard.exchange(data.replace(b" HTTP/1.1", version, 1)) == [status]
    assert guard.exchange(data.replace(b"/score", b"/score#a", 1)) == [429]
    assert app.reached[4.5, 1.0] == 1


def test_what_is_sent_one_byte_at_a_time_is_one_request(guard, app):
    """Also where a pause stands in a header's name, in a length and in the body."""
    data, statuses = ask([5.0, 1.0], ("x-forwarded-for", "192.0.2.5"), last=True), []
    for _ in range(2):
        with guard.connect() as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for place in range(len(data)):
                connection.sendall(data[place : place + 1])
            statuses.append(int(connection.recv(12)[9:]))
    assert statuses == [200, 429] and app.reached[5.0, 1.0] == 1
