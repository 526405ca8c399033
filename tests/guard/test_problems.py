"""Every answer that refuses or fails is a problem document with a stable type (RFC 9457)."""

from __future__ import annotations

import asyncio
import gzip
import http.client
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import urlsplit

import pytest
from guarded import JSON, ROWS, Broken, guarded, policy
from running_guard import POLICY, running
from starlette.testclient import TestClient
from unruly import Unruly, serving

from memberscope.guard.asgi.http_protocol import build_protocol_class
from memberscope.guard.asgi.openapi import build_openapi
from memberscope.guard.asgi.refusals import PROBLEMS, list_problems
from memberscope.guard.refused import STATUSES, RequestRefused
from memberscope.guard.server.admin_api import AdminParts, build_admin_app
from memberscope.guard.server.worker import build_server, open_listener
from memberscope.guard.state.in_memory import MemoryState
from memberscope.guard.state.interface import ActiveResponse

TITLES = {
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    408: "Request Timeout",
    411: "Length Required",
    413: "Content Too Large",
    415: "Unsupported Media Type",
    429: "Too Many Requests",
    502: "Bad Gateway",
    503: "Service Unavailable",
    504: "Gateway Timeout",
}
PAGES = Path(__file__).resolve().parents[2] / "docs"
V2 = {"protocol": "v2", "model_name": "m", "n_classes": 3}
TENSOR = {"name": "x", "shape": [1, 2], "datatype": "FP64", "data": [0.5, 0.25]}
HEAD = b"POST /score HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\n"


def is_problem(answer, name: str, status: int, title: str | None = None) -> bool:
    """Check media type, type, title and status of an answer, and that it has no other member."""
    assert answer.headers["content-type"] == "application/problem+json"
    document = answer.json
    assert document["type"] == f"urn:memberscope:guard:{name}"
    assert document["title"] == (title or TITLES[status])
    assert document["status"] == status == answer.status
    assert document.get("detail") == PROBLEMS[name].detail
    assert set(document) <= {"type", "title", "status", "detail"}
    return True


@contextmanager
def read_raw(url: str) -> Iterator[tuple[socket.socket, http.client.HTTPResponse]]:
    """A connection, and what is answered on it."""
    parts = urlsplit(url)
    with socket.create_connection((parts.hostname, parts.port), timeout=30) as connection:
        yield connection, http.client.HTTPResponse(connection)


def read_answer(response: http.client.HTTPResponse) -> SimpleNamespace:
    """An answer as `is_problem` takes it."""
    response.begin()
    headers = {name.lower(): value for name, value in response.getheaders()}
    return SimpleNamespace(
        status=response.status, headers=headers, json=json.loads(response.read())
    )


@pytest.fixture(scope="module")
def guard():
    """A guard with narrow limits."""
    limits = {"max_body_bytes": 2048, "max_records": 4, "body_timeout": 0.3}
    with serving(Unruly()) as upstream, guarded(upstream, policy(limits=limits)) as found:
        yield found


BODY = json.dumps(ROWS).encode()
GZIP = {"content-encoding": "gzip"}


@pytest.mark.parametrize(
    ("body", "headers", "name", "status"),
    [
        (b"", {}, "malformed-request", 400),
        (b"{", {}, "malformed-request", 400),
        (b'{"records": [[1, 2], [3]]}', {}, "malformed-request", 400),
        (b"x" * 3000, {}, "content-too-large", 413),
        (gzip.compress(b" " * 10**6), GZIP, "content-too-large", 413),
        (json.dumps({"records": [[1, 2]] * 5}).encode(), {}, "content-too-large", 413),
        (BODY, {"content-type": "text/csv"}, "unsupported-media-type", 415),
        (BODY, {"content-encoding": "br"}, "unsupported-media-type", 415),
        (BODY, GZIP, "unsupported-media-type", 415),
    ],
)
def test_bodies_that_are_refused(guard, body, headers, name, status):
    assert is_problem(guard.score(body, headers), name, status)


def test_requests_that_are_neither_guarded_nor_passed(guard):
    assert is_problem(guard.ask("GET", "/nowhere"), "not-found", 404)
    assert is_problem(guard.ask("POST", "/a/../score", b"{}"), "not-found", 404)
    answer = guard.ask("GET", "/score")
    assert is_problem(answer, "method-not-allowed", 405)
    assert answer.headers["allow"] == "POST, OPTIONS"
    head = guard.ask("HEAD", "/nowhere")
    assert (head.status, head.body) == (404, b"")
    assert head.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("restrict", ["label", "none"])
def test_a_slow_body(restrict):
    given = policy(
        default={"restrict": restrict},
        serving=JSON | {"passed": ["POST /upload"]},
        limits={"body_timeout": 0.3},
    )
    with serving(Unruly()) as upstream, guarded(upstream, given, watch=None) as found:
        for head in (HEAD, HEAD.replace(b"/score", b"/upload")):
            with read_raw(found.url) as (connection, response):
                connection.sendall(head + b"content-length: 90\r\n\r\n{")
                answer = read_answer(response)
            assert is_problem(answer, "request-timeout", 408)
            assert answer.headers["connection"] == "close"


