"""How much of a collection was used: closed forms, planted shares, and simulated coverage."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from memberscope.errors import InputError
from memberscope.statistics.sets import ShareScores, estimate_share
from memberscope.statistics.sets.proportion import find_youden_threshold


def draw_scores(rng, n, m, share, *, effect=2.0, spread=0.0, rows=1, shift=0.0):
    """Scores of a target that saw `share` of n units of `rows` records, and of m references."""
    half = np.arange(n) < n // 2
    inside = np.stack([rng.permutation(half) for _ in range(m)])
    used = rng.permutation(np.arange(n) < round(share * n))
    difficulty = rng.normal(size=n) * 0.3

    def score(member, extra=0.0):
        # The model's own level and strength, then noise of the unit and of each record
        level, strength = spread * rng.normal(), effect * (1 + spread * rng.normal() / 2)
        unit = difficulty + level + strength * member + np.sqrt(0.5) * rng.normal(size=n)
        return np.repeat(unit + extra, rows) + np.sqrt(0.5) * rng.normal(size=n * rows)

    found = ShareScores(
        score(used, shift)[None],
        np.array([score(row) for row in inside]),
        np.repeat(inside, rows, axis=1),
        np.zeros(m, dtype=np.int64),
    )
    return found, np.repeat(used, rows)


def everyone(found):
    return np.ones(found.inside.shape[1], dtype=bool)


def test_the_value_is_the_corrected_share_of_calls():
    # Two models at the threshold 0.5: TPR 3/4, FPR 1/4, and the target calls 4 of 8
    inside = np.array([[1, 1, 1, 1, 0, 0, 0, 0], [0, 0, 0, 0, 1, 1, 1, 1]], dtype=bool)
    calls = np.array([[1, 1, 1, 0, 1, 0, 0, 0], [1, 0, 0, 0, 1, 1, 1, 0]], dtype=float)
    target = np.array([[1, 1, 1, 1, 0, 0, 0, 0]], dtype=float)
    found = estimate_share(
        ShareScores(target, calls, inside, np.zeros(2, dtype=np.int64)), np.ones(8, dtype=bool)
    )
    assert (found.tpr, found.fpr, found.called) == (0.75, 0.25, 0.5)
    assert found.value == found.raw == pytest.approx((0.5 - 0.25) / (0.75 - 0.25))


@given(st.lists(st.tuples(st.integers(0, 4), st.booleans()), min_size=2, max_size=30))
def test_the_threshold_is_the_best_of_all(rows):
    scores, member = (np.array(part) for part in zip(*rows, strict=True))
    if member.all() or not member.any():
        return

    def gain(threshold):
        called = scores >= threshold
        return called[member].mean() - called[~member].mean()

    best = find_youden_threshold(scores.astype(float), member)
    assert gain(best) == pytest.approx(max(gain(value) for value in scores))


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9])
def test_planted_shares_are_found(share):
    rng = np.random.default_rng(3)
    errors = []
    for _ in range(10):
        found, used = draw_scores(rng, 400, 4, share, effect=5.0)
        answer = estimate_share(found, everyone(found))
        errors.append(answer.value - used.mean())
    assert np.abs(np.mean(errors)) < 0.01 and np.std(errors) < 0.011


@pytest.mark.parametrize(
    "settings",
    [
        {"share": 0.0},
        {"share": 0.3},
        {"share": 0.5, "spread": 0.1},
        {"share": 1.0, "spread": 0.1},
        {"share": 0.5, "rows": 5},
    ],
)
def test_limits_hold_the_share(settings):
    rng = np.random.default_rng(7)
    held, runs = 0, 100
    for _ in range(runs):
        found, used = draw_scores(rng, 300, 4, **settings)
        rows = settings.get("rows", 1)
        unit = np.repeat(np.arange(300), rows) if rows > 1 else None
        answer = estimate_share(found, everyone(found), unit=unit)
        held += answer.low - 1e-9 <= used.mean() <= answer.high + 1e-9
    # 95% less two and a half standard errors of so few runs
    assert held >= 0.895 * runs


def test_limits_that_ignore_units_are_too_narrow():
    rng = np.random.default_rng(5)
    found, _ = draw_scores(rng, 60, 16, 0.5, rows=20)
    unit = np.repeat(np.arange(60), 20)
    by_unit, by_record = (
        estimate_share(found, everyone(found), unit=codes) for codes in (unit, None)
    )
    assert by_unit.value == by_record.value and by_unit.n_units == 60
    # Less than by the root of 20, since the spread between the models shows the units as well
    assert by_unit.high - by_unit.low > 1.1 * (by_record.high - by_record.low)


def test_an_attack_that_tells_nothing_leaves_every_share_open():
    found, _ = draw_scores(np.random.default_rng(0), 500, 4, 0.4, effect=0.0)
    answer = estimate_share(found, everyone(found))
    assert answer.high - answer.low > 0.9


def test_a_target_off_on_held_out_records_widens_the_limits():
    rng = np.random.default_rng(1)
    found, _ = draw_scores(rng, 2000, 4, 0.0, shift=0.3)
    suspect = np.arange(2000) < 1000
    plain, wide = (estimate_share(found, suspect, held_out) for held_out in (None, ~suspect))
    assert wide.shift == pytest.approx(0.11, abs=0.03) and plain.shift is None
    # Of nobody anything was used: the calls alone say otherwise, with held-out records they do not
    assert plain.low > 0 and wide.low == 0


def test_calls_that_no_share_explains_are_said_to():
    found, _ = draw_scores(np.random.default_rng(2), 1000, 8, 0.0, effect=4.0, shift=-6.0)
    inside = found.references - 6.0
    found = ShareScores(found.target, inside + 5.5, found.inside, found.rounds)
    answer = estimate_share(found, everyone(found))
    assert answer.value == 0.0 and answer.raw <= 0


def test_shapes_models_and_values_are_checked():
    rng = np.random.default_rng(0)
    found, _ = draw_scores(rng, 50, 2, 0.5)
    with pytest.raises(InputError, match="scores and membership of the same records"):
        ShareScores(found.target[:, :40], found.references, found.inside, found.rounds)
    with pytest.raises(InputError, match="at least 2 reference models"):
        ShareScores(found.target, found.references[:1], found.inside[:1], found.rounds[:1])
    with pytest.raises(InputError, match="first record 3"):
        broken = found.target.copy()
        broken[0, 3] = np.nan
        ShareScores(broken, found.references, found.inside, found.rounds)
    with pytest.raises(InputError, match="saw some of the 25 suspect records"):
        estimate_share(found, found.inside[0])
