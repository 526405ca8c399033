"""Walks between records: agreement with what was asked shortly before, against its definition.

On planted walks, and over a restart.
"""

from __future__ import annotations

import json

import numpy as np
import pytest

from memberscope.errors import InputError
from memberscope.guard.calibration.baseline import learn_baseline
from memberscope.guard.calibration.thresholds import Tuned
from memberscope.guard.calibration.thresholds_file import read_tuned, write_tuned
from memberscope.guard.detectors.client_history import HEAD, ClientRows, ObservedQuery
from memberscope.guard.detectors.feature_walks import (
    CLIENT,
    NEVER,
    OFTEN,
    POOL,
    append_mark,
    build_lane_constants,
    choose_agreement_level,
    encode_mark,
    find_best_agreement,
    has_agreement,
)
from memberscope.guard.detectors.monitor import DetectorSettings, Monitor
from memberscope.guard.detectors.near_copies import Probing
from memberscope.guard.detectors.snapshot import restore_monitor, take_snapshot
from memberscope.guard.sketching.observations import Observations, make_example_observations

LEVELS = range(1, 9)


def table(n: int, seed: int, values: int = 32) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, values, (n, 8)).astype(np.uint8)


@pytest.mark.parametrize("n", [CLIENT, POOL])
@pytest.mark.parametrize("values", [2, 4, 32])
def test_agreement_is_that_of_the_definition_for_every_level(n, values):
    lately, before = 0, []
    for bins in table(200, n + values, values):
        agreed = max([int((bins == other).sum()) for other in before[-n:]], default=0)
        mark = encode_mark(bins.tobytes())
        assert [
            has_agreement(lately, mark, build_lane_constants(n, level)) for level in LEVELS
        ] == [level <= agreed for level in LEVELS]
        assert find_best_agreement(lately, mark, n) == agreed
        lately = append_mark(lately, mark, n)
        before.append(bins)
    assert lately.bit_length() <= 64 * n


def test_places_that_are_empty_agree_with_nothing():
    for bins in (bytes(8), bytes([31] * 8)):
        assert find_best_agreement(0, encode_mark(bins), CLIENT) == 0
        assert (
            find_best_agreement(
                append_mark(0, encode_mark(bytes([7] * 8)), CLIENT), encode_mark(bins), CLIENT
            )
            == 0
        )


def walk(records: int, queries: int, seed: int, interleaved: bool) -> np.ndarray:
    """Positions of searches on paths.

    At each query a feature of the record is that of another record.
    """
    rng = np.random.default_rng(seed)
    starts = table(records, seed + 1)
    owner = (
        np.arange(records * queries) % records
        if interleaved
        else np.arange(records * queries) // queries
    )
    bins = starts[owner]
    bins[np.arange(len(bins)), rng.integers(0, 8, len(bins))] = rng.integers(0, 32, len(bins))
    return bins


def values(bins: np.ndarray, held: int, before: int = 0) -> list[float]:
    detector = Probing((0.02, 0.001, 0.05), 6)
    row = ClientRows(HEAD + detector.width, 1, held).of(1)
    return [
        detector.step(row, HEAD, ObservedQuery(1e9, True, before, -1, 0, 0, each.tobytes()))
        for each in bins
    ]


def test_a_walk_between_records_is_found_soon_and_unrelated_records_are_not():
    assert (
        next(i for i, value in enumerate(values(walk(10, 30, 1, False), CLIENT)) if value > 12.0)
        < 15
    )
    assert max(values(table(3000, 2), CLIENT)) == max(values(table(3000, 2), POOL)) == 0.0
    assert (
        max(values(walk(10, 30, 1, False), CLIENT, before=-1)) == 0.0
    )  # records that are known, as on a dashboard that refreshes


def test_forty_walks_at_once_are_beyond_a_clients_memory_and_within_a_pools():
    walks = walk(40, 30, 3, True)
    assert max(values(walks, CLIENT)) == 0.0
    assert next(i for i, value in enumerate(values(walks, POOL)) if value > 12.0) < 60


def observed(bins: np.ndarray, client: np.ndarray, seed: int = 0) -> Observations:
    rng, n = np.random.default_rng(seed), len(bins)
    record, point = (
        rng.integers(0, 2**63, n).astype(np.uint64),
        rng.normal(size=(n, 16)).astype(np.float32),
    )
    return Observations(
        1.7e9 + 10.0 * np.arange(n),
        client.astype(np.uint64),
        record,
        point,
        bins,
        np.zeros(n, dtype=int),
    )


