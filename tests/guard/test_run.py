"""`memberscope guard run` as a process: ports, reload, shutdown, TLS, several workers, its log."""

from __future__ import annotations

import http.client
import json
import os
import queue
import signal
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "servers"))

from guarded import ROWS
from unruly import Unruly, model, serving

from memberscope.errors import InputError
from memberscope.guard.run import Run

X = np.array(ROWS["records"])
POLICY = """
[serving]
protocol = "json"
path = "/score"
body = '{"records": "$records"}'
answer = "predictions"
n_classes = 3
[default]
restrict = "RESTRICT"
"""
START = "import sys; from memberscope.cli.guard_run import run; import typer; app = typer.Typer(); app.command()(run); app()"


class Process:
    """A guard in a process of its own, and the lines of its log."""

    def __init__(self, *options: str) -> None:
        command = [sys.executable, "-c", START, "--port", "0", "--admin-port", "0", "--log-level", "debug", *options]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, env={**os.environ, "PYTHONUNBUFFERED": "1"})
        self.lines: list[dict] = []
        self._queue: queue.Queue[dict] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self._queue.put(json.loads(line))

    def said(self, event: str) -> dict:
        """The next line about `event`."""
        while True:
            self.lines.append(self._queue.get(timeout=40))
            if self.lines[-1]["event"] == event:
                return self.lines[-1]


@contextmanager
def running(tmp_path: Path, upstream: str, *options: str, restrict: str = "label") -> Iterator[tuple[Process, Path]]:
    file = tmp_path / "guard.toml"
    if not file.exists():
        file.write_text(POLICY.replace("RESTRICT", restrict))
    process = Process("--upstream", upstream, "--policy", str(file), *options)
    try:
        yield process, file
    finally:
        process.process.kill()
        process.process.wait()
        process.process.stderr.close()


def ask(port: int, method: str, path: str, body: object = None, context: ssl.SSLContext | None = None) -> tuple[int, bytes]:
    if context is None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    else:
        connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=30, context=context)
    try:
        connection.request(method, path, None if body is None else json.dumps(body), {"content-type": "application/json"})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


LABELS = {"predictions": model(X).argmax(axis=1).tolist()}


def test_serve_reload_break_repair_and_shut_down(tmp_path):
    app = Unruly()
    with serving(app) as upstream, running(tmp_path, upstream) as (guard, file):
        ports = guard.said("serving")
        port, admin = ports["port"], ports["admin_port"]
        assert json.loads(ask(port, "POST", "/score", ROWS)[1]) == LABELS
        assert ask(admin, "GET", "/health/live")[0] == 200
        assert json.loads(ask(admin, "GET", "/health/ready")[1])["ready"] is True
        assert ask(port, "GET", "/health/ready")[0] == 404  # what operators ask is not public
        first = json.loads(ask(admin, "GET", "/policy")[1])
        assert first["mode"] == "enforce" and first["broken"] is None

        file.write_text("[serving\n")
        guard.process.send_signal(signal.SIGHUP)
        guard.said("reload_failed")
        assert json.loads(ask(port, "POST", "/score", ROWS)[1]) == LABELS
        ready = json.loads(ask(admin, "GET", "/health/ready")[1])
        assert ready["ready"] and "TOML" in ready["policy_broken"]
        file.write_text(POLICY.replace("RESTRICT", "memguard:1"))  # not fitted
        assert ask(admin, "POST", "/reload")[0] == 409
        assert json.loads(ask(port, "POST", "/score", ROWS)[1]) == LABELS

        file.write_text(POLICY.replace("RESTRICT", "round:1"))
        assert ask(admin, "POST", "/reload")[0] == 200
        np.testing.assert_array_equal(json.loads(ask(port, "POST", "/score", ROWS)[1])["predictions"], np.round(model(X), 1))
        assert json.loads(ask(admin, "GET", "/policy")[1])["digest"] != first["digest"]

        app.always = "wait"  # a query in flight is answered after the signal, and nothing new is accepted
        answers: list[int] = []
        thread = threading.Thread(target=lambda: answers.append(ask(port, "POST", "/score", ROWS)[0]))
        before = app.requests
        thread.start()
        while app.requests == before:
            time.sleep(0.01)
        guard.process.send_signal(signal.SIGTERM)
        while True:
            try:
                ask(port, "GET", "/")
                time.sleep(0.01)
            except OSError:
                break
        app.open.set()
        thread.join(20)
        guard.said("ended")
        assert guard.process.wait(20) == 0 and answers == [200]