def test_what_is_no_http(guard):
    with read_raw(guard.url) as (connection, response):
        connection.sendall(b"POST /score HTTP/1.1\r\ncontent-length: x\r\n\r\n")
        answer = read_answer(response)
    assert is_problem(answer, "malformed-http", 400) and answer.headers["connection"] == "close"


def test_a_binary_tensor():
    with serving(Unruly()) as upstream, guarded(upstream, policy(serving=V2)) as found:
        body = {"inputs": [TENSOR | {"parameters": {"binary_data_size": 8}}]}
        answer = found.ask("POST", "/v2/models/m/infer", body)
    assert is_problem(answer, "unsupported-tensor-encoding", 415)


def test_credentials_that_are_missing():
    key = {"name": "partner", "sha256": "0" * 64}
    given = policy(identity={"by": ["api_key"], "required": True, "keys": [key]})
    with serving(Unruly()) as upstream, guarded(upstream, given) as found:
        for headers, name in (({}, "required"), ({"x-api-key": "guess"}, "invalid")):
            answer = found.score(headers=headers)
            assert is_problem(answer, f"credentials-{name}", 401)
            assert answer.headers["www-authenticate"] == "ApiKey"


@pytest.mark.parametrize(
    ("response", "name", "status"),
    [
        ("block", "forbidden", 403),
        ("step_up", "stronger-credentials-required", 401),
        ("throttle", "budget-exhausted", 429),
    ],
)
def test_responses_in_force(response, name, status):
    class Standings(MemoryState):
        async def standing(self, client: str) -> ActiveResponse | None:
            return ActiveResponse(response, "probing")

    given = policy(respond={"probing": "block", "throttle": "1/h"})
    with serving(Unruly()) as upstream, guarded(upstream, given, state=Standings()) as found:
        answer = found.score()
    assert is_problem(answer, name, status)
    assert "probing" not in json.dumps(answer.json)


def test_a_budget_that_is_spent():
    given = policy(default={"restrict": "label", "per_client": "3/h"})
    state = MemoryState(clock=lambda: 0.0)
    with serving(Unruly()) as upstream, guarded(upstream, given, state=state) as found:
        assert found.score().status == 200
        answer = found.score()
    assert is_problem(answer, "budget-exhausted", 429)
    assert int(answer.headers["retry-after"]) >= 1
    assert "3" not in json.dumps(answer.json)


@pytest.mark.parametrize("fault", ["html", "nan", "fewer", "truncated"])
def test_an_answer_that_cannot_be_protected_looks_like_a_server_that_is_away(guard, fault):
    with (
        serving(Unruly(fault)) as upstream,
        guarded(upstream, policy()) as found,
        guarded("http://127.0.0.1:9", policy()) as away,
    ):
        answer = found.score()
        assert is_problem(answer, "bad-gateway", 502)
        assert away.score().json == answer.json


def test_servers_that_are_away_or_silent():
    declared = JSON | {"passed": ["GET /docs"]}
    for restrict in ("label", "none"):
        given = policy(
            serving=declared, default={"restrict": restrict}, limits={"answer_timeout": 0.3}
        )
        with guarded("http://127.0.0.1:9", given, watch=None) as found:
            assert is_problem(found.score(), "bad-gateway", 502)
            assert is_problem(found.ask("GET", "/docs"), "bad-gateway", 502)
        with socket.create_server(("127.0.0.1", 0)) as deaf:
            upstream = f"http://127.0.0.1:{deaf.getsockname()[1]}"
            with guarded(upstream, given, watch=None) as found:
                assert is_problem(found.score(), "gateway-timeout", 504)
                assert is_problem(found.ask("GET", "/docs"), "gateway-timeout", 504)


@pytest.mark.parametrize("restrict", ["label", "none"])
@pytest.mark.parametrize(
    ("given", "name", "status", "title"),
    [
        (302, "bad-gateway", 502, None),
        (404, "upstream-rejected", 404, "Request Rejected by the Model Server"),
        (422, "upstream-rejected", 422, "Request Rejected by the Model Server"),
        (429, "upstream-rejected", 429, "Request Rejected by the Model Server"),
        (500, "upstream-failed", 500, "Model Server Error"),
        (502, "bad-gateway", 502, None),
        (503, "unavailable", 503, None),
        (504, "gateway-timeout", 504, None),
    ],
)
def test_what_the_server_refuses(restrict, given, name, status, title):
    async def app(scope, receive, send):
        await receive()
        headers = [(b"retry-after", b"7"), (b"content-type", b"text/plain")]
        await send({"type": "http.response.start", "status": given, "headers": headers})
        await send({"type": "http.response.body", "body": b"record 17 is a member"})

    with guarded(app, policy(default={"restrict": restrict}), watch=None) as found:
        answer = found.score()
    assert is_problem(answer, name, status, title)
    assert answer.headers["retry-after"] == "7"


