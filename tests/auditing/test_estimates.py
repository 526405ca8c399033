"""Which numbers an audit estimates, and that numbers shared between attacks are their own."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from memberscope.auditing import (
    STRONGEST,
    AttackScores,
    AuditArrays,
    EstimateSettings,
    recompute_estimates,
)
from memberscope.auditing.estimates.attack_part import build_whole_part, restrict_part
from memberscope.auditing.estimates.ranking import build_ranking, rank_score_vectors
from memberscope.statistics import (
    auc_interval,
    best_rates,
    ranks_for_lower_limit,
    ranks_within_fold,
    roc,
    tpr_at_fpr,
    tpr_staircase_at_fpr,
)
from memberscope.types import Access

N, FOLDS, CONFIDENCE = 240, 4, 0.9
RNG = np.random.default_rng(3)
MEMBER = np.arange(N) < N // 2
FOLD = RNG.permutation(N) % FOLDS
THRESHOLDS = {name: RNG.normal(size=FOLDS) for name in ("fpr=0.1", "fpr=0.05", "balanced")}
SETTINGS = EstimateSettings((0.1, 0.05), (0.1,), CONFIDENCE)


def attack(name: str, access: str, shift: float, **given) -> AttackScores:
    scores = (RNG.normal(size=N) + shift * MEMBER).round(1)
    thresholds = THRESHOLDS if given.get("declared", True) else {}
    return AttackScores(name, access, given.pop("learned", False), scores, thresholds, **given)


LOSS = attack("loss", "probabilities", 1.0)
SCORED = (
    attack("gap", "label", 0.3),
    attack("gap_per_class", "label", 0.1, learned=True),
    attack("loss", "probabilities", 0.5, restriction="top:1", declared=False),
    LOSS,
    replace(LOSS, attack="confidence", scores=np.exp(LOSS.scores)),
    attack("loss_per_class", "probabilities", 0.4, learned=True),
)
GROUPS = {"class": RNG.integers(0, 3, N), "sex": RNG.integers(0, 2, N)}
VALUES = {"class": ("a", "b", "c"), "sex": ("f", "m")}


def arrays(unit: np.ndarray | None = None) -> AuditArrays:
    ids = np.arange(N).astype(str)
    return AuditArrays(ids, MEMBER, GROUPS["class"], FOLD, SCORED, GROUPS, VALUES, unit=unit)


UNITS = [None, np.where(MEMBER, 0, 1000) + np.arange(N) // 3]


def estimate(held: AuditArrays, **given):
    ranking = build_ranking(held, Access.PROBABILITIES)
    return recompute_estimates(held, ranking, replace(SETTINGS, **given))


@pytest.mark.parametrize("unit", UNITS, ids=["records", "units"])
def test_the_short_list_is_the_long_one_without_groups_of_attacks_that_do_not_lead(unit):
    every, usual = estimate(arrays(unit), all_estimates=True), estimate(arrays(unit))
    leading = {("gap", "label"), ("loss", "probabilities")}
    strongest = {(STRONGEST, "label"), (STRONGEST, "probabilities")}
    assert usual == [
        entry
        for entry in every
        if entry.group is None or (entry.attack, entry.access) in leading | strongest
    ]
    assert {(entry.attack, entry.access) for entry in usual if entry.group} == leading | strongest
    groups = {f"{name}={value}" for name, values in VALUES.items() for value in values}
    for found in (every, usual):
        assert {entry.group for entry in found} == {None, *groups}
    assert {entry.attack for entry in every if entry.group} == {
        STRONGEST,
        *(entry.attack for entry in SCORED if entry.declared),
    }


@pytest.mark.parametrize("unit", UNITS, ids=["records", "units"])
def test_the_strongest_attack_of_a_group_is_chosen_in_the_group(unit):
    """Its value is the largest of the group, and its limits hold for all candidates at once."""
    found = [entry for entry in estimate(arrays(unit), all_estimates=True) if entry.group]
    strongest = [entry for entry in found if entry.attack == STRONGEST]
    assert {entry.metric for entry in strongest} == {"auc", "tpr"}
    ranking = build_ranking(arrays(unit), Access.PROBABILITIES)
    levels = {level.at.access: level for level in ranking.levels if level.at.declared}
    for entry in strongest:
        # A candidate at the label level is one at the level above it, too
        names = {(one.attack, one.access) for one in levels[entry.access].candidates}
        others = [
            one
            for one in found
            if (one.attack, one.access) in names
            and (one.group, one.metric, one.fpr) == (entry.group, entry.metric, entry.fpr)
            and one.threshold == entry.threshold
        ]
        best = max(others, key=lambda one: one.value)
        assert (entry.value, entry.reached_by) == (best.value, best.attack)
        assert entry.low <= max(one.low for one in others)
        assert entry.high == max(one.high for one in others)


@pytest.mark.parametrize("unit", UNITS, ids=["records", "units"])
def test_each_number_is_that_of_its_own_scores(unit):
    """Beside the shared numbers: every attack and group by itself, from masks and scores."""
    found = estimate(arrays(unit), all_estimates=True)
    for scored in SCORED:
        places = ranks_within_fold if scored.learned else lambda scores, member, fold: scores
        scores = places(scored.scores, MEMBER, FOLD)
        strict = ranks_for_lower_limit(scored.scores, MEMBER, FOLD) if scored.learned else None
        masks = {None: np.ones(N, dtype=bool)}
        if scored.declared:
            masks |= {
                f"{name}={value}": GROUPS[name] == code
                for name, values in VALUES.items()
                for code, value in enumerate(values)
            }
        for group, mask in masks.items():
            own = None if unit is None else unit[mask]
            curve = roc(scores[mask], MEMBER[mask], own)
            lower = None if strict is None else roc(strict[mask], MEMBER[mask], own)
            numbers = {
                ("auc", None, None): auc_interval(scores[mask], MEMBER[mask], CONFIDENCE, own)
            }
            for fpr in SETTINGS.fprs:
                at = tpr_at_fpr(curve, fpr, CONFIDENCE, strict=lower)
                step = tpr_staircase_at_fpr(curve, fpr, CONFIDENCE, strict=lower)
                numbers |= {("tpr", fpr, "best"): at, ("tpr_staircase", fpr, "best"): step}
            rates = best_rates(curve, CONFIDENCE)
            numbers |= {(name, None, "best"): interval for name, interval in rates.items()}
            held = [
                entry
                for entry in found
                if (entry.attack, entry.access, entry.restriction, entry.group)
                == (scored.attack, scored.access, scored.restriction, group)
                and (entry.metric, entry.fpr, entry.threshold) in numbers
            ]
            assert len(held) >= 1 + (group is None) * 4
            for entry in held:
                wanted = numbers[entry.metric, entry.fpr, entry.threshold]
                assert (entry.value, entry.low, entry.high) == wanted[:3], (scored.name, group)


def test_numbers_are_shared_by_equal_rankings_alone():
    held = arrays()
    shared = {name: id(entry.numbers) for name, entry in rank_score_vectors(held).items()}
    assert shared["loss@probabilities"] == shared["confidence@probabilities"]
    assert len(set(shared.values())) == len(SCORED) - 1
    # An attack that learns has a lower limit of its own, though its ranks are another's scores
    learns, ranks = SCORED[-1], ranks_within_fold(SCORED[-1].scores, MEMBER, FOLD)
    pair = replace(held, scored=(learns, replace(LOSS, scores=ranks)))
    first, second = rank_score_vectors(pair).values()
    assert first.digest == second.digest and first.numbers is not second.numbers


def test_a_part_with_other_scores_or_records_has_numbers_of_its_own():
    part = build_whole_part(LOSS, arrays())
    before = part.measure_auc()
    perfect = replace(part, scores=np.where(MEMBER, 9.0, part.scores))
    assert part.measure_auc() is before and perfect.measure_auc().value == 1.0
    inside = restrict_part(part, GROUPS["sex"] == 0, "sex=f")
    assert inside.measure_auc().sizes != before.sizes
    nested = restrict_part(inside, np.arange(len(inside.member)) % 2 == 0, None)
    places = np.flatnonzero(GROUPS["sex"] == 0)[::2]
    assert (nested.decide("balanced") == part.decide("balanced")[places]).all()


@pytest.mark.parametrize(
    ("fprs", "claimed", "wanted"),
    [
        ((0.1, 0.05), (), {0.1, 0.05}),
        ((0.9, 0.5, 0.2), (), {0.9, 0.5}),
        ((0.9, 0.5, 0.2), (0.2,), {0.9, 0.5, 0.2}),
        ((0.95, 0.9, 0.5), (), {0.9, 0.5}),
    ],
)
def test_groups_have_the_rate_that_the_headline_reads(fprs, claimed, wanted):
    """The lowest at which every candidate has ten non-members to name, and the next larger one.

    Attacks that learn compare the 30 non-members of a fold.
    """
    found = estimate(arrays(), fprs=fprs, claimed=claimed)
    tpr = [entry for entry in found if (entry.attack, entry.metric) == (STRONGEST, "tpr")]
    for access in ("label", "probabilities"):
        own = [e for e in tpr if (e.access, e.restriction) == (access, None)]
        sure = [entry.fpr for entry in own if entry.group is None and not entry.warning]
        read = min(sure or fprs)
        assert read in wanted and {e.fpr for e in own if e.group is not None} == wanted
