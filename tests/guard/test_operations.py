"""What operators need of a running guard: tokens, IDs, budgets told, replicas, models, its end.

One guard of two models serves all tests of this file but those about files alone; the last one ends
it.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import redis
import uvicorn
from certificates import Authority
from guarded import ROWS, guarded, policy
from real import free_port
from running_guard import POLICY, SERVING, Process, ask
from unruly import Unruly, model, serving
from watching import call

from memberscope.guard import read_policy
from memberscope.guard.asgi.middleware import PolicyMiddleware
from memberscope.guard.hashing import Secret, read_secrets, write_secrets
from memberscope.guard.server.assembly import assemble_guard

X = np.array(ROWS["records"])
TOKEN = "0123456789abcdef0123456789abcdef"
try:
    import opentelemetry.exporter.otlp.proto.http as otel
except ImportError:
    otel = None  # its test says so when it is skipped
FIRST = """
prefix = "/first"
[upstreams]
urls = [{urls}]
health_seconds = 0.05
health_path = "/health"
[admin]
token_file = "admin.token"
"""
SECOND = """
[[clients]]
name = "all"
who = ["network:0.0.0.0/0"]
restrict = "round:1"
per_client = "10/d"
per_record = "7/365d"
"""


class Recorded(Unruly):
    """A server that keeps the paths of its requests."""

    def __init__(self) -> None:
        super().__init__()
        self.paths: list[str] = []
        self.metadata = {"ready": True}  # what a GET is answered with; None is an error

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http" and scope["method"] == "POST":
            self.paths.append(scope["path"])
        await super().__call__(scope, receive, send)


class Running:
    """The guard of this file, what is behind it, and requests to it."""

    def __init__(self, process: Process, folder: Path, authority: Authority) -> None:
        self.process, self.folder, self.authority = process, folder, authority
        self.collected: list[tuple[str, bytes]] = []
        self.first, self.second, self.spare = Recorded(), Recorded(), free_port()
        self.ports: dict[str, int] = {}

    def score(self, path: str = "/first/score", **headers: str) -> tuple[int, dict[str, str], Any]:
        """Status, headers and document of the answer to a query over TLS."""
        connection = http.client.HTTPSConnection(
            "127.0.0.1", self.ports["port"], timeout=30, context=self.authority.trusting()
        )
        try:
            sent = {"content-type": "application/json"} | {
                name.replace("_", "-"): value for name, value in headers.items()
            }
            connection.request("POST", path, json.dumps(ROWS), sent)
            answer = connection.getresponse()
            found = {name.lower(): value for name, value in answer.getheaders()}
            return answer.status, found, json.loads(answer.read())
        finally:
            connection.close()

    def admin(self, method: str, path: str, token: str | None = TOKEN) -> tuple[int, Any]:
        """Status and document of the operators' port."""
        headers = {} if token is None else {"authorization": f"Bearer {token}"}
        status, text = ask(self.ports["admin_port"], method, path, **headers)
        return status, text if path == "/metrics" else json.loads(text)

    def serial(self) -> int:
        """The number of the certificate that a new connection is shown."""
        context = self.authority.trusting()
        with (
            socket.create_connection(("127.0.0.1", self.ports["port"]), timeout=30) as plain,
            context.wrap_socket(plain, server_hostname="127.0.0.1") as wrapped,
        ):
            found = wrapped.getpeercert()
        assert found is not None
        return int(str(found["serialNumber"]), 16)


@contextmanager
def listening_at(port: int, app: Any) -> Iterator[None]:
    """Serve `app` at a port that was chosen before."""
    server = uvicorn.Server(
        uvicorn.Config(app, host="127.0.0.1", port=port, log_level="critical", lifespan="off")
    )
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield
    finally:
        server.should_exit = True
        thread.join()


def collector(found: list[tuple[str, bytes]]) -> Any:
    """What takes traces and metrics of OpenTelemetry, and keeps path and body of each request."""

    async def collect(scope: Any, receive: Any, send: Any) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        found.append((scope["path"], body))
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    return collect


