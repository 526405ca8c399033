"""The guard on the loopback interface.

What clients get, what upstreams get, and what happens when something fails.
"""

from __future__ import annotations

import gzip
import http.client
import json
import socket
import threading
import time
import zlib
from urllib.parse import urlsplit

import numpy as np
import pytest
from guarded import JSON, ROWS, Broken, guarded, policy
from unruly import Unruly, model, serving

from memberscope.guard.counters import Uncounted
from memberscope.guard.hashing.secret_key import create_key_file, read_secrets
from memberscope.guard.policy.keyed_defence import build_keyed_defence
from memberscope.guard.state.in_memory import MemoryState
from memberscope.guard.state.interface import ActiveResponse
from memberscope.outputs.chain import parse_restriction
from memberscope.outputs.fitted_file import save_fitted
from memberscope.outputs.keyed_parts import with_noise_key
from memberscope.targets import FunctionTarget, HttpTarget, RestrictedTarget
from memberscope.wire.endpoint import Endpoint

X = np.array(ROWS["records"])
NAMES = ("0", "1", "2")


@pytest.fixture(scope="module")
def strict():
    """A guard with narrow limits, and the server behind it."""
    app, limits = (
        Unruly(),
        {
            "max_body_bytes": 2048,
            "max_records": 4,
            "body_timeout": 0.5,
            "max_answer_bytes": 100_000,
        },
    )
    with serving(app) as upstream, guarded(upstream, policy(limits=limits)) as guard:
        yield app, guard


def shown(name: str = "top:2+round:2") -> list[dict[str, float]]:
    """What the defence leaves of the model's answers."""
    outputs = parse_restriction(name)(model(X))
    return [{c: v for c, v in zip(NAMES, row, strict=True) if v == v} for row in outputs.tolist()]


def audit(name: str) -> dict:
    """How an audit declares the guarded endpoint."""
    hidden = {"top_k": 2} if name.startswith("top:2") else {}
    return {"outputs": "labels" if name == "label" else "probabilities", "n_classes": 3, **hidden}


@pytest.mark.parametrize(
    ("path", "declared"),
    [
        ("/score", JSON),
        ("/score", JSON | {"body": '{"record": "$record"}', "answer": "predictions[0]"}),
        ("", {"protocol": "mlflow", "n_classes": 3}),
        ("", {"protocol": "v2", "n_classes": 3}),
    ],
)
def test_an_audit_through_the_guard_reads_what_it_reads_in_process(path, declared, tmp_path):
    create_key_file(tmp_path / "guard.key")
    keyed = {"monitor": {"key": "guard.key"}, "home": str(tmp_path)}
    keys = {key: value for key, value in declared.items() if key in ("protocol", "body", "answer")}
    given = policy(serving=declared)
    with serving(Unruly()) as upstream, guarded(upstream, given) as guard:
        with HttpTarget(Endpoint(upstream + path, model_name="m", n_classes=3, **keys)) as target:
            outputs = target.query(X)
        wrapped = FunctionTarget(lambda x: outputs, n_classes=3)
        for name in (
            "none",
            "top:2",
            "round:2",
            "temperature:2",
            "noise:0.3",
            "label",
            "top:2+round:1",
        ):
            expected = (
                outputs
                if name == "none"
                else RestrictedTarget(wrapped, build_keyed_defence(policy(**keyed), name)).query(X)
            )
            guard.guard.swap(
                guard.guard.prepared(policy(serving=declared, default={"restrict": name}, **keyed))
            )
            guard.seen.clear()
            endpoint = Endpoint(guard.url + path, model_name="m", **keys | audit(name))
            with HttpTarget(endpoint) as target:
                np.testing.assert_array_equal(target.query(X), expected)
            read = guard.guard.rules.exchange.tops  # an answer that passed as it was
            found = guard.watched(2 if target._serving.one_by_one else 1)
            told = [
                read(seen.answer, seen.records) if seen.answer else seen.labels for seen in found
            ]
            assert all(bool(seen.answer) == (name == "none") for seen in found)
            assert sorted(np.concatenate(told)) == [0, 2] == sorted(model(X).argmax(axis=1))


