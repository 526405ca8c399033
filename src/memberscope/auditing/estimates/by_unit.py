"""Give each unit (a person or a document) one score, for the question whether that person was in.

Where an attack's scores are log likelihood ratios a unit's is their sum, the ratio of all its
records together; of any other attack it is their mean [1].

References:
    [1] N. Kandpal, K. Pillutla, A. Oprea, P. Kairouz, C. Choquette-Choo, Z. Xu, "User Inference
        Attacks on Large Language Models", 2023, arXiv:2310.09266.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np

from memberscope._parallel import map_in_parallel
from memberscope.auditing.documents.plan import EstimateSettings
from memberscope.auditing.documents.result import AttackScores, AuditArrays
from memberscope.auditing.estimates.attack_part import AttackPart, build_whole_part
from memberscope.auditing.estimates.ranking import LevelRanking
from memberscope.statistics import build_resolution_warning, sum_by_unit
from memberscope.types import Estimate, Floats, Ints

# No finite sum of scores reaches beyond it, so that an infinite score keeps its place
LARGEST = 1e300


def get_unit_rule(scored: AttackScores) -> Literal["sum", "mean"]:
    """Get what makes one score of a unit's: the sum of log likelihood ratios, the mean of others.

    >>> get_unit_rule(AttackScores("loss", "probabilities", False, np.zeros(1), {}))
    'mean'
    """
    return "sum" if scored.is_log_ratio else "mean"


def has_units_of_several(arrays: AuditArrays) -> bool:
    """Tell whether some unit has several records; without one, a unit is a record."""
    numbers = arrays.unit_numbers
    return numbers is not None and numbers.n_units[2] < len(numbers.codes)


def build_unit_arrays(arrays: AuditArrays) -> AuditArrays | None:
    """Build the arrays (u,) of units, with one score a unit and attack; None without such units.

    They are what a result of units would hold: estimates and rankings follow as from records.
    Thresholds, groups and further targets are left out.
    """
    numbers = arrays.unit_numbers
    if numbers is None or not has_units_of_several(arrays):
        return None
    # A unit that stands on both sides would be two
    key = 2 * numbers.codes + arrays.member
    counted = np.bincount(key)
    present = counted > 0
    code = (np.cumsum(present) - 1)[key]
    rows = counted[present].astype(np.float64)
    first = np.empty(len(rows), np.int64)
    # Of several assignments to one place the last one stays
    first[code[::-1]] = np.arange(len(code))[::-1]
    scored = map_in_parallel(lambda entry: _score_units(entry, code, rows), arrays.scored)
    return AuditArrays(
        np.arange(len(first)).astype(np.str_),
        arrays.member[first],
        np.zeros(len(first), np.int64),
        # All records of a unit are in one fold
        arrays.fold[first],
        tuple(scored),
    )


def _score_units(entry: AttackScores, code: Ints, rows: Floats) -> AttackScores:
    """Score the units (u,) whose records have `code` (n,) and are `rows` (u,) in number."""
    sums = sum_by_unit(np.clip(entry.scores, -LARGEST, LARGEST), code, len(rows))
    scores = sums if get_unit_rule(entry) == "sum" else sums / rows
    return replace(entry, scores=scores, thresholds={}, budgets=None, stages=None)


def estimate_unit_headlines(part: AttackPart, settings: EstimateSettings) -> list[Estimate]:
    """Estimate the AUC, and the TPR at each rate that the part resolves."""
    confidence = settings.confidence
    found = [part.estimate("auc", part.measure_auc().limits(confidence), confidence)]
    for fpr in settings.fprs:
        # Units are fewer than records, so that they resolve fewer rates
        if part.resolves(fpr):
            found.append(
                part.estimate(
                    "tpr",
                    part.measure_tpr(fpr, confidence),
                    confidence,
                    fpr=fpr,
                    threshold="best",
                    warning=build_resolution_warning(fpr, part.n_compared()),
                )
            )
    return found


def word_unit_estimate(entry: Estimate, units: AuditArrays) -> Estimate:
    """Say in an estimate on the arrays of units what it counts, and how a unit was scored."""
    rule = next(
        get_unit_rule(scored) for scored in units.scored if scored.attack == entry.reaching_attack
    )
    method = f"{entry.method}; a unit's score is the {rule} of its records'"
    return replace(entry, of="units", method=method)


def estimate_ignoring_units(
    levels: Sequence[LevelRanking], settings: EstimateSettings
) -> list[Estimate]:
    """Estimate AUC and TPR of the leading attack of each level as if records were independent.

    The values are those of the records, and the limits show what ignoring units would claim.
    """
    # An attack may lead at several levels
    leading = {
        level.leading.name: (level.leading, level.arrays) for level in levels if level.at.declared
    }
    return [
        replace(estimate, of="records_ignoring_units")
        for entry, arrays in leading.values()
        for estimate in estimate_unit_headlines(
            build_whole_part(entry, replace(arrays, unit=None)), settings
        )
    ]