@pytest.fixture(scope="module")
def guard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("operations")
    authority = Authority(folder, "ours")
    certificate, key = authority.sign("server")
    (folder / "admin.token").write_text(TOKEN + "\n")
    (folder / "admin.token").chmod(0o600)
    found = Running(None, folder, authority)  # type: ignore[arg-type]
    with (
        pytest.MonkeyPatch.context() as patch,
        serving(found.first) as first,
        serving(found.second) as second,
        serving(collector(found.collected)) as collecting,
    ):
        patch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collecting)
        patch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "none")
        patch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
        patch.setenv("OTEL_METRIC_EXPORT_INTERVAL", "200")
        traced = "" if otel is None else "[telemetry]\ntraces = true\nmetrics = true\n"
        urls = f'"{first}", "http://127.0.0.1:{found.spare}"'
        serving_table = POLICY.partition("[default]")[0]
        (folder / "first.toml").write_text(
            serving_table + FIRST.format(urls=urls) + traced + '[default]\nrestrict = "label"\n'
        )
        (folder / "second.toml").write_text(
            serving_table
            + f'prefix = "/second"\n[upstreams]\nurls = ["{second}"]\n'
            + '[default]\nrestrict = "label"\n'
            + SECOND
        )
        options = {
            "--policy": folder / "first.toml",
            "--model": folder / "second.toml",
            "--tls-cert": certificate,
            "--tls-key": key,
            "--admin-host": "0.0.0.0",
        }
        found.process = Process(*(str(part) for pair in options.items() for part in pair))
        try:
            found.ports = found.process.said("serving")
            found.process.said("serving")
            yield found
        finally:
            found.process.process.kill()
            found.process.process.wait()
            found.process.process.stderr.close()


def test_each_model_has_its_policy_and_its_upstream_sees_no_prefix(guard):
    status, _, document = guard.score("/first/score")
    assert (status, document["predictions"]) == (200, model(X).argmax(axis=1).tolist())
    status, _, document = guard.score("/second/score")
    assert status == 200
    np.testing.assert_array_equal(document["predictions"], np.round(model(X), 1))
    assert set(guard.first.paths) == set(guard.second.paths) == {"/score"}
    assert guard.first.requests and guard.second.requests
    for path in ("/score", "/third/score", "/first", "/firsts/score", "/second/first/score"):
        assert guard.score(path)[0] == 404
    described = guard.admin("GET", "/openapi.json")[1]["paths"]
    assert set(described) == {"/first/score", "/second/score"}


def test_a_replica_that_accepts_no_connection_is_left_out_until_it_does(guard):
    guard.process.said("replica_left_out")
    assert b"memberscope_guard_replicas_left_out 1.0" in guard.admin("GET", "/metrics")[1]
    before = guard.first.requests
    assert [guard.score()[0] for _ in range(4)] == [200] * 4
    assert guard.first.requests == before + 4
    other = Recorded()
    with listening_at(guard.spare, other):
        guard.process.said("replica_back")
        assert [guard.score()[0] for _ in range(4)] == [200] * 4
        assert other.requests == 2  # of equals the one that waited longest is asked
        other.metadata = None  # it still answers, and says that it is not well
        guard.process.said("replica_left_out")
        assert [guard.score()[0] for _ in range(4)] == [200] * 4 and other.requests == 2
        other.metadata = {"ready": True}
        guard.process.said("replica_back")
    assert [guard.score()[0] for _ in range(4)] == [200] * 4  # the one that died costs no request


def test_the_operators_port_wants_its_token_but_for_health(guard):
    for method, path in (("GET", "/metrics"), ("GET", "/policy"), ("POST", "/reload")):
        for token in (None, "", TOKEN[:-1], TOKEN + "0", "é"):
            status, text = ask(
                guard.ports["admin_port"],
                method,
                path,
                **({} if token is None else {"authorization": f"Bearer {token}"}),
            )
            assert status == 401 and b"credentials-required" in text
        assert guard.admin(method, path)[0] == 200
    assert guard.admin("GET", "/health/live", None)[0] == 200
    status, document = guard.admin("GET", "/health/ready", None)
    assert status == 200 and "policy_broken" not in document
    assert "policy_broken" in guard.admin("GET", "/health/ready")[1]


def test_a_token_that_others_can_read_leaves_the_one_in_force(guard):
    file = guard.folder / "admin.token"
    file.chmod(0o644)
    status, document = guard.admin("POST", "/reload")
    assert status == 409 and "chmod 600" in document["broken"]
    file.chmod(0o600)
    assert guard.admin("POST", "/reload")[0] == 200


