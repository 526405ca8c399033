"""Attempts on budgets of a running guard: fill them, forget them, and have others pay for them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from running_guard import POLICY, START, Process, ask, read_metric
from unruly import Unruly, serving

KEPT = """
per_record = "1/365d"
[identity]
trusted_proxies = ["127.0.0.1/32"]
[limits]
answer_timeout = 5.0
[state]
folder = "budgets"
record_megabytes = 1
"""


class Running:
    """A guard that can be killed and started again, with an upstream that takes orders."""

    def __init__(self, folder: Path, app: Unruly, upstream: str) -> None:
        self.folder, self.app, self.upstream = folder, app, upstream
        self.start()

    def start(self) -> None:
        self.process = Process(
            "--upstream", self.upstream, "--policy", str(self.folder / "guard.toml")
        )
        self.ports = self.process.said("serving")

    def kill(self) -> None:
        self.process.process.kill()
        self.process.process.wait()
        self.process.process.stderr.close()

    def score(self, address: str, records: np.ndarray) -> int:
        """Status of the answer to a request about records (n, 2) from an address."""
        document = {"records": records.tolist()}
        return ask(self.ports["port"], "POST", "/score", document, x_forwarded_for=address)[0]

    def metric(self, name: str) -> float:
        return read_metric(self.ports["admin_port"], name)


@pytest.fixture(scope="module")
def guard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder, app = tmp_path_factory.mktemp("guard"), Unruly()
    (folder / "guard.toml").write_text(POLICY.replace("RESTRICT", "label") + KEPT)
    with serving(app) as upstream:
        running = Running(folder, app, upstream)
        yield running
        running.kill()


def draw(n: int, seed: int) -> np.ndarray:
    """Records (n, 2) that nobody else asks about."""
    return np.random.default_rng(seed).normal(size=(n, 2))


def test_a_query_that_timed_out_is_not_counted(guard):
    guard.app.always = "hang"
    assert guard.score("203.0.113.1", draw(3, 1)) == 504
    guard.app.always = "fine"
    file = guard.folder / "guard.toml"
    file.write_text(file.read_text().replace("answer_timeout = 5.0", "answer_timeout = 60.0"))
    assert ask(guard.ports["admin_port"], "POST", "/reload")[0] == 200
    assert [guard.score("203.0.113.1", draw(3, 1)) for _ in range(2)] == [200, 429]


def test_one_network_cannot_spend_the_room_of_all(guard):
    """From 65,536 networks of one /48, about more records than there are places."""
    flood = [guard.score(f"2001:db8:bad:{i:x}::1", draw(4096, 100 + i)) for i in range(36)]
    assert flood[:15] == [200] * 15 and flood[-1] == 429
    assert guard.metric("budget_places_used") < 0.8
    assert guard.metric("budget_unplaced_total") > 0
    for i in range(3):
        statuses = [guard.score(f"198.51.{100 + i}.7", draw(1000, i)) for _ in range(2)]
        assert statuses == [200, 429]


def test_a_restart_gives_nobody_a_fresh_budget(guard):
    """As does a kill -9 in the middle of it, before anything was written for its sake."""
    assert guard.score("192.0.2.1", draw(500, 7)) == 200
    guard.kill()
    guard.start()
    assert guard.score("192.0.2.1", draw(500, 7)) == 429
    assert guard.score("192.0.2.1", draw(500, 8)) == 200
    assert guard.score("198.51.100.7", draw(1000, 0)) == 429
    assert guard.metric("budget_places_used") > 0.5


def test_a_second_guard_cannot_share_the_folder(guard):
    command = ["--upstream", guard.upstream, "--policy", str(guard.folder / "guard.toml")]
    second = subprocess.run(
        [sys.executable, "-c", START, *command, "--port", "0", "--admin-port", "0"],
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert second.returncode != 0
    assert "which another process uses" in " ".join(second.stderr.split())
    assert guard.score("192.0.2.9", draw(3, 9)) == 200
