"""Answer whether anything near the records of a collection was used."""

from __future__ import annotations

from math import ceil

import numpy as np

from memberscope._text import format_percentage
from memberscope.auditing.sets.answer import SetAnswer
from memberscope.auditing.sets.evidence import SetEvidence
from memberscope.auditing.sets.settings import SetSettings
from memberscope.auditing.sets.used import list_power
from memberscope.auditing.sets.withheld import ASSUMPTION, COUNTER
from memberscope.errors import InputError
from memberscope.statistics.sets import (
    DROP,
    CollectionTest,
    NamedUnits,
    RangeScores,
    build_unit_features,
    compare_collections,
    name_units,
    score_ranges,
)

NEAR = (
    "A range counts as used if any training record lies within what its variants stand for; held-out "
    "ranges were made in the same way, with as many variants."
)


def answer_near(
    evidence: SetEvidence,
    settings: SetSettings,
    rng: np.random.Generator,
    *,
    drop: float = DROP,
) -> SetAnswer:
    """Test whether ranges of the collection look more like used ones than held-out ranges do.

    The records of the audit are the variants, and their unit names the range that each belongs to.
    A share `drop` of the variants of each range, the lowest, is left out.

    Raises:
        InputError: The audit has no units.
    """
    if evidence.unit is None:
        raise InputError(
            "Expected variants with a column that names the record each belongs to, got none. "
            "Audit with --unit COLUMN."
        )
    ranges = score_ranges(evidence.scores, evidence.member, evidence.unit, drop=drop)
    features = build_unit_features(ranges.values, ranges.member)
    found = compare_collections(features, rng, confidence=1 - 2 * settings.significance)
    # By rank, as in a list of records: single ranges far out must keep their places
    by_rank = build_unit_features(ranges.values, ranges.member, by_rank=True)
    named = name_units(by_rank, settings.fdr, rng)
    shown = found.p_value <= settings.significance
    suspect, held_out = features.sizes
    return SetAnswer(
        question="near",
        value=float(named.named.sum()),
        low=None,
        high=None,
        p_value=found.p_value,
        power=list_power(found, suspect, held_out, settings.significance),
        decision="YES" if shown or named.named.any() else "NOT_SHOWN",
        statement=_state_near(found, named, settings, held_out, shown=shown),
        assumption=f"{ASSUMPTION} {NEAR} {COUNTER}",
        withheld=None,
        n_suspect=evidence.sizes[0],
        n_held_out=evidence.sizes[1],
        n_units=suspect,
        method=_describe_near_method(ranges, drop, settings),
    )


def _state_near(
    found: CollectionTest,
    named: NamedUnits,
    settings: SetSettings,
    held_out: int,
    *,
    shown: bool,
) -> str:
    """State whether anything near was used, and how many ranges are named."""
    n, suspect = int(named.named.sum()), len(named.named)
    rate = format_percentage(settings.fdr)
    listed = (
        f"{n} of the {suspect} ranges are named; of lists made like this one, on average at most "
        f"{rate} of the ranges named hold nothing that was used."
    )
    if shown:
        return (
            "There is evidence that the model was trained on something near the records of this "
            f"collection (p = {found.p_value:.2g}, {suspect} ranges against {held_out} held-out "
            f"ones). {listed} This does not say which variant was used."
        )
    if n:
        return (
            f"Taken together the ranges do not differ from held-out ones (p = {found.p_value:.2g}), "
            f"but some stand out. {listed}"
        )
    least = ceil(suspect / (settings.fdr * (1 + named.n_ranked_among)))
    return (
        "It was not shown that anything near the records of this collection was used "
        f"(p = {found.p_value:.2g}). That is no evidence that nothing was: no range is named at a "
        f"false-discovery rate of {rate}, for which at least {min(least, suspect)} must stand out "
        f"from all of {named.n_ranked_among} held-out ones."
    )


def _describe_near_method(ranges: RangeScores, drop: float, settings: SetSettings) -> str:
    """Describe how the number came about."""
    smallest, largest = int(ranges.sizes.min()), int(ranges.sizes.max())
    unequal = (
        f", means over all choices of {smallest} of up to {largest}" if largest > smallest else ""
    )
    return (
        f"range membership (arXiv:2408.05131): mean of the {ranges.kept} highest of {smallest} "
        f"variants of a range ({format_percentage(drop)} left out){unequal}; one-sided Welch t and "
        "its exchanges as for the question whether the collection was used; conformal p-values "
        f"among held-out ranges, Benjamini-Hochberg at {settings.fdr:g}"
    )