@pytest.mark.parametrize("path", ["/first/score", "/nowhere"])
def test_a_request_has_an_id_in_its_answer_and_its_log(guard, path):
    assert guard.score(path, x_request_id="Abc-1:7")[1]["x-request-id"] == "Abc-1:7"
    made = guard.score(path, x_request_id='"><b>')[1]["x-request-id"]
    assert len(made) == 32 and guard.score(path)[1]["x-request-id"] != made
    if path == "/first/score":
        assert made in [headers.get("x-request-id") for headers in guard.first.seen]
        while guard.process.said("query").get("request") != made:
            pass


def test_an_answer_tells_what_is_left_of_the_budget(guard):
    told = [guard.score("/second/score")[1] for _ in range(6)]
    policy = '"client";q=10;w=86400;qu="records", "record";q=7;w=31536000;qu="records"'
    assert {headers["ratelimit-policy"] for headers in told} == {policy}
    left = [int(headers["ratelimit"].split(";")[1].removeprefix("r=")) for headers in told]
    assert left == sorted(left, reverse=True) and left[-1] == 0
    assert [a - b for a, b in pairwise(left) if b] == [2] * (len(set(left)) - 2)
    status, headers, _ = guard.score("/second/score")
    assert status == 429 and "retry-after" in headers and '"client";r=0;t=' in headers["ratelimit"]
    assert "ratelimit" not in guard.score("/first/score")[1]  # nothing is limited there


def test_grpc_is_refused_with_a_sentence(guard):
    status, _, document = guard.score(content_type="application/grpc+proto")
    assert status == 415 and document["type"].endswith("grpc-not-spoken")
    assert "does not speak gRPC" in document["detail"]
    with (
        socket.create_connection(("127.0.0.1", guard.ports["port"]), timeout=30) as plain,
        guard.authority.trusting().wrap_socket(plain, server_hostname="127.0.0.1") as native,
    ):
        native.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")  # as a native client begins
        assert native.recv(4096).startswith(b"HTTP/1.1 400 ")


@pytest.mark.skipif(otel is None, reason="needs the extra otel")
def test_traces_and_metrics_go_to_opentelemetry_without_what_was_asked(guard):
    from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
        ExportMetricsServiceRequest,
    )
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    parent, asked = "00-" + "ab" * 16 + "-" + "cd" * 8 + "-01", "traced-1"
    assert guard.score(traceparent=parent, x_request_id=asked)[0] == 200
    sent = [headers.get("traceparent", "") for headers in guard.first.seen]
    onward = next(text for text in sent if "ab" * 16 in text).split("-")
    assert onward[1] == "ab" * 16 and onward[2] != "cd" * 8  # the server's span follows the guard's
    spans: dict[str, Any] = {}
    names: set[str] = set()
    while asked not in spans or "memberscope_guard_requests_total" not in names:
        time.sleep(0.02)
        for path, body in list(guard.collected):
            if path == "/v1/traces":
                request = ExportTraceServiceRequest.FromString(body)
                for span in request.resource_spans[0].scope_spans[0].spans:
                    values = {entry.key: entry.value for entry in span.attributes}
                    spans[values["memberscope.request_id"].string_value] = span, values
            else:
                found = ExportMetricsServiceRequest.FromString(body)
                names |= {one.name for one in found.resource_metrics[0].scope_metrics[0].metrics}
    span, values = spans[asked]
    assert span.trace_id.hex() == "ab" * 16 and span.parent_span_id.hex() == "cd" * 8
    assert span.span_id.hex() == onward[2]
    assert values["http.response.status_code"].int_value == 200
    assert not any(b"/score" in body or b"127.0.0.1" in body for _, body in guard.collected)


def test_a_new_certificate_is_shown_without_a_new_start(guard):
    first = guard.serial()
    certificate, _ = guard.authority.sign("server")  # as a renewal does: by a change of the files
    guard.process.said("certificates_reloaded")
    second = guard.serial()
    good = certificate.read_bytes()
    certificate.write_text("none")
    guard.process.said("certificates_not_reloaded")
    assert first != second == guard.serial()
    certificate.write_bytes(good)
    guard.process.process.send_signal(signal.SIGHUP)
    guard.process.said("certificates_reloaded")
    assert guard.serial() == second


