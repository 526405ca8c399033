"""Ways around the guard that were once open: several records for the price of one, places held for nothing, parts not installed."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "servers"))

from guarded import JSON, guarded, policy
from unruly import model

from memberscope.errors import InputError
from memberscope.guard.run import Run

ALONE = JSON | {"body": '{"record": "$record"}'}
V2 = {"protocol": "v2", "n_classes": 3}


async def lenient(scope, receive, send):
    """A server that answers as many records as it finds, however they are nested, and leaves bodies that it does not want."""
    document = {} if scope["method"] == "GET" else json.loads((await receive())["body"])
    values = document["inputs"][0]["data"] if "inputs" in document else document.get("record", [])
    outputs = model(np.reshape(values, (-1, 2)))
    tensor = {"name": "p", "shape": list(outputs.shape), "datatype": "FP64", "data": outputs.ravel().tolist()}
    rows = outputs.tolist()
    told = {"outputs": [tensor]} if "inputs" in document else {"predictions": rows if len(rows) != 1 else rows[0]}
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
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
    return {"inputs": [{"name": "x", "shape": [1, len(values)], "datatype": "FP64", "data": values}]}


@pytest.mark.parametrize(
    ("declared", "path", "ask"),
    [(V2, "/v2/models/m/infer", infer), (ALONE, "/score", lambda values: {"record": values})],
)
@pytest.mark.parametrize("budget", [{"per_client": "9/h"}, {"per_record": "9/h"}, {}])
def test_records_packed_into_one_are_answered_only_where_none_are_counted(declared, path, ask, budget):
    with guarded(lenient, policy(serving=declared, default={"restrict": "none"} | budget)) as guard:
        assert guard.ask("POST", path, ask([1.0, 0.5])).status == 200
        packed = guard.ask("POST", path, ask([1.0, 0.5, 2.0, 0.25]))
        assert packed.status == (502 if budget else 200)
        assert ("0." in packed.body.decode()) == (not budget)


@pytest.mark.parametrize(("path", "then"), [(b"/v2", b"\r\n"), (b"/v2", b"a"), (b"/nothing", b"a")])
def test_a_connection_is_not_held_by_what_follows_an_answer(path, then):
    with guarded(lenient, policy(serving=V2, limits={"body_timeout": 0.2})) as guard, connected(guard.url) as held:
        length = b"content-length: 90\r\n" if then == b"a" else b""
        held.sendall(b"GET " + path + b" HTTP/1.1\r\nhost: a\r\n" + length + b"\r\n")
        threading.Timer(0.5, held.sendall, [then]).start()  # which ends the server's own wait for a next request
        assert until_closed(held).startswith((b"HTTP/1.1 200 ", b"HTTP/1.1 404 "))


def test_a_connection_serves_on_after_pauses():
    with guarded(lenient, policy(serving=V2, limits={"body_timeout": 0.2})) as guard, connected(guard.url) as held:
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
    run = Run(upstream="http://localhost:1", policy=tmp_path / "guard.toml", **given | {option: file})
    with pytest.raises(InputError, match=r"file\.pem"):
        run.checked()


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
    assert found.stderr == f"memberscope: Expected {lacking} for the guard, got none. Run pip install 'memberscope[guard]'.\n"
