"""The boundary searches against closed forms, a search of one record at a time.

And what a budget allows.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from labelled import Labels, assert_depth_is_seen, linear, memorised, mixed, records, spec
from scipy.stats import spearmanr

from memberscope.errors import InputError, TargetError, UnmetNeedError
from memberscope.signals import measure_signal
from memberscope.signals.boundary import measure_boundary
from memberscope.signals.boundary_walk import CEILING, FLOOR, NEAR, STARTS, STEEP, BoundaryWalk
from memberscope.signals.feature_domain import encode_in_domain
from memberscope.signals.hopskipjump import CLOSER
from memberscope.signals.label_oracle import Oracle

BOTH = pytest.mark.parametrize("jump", [0.0, 1.0], ids=["walk", "hopskipjump"])


def distances(x: np.ndarray, values: np.ndarray, jump: float = 0.0) -> np.ndarray:
    """Distances that the values stand for, in standard deviations of the features."""
    unit = encode_in_domain(x)[0].unit * (CLOSER if jump else 1.0)
    return np.exp(values / STEEP) * unit


def test_hopskipjump_finds_the_distance_to_a_hyperplane():
    x, y, model, margin = linear(200, 8)
    found = distances(
        x,
        measure_boundary(
            model, records(x, y), spec("boundary", hopskipjump=1.0, queries=800)
        ).final[:, 0],
        1.0,
    )
    far = margin > 0.2  # nearer records lie at the floor
    assert (found[far] > margin[far] * 0.95).all() and np.median(found[far] / margin[far]) < 1.1
    assert spearmanr(found, margin).statistic > 0.97


def test_the_walk_ranks_records_by_their_distance_to_a_hyperplane():
    x, y, model, margin = linear(300, 8)
    found = distances(
        x, measure_boundary(model, records(x, y), spec("boundary", queries=300)).final[:, 0]
    )
    far = margin > 0.3
    assert (found[far] > margin[far] * 0.999).all(), (
        "a change of label was found, so the boundary is no further"
    )
    assert np.median(found[far] / margin[far]) < 1.6
    assert spearmanr(found, margin).statistic > 0.9


def naive(walk: BoundaryWalk, model: Labels, i: int, budget: int) -> tuple[float, int]:
    """Best distance and queries of record `i`, one path and one query after another."""
    domain, z, asked = walk.oracle.domain, walk.z[i], 1

    def point(path: int, aim: float, low: float | None) -> tuple[np.ndarray, float]:
        """As far as `aim`, but when halving at least one feature beyond `low`."""
        end = domain.movable(z[None], walk.pool[walk.ends[i, path]][None])[0]
        if not walk.replaces:
            return z + aim / walk.lengths[i, path] * (end - z), aim
        now, squares = z.copy(), 0.0
        for feature in walk.orders[path]:
            more = squares + float(domain.differences(z[None], end[None])[0, feature])
            beyond = low is None or squares > low**2 + 1e-6
            if more > aim**2 + 1e-6 and beyond:
                break
            now[feature], squares = end[feature], more
        return now, squares**0.5

    def keeps(now: np.ndarray) -> bool:
        return bool(model.label(domain.decode(now[None]))[0] == walk.oracle.labels[i])

    best = walk.lengths[i, 0] if walk.certain[i, 0] else np.inf
    for path in range(walk.ends.shape[1]):
        low, high = 0.0, walk.lengths[i, path]
        if not np.isfinite(high):
            break
        first = path == 0 and walk.certain[i, 0]
        if not first and not (walk.certain[i, path] and high <= best * (1 - NEAR)):
            now, reached = point(path, min(best * (1 - NEAR), high), None)
            if reached <= 0:
                continue
            if asked == budget:
                return best, asked
            asked += 1
            if keeps(now):
                continue
            high = reached
        best = min(best, high)
        while high - low > NEAR * high:
            now, reached = point(path, (low + high) / 2, low)
            if reached >= high * (1 - 1e-9):
                break
            if asked == budget:
                return best, asked
            asked += 1
            if keeps(now):
                low = reached
            else:
                high, best = reached, min(best, reached)
    return best, asked


def compare_with_one_at_a_time(x, y, model, budget: int) -> BoundaryWalk:
    """Check the best distances and the queries of all records against `naive`; give the walk."""
    domain, z = encode_in_domain(x)
    predicted = model.label(x).astype(int)
    asked = np.ones(len(y), dtype=np.int64)
    walk = BoundaryWalk(Oracle(model, domain, y, asked), z, predicted, 0)
    alone = [naive(walk, model, i, budget) for i in range(len(y))]
    walk.advance(budget)
    right = predicted == y
    np.testing.assert_allclose(
        walk.best[right], np.array([best for best, _ in alone])[right], rtol=1e-9
    )
    np.testing.assert_array_equal(
        walk.oracle.asked[right], np.array([asked for _, asked in alone])[right]
    )
    # Each call asks about every record that still has a query
    assert len(model.batches) == walk.oracle.asked[right].max() - 1
    return walk


@pytest.mark.parametrize("bits", [False, True])
@pytest.mark.parametrize("budget", [7, 40, 400])
def test_lockstep_is_one_record_at_a_time(bits, budget):
    x, y, model, _ = memorised(80, 12)
    if bits:
        x = (x > 0).astype(np.float64)
        w = np.random.default_rng(1).standard_normal(12)
        model = Labels(lambda z: (z @ w > 0.3).astype(int))
    assert compare_with_one_at_a_time(x, y, model, budget).replaces == bits


@pytest.mark.parametrize("budget", [7, 60])
def test_lockstep_is_one_record_at_a_time_in_frames_with_missing_values(budget):
    x, y, model = mixed(60)
    walk = compare_with_one_at_a_time(x, y, model, budget)
    assert not walk.certain.all() and np.isnan(walk.z).any()


def test_batches_hold_no_more_than_memory_allows(monkeypatch):
    x, y, model = mixed(60)
    few, whole = (Labels(model.label) for _ in range(2))
    expected = [
        measure_signal(whole, records(x, y), spec(name, queries=20))
        for name in ("boundary", "noise")
    ]
    monkeypatch.setattr("memberscope.signals.label_oracle.CELLS", 7 * x.shape[1])
    for name, wanted in zip(("boundary", "noise"), expected, strict=True):
        found = measure_signal(few, records(x, y), spec(name, queries=20))
        np.testing.assert_array_equal(found.values, wanted.values)
        np.testing.assert_array_equal(found.queries, wanted.queries)
    assert max(map(len, few.batches)) == 7 and max(map(len, whole.batches)) > 60


def test_paths_lead_to_the_nearest_records_with_another_label():
    x, y, model, _ = memorised(100, 5)
    domain, z = encode_in_domain(x)
    predicted = model.label(x).astype(int)
    walk = BoundaryWalk(Oracle(model, domain, y, np.ones(100, dtype=np.int64)), z, predicted, 0)
    for i in range(0, 100, 9):
        others = np.flatnonzero(predicted != y[i])
        far = np.sqrt((((x[others] - x[i]) / x.std(axis=0)) ** 2).sum(axis=1))
        np.testing.assert_allclose(
            walk.lengths[i][np.isfinite(walk.lengths[i])], np.sort(far)[:64], atol=1e-5
        )


@BOTH
@pytest.mark.parametrize("budget", [1, 5, 16, 70, 300])
def test_a_budget_is_never_exceeded_and_every_query_is_counted(jump, budget):
    x, y, model, _ = memorised(120, 6)
    found = measure_boundary(
        model, records(x, y), spec("boundary", queries=budget, hopskipjump=jump)
    )
    assert found.queries.max() <= budget and (np.diff(found.queries, axis=1) >= 0).all()
    assert model.asked == found.queries[:, -1].sum()
    assert found.values.shape == (*found.queries.shape, 1)
    wrong = model.label(x) != y
    assert (
        wrong.any() and (found.queries[wrong] == 1).all() and (found.values[wrong] == FLOOR).all()
    )
    assert (found.final[~wrong] > FLOOR).all()


def test_calls_are_those_of_one_record():
    few, many = (memorised(n, 6) for n in (40, 400))
    calls = []
    for x, y, model, _ in (few, many):
        measure_boundary(model, records(x, y), spec("boundary", queries=60))
        calls.append(len(model.batches))
    assert calls[1] <= 60 + 64 + 1 and calls[1] < 2 * calls[0]


@BOTH
def test_a_constant_predictor_ends_the_search_at_the_largest_distance(jump):
    x, y, _, _ = memorised(50, 6)
    model = Labels(lambda z: np.zeros(len(z), dtype=int))
    found = measure_boundary(model, records(x, y), spec("boundary", queries=1000, hopskipjump=jump))
    np.testing.assert_array_equal(found.final[:, 0], np.where(y == 0, CEILING, FLOOR))
    assert (found.queries[:, -1] == np.where(y == 0, 1 + (1 if jump else STARTS), 1)).all()


def test_records_of_one_label_are_searched_from_random_points():
    """No record has another label, but the middle between them has."""
    x = np.array([[0.0, 0.0], [1.0, 1.0], [0.1, 0.9], [0.05, 0.5]])
    model = Labels(lambda z: (np.abs(z[:, 0] - 0.5) > 0.25).astype(int))
    found = measure_boundary(model, records(x, [1, 1, 1, 1]), spec("boundary"))
    assert (model.label(x) == 1).all() and model.asked == found.queries[:, -1].sum()
    reached = distances(x, found.final[:, 0]) * x[:, 0].std()
    assert (reached > np.abs(np.array([0.25, 0.25, 0.15, 0.2])) - 1e-9).all() and (
        found.final < CEILING
    ).all()


@BOTH
def test_same_answer_twice_and_in_any_order(jump):
    x, y, model, _ = memorised(90, 6)
    order = np.random.default_rng(3).permutation(90)
    first, again = (
        measure_boundary(model, records(x, y), spec("boundary", hopskipjump=jump, queries=150))
        for _ in range(2)
    )
    moved = measure_boundary(
        model, records(x[order], y[order]), spec("boundary", hopskipjump=jump, queries=150)
    )
    np.testing.assert_array_equal(first.values, again.values)
    np.testing.assert_allclose(moved.values, first.values[order], atol=1e-6)
    np.testing.assert_array_equal(moved.queries, first.queries[order])


def test_order_plays_no_part_where_distances_tie():
    rng = np.random.default_rng(0)
    x, w = rng.integers(0, 2, (150, 9)).astype(np.float64), rng.standard_normal(9)
    model, y = Labels(lambda z: (z @ w > 0).astype(int)), (x @ w > 0).astype(int)
    order = rng.permutation(150)
    first, moved = (
        measure_boundary(model, records(x[o], y[o]), spec("boundary"))
        for o in (np.arange(150), order)
    )
    np.testing.assert_allclose(moved.values, first.values[order], atol=1e-9)


def test_categories_are_only_those_seen_and_the_model_gets_a_frame():
    rng = np.random.default_rng(0)
    x = pd.DataFrame(
        {
            "job": rng.choice(["a", "b", "c"], 80),
            "age": rng.integers(18, 90, 80),
            "rich": rng.random(80) < 0.5,
        }
    )

    def label(frame: pd.DataFrame) -> np.ndarray:
        assert dict(frame.dtypes) == dict(x.dtypes) and set(frame["job"]) <= {"a", "b", "c"}
        assert frame["age"].between(18, 90).all()
        return ((frame["job"] == "a").to_numpy() | (frame["age"] > 60).to_numpy()).astype(int)

    found = measure_boundary(Labels(label), records(x, label(x)), spec("boundary"))
    assert len(np.unique(found.final)) > 3
    with pytest.raises(UnmetNeedError, match="little by little for hopskipjump"):
        measure_boundary(Labels(label), records(x, label(x)), spec("boundary", hopskipjump=1.0))


def test_it_stops_when_the_ranking_no_longer_changes():
    x, y, model, _ = linear(200, 6)
    short = measure_boundary(
        model, records(x, y), spec("boundary", hopskipjump=1.0, queries=4000, settled=0.99)
    )
    before, after = short.values[:, -2, 0], short.values[:, -1, 0]
    assert short.queries.max() < 2000 and spearmanr(before, after).statistic > 0.99


@BOTH
def test_members_that_lie_deeper_are_told_apart_and_others_are_not(jump):
    assert_depth_is_seen(spec("boundary", hopskipjump=jump, queries=200))


def test_bad_input_is_refused_in_a_sentence():
    x, y, model, _ = linear(20, 3)
    with pytest.raises(InputError, match="at least 1 query"):
        measure_boundary(model, records(x, y), spec("boundary", queries=0))
    with pytest.raises(TargetError, match="Expected 20 rows"):
        measure_boundary(Labels(lambda z: np.zeros(len(z) - 1)), records(x, y), spec("boundary"))
    with pytest.raises(TargetError, match="ZeroDivisionError"):
        measure_boundary(Labels(lambda z: 1 // 0), records(x, y), spec("boundary"))