def test_the_log_is_json_lines_without_inputs_or_credentials(tmp_path):
    with serving(Unruly("html")) as upstream, running(tmp_path, upstream) as (guard, _):
        port = guard.said("serving")["port"]
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        secret = {"authorization": "Bearer s3cret\u0085{}", "x-api-key": "s3cret", "content-type": "application/json"}
        connection.request("POST", "/score", json.dumps({"records": [[3.1415, 2]]}), secret)
        connection.getresponse().read()
        connection.close()
        guard.said("query")
        text = json.dumps(guard.lines)
        assert "s3cret" not in text and "3.1415" not in text
        assert any(line["event"] == "fault" for line in guard.lines)


def test_a_certificate_of_a_client_names_it(tmp_path):
    def openssl(*words: str) -> None:
        subprocess.run(["openssl", *words], cwd=tmp_path, check=True, capture_output=True)

    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    san = ("-addext", "subjectAltName=IP:127.0.0.1")
    openssl("req", "-x509", *curve, "-days", "2", "-subj", "/CN=ca", *san, "-keyout", "ca.key", "-out", "ca.pem")
    openssl("req", *curve, "-subj", "/O=Lab, Inc/CN=partner", "-keyout", "me.key", "-out", "me.csr")
    signing = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2")
    openssl("x509", "-req", "-in", "me.csr", *signing, "-out", "me.pem")
    (tmp_path / "guard.toml").write_text(
        POLICY.replace("RESTRICT", "label")
        + '[identity]\nby = ["mtls"]\n[[clients]]\nname = "partner"\nwho = ["mtls:CN=partner*"]\nrestrict = "none"\n'
    )
    tls = (
        "--tls-cert",
        str(tmp_path / "ca.pem"),
        "--tls-key",
        str(tmp_path / "ca.key"),
        "--client-ca",
        str(tmp_path / "ca.pem"),
    )
    with serving(Unruly()) as upstream, running(tmp_path, upstream, *tls) as (guard, _):
        port = guard.said("serving")["port"]
        stranger, partner = (ssl.create_default_context(cafile=str(tmp_path / "ca.pem")) for _ in range(2))
        partner.load_cert_chain(tmp_path / "me.pem", tmp_path / "me.key")
        assert json.loads(ask(port, "POST", "/score", ROWS, stranger)[1]) == LABELS
        np.testing.assert_array_equal(json.loads(ask(port, "POST", "/score", ROWS, partner)[1])["predictions"], model(X))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"workers": 2}, "state"),
        ({"tls_cert": Path("a")}, "--tls-key"),
        ({"client_ca": Path("a")}, "--client-ca"),
        ({"log_level": "loud"}, "--log-level"),
        ({"upstream": "localhost:8080"}, "--upstream"),
        ({"policy": Path("nowhere.toml")}, "--policy"),
    ],
)
def test_what_does_not_fit_together_is_refused_before_anything_listens(tmp_path, settings, words):
    file = tmp_path / "guard.toml"
    file.write_text(POLICY.replace("RESTRICT", "label"))
    with pytest.raises(InputError, match=words):
        Run(**{"upstream": "http://localhost:1", "policy": file} | settings).checked()


def test_workers_share_budgets_are_restarted_and_end_together(tmp_path, redis_here):
    (tmp_path / "guard.toml").write_text(
        POLICY.replace("RESTRICT", "label") + f'per_client = "20/d"\n[state]\nredis = "{redis_here.url}"\ntimeout = 5.0\n'
    )
    with serving(Unruly()) as upstream, running(tmp_path, upstream, "--workers", "2") as (guard, file):
        ports = [guard.said("serving") for _ in range(2)]
        statuses = [ask(ports[0]["port"], "POST", "/score", ROWS)[0] for _ in range(14)]
        assert statuses == [200] * 10 + [429] * 4
        file.write_text(file.read_text().replace('"20/d"', '"40/d"'))
        assert ask(ports[0]["admin_port"], "POST", "/reload")[0] == 200
        digests: set[str] = set()
        while len(digests) != 1:  # the other worker is told by the first process
            digests = {json.loads(ask(port["admin_port"], "GET", "/policy")[1])["digest"] for port in ports}
            time.sleep(0.05)
        os.kill(ports[1]["process"], signal.SIGKILL)
        assert guard.said("serving")["digest"] in digests
        assert ask(ports[0]["port"], "POST", "/score", ROWS)[0] == 429  # a budget outlives its worker
        guard.process.send_signal(signal.SIGTERM)
        assert guard.process.wait(30) == 0