def test_headers_and_errors_of_the_upstream_tell_nothing():
    async def app(scope, receive, send):
        await receive()
        status = 500 if b"1.0" in scope.get("query_string", b"") else app.status
        headers = [
            (b"x-member", b"yes"),
            (b"server-timing", b"db;dur=5"),
            (b"set-cookie", b"a=b"),
            (b"X-Request-Id", b"7"),
        ]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send(
            {
                "type": "http.response.body",
                "body": json.dumps({"predictions": model(X).tolist(), "debug": 1}).encode(),
            }
        )

    with guarded(app, policy()) as guard:
        app.status = 200
        answer = guard.score()
        assert answer.json == {"predictions": shown()}
        assert set(answer.headers) <= {"content-type", "content-length", "date", "x-request-id"}
        for status in (201, 404, 422, 500, 503):
            app.status = status
            answer = guard.score()
            assert answer.status == status and "debug" not in answer.body.decode()
            assert set(answer.headers) <= {"content-type", "content-length", "date", "x-request-id"}
        for status in (302, 304):
            app.status = status
            assert guard.score().status == 502


def test_what_is_neither_guarded_nor_harmless_does_not_reach_the_upstream():
    app = Unruly()
    app.metadata = {"name": "m"}
    declared = {"protocol": "v2", "model_name": "m", "n_classes": 3}
    with serving(app) as upstream, guarded(upstream, policy(serving=declared)) as guard:
        assert guard.ask("GET", "/v2/models/m").json == {"name": "m"}
        assert guard.ask("HEAD", "/v2/models/m").status == 200
        n = len(app.seen)
        for method, path in (
            ("POST", "/v2/models/m/generate"),
            ("GET", "/metrics"),
            ("POST", "/v2/models/m%2Finfer"),
            ("POST", "/v2/models/x/../m/infer"),
            ("DELETE", "/v2/models/m"),
        ):
            assert guard.ask(method, path, b"{}" if method == "POST" else None).status == 404
        answer = guard.ask("GET", "/v2/models/m/infer")
        assert (answer.status, answer.headers["allow"]) == (405, "POST, OPTIONS")
        assert guard.ask("OPTIONS", "/v2/models/m/infer").status == 200
        assert len(app.seen) == n


@pytest.mark.parametrize("rate", [{"per_client": "3/h"}, {"per_record": "1/h"}, {"total": "3/h"}])
def test_budgets_end_with_429_and_the_model_is_not_asked(rate):
    app = Unruly()
    tables = {"guard": rate} if "total" in rate else {}
    given = policy(**tables, default={"restrict": "label", **({} if "total" in rate else rate)})
    with (
        serving(app) as upstream,
        guarded(upstream, given, state=MemoryState(clock=lambda: 0.0)) as guard,
    ):
        assert guard.score().status == 200
        answer = guard.score()
        assert answer.status == 429 and int(answer.headers["retry-after"]) >= 1
        assert app.requests == 1
        assert [seen.status for seen in guard.watched(2)] == [200, 429]
        assert guard.seen[1].labels.tolist() == [-1, -1]


@pytest.mark.parametrize(
    ("response", "status"),
    [("block", 403), ("step_up", 401), ("throttle", 429), ("coarsen", 200), ("alert", 200)],
)
def test_responses_in_force(response, status):
    class Standings(MemoryState):
        async def standing(self, client: str) -> ActiveResponse | None:
            return ActiveResponse(response, "probing")

    given = policy(respond={"probing": "block", "throttle": "1/h"})
    with serving(Unruly()) as upstream, guarded(upstream, given, state=Standings()) as guard:
        answer = guard.score()
    assert answer.status == status
    assert ("insufficient_user_authentication" in answer.headers.get("www-authenticate", "")) == (
        status == 401
    )
    if status == 200:
        coarse = {"predictions": model(X).argmax(axis=1).tolist()}
        assert answer.json == (coarse if response == "coarsen" else {"predictions": shown()})