def test_it_says_that_it_is_not_ready_before_queries_in_flight_have_ended(guard):
    guard.first.always, answers = "wait", []
    before = guard.first.requests
    thread = threading.Thread(target=lambda: answers.append(guard.score()[0]))
    thread.start()
    while guard.first.requests == before:
        time.sleep(0.01)
    guard.process.process.send_signal(signal.SIGTERM)
    while True:
        status, document = guard.admin("GET", "/health/ready")
        if status == 503:
            break
        time.sleep(0.01)
    assert document["draining"] and document["upstream"] and not answers
    guard.first.open.set()
    thread.join(20)
    guard.process.said("ended")
    assert guard.process.process.wait(20) == 0 and answers == [200]


CHECKED = f"""{SERVING}[default]
restrict = "label"
[monitor]
key = "guard.key"
"""


@pytest.fixture
def checked(tmp_path: Path) -> Path:
    """A policy with nothing wrong."""
    file = tmp_path / "guard.toml"
    file.write_text(CHECKED)
    write_secrets(tmp_path / "guard.key", [Secret.new()])
    return file


def test_check_finds_nothing_or_everything(checked, redis_here):
    client = redis.Redis.from_url(redis_here.url)
    with serving(Unruly()) as upstream:
        checked.write_text(CHECKED + f'[state]\nredis = "{redis_here.url}"\n')
        code, said = call("guard", "check", checked, "--upstream", upstream)
        assert code == 0, said
        client.config_set("maxmemory-policy", "allkeys-lru")
        (checked.parent / "guard.key").chmod(0o644)
        measured = 'result = "00"\nlevel = "label"\nlimit = 0.1\nupper = 0.05\nattack = "gap"\nconfidence = 0.95'
        checked.write_text(
            checked.read_text().replace('"label"', '"top:1"') + f"[measured]\n{measured}\n"
        )
        try:
            code, said = call(
                *("guard", "check", checked, "--upstream", "http://127.0.0.1:1"),
                *("--admin-host", "0.0.0.0"),
            )
        finally:
            client.config_set("maxmemory-policy", "noeviction")
    wanted = (
        "would see more than follows from the measured level label",
        "a secret that everybody can read: run chmod 600",
        "maxmemory-policy allkeys-lru",
        "Expected a token for an operators' port at 0.0.0.0",
        "127.0.0.1:1 accepts no connection",
    )
    assert code == 1 and [words for words in wanted if words not in said] == []


def test_check_trusts_the_upstream_as_the_guard_does(checked):
    authority = Authority(checked.parent, "ours")
    certificate, key = map(str, authority.sign("model"))
    with serving(Unruly(), ssl_certfile=certificate, ssl_keyfile=key) as upstream:
        code, said = call("guard", "check", checked, "--upstream", upstream)
        assert code == 1 and "a certificate that is not trusted" in said
        trusted = ("--upstream-ca", authority.pem)
        assert call("guard", "check", checked, "--upstream", upstream, *trusted)[0] == 0


def test_check_lists_each_value_that_is_not_usable(checked):
    checked.write_text(
        CHECKED.replace('"label"', '"tip:3"') + "[limits]\nqueue = -1\n[guard]\nx = 1\n"
    )
    code, said = call("guard", "check", checked, "--upstream", "http://127.0.0.1:1")
    assert code == 1 and said.count("Expected a usable") == 3
    assert all(words in said for words in ("default.restrict", "limits.queue", "guard.x"))


async def keep_silent(scope: Any, receive: Any, send: Any) -> None:
    """Answer too late."""
    await asyncio.sleep(60)


class Scored:
    """A guard in this process over budgets that outlive it, begun anew for each look."""

    def __init__(self, file: Path, model: Any = None) -> None:
        self.policy, self.model = read_policy(file), model or Unruly()

    def ask(self, n: int) -> list[int]:
        """Statuses of n queries about two records each."""

        async def run() -> list[int]:
            parts = assemble_guard(self.policy, b"")
            guard = PolicyMiddleware(
                self.model, policy=self.policy, state=parts.state, names=parts.names
            )
            await parts.start()
            found = [await self.one(guard) for _ in range(n)]
            await parts.stop()
            await parts.state.close()
            return found

        return asyncio.run(run())

    async def one(self, guard: PolicyMiddleware) -> int:
        sent: list[dict[str, Any]] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": json.dumps(ROWS).encode(), "more_body": False}

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {"type": "http", "method": "POST", "path": "/score", "raw_path": b"/score"}
        headers = [(b"content-type", b"application/json")]
        more = {"query_string": b"", "headers": headers, "client": ("127.0.0.1", 1)}
        await guard({**scope, **more}, receive, send)
        return int(sent[0]["status"])


