"""A monitor that is handed queries one by one, as live traffic comes.

Alarms as one that replays them in blocks.
"""

from __future__ import annotations

import numpy as np
import pytest

from memberscope.guard.detectors.monitor import DetectorSettings, Monitor
from memberscope.guard.sketching.observations import BINS, POINT, Observations

LIMITS = {
    "probing.family": 6.0,
    "boundary.family": 4.0,
    "probing.client": 4.0,
    "boundary.client": 4.0,
}


def probed(n_records: int = 12, n_copies: int = 10) -> Observations:
    """Copies of some records by two clients, record by record, with labels that alternate."""
    rng = np.random.default_rng(0)
    centre = np.repeat(3 * rng.normal(size=(n_records, POINT)), n_copies, axis=0)
    n = len(centre)
    return Observations(
        1.7e9 + np.arange(n, dtype=np.float64),
        rng.integers(1, 3, n).astype(np.uint64),
        rng.permutation(n).astype(np.uint64),
        (centre + 0.01 * rng.normal(size=(n, POINT))).astype(np.float32),
        rng.integers(0, 32, (n, BINS)).astype(np.uint8),
        np.arange(n) % 2,
    )


@pytest.mark.parametrize("size", [1, 7, 64])
def test_alarms_do_not_depend_on_how_queries_are_cut_into_blocks(size):
    seen = probed()
    whole = Monitor(DetectorSettings(LIMITS, 0.5)).observe(seen)
    parts = Monitor(DetectorSettings(LIMITS, 0.5))
    found = [
        alarm
        for start in range(0, len(seen), size)
        for alarm in parts.observe(seen.take(slice(start, start + size)))
    ]

    def told(alarms):
        return [(a.time, a.detector, a.scope, a.subject, a.statistic, a.queries) for a in alarms]

    assert told(found) == told(whole)
    families = [alarm for alarm in whole if alarm.scope == "family" and alarm.detector == "probing"]
    assert len(families) == 12 and {alarm.statistic for alarm in families} == {7.0}
