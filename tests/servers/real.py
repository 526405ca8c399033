"""MLServer and `mlflow models serve` on the loopback interface.

From the environment that tests/environment.sh makes.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import joblib

ROOT = Path(__file__).resolve().parents[2]
BIN = ROOT / ".venv-servers" / "bin"
SAVE = """
import sys, joblib, mlflow.sklearn
model = joblib.load(sys.argv[1])
mlflow.sklearn.save_model(
    model, sys.argv[2], pyfunc_predict_fn="predict_proba", serialization_format="cloudpickle", pip_requirements=[]
)
"""


def free_port() -> int:
    """A port that nobody listens at."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return taken.getsockname()[1]


@contextmanager
def running(command: list[str], health: str, log: Path) -> Iterator[None]:
    """The command with all its processes, from the time that `health` answers."""
    environment = {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}
    environment.pop("PYTHONPATH", None)
    with log.open("w") as stream:
        process = subprocess.Popen(
            command,
            stdout=stream,
            stderr=subprocess.STDOUT,
            env=environment,
            cwd=log.parent,
            start_new_session=True,
        )
    try:
        while not answers(health):
            if process.poll() is not None:
                raise RuntimeError(f"{command[0]} ended: {log.read_text()[-2000:]}")
            time.sleep(0.2)
        yield
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def answers(url: str) -> bool:
    """Whether a GET is answered with 200."""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status == 200
    except OSError:
        return False


@contextmanager
def mlserver(folder: Path, models: Mapping[str, Any]) -> Iterator[str]:
    """The URL of MLServer with fitted scikit-learn `models` by name."""
    ports = [free_port() for _ in range(3)]
    for name, model in models.items():
        (folder / name).mkdir(parents=True)
        joblib.dump(model, folder / name / "model.joblib")
        settings = {
            "name": name,
            "implementation": "mlserver_sklearn.SKLearnModel",
            "parameters": {"uri": "./model.joblib"},
        }
        (folder / name / "model-settings.json").write_text(json.dumps(settings))
    server = dict(zip(("http_port", "grpc_port", "metrics_port"), ports, strict=True))
    (folder / "settings.json").write_text(
        json.dumps({"host": "127.0.0.1", "parallel_workers": 0, **server})
    )
    url = f"http://127.0.0.1:{ports[0]}"
    with running(
        [str(BIN / "mlserver"), "start", str(folder)], f"{url}/v2/health/ready", folder / "log"
    ):
        yield url


@contextmanager
def mlflow(folder: Path, model: Any) -> Iterator[str]:
    """The URL of `mlflow models serve` with a fitted scikit-learn model.

    Answering with its probabilities.
    """
    folder.mkdir(parents=True)
    joblib.dump(model, folder / "model.joblib")
    (folder / "save.py").write_text(SAVE)
    save = [str(BIN / "python"), "save.py", "model.joblib", "model"]
    subprocess.run(save, cwd=folder, check=True, capture_output=True)
    url = f"http://127.0.0.1:{(port := free_port())}"
    command = [
        str(BIN / "mlflow"),
        "models",
        "serve",
        "-m",
        "model",
        "--env-manager",
        "local",
        "-h",
        "127.0.0.1",
        "-p",
        str(port),
    ]
    with running(command, f"{url}/ping", folder / "log"):
        yield url