@pytest.mark.parametrize("kept", ["redis", "folder"])
@pytest.mark.parametrize("budget", ["per_client", "per_record"])
def test_a_rotated_key_gives_nobody_a_token(checked, redis_here, budget, kept):
    rate = "10/365d" if budget == "per_client" else "5/365d"
    shared = f'redis = "{redis_here.url}"\nprefix = "{budget}"\ntimeout = 5.0\n'
    state = shared if kept == "redis" else 'folder = "budgets"\nrecord_megabytes = 1\n'
    limited = CHECKED.replace("[monitor]", f'{budget} = "{rate}"\n[monitor]')
    checked.write_text(f"{limited}[limits]\nanswer_timeout = 0.2\n[state]\n{state}")
    assert Scored(checked).ask(3) == [200] * 3
    code, said = call("guard", "keys", "rotate", "--policy", checked)
    assert code == 0 and "for 372 days" in said
    # What a late answer took is given back under both keys
    assert Scored(checked, keep_silent).ask(3) == [504] * 3
    assert Scored(checked).ask(1) == [200]
    assert call("guard", "keys", "rotate", "--policy", checked)[0] == 0
    assert Scored(checked).ask(3) == [200, 429, 429]
    path = checked.parent / "guard.key"
    secrets = read_secrets(path)
    assert len(secrets) == 3 and len({secret.key for secret in secrets}) == 3
    # A year later the budgets under the first keys are full again: those are needed no more, but
    # for the oldest, by which noise is drawn
    old = [Secret(one.id, one.key, one.rotated and one.rotated - 373 * 86400) for one in secrets]
    write_secrets(path, old)
    # The first keys were used a moment ago, which counts more than the day of a rotation
    assert Scored(checked).ask(1) == [429]
    if kept == "redis":
        with redis.Redis.from_url(redis_here.url) as link:
            assert link.delete(f"{budget}:keys")
    else:
        (checked.parent / "budgets" / "keys.json").unlink()
    assert Scored(checked).ask(1) == [200]
    assert call("guard", "keys", "rotate", "--policy", checked)[0] == 0
    left = read_secrets(path)
    assert len(left) == 3 and [one.id for one in left[:2]] == [secrets[0].id, secrets[2].id]


def test_a_key_file_of_another_version_is_upgraded_or_refused_with_a_sentence(checked):
    path = checked.parent / "guard.key"
    first = read_secrets(path)
    document = json.loads(path.read_text())
    path.write_text(json.dumps({**document, "format": "memberscope-key/1"}))
    assert read_secrets(path) == first
    assert call("guard", "keys", "rotate", "--policy", checked)[0] == 0
    assert json.loads(path.read_text())["format"] == "memberscope-key/2"
    path.write_text(json.dumps({**document, "format": "memberscope-key/9"}))
    code, said = call("guard", "keys", "rotate", "--policy", checked)
    assert code == 2 and "Expected a key file of this version" in said and "key/9" in said


def test_what_is_declared_of_an_answer_passes_in_its_shape():
    kept = {"also": ("version", "rows[*].kind"), "answer": "rows[*].p", "n_classes": 2}

    async def answers(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        rows = [{"p": p, "kind": "a", "raw": p} for p in (0.123, 0.876)]
        body = json.dumps({"rows": rows, "version": 3, "trace": "x"}).encode()
        headers = [(b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    rules = policy(
        serving={"protocol": "json", "path": "/score", "body": '{"records": "$records"}', **kept},
        default={"restrict": "round:1"},
    )
    with guarded(answers, rules) as found:
        rows = [{"p": 0.1, "kind": "a"}, {"p": 0.9, "kind": "a"}]
        assert found.score().json == {"rows": rows, "version": 3}
