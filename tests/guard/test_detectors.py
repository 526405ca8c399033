"""Detectors against plain references, on noise and on planted campaigns."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from math import log1p

import numpy as np
import pytest

from memberscope.guard.calibration.thresholds import estimate_threshold, tune_detectors
from memberscope.guard.detectors.boundary_search import BoundaryDetector
from memberscope.guard.detectors.client_history import HEAD, ClientRows, ObservedQuery
from memberscope.guard.detectors.enumeration import CoverageDetector
from memberscope.guard.detectors.membership_hits import Membership
from memberscope.guard.detectors.monitor import DetectorSettings, Monitor
from memberscope.guard.detectors.near_copies import Probing
from memberscope.guard.detectors.snapshot import take_snapshot
from memberscope.guard.detectors.volume import DAY, Volume
from memberscope.guard.sketching.fingerprints import Fingerprints
from memberscope.guard.sketching.near_duplicates import NearDuplicateIndex
from memberscope.guard.sketching.observations import Observations, make_example_observations
from memberscope.statistics import clopper_pearson

RADIUS = 0.3


def noise(days: int, clients: int, seed: int, rate: float = 12.0) -> Observations:
    """Clients that ask about unrelated records, each at a pace of its own."""
    rng = np.random.default_rng(seed)
    pace = np.random.default_rng(99).lognormal(0.0, 0.7, clients) * rate
    n = rng.poisson(pace[None].repeat(days, axis=0))
    who = np.concatenate([np.repeat(np.arange(1, clients + 1), n[day]) for day in range(days)])
    time = 20_000 * DAY + np.concatenate(
        [day * DAY + rng.uniform(0, DAY, n[day].sum()) for day in range(days)]
    )
    order = np.argsort(time, kind="stable")
    total = len(time)
    return Observations(
        time[order],
        who[order].astype(np.uint64),
        rng.integers(0, 2**63, total).astype(np.uint64),
        rng.normal(size=(total, 16)).astype(np.float32),
        rng.integers(0, 32, (total, 8)).astype(np.uint8),
        rng.integers(0, 5, total),
    )


def test_alarms_on_another_log_stay_within_the_stated_rate():
    members = np.random.default_rng(5).integers(0, 2**63, 2000).astype(np.uint64)
    fingerprints = Fingerprints.of(members, members[:0], "k", 0.01)
    rate, clients = 0.05, 60
    found = tune_detectors([noise(16, clients, 1)], fingerprints, radius=RADIUS, rate=rate)
    later = noise(10, clients, 2)
    monitor = Monitor(found.settings, fingerprints)
    warm = later.time < later.time[0] + 4 * DAY  # the same share as in tuning
    monitor.observe(later.take(warm))
    alarms = monitor.observe(later.take(~warm))
    days = len(
        {(int(c), t // DAY) for c, t in zip(later.client[~warm], later.time[~warm], strict=True)}
    )
    low, _ = clopper_pearson(min(len(alarms), days), days, 0.99)
    assert low <= rate, (len(alarms), days)
    assert found.low <= rate


def plain_families(points, records, window):
    """Families by their definition: every record against all that are remembered."""
    kept, variants, found, founded = [], {}, [], 0
    for point, record in zip(points.astype(float), records, strict=True):
        same = [entry for entry in kept if entry[0] == record]
        if same:
            found.append((same[0][2], -1))
            continue
        near = [(float(((point - at) ** 2).sum()), i) for i, (_, at, _) in enumerate(kept)]
        best = min(near, default=(np.inf, -1))
        family = kept[best[1]][2] if best[0] <= RADIUS**2 else -1
        if family in variants:
            found.append((family, variants[family]))
            variants[family] += 1
        else:
            family, founded = founded, founded + 1
            variants[family] = 1
            variants.pop(family - window, None)
            found.append((family, 0))
        kept = [*kept, (record, point, family)][-window:]
    return found


@pytest.mark.parametrize("window", [40, 128, 4096])
@pytest.mark.parametrize("size", [1, 7, 64, 500])
def test_families_are_those_of_the_definition_however_many_come_at_once(window, size):
    rng = np.random.default_rng(window)
    points = (
        rng.normal(size=(50, 16))[rng.integers(0, 50, 500)] + 0.07 * rng.normal(size=(500, 16))
    ).astype(np.float32)
    records = rng.integers(0, 400, 500)
    families, found = NearDuplicateIndex(RADIUS, window), []
    for start in range(0, 500, size):
        part = slice(start, start + size)
        placed = families.place(
            points[part], records[part].astype(np.uint64), np.zeros(500, int)[part], records[part]
        )
        found += list(zip(placed.family.tolist(), placed.before.tolist(), strict=True))
    assert found == plain_families(points, records, window)
    assert sum(before > 0 for _, before in found) > 20


def test_points_that_are_no_numbers_poison_nothing():
    families = NearDuplicateIndex(RADIUS)
    wild = np.full((3, 16), np.nan, dtype=np.float32)
    wild[1], wild[2] = np.inf, -1e38
    families.place(wild, np.arange(3).astype(np.uint64), np.zeros(3, int), np.ones(3))
    plain = np.random.default_rng(0).normal(size=(500, 16)).astype(np.float32)
    placed = families.place(
        plain, np.arange(10, 510).astype(np.uint64), np.zeros(500, int), np.ones(500)
    )
    assert (placed.before == 0).all()


@pytest.mark.parametrize("kind", ["exponential", "heavy"])
def test_thresholds_beyond_the_data_are_exceeded_as_often_as_expected(kind):
    rng = np.random.default_rng(6)
    draw = rng.exponential if kind == "exponential" else lambda size: rng.pareto(4.0, size=size)
    n, expected = 4000, 1.0
    true = (lambda t: np.exp(-t)) if kind == "exponential" else lambda t: (1 + t) ** -4.0
    got = [n * true(estimate_threshold(draw(size=n), expected, 0.0)) for _ in range(300)]
    assert 0.4 < np.median(got) < 1.6, np.median(got)
    assert np.mean(got) < 2.5


def one(detector, queries, pool: float | None = None) -> list[float]:
    row = ClientRows(HEAD + detector.width, 1).of(1)
    return [detector.step(row, HEAD, query) for query in queries]


def query(
    time=1e9, *, fresh=True, before=0, step=-1, hit=0, label=0, bins=bytes(8)
) -> ObservedQuery:
    return ObservedQuery(time, fresh, before, step, hit, label, bins)


def test_volume_is_what_its_definition_says():
    counts, detector = [5, 9, 4, 60, 7], Volume()
    queries = [
        query(20_000 * DAY + day * DAY + 600.0 * i)
        for day, n in enumerate(counts)
        for i in range(n)
    ]
    found, total, own = one(detector, queries), [0.0] * 3, []
    ends = np.cumsum(counts)
    for day, n in enumerate(counts):
        todays = []
        for k, count in enumerate((n, n, 1)):
            logs = [entry[k] for entry in own]
            d = len(logs)
            mean = (sum(logs) + 2 * detector.mean[k]) / (d + 2)
            variance = (d * (np.var(logs) if d else 0.0) + 2 * detector.spread[k] ** 2) / (d + 2)
            beyond = (log1p(count) - mean) / max(variance**0.5, 0.3)
            todays.append(0.5 * total[k] + min(beyond, 8.0) - 1.0)
        assert found[ends[day] - 1] == pytest.approx(max(todays), abs=1e-9)
        total = [max(0.0, value) for value in todays]
        own.append([log1p(n), log1p(n), log1p(1)])


def test_membership_needs_hits_and_one_honey_hit_is_not_enough():
    detector = Membership(usual=0.001)
    rng = np.random.default_rng(0)
    for hit in (1, 2):
        values = one(detector, [query(hit=hit * (i in (5, 9))) for i in range(200)])
        assert max(values) == 0.0
    assert max(one(detector, [query(hit=2)])) == 0.0
    assert (
        max(one(detector, [query(hit=2, fresh=i == 0) for i in range(50)])) == 0.0
    )  # the same record again and again
    planted = one(detector, [query(hit=int(rng.random() < 0.5)) for _ in range(60)])
    assert next(i for i, value in enumerate(planted) if value > 8.0) < 30


def test_probing_is_found_soon_and_unrelated_records_are_not():
    detector, rng = Probing((0.02, 0.001, 0.05)), np.random.default_rng(0)
    planted = one(detector, [query(before=i % 20) for i in range(60)])
    assert next(i for i, value in enumerate(planted) if value > 10.0) < 15
    assert max(one(detector, [query(before=int(rng.random() < 0.02)) for _ in range(3000)])) < 10.0
    assert (
        max(one(detector, [query(before=-1) for _ in range(500)])) == 0.0
    )  # a dashboard that refreshes


def test_a_boundary_walk_is_found_soon_and_usual_variants_are_not():
    detector, rng = BoundaryDetector(), np.random.default_rng(0)
    walk = one(
        detector, [query(step=int(rng.choice(4, p=[0.4, 0.3, 0.15, 0.15]))) for _ in range(60)]
    )
    assert next(i for i, value in enumerate(walk) if value > 10.0) < 40
    usual = one(
        detector, [query(step=int(rng.choice(4, p=[0.9, 0.06, 0.03, 0.01]))) for _ in range(3000)]
    )
    assert max(usual) < 10.0


def test_sorted_queries_and_one_class_at_a_time_are_found_and_shuffled_ones_are_not():
    rng = np.random.default_rng(0)
    table = rng.integers(0, 32, (600, 8)).astype(np.uint8)
    labels = rng.integers(0, 5, 600)
    detector = CoverageDetector((0.2,) + (0.09,) * 8)

    def seen(order):
        return one(detector, [query(label=int(labels[i]), bins=table[i].tobytes()) for i in order])

    assert max(seen(range(600))) < 10.0
    for order in (np.argsort(table[:, 3], kind="stable"), np.argsort(labels, kind="stable")):
        values = seen(order)
        assert next(i for i, value in enumerate(values) if value > 12.0) < 60


def test_a_clock_that_steps_back_stands_still():
    plain = noise(3, 5, 3)
    late = plain.take(slice(len(plain) // 2, None))
    steps = Observations(
        late.time - 1800 * (np.arange(len(late)) % 7 == 3),
        *(getattr(late, name) for name in list(late.__dataclass_fields__)[1:]),
    )
    stood = Observations(
        np.maximum.accumulate(steps.time),
        *(getattr(late, name) for name in list(late.__dataclass_fields__)[1:]),
    )
    first, second = Monitor(DetectorSettings({}, RADIUS)), Monitor(DetectorSettings({}, RADIUS))
    first.observe(steps)
    second.observe(stood)
    assert take_snapshot(first) == take_snapshot(second)


def test_clients_seen_least_recently_are_dropped():
    monitor = Monitor(DetectorSettings({}, RADIUS), clients=10)
    seen = noise(1, 40, 1)
    monitor.observe(seen)
    last = list(dict.fromkeys(seen.client[::-1].tolist()))[:10]
    assert list(monitor.rows.kept) == last[::-1] and len(monitor.rows) == 10


def test_a_hundred_thousand_clients_fit_in_their_bound():
    n = 4096
    rng = np.random.default_rng(0)
    tracemalloc.start()
    monitor = Monitor(DetectorSettings({}, RADIUS))
    for i in range(3):
        who = np.arange(i * n, (i + 1) * n).astype(np.uint64) * np.uint64(2**40 + 3)
        many = noise(1, 1, 1, rate=float(3 * n)).take(slice(0, n))
        records = rng.integers(0, 2**63, n).astype(np.uint64)
        monitor.observe(Observations(many.time, who, records, many.point, many.bins, many.label))
        if i == 0:
            before = tracemalloc.get_traced_memory()[0]
    each = (tracemalloc.get_traced_memory()[0] - before) / (2 * n)
    tracemalloc.stop()
    assert len(monitor.rows) == 3 * n
    assert 100_000 * each < 150e6, each
    assert len(take_snapshot(monitor)) < 800 * 3 * n + 5e6


def test_a_clock_that_was_ahead_is_set_right():
    monitor = Monitor(DetectorSettings({}, 0.1))
    many = make_example_observations(3)
    for time, now in ((1e9, 1e9), (1e9 - 60, 1e9), (1e9 + 7 * DAY, 1e9 + 7 * DAY), (1e9, 1e9)):
        monitor.observe(replace(many, time=np.full(3, time)))
        assert monitor.now == now
