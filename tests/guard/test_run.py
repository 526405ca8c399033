"""`memberscope guard run` as a process: ports, reload, shutdown, several workers, its log."""

from __future__ import annotations

import http.client
import json
import os
import signal
import threading
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from guarded import ROWS
from running_guard import POLICY, ask, frozen, running
from unruly import Unruly, model, serving

from memberscope.errors import InputError
from memberscope.guard.server.worker import Run

X = np.array(ROWS["records"])
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
        np.testing.assert_array_equal(
            json.loads(ask(port, "POST", "/score", ROWS)[1])["predictions"], np.round(model(X), 1)
        )
        assert json.loads(ask(admin, "GET", "/policy")[1])["digest"] != first["digest"]

        app.always = (
            "wait"  # a query in flight is answered after the signal, and nothing new is accepted
        )
        answers: list[int] = []
        thread = threading.Thread(
            target=lambda: answers.append(ask(port, "POST", "/score", ROWS)[0])
        )
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
        secret = {
            "authorization": "Bearer s3cret\u0085{}",
            "x-api-key": "s3cret",
            "content-type": "application/json",
        }
        connection.request("POST", "/score", json.dumps({"records": [[3.1415, 2]]}), secret)
        connection.getresponse().read()
        connection.close()
        guard.said("query")
        text = json.dumps(guard.lines)
        assert "s3cret" not in text and "3.1415" not in text
        assert any(line["event"] == "fault" for line in guard.lines)


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
        POLICY.replace("RESTRICT", "label")
        + f'per_client = "20/d"\n[state]\nredis = "{redis_here.url}"\ntimeout = 5.0\n'
    )
    with (
        serving(Unruly()) as upstream,
        running(tmp_path, upstream, "--workers", "2") as (guard, file),
    ):
        ports = [guard.said("serving") for _ in range(2)]
        statuses = [ask(ports[0]["port"], "POST", "/score", ROWS)[0] for _ in range(14)]
        assert statuses == [200] * 10 + [429] * 4
        file.write_text(file.read_text().replace('"20/d"', '"40/d"'))
        assert ask(ports[0]["admin_port"], "POST", "/reload")[0] == 200
        digests: set[str] = set()
        while len(digests) != 1:  # the other worker is told by the first process
            digests = {
                json.loads(ask(port["admin_port"], "GET", "/policy")[1])["digest"] for port in ports
            }
            time.sleep(0.05)
        os.kill(ports[1]["process"], signal.SIGKILL)
        assert guard.said("serving")["digest"] in digests
        assert (
            ask(ports[0]["port"], "POST", "/score", ROWS)[0] == 429
        )  # a budget outlives its worker
        guard.process.send_signal(signal.SIGTERM)
        assert guard.process.wait(30) == 0


def test_each_worker_exposes_what_all_counted_without_what_a_dead_one_had_under_way(
    tmp_path, redis_here, monkeypatch
):
    def counted(port: dict, name: str) -> float:
        lines = ask(port["admin_port"], "GET", "/metrics")[1].decode().splitlines()
        return sum(
            float(line.split()[-1])
            for line in lines
            if line.startswith(f"memberscope_guard_{name}")
        )

    (tmp_path / "guard.toml").write_text(
        POLICY.replace("RESTRICT", "label")
        + f'[state]\nredis = "{redis_here.url}"\nprefix = "counted"\ntimeout = 5.0\n'
    )

    def lost() -> None:
        with suppress(OSError, http.client.HTTPException):
            ask(ports[0]["port"], "POST", "/score", ROWS)

    (shared := tmp_path / "shared").mkdir()
    monkeypatch.setenv("TMPDIR", str(shared))
    app = Unruly()
    with serving(app) as upstream, running(tmp_path, upstream, "--workers", "2") as (guard, _):
        ports = [guard.said("serving") for _ in range(2)]
        for port, n in zip(ports, (3, 2), strict=True):
            with frozen(port["process"]):  # so that the other one answers
                assert [ask(port["port"], "POST", "/score", ROWS)[0] for _ in range(n)] == [200] * n
        while [counted(port, "requests_total{") for port in ports] != [
            5.0,
            5.0,
        ]:  # a worker counts after it has answered
            time.sleep(0.05)
        (folder,) = shared.iterdir()
        app.always, before = "wait", app.requests
        with frozen(ports[0]["process"]):
            thread = threading.Thread(target=lost)
            thread.start()
            while app.requests == before:
                time.sleep(0.01)
            os.kill(ports[1]["process"], signal.SIGKILL)
        thread.join(20)
        guard.said("worker_ended")
        again = guard.said("serving")
        assert [counted(port, "in_flight") for port in (ports[0], again)] == [0.0, 0.0]
        assert [counted(port, "requests_total{") for port in (ports[0], again)] == [5.0, 5.0]
        app.open.set()
        guard.process.send_signal(signal.SIGTERM)
        assert guard.process.wait(30) == 0 and not folder.exists()


def test_workers_whose_first_process_is_killed_end_and_leave_no_folder(
    tmp_path, redis_here, monkeypatch
):
    (tmp_path / "guard.toml").write_text(
        POLICY.replace("RESTRICT", "label")
        + f'[state]\nredis = "{redis_here.url}"\nprefix = "left"\ntimeout = 5.0\n'
    )
    (shared := tmp_path / "shared").mkdir()
    monkeypatch.setenv("TMPDIR", str(shared))
    with serving(Unruly()) as upstream, running(tmp_path, upstream, "--workers", "2") as (guard, _):
        ports = [guard.said("serving") for _ in range(2)]
        assert ask(ports[0]["port"], "POST", "/score", ROWS)[0] == 200
        os.kill(ports[1]["process"], signal.SIGKILL)  # what a dead worker counted lies there too
        guard.said("worker_ended")
        guard.said("serving")
        (folder,) = shared.iterdir()
        assert any(folder.glob(f"counter_{ports[1]['process']}.db"))
        guard.process.kill()
        for _ in range(2):
            guard.said("ended")
        assert not any(shared.iterdir())
