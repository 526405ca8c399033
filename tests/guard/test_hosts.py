"""The middleware inside real servers, with the lines of docs/guard-hosts.md.

FastAPI, LitServe, BentoML, Ray Serve and MLServer.
"""

from __future__ import annotations

import hashlib
import json
import runpy
import shutil
from dataclasses import replace
from pathlib import Path
from signal import SIGINT

import joblib
import numpy as np
import pytest
import real
from hosting import BIN, HERE, Host, Hosted, block, hosted
from real import free_port
from running_guard import frozen
from sklearn.linear_model import LogisticRegression

from memberscope.guard.hashing.secret_key import Secret, write_secrets
from memberscope.guard.sketching.sketcher import Sketcher, write_sketcher
from memberscope.outputs.chain import parse_restriction
from memberscope.targets import HttpTarget
from memberscope.wire.batch import Batch
from memberscope.wire.endpoint import Endpoint

scores = runpy.run_path(str(HERE / "model.py"))["scores"]
RNG = np.random.default_rng(0)
ROWS = [[0.5, 0.25], [1.0, -1.0]]
OURS = """
[identity]
by = ["api_key"]
[[identity.keys]]
name = "partner"
sha256 = "{key}"
[[clients]]
name = "partners"
who = ["api_key:partner"]
restrict = "label"
[monitor]
key = "guard.key"
sketch = "sketch"
log = "access.jsonl"
memory = "memory"
"""


NEEDED = pytest.mark.skipif(
    not BIN.exists(),
    reason="needs the servers in an environment of their own: run `sh tests/environment.sh hosts --no-deps`",
)
HERE_ALONE = ("--host", "127.0.0.1")
HOSTS = [
    Host("FastAPI", "/health", more=HERE_ALONE),
    Host("LitServe", "/health", end=SIGINT),
    Host("BentoML", "/readyz", more=HERE_ALONE),
    Host(
        "Ray Serve",
        "/churn/health",
        "/churn/predict",
        program=str(HERE / "ray_serve.py"),
        end=SIGINT,
    ),
]


def written(section: str, folder: Path, port: int) -> None:
    """The section's policy and code in a folder, with a small budget.

    A class of clients and a monitor.
    """
    language = section if section == "MLServer" else "The guard inside a model's server"
    policy = block(language, "toml")
    assert "1000/d" in policy
    key = hashlib.sha256(b"partner's key").hexdigest()
    (folder / "guard.toml").write_text(policy.replace("1000/d", "6/d") + OURS.format(key=key))
    code = block(section, "python").replace(
        "/etc/memberscope/guard.toml", str(folder / "guard.toml")
    )
    (folder / "app.py").write_text(code.replace("port=8000", f"port={port}"))
    shutil.copy(HERE / "model.py", folder)
    secret = Secret.new()
    write_secrets(folder / "guard.key", [secret])
    write_sketcher(
        folder / "sketch", Sketcher.fit("tabular", Batch(RNG.normal(size=(50, 2))), secret)
    )


def logged(server: Hosted, n: int) -> list[int]:
    """How many records each query of the access log had, once it has n lines."""
    file = server.folder / "access.jsonl"
    server.until(lambda: file.exists() and file.read_text().count("\n") >= n)
    return [len(json.loads(line)["record"]) for line in file.read_text().splitlines()]


@NEEDED
@pytest.mark.parametrize("host", HOSTS, ids=lambda host: host.section)
def test_the_middleware_guards_inside(host, tmp_path):
    written(host.section, tmp_path, port := free_port())
    best = [{str(np.argmax(p)): round(max(p), 2)} for p in scores(ROWS)]
    labels = [int(np.argmax(p)) for p in scores(ROWS)]
    asked = {"method": "POST", "path": host.path, "body": {"rows": ROWS}}
    with hosted(host, port, tmp_path) as server:
        assert [server.ask(**asked) for _ in range(3)] == [(200, {"scores": best})] * 3
        assert server.ask(**asked)[0] == 429
        assert server.ask(**asked, x_forwarded_for="192.0.2.1")[0] == 429, (
            "an address that a client makes up is no new budget"
        )
        assert server.ask(**asked, x_api_key="guessed")[0] == 401
        assert server.ask(**asked, source="127.0.0.2")[0] == 200, (
            "who proves nothing counts by where it comes from"
        )
        assert server.ask(**asked, x_api_key="partner's key") == (200, {"scores": labels})
        assert server.ask("GET", host.path)[0] == 405
        root = host.path.removesuffix("/predict")
        for method, path in (
            ("GET", "/docs"),
            ("GET", "/openapi.json"),
            ("GET", "/metrics"),
            ("POST", "/predict/"),
            ("POST", "/"),
        ):
            assert server.ask(method, root + path, {} if method == "POST" else None)[0] == 404, path
        # Guesses, and clients known to have spent their budget, are refused unread
        assert logged(server, 6) == [2] * 6
    assert (tmp_path / "memory").stat().st_size > 0, "the monitor ends with its server"


