"""A guard with its monitor in this process.

A policy's folder, clients on a clock of their own, and a scripted campaign.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from typer.testing import CliRunner

from memberscope.cli.main import app as cli
from memberscope.errors import MemberscopeError
from memberscope.guard.alerting.prometheus import Metrics
from memberscope.guard.asgi.middleware import PolicyMiddleware
from memberscope.guard.calibration.thresholds import Tuned
from memberscope.guard.calibration.thresholds_file import write_tuned
from memberscope.guard.detectors.alarm import Alarm
from memberscope.guard.detectors.monitor import STREAMS, DetectorSettings
from memberscope.guard.detectors.near_copies import Probing
from memberscope.guard.hashing.pseudonyms import KeyedHasher
from memberscope.guard.monitor.artifacts import load_monitor_artifacts
from memberscope.guard.monitor.engine import MonitorEngine
from memberscope.guard.monitor.in_process import LocalMonitor, SketchQueue
from memberscope.guard.policy.config import GuardPolicy, read_policy
from memberscope.guard.sketching.observations import Observations
from memberscope.guard.sketching.sketcher import read_sketcher
from memberscope.guard.state.in_memory import MemoryState

WEIGHTS = np.random.default_rng(9).normal(size=(6, 3))
START = 1_750_000_000.0
LIMITS = dict.fromkeys(STREAMS, 9.0) | {
    "probing.pool": 20.0,
    "volume.pool": 99.0,
    "membership.client": 4.0,
    "coverage.pool": 99.0,
}
POLICY = """
[serving]
protocol = "json"
path = "/score"
body = '{{"records": "$records"}}'
answer = "predictions"
n_classes = 3
[default]
restrict = "top:2+round:2"
[identity]
prefix_v4 = 32
[monitor]
key = "guard.key"
sketch = "sketch.safetensors"
fingerprints = "members.safetensors"
tuned = "tuned.json"
log = "logs/access.jsonl"
memory = "memory.safetensors"
clients = 500
{monitor}
[respond]
probing = "coarsen"
[alerts]
log = "alerts.jsonl"
digest_least = 2
[state]
{state}
"""


def population(n: int = 600, seed: int = 1) -> np.ndarray:
    """Ordinary records (n, 6)."""
    return np.random.default_rng(seed).normal(size=(n, 6)).round(3)


def call(*arguments: object) -> tuple[int, str]:
    """Exit code and output of the command line."""
    found = CliRunner().invoke(cli, [str(entry) for entry in arguments])
    if isinstance(found.exception, MemberscopeError):
        return found.exception.exit_code, str(found.exception)
    if found.exception is not None and not isinstance(found.exception, SystemExit):
        raise found.exception
    return found.exit_code, " ".join(found.output.split())


def prepared(folder: Path, *, state: str = "", monitor: str = "") -> Path:
    """A policy whose monitor has all that it needs.

    The first hundred ordinary records are members.
    """
    folder.mkdir(exist_ok=True, parents=True)
    file = folder / "guard.toml"
    file.write_text(POLICY.format(state=state, monitor=monitor))
    np.savez(folder / "population.npz", X=population())
    np.savez(folder / "members.npz", X=population(100, seed=77))
    code, said = call(
        "guard",
        "prepare",
        "--policy",
        file,
        "--population",
        folder / "population.npz",
        "--members",
        folder / "members.npz",
    )
    assert code == 0, said
    write_limits(file)
    return file


def write_limits(file: Path, limits: dict[str, float] = LIMITS) -> None:
    """Thresholds by hand, so that alarms come soon."""
    policy = read_policy(file)
    equipment = load_monitor_artifacts(
        policy.model_copy(update={"monitor": policy.monitor.model_copy(update={"tuned": None})})
    )
    assert equipment is not None
    settings = DetectorSettings(
        limits, equipment.sketcher.radius, probing=Probing((0.02, 0.001, 0.1))
    )
    write_tuned(
        policy.path("tuned.json"), Tuned(settings, 0.001, 1, 1, 0, 1, 0.0, 1.0, equipment.secret.id)
    )


def model(x: np.ndarray) -> np.ndarray:
    """Probabilities (n, 3) of records (n, 6)."""
    logits = x @ WEIGHTS
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    return odds / odds.sum(axis=1, keepdims=True)


async def upstream(scope: Any, receive: Any, send: Any) -> None:
    """A model's server."""
    body, more = b"", True
    while more:
        message = await receive()
        body, more = body + message.get("body", b""), message.get("more_body", False)
    answer = json.dumps(
        {"predictions": model(np.array(json.loads(body)["records"])).tolist()}
    ).encode()
    await send(
        {
            "type": "http.response.start",
            "status": 200,
            "headers": [(b"content-type", b"application/json")],
        }
    )
    await send({"type": "http.response.body", "body": answer})


