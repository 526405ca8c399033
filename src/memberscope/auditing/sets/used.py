"""Answer whether a collection was used."""

from __future__ import annotations

import numpy as np

from memberscope.auditing.sets.answer import SetAnswer
from memberscope.auditing.sets.evidence import SetEvidence
from memberscope.auditing.sets.settings import SetSettings
from memberscope.auditing.sets.withheld import ASSUMPTION, COUNTER
from memberscope.statistics.sets import (
    CollectionTest,
    build_unit_features,
    compare_collections,
    compute_collection_power,
    convert_effect_to_auc,
    find_smallest_effect,
)

SIZES = (10, 20, 50, 100)  # units a side at which the power is told, beside those at hand


def answer_used(
    evidence: SetEvidence, settings: SetSettings, rng: np.random.Generator
) -> SetAnswer:
    """Test whether the collection looks more like members than the held-out records do."""
    features = build_unit_features(evidence.scores, evidence.member, evidence.unit)
    found = compare_collections(features, rng, confidence=1 - 2 * settings.significance)
    shown = found.p_value <= settings.significance
    suspect, held_out = features.sizes
    return SetAnswer(
        question="used",
        value=found.effect,
        low=found.low,
        high=found.high,
        p_value=found.p_value,
        power=list_power(found, suspect, held_out, settings.significance),
        decision="YES" if shown else "NOT_SHOWN",
        statement=_state_use(evidence, found)
        if shown
        else _state_no_use(evidence, found, settings),
        assumption=f"{ASSUMPTION} {COUNTER}" if shown else ASSUMPTION,
        withheld=None,
        n_suspect=evidence.sizes[0],
        n_held_out=evidence.sizes[1],
        n_units=None if evidence.unit is None else suspect,
        method=_describe_method(evidence, found, len(features.kept)),
    )


def list_power(
    found: CollectionTest, suspect: int, held_out: int, level: float
) -> tuple[tuple[int, float], ...]:
    """List the power with 10, 20, 50 and 100 units a side and with all at hand, if as sure a unit."""
    effect = max(found.effect, 0.0)

    def power(first: int, second: int) -> float:
        share = compute_collection_power(effect, first, second, level=level, spread=found.spread)
        return round(share, 4)

    return (*((n, power(n, n)) for n in SIZES), (suspect, power(suspect, held_out)))


def _state_use(evidence: SetEvidence, found: CollectionTest) -> str:
    """State that the collection was used."""
    suspect, held_out = evidence.unit_sizes
    many = evidence.noun + "s"
    return (
        f"There is evidence that the model was trained on this collection or on a part of it. Its "
        f"{suspect} {many} look more like training data than {held_out} held-out {many} do: by "
        f"{found.effect:.2f} standard deviations ({found.low:.2f} to {found.high:.2f}), where a "
        f"difference as large would arise by chance with a probability of at most "
        f"{found.p_value:.2g}. This is a statement about the collection, not about any one of its "
        f"{many}."
    )


def _state_no_use(evidence: SetEvidence, found: CollectionTest, settings: SetSettings) -> str:
    """State that use was not shown, and what would have been seen."""
    suspect, held_out = evidence.unit_sizes
    smallest = find_smallest_effect(
        suspect, held_out, level=settings.significance, spread=found.spread
    )
    many = evidence.noun + "s"
    return (
        f"It was not shown that the model was trained on this collection (p = {found.p_value:.2g}). "
        f"That is no evidence that it was not: with {suspect} {many} and {held_out} held-out {many} "
        f"the test finds, with a probability of 80%, a difference of {smallest:.2f} standard "
        f"deviations (an AUC of {convert_effect_to_auc(smallest):.2f} for single {many}), and may "
        "miss a smaller one."
    )


def _describe_method(evidence: SetEvidence, found: CollectionTest, n_kept: int) -> str:
    """Describe how the number came about."""
    limits = (
        f"limits of {100 * found.confidence:g}% from the spread of the statistic when suspect and "
        "held-out units are exchanged"
    )
    exchanged = f"p-value from {found.permutations} such exchanges, one-sided"
    if n_kept == 1:
        return f"one-sided Welch t of {evidence.attacks[0]}; {exchanged}; {limits}"
    return (
        f"one-sided Welch t of a weighted sum of {n_kept} scores, tails of 2.5% clipped, weights "
        "(never negative) fitted on one half of the units and used on the other, averaged over "
        f"3 halvings and both directions (after arXiv:2406.06443); {exchanged}; {limits}"
    )
