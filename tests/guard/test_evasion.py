"""Ways around the guard that were once open.

Several records for the price of one, places held for nothing, parts not installed.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
from contextlib import ExitStack
from urllib.parse import urlsplit

import numpy as np
import pytest
from guarded import JSON, guarded, policy
from unruly import model

from memberscope.errors import InputError
from memberscope.guard.server.serve import serve_guard
from memberscope.guard.server.worker import Run, open_listener

ALONE = JSON | {"body": '{"record": "$record"}'}
V2 = {"protocol": "v2", "n_classes": 3}


async def lenient(scope, receive, send):
    """A server that answers as many records as it finds, however they are nested.

    And leaves bodies that it does not want.
    """
    document = {} if scope["method"] == "GET" else json.loads((await receive())["body"])
    values = document["inputs"][0]["data"] if "inputs" in document else document.get("record", [])
    outputs = model(np.reshape(values, (-1, 2)))
    tensor = {
        "name": "p",
        "shape": list(outputs.shape),
        "datatype": "FP64",
        "data": outputs.ravel().tolist(),
    }
    rows = outputs.tolist()
    told = (
        {"outputs": [tensor]}
        if "inputs" in document
        else {"predictions": rows if len(rows) != 1 else rows[0]}
    )
    await send(
        {
            "type": "http.response.start",
            "status": 200,
            "headers": [(b"content-type", b"application/json")],
        }
    )
    await send({"type": "http.response.body", "body": json.dumps(told).encode()})


def connected(url: str) -> socket.socket:
    return socket.create_connection((urlsplit(url).hostname, urlsplit(url).port), timeout=20)


def until_closed(connection: socket.socket) -> bytes:
    found = b""
    try:
        while part := connection.recv(65536):
            found += part
    except ConnectionError:
        pass
    return found


def infer(values: list[float]) -> dict:
    return {
        "inputs": [{"name": "x", "shape": [1, len(values)], "datatype": "FP64", "data": values}]
    }


@pytest.mark.parametrize(
    ("declared", "path", "ask"),
    [(V2, "/v2/models/m/infer", infer), (ALONE, "/score", lambda values: {"record": values})],
)
@pytest.mark.parametrize("budget", [{"per_client": "9/h"}, {"per_record": "9/h"}, {}])
def test_records_packed_into_one_are_answered_only_where_none_are_counted(
    declared, path, ask, budget
):
    with guarded(lenient, policy(serving=declared, default={"restrict": "none"} | budget)) as guard:
        assert guard.ask("POST", path, ask([1.0, 0.5])).status == 200
        packed = guard.ask("POST", path, ask([1.0, 0.5, 2.0, 0.25]))
        assert packed.status == (502 if budget else 200)
        assert ("0." in packed.body.decode()) == (not budget)


def test_two_records_cannot_stand_for_one_where_columns_are_named():
    for names, status in (((), 200), (("a", "b"), 400)):
        declared = ALONE | {"answer": "scores", "n_classes": 2, "columns": names}
        with guarded(scores, policy(serving=declared, default={"restrict": "label"})) as guard:
            assert guard.score({"record": [0.5, 0.1]}).json == {"scores": 0}
            assert guard.score({"record": [0.5, 0.1, 0.6, 0.1]}).status == status


async def scores(scope, receive, send):
    """A server that answers with one score for each two numbers."""
    values = json.loads((await receive())["body"])["record"]
    told = {"scores": np.reshape(values, (-1, 2)).sum(axis=1).tolist() if len(values) > 2 else 0.4}
    await send(
        {
            "type": "http.response.start",
            "status": 200,
            "headers": [(b"content-type", b"application/json")],
        }
    )
    await send({"type": "http.response.body", "body": json.dumps(told).encode()})


def test_whoever_asks_can_open_what_fails_open():
    async def app(scope, receive, send):
        rows = json.loads((await receive())["body"])["records"]
        told = {"predictions": model(np.array(rows, dtype=np.float64)).tolist()}
        await send(
            {
                "type": "http.response.start",
                "status": 200,
                "headers": [(b"content-type", b"application/json")],
            }
        )
        await send({"type": "http.response.body", "body": json.dumps(told).encode()})

    for on_fault, status in (("open", 200), ("closed", 502)):
        given = policy(guard={"on_fault": on_fault}, default={"restrict": "label"})
        with guarded(app, given) as guard:
            answer = guard.score({"records": [[0.5, 0.25], [None, 0.0]]})
            assert answer.status == status
            assert ("0." in answer.body.decode()) == (on_fault == "open")  # as docs/guard.md warns


def test_counts_of_all_clients_do_not_pass_as_a_model_of_that_name():
    with guarded(lenient, policy(serving=V2)) as guard:
        assert [guard.ask("GET", f"/v2/models/{name}").status for name in ("m", "stats")] == [
            200,
            404,
        ]


def test_a_connection_is_not_held_by_what_follows_an_answer():
    """Each is closed after five seconds, which all wait for together."""
    ways = [(b"/v2", b"\r\n"), (b"/v2", b"a"), (b"/nothing", b"a")]
    with (
        guarded(lenient, policy(serving=V2, limits={"body_timeout": 0.2})) as guard,
        ExitStack() as open_ones,
    ):
        held = [open_ones.enter_context(connected(guard.url)) for _ in ways]
        for connection, (path, then) in zip(held, ways, strict=True):
            length = b"content-length: 90\r\n" if then == b"a" else b""
            connection.sendall(b"GET " + path + b" HTTP/1.1\r\nhost: a\r\n" + length + b"\r\n")
            # Which ends the server's own wait for a next request
            threading.Timer(0.5, connection.sendall, [then]).start()
        for connection, (path, _) in zip(held, ways, strict=True):
            status = b"200" if path == b"/v2" else b"404"
            assert until_closed(connection).startswith(b"HTTP/1.1 " + status)


def test_a_connection_serves_on_after_pauses():
    with (
        guarded(lenient, policy(serving=V2, limits={"body_timeout": 0.2})) as guard,
        connected(guard.url) as held,
    ):
        for _ in range(3):
            held.sendall(b"GET /v2 HTTP/1.1\r\nhost: a\r\n\r\n" * 2)
            answers = b""
            while answers.count(b"predictions") < 2:
                answers += held.recv(4096)
            assert answers.count(b"HTTP/1.1 200 ") == 2
            threading.Event().wait(0.5)


@pytest.mark.parametrize("option", ["tls_cert", "client_ca", "upstream_ca"])
@pytest.mark.parametrize("content", [None, "no certificate"])
def test_certificates_that_cannot_be_read_are_told_before_serving(tmp_path, option, content):
    (tmp_path / "guard.toml").write_text('[serving]\nprotocol = "mlflow"\nn_classes = 3\n')
    file = tmp_path / "file.pem"
    if content is not None:
        file.write_text(content)
    given = {"tls_cert": file, "tls_key": file} if option != "upstream_ca" else {}
    run = Run(
        upstream="http://localhost:1", policy=tmp_path / "guard.toml", **given | {option: file}
    )
    with pytest.raises(InputError, match=r"file\.pem"):
        run.checked()


def listen_after_free_port() -> tuple[int, socket.socket]:
    """A port that is free, and a socket that listens at the next one.

    Below the ports that the system gives to others, so that none takes the free one meanwhile.
    """
    for first in range(20_000, 32_000, 2):
        try:
            open_listener("127.0.0.1", first).close()
            return first, open_listener("127.0.0.1", first + 1)
        except InputError:
            continue
    raise AssertionError("no two ports are free")


def test_an_operators_port_that_is_taken_is_told_before_workers_start(tmp_path, monkeypatch):
    started = []
    monkeypatch.setattr(
        "memberscope.guard.server.supervisor.supervise_workers",
        lambda *given: started.append(given[1].close()),
    )
    text = (
        '[serving]\nprotocol = "mlflow"\nn_classes = 3\n[state]\nredis = "redis://127.0.0.1:1/0"\n'
    )
    (tmp_path / "guard.toml").write_text(text)
    given = {
        "upstream": "http://localhost:1",
        "policy": tmp_path / "guard.toml",
        "port": 0,
        "workers": 2,
    }
    first, taken = listen_after_free_port()
    with taken, pytest.raises(InputError, match=f"free address, got 127.0.0.1:{first + 1}:"):
        serve_guard(Run(**given, admin_port=first))
    assert not started
    serve_guard(Run(**given, admin_port=0))
    assert len(started) == 1


WITHOUT = """
import sys
sys.modules[sys.argv[1]] = None  # as if it were not installed
sys.argv = ["memberscope", "guard", "run", "--upstream", "http://localhost:1", "--policy", "nowhere.toml"]
from memberscope.cli.main import run
run()
"""


@pytest.mark.parametrize("lacking", ["aiohttp", "cryptography", "jwt", "starlette", "uvicorn"])
def test_a_part_that_is_not_installed_is_one_sentence(lacking):
    found = subprocess.run([sys.executable, "-c", WITHOUT, lacking], capture_output=True, text=True)
    assert (found.returncode, found.stdout) == (2, "")
    assert (
        found.stderr
        == f"memberscope: Expected {lacking} for the guard, got none. Run pip install 'memberscope[guard]'.\n"
    )