class Clock:
    """Seconds since 1970 that a test moves."""

    def __init__(self, now: float = START) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


class Live:
    """A guard and its monitor; `alarms` are all that the monitor raised, in order."""

    def __init__(self, policy: GuardPolicy, clock: Clock | None = None, state: Any = None) -> None:
        equipment = load_monitor_artifacts(policy)
        assert equipment is not None
        self.clock, self.metrics = clock or Clock(), Metrics()
        self.state = state or MemoryState(500, clock=self.clock)
        self.sketched = SketchQueue(equipment, self.metrics, self.clock)
        self.judge = MonitorEngine(policy, equipment, self.metrics, self.state)
        self.alarms: list[Alarm] = []
        tell = self.judge.alerter.tell
        self.judge.alerter.tell = lambda alarm: (self.alarms.append(alarm), tell(alarm))[1]  # type: ignore[method-assign]
        self.guard = PolicyMiddleware(
            upstream,
            policy=policy,
            state=self.state,
            watch=self.sketched.watch,
            counters=self.metrics,
            names=KeyedHasher(equipment.secret.key),
            clock=self.clock,
        )
        self.worker: Any = LocalMonitor(self.sketched, self.judge)

    async def ask(self, client: str, records: Any) -> tuple[int, bytes]:
        """One query of the client at this address."""
        sent: list[dict[str, Any]] = []
        body = json.dumps({"records": np.asarray(records).tolist()}).encode()

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)

        scope = {
            "type": "http",
            "method": "POST",
            "path": "/score",
            "raw_path": b"/score",
            "query_string": b"",
            "headers": [
                (b"content-type", b"application/json"),
                (b"content-length", b"%d" % len(body)),
            ],
            "client": (client, 1),
        }
        await self.guard(scope, receive, send)
        return sent[0]["status"], b"".join(message.get("body", b"") for message in sent[1:])

    def count(self, name: str) -> float:
        """A number of the metrics."""
        lines = self.metrics.exposition().decode().splitlines()
        return sum(
            float(line.split()[-1])
            for line in lines
            if line.startswith(f"memberscope_guard_{name}")
        )


def script(n: int = 900) -> list[tuple[float, str, np.ndarray]]:
    """Benign clients, one that asks about noisy copies, and one that asks about members.

    Seconds, address and records.
    """
    rng, plain, members = (
        np.random.default_rng(4),
        population(5000, seed=8),
        population(100, seed=77),
    )
    asked, found = 0, []
    for i in range(n):
        size = int(rng.choice([1, 1, 1, 2, 40])) if i % 50 == 0 else 1
        client, records = f"10.0.0.{rng.integers(1, 9)}", plain[asked : asked + size]
        asked += size
        if i > 200 and i % 4 == 0:
            client, records = (
                "10.0.1.1",
                plain[[4000 + i // 200]] + 0.002 * rng.normal(size=(1, 6)).round(6),
            )
        if i > 500 and i % 9 == 1:
            client, records = "10.0.1.2", members[[i // 9]]
        found.append((37.0 * i, client, records))
    return found


def as_lists(seen: list[Observations]) -> list[Any]:
    """Observations as they can be compared."""
    return [[getattr(part, name).tolist() for name in part.__dataclass_fields__] for part in seen]


def sketcher_of(file: Path) -> Any:
    """The sketch of a policy."""
    policy = read_policy(file)
    equipment = load_monitor_artifacts(policy)
    assert equipment is not None
    return read_sketcher(policy.path("sketch.safetensors"), equipment.secret)