@pytest.mark.parametrize(
    "fault", ["html", "half", "shape", "fewer", "words", "other", "nan", "truncated", "endless"]
)
def test_closed_an_answer_that_cannot_be_protected_is_not_given(strict, fault):
    app, guard = strict
    app.orders.append(fault)
    answer = guard.score()
    assert answer.status == 502 and set(answer.json) == {"type", "title", "status"}
    assert guard.score().json == {"predictions": shown()}


class Counted(Uncounted):
    def __init__(self) -> None:
        self.faults: list[str] = []
        self.open = 0
        self.would_be: list[int] = []

    def fault(self, which) -> None:
        self.faults.append(which)

    def exposed(self) -> None:
        self.open += 1

    def would(self, status) -> None:
        self.would_be.append(status)


def test_open_it_is_given_as_it_is_and_counted():
    counters = Counted()
    with (
        serving(Unruly("shape")) as upstream,
        guarded(upstream, policy(guard={"on_fault": "open"}), counters=counters) as guard,
    ):
        answer = guard.score()
        assert answer.status == 200
        np.testing.assert_array_equal(answer.json["predictions"], model(X)[:, :2])
    assert counters.faults == ["answer"] and counters.open == 1


@pytest.mark.parametrize(("on_fault", "status"), [("closed", 503), ("open", 200)])
def test_a_state_that_is_away_and_an_identity_that_raises(on_fault, status):
    app = Unruly()

    def lost(scope):
        raise RuntimeError("no identity")

    for parts, which in (({"state": Broken()}, "state"), ({"identify": lost}, "identity")):
        counters = Counted()
        given = policy(
            guard={"on_fault": on_fault}, default={"restrict": "top:2+round:2", "per_client": "9/h"}
        )
        with (
            serving(app) as upstream,
            guarded(upstream, given, counters=counters, **parts) as guard,
        ):
            answer = guard.score()
            assert answer.status == status and counters.faults == [which]
            assert status != 200 or answer.json == {"predictions": shown()}
    assert app.requests == (0 if on_fault == "closed" else 2)


def test_a_monitor_that_raises_changes_no_answer():
    counters = Counted()

    def watch(seen):
        raise RuntimeError

    with (
        serving(Unruly()) as upstream,
        guarded(upstream, policy(), watch=watch, counters=counters) as guard,
    ):
        assert guard.score().json == guard.score().json == {"predictions": shown()}
    assert counters.faults == ["watch", "watch"]


