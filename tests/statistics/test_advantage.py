"""The best advantage and shares by unit.

Known answers, coverage of the best and of the chosen threshold, width.
"""

from __future__ import annotations

import numpy as np
import pytest
from families import Gaussian, covers, people, quantiles
from scipy.special import ndtr
from scipy.stats import binom

from memberscope.statistics import (
    ConfusionCounts,
    best_rates,
    clopper_pearson,
    effective_counts,
    kolmogorov_band,
    roc,
    threshold_rates,
)

RUNS = 400


def test_known_answer():
    found = best_rates(roc(*quantiles(200, 200, 1.0)))
    assert found["advantage"][:3] == pytest.approx((0.385, 0.24918985, 0.47432388), abs=5e-9)
    assert found["balanced_accuracy"][:3] == pytest.approx(
        [(1 + end) / 2 for end in found["advantage"][:3]]
    )
    assert found["accuracy"][:3] == pytest.approx(found["balanced_accuracy"][:3]), (
        "half of the records are members"
    )


def test_the_upper_limit_is_the_largest_over_all_thresholds():
    """By the definition, vertex by vertex.

    Leaving thresholds out that cannot reach it changes nothing.
    """
    rng = np.random.default_rng(0)
    for n1, n0, shift in ((40, 90, 0.5), (200, 50, 0.0), (70, 70, 3.0)):
        member = np.arange(n1 + n0) < n1
        curve = roc(np.round(rng.standard_normal(n1 + n0) + shift * member, 1), member)
        highs = []
        for tp, fp in zip(curve.tp, curve.fp, strict=True):
            above, below = (
                clopper_pearson(tp, n1)[1] - tp / n1,
                fp / n0 - clopper_pearson(fp, n0)[0],
            )
            highs.append(tp / n1 - fp / n0 + float(np.hypot(above, below)))
        assert best_rates(curve)["advantage"].high == pytest.approx(min(1.0, max(highs)), rel=1e-12)


@pytest.mark.parametrize("steps", [0, 1])
@pytest.mark.parametrize("shift", [0.0, 1.0, 3.0])
@pytest.mark.parametrize(("n1", "n0"), [(100, 100), (60, 400)])
def test_both_the_best_and_the_chosen_threshold_are_covered(n1, n0, shift, steps):
    family, rng = Gaussian(shift, steps), np.random.default_rng([n1, n0, int(shift), steps])
    cuts = family.grid() if steps else [shift / 2]
    best = max(tpr - fpr for tpr, fpr in map(family.rates_at, cuts))
    member, share = np.arange(n1 + n0) < n1, n1 / (n1 + n0)
    above = below = chosen = accurate = 0
    widths = []
    for _ in range(RUNS):
        scores = rng.standard_normal(n1 + n0) + shift * member
        scores = np.round(scores * steps) / steps if steps else scores
        curve = roc(scores, member)
        found = best_rates(curve)
        above, below = (
            above + (found["advantage"].low > best),
            below + (found["advantage"].high < best),
        )
        at = 1 + int(np.argmax(curve.tp[1:] * n0 - curve.fp[1:] * n1))
        tpr, fpr = family.rates_at(float(curve.thresholds[at]))
        chosen += found["advantage"].low <= tpr - fpr <= found["advantage"].high
        accurate += (
            found["accuracy"].low <= share * tpr + (1 - share) * (1 - fpr) <= found["accuracy"].high
        )
        widths.append(found["advantage"].high - found["advantage"].low)
    assert max(above, below) <= binom.ppf(0.999, RUNS, 0.025)
    assert covers(chosen, RUNS) and covers(accurate, RUNS)
    if n1 == n0:
        assert np.mean(widths) < 0.66 * 2 * (2 * kolmogorov_band(100, 0.975)), (
            "two thirds of the bands' width at most"
        )


def test_a_limit_at_each_threshold_alone_is_too_high_under_the_null():
    """Why the lower limit is a band.

    The largest of the pointwise lower limits exceeds 0 far too often.
    """
    rng, member, wrong = np.random.default_rng(5), np.arange(200) < 100, 0
    for _ in range(RUNS):
        curve = roc(rng.standard_normal(200), member)
        at = int(np.argmax(curve.tp - curve.fp))
        wrong += (
            threshold_rates(ConfusionCounts(int(curve.tp[at]), 100, int(curve.fp[at]), 100))[
                "advantage"
            ].low
            > 0
        )
    assert wrong > 0.1 * RUNS


@pytest.mark.parametrize("correlation", [0.2, 0.8])
def test_shares_and_the_advantage_by_unit(correlation):
    """A hundred people of six records a side, at a threshold fixed beforehand.

    And at the best one.
    """
    rng, best = np.random.default_rng(int(10 * correlation)), float(2 * ndtr(0.5) - 1)
    truth = {
        "recall": 0.5,
        "fpr": float(ndtr(-1)),
        "balanced_accuracy": (1.5 - float(ndtr(-1))) / 2,
    }
    hits, naive, above, below = dict.fromkeys(truth, 0), 0, 0, 0
    for _ in range(RUNS):
        scores, member, unit = people(100, 6, correlation, 1.0, rng)
        called = scores >= 1
        found, alone = (
            threshold_rates(effective_counts(called, member, code)) for code in (unit, None)
        )
        for name, value in truth.items():
            hits[name] += found[name].low <= value <= found[name].high
            assert found[name].high - found[name].low >= alone[name].high - alone[name].low
        naive += alone["recall"].low <= 0.5 <= alone["recall"].high
        chosen = best_rates(roc(scores, member, unit))["advantage"]
        above, below = above + (chosen.low > best), below + (chosen.high < best)
    assert all(count >= binom.ppf(0.001, RUNS, 0.94) for count in hits.values()), hits
    assert naive < 0.93 * RUNS
    assert max(above, below) <= binom.ppf(0.999, RUNS, 0.025)


def test_effective_counts_keep_the_rates_and_the_mix_and_are_never_more():
    rng = np.random.default_rng(0)
    scores, member, unit = people(30, 5, 0.4, 0.5, rng)
    for called in (scores > 0, scores > 9, scores > -9, unit % 2 == 0):
        plain, found = effective_counts(called, member), effective_counts(called, member, unit)
        assert found.tp / found.n_members == pytest.approx(plain.tp / plain.n_members)
        assert found.fp / found.n_non_members == pytest.approx(plain.fp / plain.n_non_members)
        assert found.share == pytest.approx(plain.share)
        assert 30 - 1e-9 <= found.n_members <= plain.n_members
    assert effective_counts(scores > 9, member, unit).n_members == pytest.approx(30), (
        "nothing called: a unit is one record"
    )
    assert threshold_rates(effective_counts(scores > 0, member, unit))[
        "accuracy"
    ].value == pytest.approx(((scores > 0) == member).mean())