def test_the_level_is_the_least_at_which_few_ordinary_queries_agree():
    bins, client = table(4000, 5, 6), np.arange(4000) % 20
    found = learn_baseline([observed(bins, client)], None, 0.1)[0].probing
    plain = np.zeros(9)
    for i in range(len(bins)):
        plain[
            (bins[max(i - 20 * CLIENT, i % 20) : i : 20] == bins[i]).sum(axis=1).max(initial=0)
        ] += 1
    rates = plain[::-1].cumsum()[::-1] / len(bins)
    assert rates[found.level] <= OFTEN < rates[found.level - 1]
    assert found.usual[2] == pytest.approx(rates[found.level], abs=0.002)
    assert choose_agreement_level([0.0] * 8 + [100.0]) == (
        NEVER,
        1.0,
    )  # everybody asks for the same positions: agreement tells nothing


def test_where_agreement_tells_nothing_none_is_remembered():
    detector = Probing((0.02, 0.001, 1.0), NEVER)
    row = ClientRows(HEAD + detector.width, 1).of(1)
    for bins in walk(5, 20, 1, False):
        assert (
            detector.step(row, HEAD, ObservedQuery(1e9, True, 0, -1, 0, 0, bins.tobytes())) == 0.0
        )
    assert row.lately == 0


@pytest.mark.parametrize("identities", [1, 10])
def test_a_pools_alarm_names_those_who_walk_among_others(identities):
    bins, client = table(1200, 9), 100 + np.arange(1200) % 7
    own = np.arange(1200) % 3 > 0
    bins[own], client[own] = walk(40, 20, 8, True), np.arange(800) % identities
    settings = DetectorSettings(
        {"probing.pool": 12.0}, 0.1, probing=Probing((0.02, 0.001, 0.05), 6)
    )
    (alarm,) = Monitor(settings).observe(observed(bins, client))
    named = {int(name, 16) for name in alarm.clients}
    assert named <= set(range(identities)) and len(named) > identities / 2


@pytest.mark.parametrize("cut", [1, 9, 100])
def test_walks_are_remembered_over_a_restart(cut):
    settings = DetectorSettings(
        {"probing.client": 12.0, "probing.pool": 12.0}, 0.1, probing=Probing((0.02, 0.001, 0.05), 6)
    )
    seen = observed(walk(10, 20, 7, False), np.ones(200))
    whole, first, second = (Monitor(settings) for _ in range(3))
    alarms = whole.observe(seen)
    assert {(alarm.detector, alarm.scope) for alarm in alarms} == {
        ("probing", "client"),
        ("probing", "pool"),
    }
    before = first.observe(seen.take(slice(0, cut)))
    restore_monitor(second, take_snapshot(first))
    assert before + second.observe(seen.take(slice(cut, None))) == alarms
    assert take_snapshot(second) == take_snapshot(whole)


def test_files_of_an_older_version_are_named_and_refused(tmp_path):
    monitor = Monitor(DetectorSettings({}, 0.1))
    monitor.observe(make_example_observations(5))
    with pytest.raises(InputError, match=r"memory of this version .*got 'memberscope-monitor/1'"):
        restore_monitor(
            Monitor(DetectorSettings({}, 0.1)),
            take_snapshot(monitor).replace(b"memberscope-monitor/3", b"memberscope-monitor/1"),
        )
    file = tmp_path / "tuned.json"
    write_tuned(file, Tuned(DetectorSettings({}, 0.1), 0.001, 10, 20, 0, 5, 0.0, 0.5))
    kept = json.loads(file.read_text())
    for change, said in (
        (
            {"format": "memberscope-tuned/1"},
            "thresholds of this version .*got 'memberscope-tuned/1'",
        ),
        (
            {"settings": kept["settings"] | {"probing": {"usual": [0.1, 0.1], "level": 7}}},
            "something else",
        ),
        (
            {"settings": kept["settings"] | {"probing": {"usual": [0.1, 0.1, 0.1], "level": 0}}},
            "something else",
        ),
    ):
        file.write_text(json.dumps(kept | change))
        with pytest.raises(InputError, match=said):
            read_tuned(file)