def test_observe_changes_nothing_and_counts_what_enforcing_would_do():
    counters, app = Counted(), Unruly("fine", "fine", "half", "fine", "503")
    given = policy(guard={"mode": "observe"}, default={"restrict": "label", "per_client": "4/h"})
    state = MemoryState(clock=lambda: 0.0)
    with (
        serving(app) as upstream,
        guarded(upstream, given, counters=counters, state=state) as guard,
    ):
        plain = guard.score()
        np.testing.assert_array_equal(plain.json["predictions"], model(X))
        assert guard.ask("GET", "/anything").status == 404
        assert guard.score({"records": [[0.5, 0.25]], "more": 1}).status == 200
        assert guard.score({"records": [[0.5, 0.25]]}).status == 200
        assert guard.score().status == 200
        assert guard.score(ROWS, {"content-encoding": "br"}).status == 503
        assert [seen.status for seen in guard.watched(4)] == [200, 200, 200, 200]
    # Whose budget is spent is refused for that, whatever the body is
    assert counters.would_be == [200, 404, 200, 502, 429, 429]


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"x" * 3000, {}, 413),
        (gzip.compress(b"[" * 10**7), {"content-encoding": "gzip"}, 413),
        (zlib.compress(b" " * 10**7), {"content-encoding": "deflate"}, 413),
        (gzip.compress(json.dumps(ROWS).encode()), {"content-encoding": "gzip"}, 200),
        (gzip.compress(json.dumps(ROWS).encode())[:-9], {"content-encoding": "gzip"}, 415),
        (gzip.compress(b"{}") * 2, {"content-encoding": "gzip"}, 415),
        (json.dumps(ROWS).encode(), {"content-encoding": "br"}, 415),
        (json.dumps(ROWS).encode(), {"content-encoding": "gzip, gzip"}, 415),
        (json.dumps(ROWS).encode(), {"content-type": "text/csv"}, 415),
        (json.dumps(ROWS).encode(), {"inference-header-content-length": "5"}, 415),
        (b"[" * 2000, {}, 400),
        (b"", {}, 400),
        (b"\x00\xff", {}, 400),
        (json.dumps({"records": [[1, 2]] * 5}).encode(), {}, 413),
    ],
    ids=range(14),
)
def test_hostile_bodies_are_refused_before_the_model(strict, body, headers, status):
    app, guard = strict
    before = app.requests
    assert guard.score(body, headers).status == status
    assert app.requests == before + (status == 200)
    assert guard.score().json == {"predictions": shown()}


def connected(url: str) -> socket.socket:
    parts = urlsplit(url)
    return socket.create_connection((parts.hostname, parts.port), timeout=30)


def until_closed(connection: socket.socket) -> bytes:
    found = b""
    try:
        while part := connection.recv(65536):
            found += part
    except ConnectionError:
        pass
    return found


HEAD = b"POST /score HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\n"


def test_slow_clients_are_cut_off_and_others_served_meanwhile():
    given = policy(serving=JSON | {"passed": ["POST /upload"]}, limits={"body_timeout": 0.3})
    with serving(Unruly()) as upstream, guarded(upstream, given) as guard:
        idle, head, body, endless, health, nowhere = (connected(guard.url) for _ in range(6))
        head.sendall(b"POST /score HTTP/1.1\r\nhost: ")
        body.sendall(HEAD + b"content-length: 90\r\n\r\n{")
        health.sendall(b"POST /upload HTTP/1.1\r\nhost: a\r\ncontent-length: 90\r\n\r\n{")
        nowhere.sendall(b"POST /nothing HTTP/1.1\r\nhost: a\r\ncontent-length: 90\r\n\r\n{")
        assert guard.score().status == 200
        with pytest.raises(OSError):
            for _ in range(10_000):
                endless.sendall(b"GET / HTTP/1.1\r\n" + b"x-a: b\r\n" * 8192)
        assert until_closed(idle) == until_closed(head) == b""
        assert until_closed(body).startswith(b"HTTP/1.1 408 ")
        assert until_closed(health).startswith(b"HTTP/1.1 408 ")
        assert until_closed(nowhere).startswith(b"HTTP/1.1 404 ")
        for connection in (idle, head, body, endless, health, nowhere):
            connection.close()


@pytest.mark.parametrize(
    "raw",
    [
        b"\x16\x03\x01\x02\x00",
        b"POST /score HTTP/9.9\r\n\r\n",
        HEAD + b"content-length: -1\r\n\r\n",
        HEAD + b"content-length: 5\r\ncontent-length: 6\r\n\r\n[1]",
        HEAD + b"content-length: 3\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        HEAD + b"transfer-encoding: chunked\r\n\r\nzz\r\n",
        b"GET /\x00 HTTP/1.1\r\n\r\n",
    ],
)
def test_malformed_requests_end_their_connection_only(strict, raw):
    app, guard = strict
    before = app.requests
    with connected(guard.url) as connection:
        connection.sendall(raw)
        assert until_closed(connection)[:12] in (
            b"HTTP/1.1 400",
            b"HTTP/1.1 408",
            b"HTTP/1.1 413",
            b"",
        )
    assert app.requests == before
    assert guard.score().json == {"predictions": shown()}


