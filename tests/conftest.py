"""Shared by all tests: where real data may be found."""

from __future__ import annotations

import os
import signal
from collections import Counter
from pathlib import Path

# Small tree fits gain nothing from OpenMP threads, which only wait for one another when the machine
# is busy.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A shell's background jobs ignore interrupts, and so would all that the tests start and interrupt.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

import pytest
from hypothesis import HealthCheck, settings

# No test depends on how long an example takes.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")


SLOW = {
    line
    for line in (Path(__file__).parent / "slow_tests.txt").read_text().splitlines()
    if line and not line.startswith("#")
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what tests/slow_tests.txt lists, and put the files with most slow tests first.

    Where processes share out files, a long one that starts last leaves the others idle.
    """
    slow: Counter[str] = Counter()
    for item in items:
        test = item.nodeid.partition("[")[0]
        if test in SLOW or test.partition("::")[0] in SLOW:
            item.add_marker(pytest.mark.slow)
            slow[test.partition("::")[0]] += 1
    items.sort(key=lambda item: -slow[item.nodeid.partition("::")[0]])


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of the real data sets; tests that need it say so when they skip."""
    folder = Path(os.environ.get("MEMBERSCOPE_DATA", "../shared/data"))
    if not (folder / "location30.npz").is_file():
        pytest.skip("needs the real data sets: set MEMBERSCOPE_DATA to their folder")
    return folder
