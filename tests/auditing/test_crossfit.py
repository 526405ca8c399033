"""Nothing is learned on the records it is used on."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from memberscope.attacks import Confidence, Loss, Quantile
from memberscope.auditing.scoring.crossfit import (
    assign_folds,
    crossfit_attack,
    estimate_posteriors,
    transfer_thresholds,
)
from memberscope.auditing.scoring.null_control import run_null_control
from memberscope.auditing.scoring.parallel_fits import fit_slow_attacks
from memberscope.statistics import auc_value, ranks_within_fold, roc
from memberscope.types import Evidence, Needs

SEED = np.random.SeedSequence(0)


@dataclass(frozen=True)
class Spy:
    """An attack that notes what it was granted and answers with the number of known records."""

    seen: list
    name: str = "spy"
    version: int = 1
    needs: Needs = field(default_factory=lambda: Needs(known="both"))

    def score(self, evidence, rng):
        self.seen.append(evidence.known.copy())
        return np.where(evidence.hidden, float((evidence.known >= 0).sum()), np.nan)


def evidence(n: int, seed: int = 0, shift: float = 0.0) -> tuple[Evidence, np.ndarray]:
    rng = np.random.default_rng(seed)
    member = np.arange(2 * n) < n
    p = 1 / (1 + np.exp(-(rng.standard_normal(2 * n) + shift * member)))
    outputs = np.stack([p, 1 - p], axis=1)[:, None, :]
    return Evidence(
        "probabilities", outputs, np.zeros(2 * n, int), np.full(2 * n, -1, np.int8)
    ), member


def test_the_truth_of_hidden_folds_is_never_granted():
    seen: list = []
    facts, member = evidence(50)
    fold = assign_folds(member, 5, np.random.default_rng(0))
    fit = crossfit_attack(Spy(seen), facts, member, fold, SEED)
    assert len(seen) == 5 + 10
    for known in seen[:5]:
        hidden = np.unique(fold[known < 0])
        assert len(hidden) == 1 and (known[fold != hidden[0]] == member[fold != hidden[0]]).all()
    for known in seen[5:]:
        assert len(np.unique(fold[known < 0])) == 2
    for f in range(5):
        others = fold != f
        assert (fit.reference(f)[others] == 60).all(), (
            "thresholds of a fold come from fits that saw three folds"
        )
        assert np.isnan(fit.reference(f)[fold == f]).all()
    assert (fit.scores == 80).all()


def test_a_fold_keeps_its_scores_and_thresholds_whatever_its_own_truth():
    """Turning round the membership of one fold leaves its own scores.

    Thresholds and posteriors as they were.
    """
    facts, member = evidence(200, shift=1.0)
    fold = assign_folds(member, 5, np.random.default_rng(0))
    turned = np.where(fold == 2, ~member, member)
    for attack in (Confidence("per_class"), Loss()):
        a, b = (crossfit_attack(attack, facts, truth, fold, SEED) for truth in (member, turned))
        np.testing.assert_array_equal(a.scores[fold == 2], b.scores[fold == 2])
        cuts = [
            transfer_thresholds(fit, truth, fold, (0.1,))
            for fit, truth in ((a, member), (b, turned))
        ]
        for point in cuts[0]:
            assert cuts[0][point][2] == cuts[1][point][2]
        risks = [
            estimate_posteriors(fit, truth, fold, 0.1)[fold == 2]
            for fit, truth in ((a, member), (b, turned))
        ]
        np.testing.assert_array_equal(*risks)


def test_fits_side_by_side_give_the_scores_of_fits_one_after_another():
    """Slow attacks are fitted ahead, bit for bit as cross-fitting does, and not once more."""
    facts, member = evidence(60)
    facts = replace(facts, features=np.random.default_rng(1).normal(size=(120, 3)))
    fold = assign_folds(member, 3, np.random.default_rng(0))
    attacks = (Quantile(), Loss(), Quantile())
    fits = fit_slow_attacks(
        attacks, lambda index: facts, member, fold, SEED, pairs=(True, True, False)
    )
    assert [len(found) for found in fits] == [6, 0, 3]
    alone = crossfit_attack(attacks[0], facts, member, fold, SEED)
    ahead = crossfit_attack(attacks[0], facts, member, fold, SEED, fitted=fits[0])
    np.testing.assert_array_equal(ahead.scores, alone.scores)
    np.testing.assert_array_equal(ahead.elsewhere, alone.elsewhere)
    np.testing.assert_array_equal(
        crossfit_attack(attacks[2], facts, member, fold, SEED, pairs=False, fitted=fits[2]).scores,
        alone.scores,
    )
    seen: list = []
    known = {(f,): np.zeros(int((fold == f).sum())) for f in range(3)}
    crossfit_attack(Spy(seen), facts, member, fold, SEED, pairs=False, fitted=known)
    assert not seen


def test_an_attack_that_cannot_run_has_no_fits():
    facts, member = evidence(60)
    fold = assign_folds(member, 3, np.random.default_rng(0))
    assert fit_slow_attacks(
        (Quantile(),), lambda index: facts, member, fold, SEED, pairs=(True,)
    ) == [{}]


def test_the_null_control_fits_once_a_fold():
    """No thresholds are learned there, so pairs of folds are not hidden."""
    seen: list = []
    facts, _ = evidence(50)
    ids = np.arange(100).astype(np.str_)
    run_null_control((Spy(seen),), lambda attack: facts, ids, 5, SEED)
    assert len(seen) == 5


def test_fitted_attacks_look_like_chance_where_nothing_leaks():
    areas = []
    for seed in range(60):
        facts, member = evidence(150, seed)
        fold = assign_folds(member, 5, np.random.default_rng(seed))
        fit = crossfit_attack(Confidence("per_class"), facts, member, fold, SEED)
        areas.append(auc_value(roc(ranks_within_fold(fit.scores, member, fold), member)))
    assert abs(np.mean(areas) - 0.5) < 0.012


def test_transferred_thresholds_keep_their_rate_on_fresh_folds():
    false = 0
    for seed in range(40):
        facts, member = evidence(500, seed, shift=1.0)
        fold = assign_folds(member, 5, np.random.default_rng(seed))
        fit = crossfit_attack(Loss(), facts, member, fold, SEED)
        cuts = transfer_thresholds(fit, member, fold, (0.05, 0.001))
        assert set(cuts) == {"fpr=0.05", "balanced"}, (
            "400 non-members elsewhere do not resolve 0.1%"
        )
        false += int((fit.scores >= cuts["fpr=0.05"][fold])[~member].sum())
    assert abs(false / (40 * 500) - 0.05) < 0.006


def test_intervals_at_transferred_thresholds_cover_the_rates_really_got():
    """The truth is the mean over folds of the rates at each fold's threshold.

    Known here in closed form.
    """
    from scipy.special import ndtr
    from scipy.stats import binom

    from memberscope.statistics import clopper_pearson

    hits = {"tpr": 0, "fpr": 0}
    runs = 300
    for seed in range(runs):
        facts, member = evidence(200, seed, shift=1.0)
        fold = assign_folds(member, 5, np.random.default_rng(seed))
        fit = crossfit_attack(Loss(), facts, member, fold, SEED)
        cut = transfer_thresholds(fit, member, fold, (0.1,))["fpr=0.1"]
        logits = cut - np.log(-np.expm1(cut))
        truth = {"tpr": np.mean(ndtr(1.0 - logits)), "fpr": np.mean(ndtr(-logits))}
        called = fit.scores >= cut[fold]
        for name, side in (("tpr", member), ("fpr", ~member)):
            low, high = clopper_pearson(int(called[side].sum()), 200)
            hits[name] += low <= truth[name] <= high
    assert min(hits.values()) >= binom.ppf(0.001, runs, 0.95)


def test_posterior_of_membership_is_calibrated_out_of_fold():
    from memberscope.statistics import build_reliability_bins

    inside = total = 0
    for seed in range(20):
        facts, member = evidence(400, seed, shift=1.0)
        fold = assign_folds(member, 5, np.random.default_rng(seed))
        risk = estimate_posteriors(
            crossfit_attack(Loss(), facts, member, fold, SEED), member, fold, 0.1
        )
        assert risk.min() > 0 and risk.max() < 1
        for entry in build_reliability_bins(risk, member, 0.1):
            inside, total = inside + (entry.low <= entry.predicted <= entry.high), total + 1
    assert inside >= 0.9 * total