def test_a_client_that_leaves_is_told_to_the_monitor_and_frees_its_place():
    app = Unruly("wait")
    with (
        serving(app) as upstream,
        guarded(upstream, policy(limits={"concurrency": 1, "queue": 1})) as guard,
    ):
        body = json.dumps(ROWS).encode()
        with connected(guard.url) as connection:
            connection.sendall(HEAD + b"content-length: %d\r\n\r\n" % len(body) + body)
            while app.requests < 1:
                time.sleep(0.01)
        app.open.set()
        assert guard.score().status == 200
        assert len(guard.watched(2)) == 2


def test_beyond_the_queue_is_503_without_asking_and_waiting_requests_are_answered():
    app = Unruly("wait")
    with (
        serving(app) as upstream,
        guarded(upstream, policy(limits={"concurrency": 1, "queue": 1})) as guard,
    ):
        answers: list[int] = []
        threads = [
            threading.Thread(target=lambda: answers.append(guard.score().status)) for _ in range(6)
        ]
        for thread in threads:
            thread.start()
        while len(answers) < 4:
            time.sleep(0.01)
        assert answers == [503] * 4 and app.requests == 1
        app.open.set()
        for thread in threads:
            thread.join(20)
        assert sorted(answers) == [200, 200, 503, 503, 503, 503]


def test_upstreams_that_are_away_silent_or_killed():
    with guarded("http://127.0.0.1:9", policy()) as guard:
        assert guard.score().status == 502
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        given = policy(limits={"answer_timeout": 0.3})
        with guarded(f"http://127.0.0.1:{deaf.getsockname()[1]}", given) as guard:
            assert guard.score().status == 504
    with serving(Unruly()) as upstream:
        front = guarded(upstream, policy())
        guard = front.__enter__()
        assert guard.score().status == 200
    assert guard.score().status == 502  # killed in mid-run
    front.__exit__(None, None, None)
    with serving(app := Unruly()) as upstream, guarded(upstream, policy()) as guard:
        assert guard.score().status == 200 == guard.score().status and app.requests == 2
        app.always = "truncated"
        assert guard.score().status == 502 and app.requests == 3  # a query is never sent twice


def test_what_strangers_write_into_headers_does_not_reach_the_upstream():
    app = Unruly()
    sent = {
        "x-forwarded-for": "10.0.0.1",
        "Forwarded": "for=10.0.0.1",
        "X-Real-IP": "10.0.0.1",
        "X-SSL-Client-S-DN": "CN=admin",
        "X_Forwarded_For": "10.0.0.1",
        "Connection": "keep-alive, x-hop",
        "x-hop": "1",
        "authorization": "Bearer abc",
    }
    with serving(app) as upstream:
        with guarded(upstream, policy()) as guard:
            assert guard.score(headers=sent).status == 200
            assert guard.watched(1)[0].client == "network:127.0.0.1/32"
        got = app.seen[-1]
        assert got["x-forwarded-for"] == "127.0.0.1" and "authorization" not in got
        assert got["host"] == urlsplit(upstream).netloc
        assert not {
            "forwarded",
            "x-real-ip",
            "x-ssl-client-s-dn",
            "x_forwarded_for",
            "x-hop",
        } & set(got)
        trusting = policy(identity={"by": ["mtls"], "trusted_proxies": ["127.0.0.0/8"]})
        with guarded(upstream, trusting) as guard:
            assert guard.score(headers=sent).status == 200
            assert guard.watched(1)[0].client == "mtls:CN=admin"
        assert app.seen[-1]["x-forwarded-for"] == "10.0.0.1, 127.0.0.1"