@NEEDED
@pytest.mark.parametrize("together", [True, False])
def test_workers_of_one_server_share_a_budget_in_redis_alone(tmp_path, redis_here, together):
    written("FastAPI", tmp_path, port := free_port())
    if together:
        with (tmp_path / "guard.toml").open("a") as file:
            file.write(f'[state]\nredis = "{redis_here.url}"\nprefix = "hosts"\ntimeout = 5.0\n')
    host = replace(HOSTS[0], more=(*HERE_ALONE, "--workers", "2"))
    asked = {"method": "POST", "path": host.path, "body": {"rows": ROWS}}
    with hosted(host, port, tmp_path) as server:
        server.until(lambda: server.log.read_text().count("startup complete") == 2)
        first, second = server.workers()
        with frozen(first):  # so that the other one answers
            assert [server.ask(**asked)[0] for _ in range(4)] == [200, 200, 200, 429]
        with frozen(second):
            assert server.ask(**asked)[0] == (429 if together else 200)


@pytest.mark.skipif(
    not real.BIN.exists(),
    reason="needs MLServer in an environment of its own: run `sh tests/environment.sh servers --no-deps`",
)
def test_the_middleware_guards_the_rest_application_of_mlserver(tmp_path):
    written("MLServer", tmp_path, port := free_port())
    x, y = RNG.normal(size=(60, 2)), RNG.integers(0, 3, 60)
    model = LogisticRegression().fit(x, y)
    (models := tmp_path / "models").mkdir()
    joblib.dump(model, models / "model.joblib")
    named = {
        "name": "churn",
        "implementation": "mlserver_sklearn.SKLearnModel",
        "parameters": {"uri": "./model.joblib"},
    }
    (models / "model-settings.json").write_text(json.dumps(named))
    (models / "settings.json").write_text(
        json.dumps({"host": "127.0.0.1", "http_port": port, "debug": False})
    )
    host = Host("MLServer", "/v2/health/ready", "/v2/models/churn/infer", bin=real.BIN)
    serving = {"protocol": "v2", "model_name": "churn", "answer": "predict_proba", "n_classes": 3}
    tensor = {"name": "x", "datatype": "FP64", "shape": [1, 2], "data": x[0].tolist()}
    asked = {"method": "POST", "path": host.path, "body": {"inputs": [tensor]}}
    with hosted(host, port, tmp_path) as server:
        with HttpTarget(Endpoint(f"http://127.0.0.1:{port}", top_k=1, **serving)) as target:
            np.testing.assert_array_equal(
                target.query(x[:6]), parse_restriction("top:1+round:2")(model.predict_proba(x[:6]))
            )
        assert server.ask(**asked)[0] == 429
        assert server.ask(**asked, x_forwarded_for="192.0.2.1")[0] == 429
        status, answer = server.ask(**asked, x_api_key="partner's key")
        assert (status, answer["outputs"][0]["data"]) == (200, model.predict(x[:1]).tolist())
        for path in (
            "/v2/models/churn/generate",
            "/v2/models/churn/infer_stream",
            "/v2/repository/index",
        ):
            assert server.ask("POST", path, asked["body"])[0] == 404, path
        assert (
            server.ask("GET", "/v2/docs")[0] == 404
            and server.ask("GET", "/v2/models/churn")[0] == 200
        )
        assert sum(logged(server, 3)) == 8
    assert (tmp_path / "memory").stat().st_size > 0