def test_a_state_that_is_away_and_an_identity_that_raises():
    def lost(scope):
        raise RuntimeError("no identity")

    given = policy(default={"restrict": "label", "per_client": "9/h"})
    for parts in ({"state": Broken()}, {"identify": lost}):
        with serving(Unruly()) as upstream, guarded(upstream, given, **parts) as found:
            assert is_problem(found.score(), "unavailable", 503)


def test_too_many_requests_at_once():
    app = Unruly("wait")
    given = policy(limits={"concurrency": 1, "queue": 0})
    with serving(app) as upstream, guarded(upstream, given) as found:
        thread = threading.Thread(target=found.score)
        thread.start()
        while app.requests < 1:
            time.sleep(0.01)
        answer = found.score()
        app.open.set()
        thread.join(20)
    assert is_problem(answer, "overloaded", 503) and answer.headers["retry-after"] == "1"


def test_more_connections_than_the_server_takes(guard):
    listening = open_listener("127.0.0.1", 0)
    settings = {"http": build_protocol_class(5.0), "limit_concurrency": 1}
    server = build_server(guard.guard, settings)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve([listening])), daemon=True)
    thread.start()
    with read_raw(f"http://127.0.0.1:{listening.getsockname()[1]}") as (connection, response):
        connection.sendall(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        answer = read_answer(response)
    server.should_exit = True
    thread.join(20)
    listening.close()
    assert is_problem(answer, "overloaded", 503) and answer.headers["connection"] == "close"


def admin_client(*, reachable: bool = True, good: bool = True, broken: str = "") -> TestClient:
    """A client of the admin interface in front of a policy that may be broken."""
    with guarded(Unruly(), policy()) as found:
        reloads = SimpleNamespace(guard=found.guard, broken=broken, restart="", loaded_at=0.0)

    async def asked() -> bool:
        return reachable

    def fail() -> bytes:
        raise RuntimeError("a fault")

    app = build_admin_app(AdminParts([reloads], asked, fail, lambda: good))
    return TestClient(app, raise_server_exceptions=False)


@pytest.mark.parametrize(
    ("method", "path", "name", "status", "title"),
    [
        ("GET", "/nowhere", "not-found", 404, "Not Found"),
        ("GET", "/reload", "method-not-allowed", 405, "Method Not Allowed"),
        ("POST", "/policy", "method-not-allowed", 405, "Method Not Allowed"),
        ("POST", "/reload", "policy-rejected", 409, "Conflict"),
        ("GET", "/health/ready", "not-ready", 503, "Service Unavailable"),
        ("GET", "/metrics", "internal-error", 500, "Internal Server Error"),
    ],
)
def test_what_the_admin_interface_refuses(method, path, name, status, title):
    client = admin_client(reachable=False, good=False, broken="Expected a rate, got 3.")
    answer = client.request(method, path)
    document = answer.json()
    assert answer.headers["content-type"] == "application/problem+json"
    assert (answer.status_code, document["status"]) == (status, status)
    assert (document["type"], document["title"]) == (f"urn:memberscope:guard:{name}", title)
    if status == 405:
        assert answer.headers["allow"] in ("POST", "GET, HEAD", "HEAD, GET")
    if name == "policy-rejected":  # what is wrong with the policy is the operator's to know
        assert document["broken"] == "Expected a rate, got 3."
    if name == "not-ready":
        assert document["ready"] is document["upstream"] is False and document["state"] is True


def test_what_is_no_http_on_the_admin_port(tmp_path):
    with serving(Unruly()) as upstream, running(tmp_path, upstream) as (process, _):
        port = process.said("serving")["admin_port"]
        with read_raw(f"http://127.0.0.1:{port}") as (connection, response):
            connection.sendall(b"GET /\x00 HTTP/1.1\r\n\r\n")
            answer = read_answer(response)
    assert POLICY and is_problem(answer, "malformed-http", 400)


def test_the_openapi_document_names_the_types_of_each_status():
    document = build_openapi(policy())
    answers = document["paths"]["/score"]["post"]["responses"]
    schema = document["components"]["schemas"]["Problem"]
    assert schema["required"] == ["type", "title", "status"]
    named: dict[str, int] = {}
    for status, answer in answers.items():
        if status != "200":
            (kind, content), *more = answer["content"].items()
            assert (kind, more) == ("application/problem+json", [])
            reference, own = content["schema"]["allOf"]
            assert reference == {"$ref": "#/components/schemas/Problem"}
            assert own["properties"]["status"] == {"const": int(status)}
            types = own["properties"]["type"]["enum"]
            assert types == [f"urn:memberscope:guard:{name}" for name in list_problems(int(status))]
            named |= {name: int(status) for name in types}
    for name, status in STATUSES.items():
        assert status in (404, 405) or f"urn:memberscope:guard:{name}" in named


def test_every_type_is_documented_and_says_nothing_but_its_own_text():
    page = (PAGES / "guard-problems.md").read_text(encoding="utf-8")
    assert set(STATUSES) <= set(PROBLEMS)
    for name, (title, detail) in PROBLEMS.items():
        assert f"`{name}`" in page and title in page
        assert "Expected" not in title and ", got " not in (detail or "")
    assert str(RequestRefused("forbidden")) == "forbidden"