def test_a_reload_in_mid_query_leaves_it_the_policy_it_began_with():
    app = Unruly("wait")
    with serving(app) as upstream, guarded(upstream, policy()) as guard:
        answers: list[dict] = []
        thread = threading.Thread(target=lambda: answers.append(guard.score().json))
        thread.start()
        while app.requests < 1:
            time.sleep(0.01)
        guard.guard.swap(guard.guard.prepared(policy(default={"restrict": "none"})))
        app.open.set()
        thread.join(20)
        np.testing.assert_array_equal(guard.score().json["predictions"], model(X))
    assert answers == [{"predictions": shown()}]


def test_answers_are_held_for_the_least_time_whatever_the_upstream_took():
    with (
        serving(Unruly("fine", "500", "fine")) as upstream,
        guarded(upstream, policy(limits={"least_seconds": 0.2})) as guard,
    ):
        for status in (200, 500, 200):
            start = time.monotonic()
            assert guard.score().status == status
            assert time.monotonic() - start >= 0.2


@pytest.mark.parametrize("restrict", ["none", "label"])
def test_streams_pass_in_parts_and_websockets_are_refused(restrict):
    parts: list[int] = []

    async def app(scope, receive, send):
        message = await receive()
        parts.append(len(message.get("body", b"")))
        while message.get("more_body"):
            message = await receive()
            parts.append(len(message.get("body", b"")))
        await send(
            {
                "type": "http.response.start",
                "status": 200,
                "headers": [(b"content-type", b"text/plain")],
            }
        )
        for _ in range(50):
            await send({"type": "http.response.body", "body": b"a" * 65536, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    with serving(app) as upstream:
        given = policy(serving=JSON | {"passed": ["POST /upload"]}, default={"restrict": restrict})
        with guarded(upstream, given) as guard:
            answer = guard.ask("POST", "/upload", b"b" * 3_000_000)
            assert len(answer.body) == 50 * 65536 and sum(parts) == 3_000_000 and len(parts) > 3
            with connected(guard.url) as connection:
                connection.sendall(
                    b"GET /score HTTP/1.1\r\nhost: a\r\nconnection: close, upgrade\r\nupgrade: websocket\r\n"
                    b"sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
                )
                assert until_closed(connection).startswith(b"HTTP/1.1 405 ")


def test_an_unrestricted_query_is_limited_and_its_faults_tell_nothing():
    app = Unruly("fine", "503", "truncated")
    given = policy(
        default={"restrict": "none"},
        limits={"max_body_bytes": 2048, "answer_timeout": 5.0, "body_timeout": 0.3},
    )
    with serving(app) as upstream, guarded(upstream, given, watch=None) as guard:
        np.testing.assert_array_equal(guard.score().json["predictions"], model(X))
        answer = guard.score()
        assert answer.status == 503 and "broken" not in answer.body.decode()
        with pytest.raises(http.client.IncompleteRead):
            guard.score()
        assert guard.score(b"x" * 3000).status == 413
        with connected(guard.url) as connection:
            connection.sendall(HEAD + b"content-length: 90\r\n\r\n{")
            assert until_closed(connection).startswith(b"HTTP/1.1 408 ")
        assert sum(app.reached.values()) == 6


def test_memguard_behind_the_guard_is_memguard_in_process(tmp_path):
    rng = np.random.default_rng(0)
    member = np.arange(400) < 200
    answers = np.vstack([rng.dirichlet(np.ones(3) * 0.2, 200), rng.dirichlet(np.ones(3), 200)])
    fitted = parse_restriction("memguard:1:30").fit(answers, member)
    save_fitted([fitted], tmp_path / "fitted.safetensors")
    create_key_file(tmp_path / "guard.key")
    given = policy(
        default={"restrict": "memguard:1:30"},
        fitted="fitted.safetensors",
        monitor={"key": "guard.key"},
        home=str(tmp_path),
    )
    secret = read_secrets(tmp_path / "guard.key")[0]
    fitted = with_noise_key(fitted, secret.derive_noise_key())
    with serving(Unruly()) as upstream, guarded(upstream, given) as guard:
        np.testing.assert_array_equal(guard.score().json["predictions"], fitted(model(X)))
