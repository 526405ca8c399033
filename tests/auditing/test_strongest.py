"""The strongest of several attacks.

Its interval holds for the truth of the strongest, whatever was picked.
"""

from __future__ import annotations

import numpy as np
from scipy.special import ndtr, ndtri
from scipy.stats import binom

from memberscope.auditing import AttackScores, AuditArrays, EstimateSettings
from memberscope.auditing.estimates.diagnostics import measure_overconfidence
from memberscope.auditing.estimates.ranking import rank_levels
from memberscope.auditing.estimates.strongest import estimate_strongest


def arrays(n: int, shifts: tuple[float, ...], rng: np.random.Generator) -> AuditArrays:
    """Independent attacks, each with a Gaussian shift of its own."""
    member = np.arange(2 * n) < n
    scored = []
    for k, shift in enumerate(shifts):
        scored.append(
            AttackScores(
                f"a{k}", "probabilities", False, rng.standard_normal(2 * n) + shift * member, {}
            )
        )
    fold = rng.permutation(2 * n) % 5
    return AuditArrays(
        np.arange(2 * n).astype(str), member, np.zeros(2 * n, int), fold, tuple(scored)
    )


def test_the_interval_holds_although_the_best_was_picked():
    rng, runs = np.random.default_rng(0), 250
    settings = EstimateSettings((0.1,), (0.01,), 0.95)
    shifts = (0.0,) * 6 + (0.2,)
    truth = {"auc": ndtr(0.2 / 2**0.5), "tpr": ndtr(0.2 + ndtri(0.1))}
    hits, picked_above = dict.fromkeys(truth, 0), 0
    for _ in range(runs):
        (level,) = rank_levels(arrays(200, shifts, rng))
        for entry in estimate_strongest(level, settings):
            if entry.metric in truth:
                hits[entry.metric] += entry.low <= truth[entry.metric] <= entry.high
                picked_above += entry.value > truth[entry.metric]
    assert min(hits.values()) >= binom.ppf(0.001, runs, 0.95)
    assert picked_above > 1.4 * runs, (
        "the value itself is optimistic, which is why its interval must be simultaneous"
    )


def test_candidates_of_equal_ranking_count_once():
    rng = np.random.default_rng(0)
    two = arrays(100, (1.0, 0.0), rng)
    twin = AttackScores("twin", "probabilities", False, np.exp(two.scored[0].scores), {})
    three = AuditArrays(two.ids, two.member, two.labels, two.fold, (*two.scored, twin))
    settings = EstimateSettings((0.1,), (0.01,), 0.95)
    first, second = (estimate_strongest(rank_levels(entry)[0], settings) for entry in (two, three))
    assert [(e.low, e.high) for e in first] == [(e.low, e.high) for e in second]
    assert "simultaneous over 2 candidates" in second[0].method


def test_overconfidence_covers():
    rng, runs = np.random.default_rng(0), 600
    for n, level in ((50, 0.6), (50, 0.99), (500, 0.9)):
        hits = 0
        for _ in range(runs):
            spread = min(level, 1 - level)
            top = rng.uniform(level - spread, level + spread, n)
            found = measure_overconfidence(top, rng.random(n) < 0.9 * top, 0.95)
            hits += found.low <= 0.1 * level <= found.high
        assert hits >= binom.ppf(0.001, runs, 0.95), (n, level)
