"""Attack the difference of two releases: which records were added between them?

A record that the later release was trained on and the earlier was not should be one of which the
later is surer. The score is the loss under the earlier release minus that under the later: the
earlier one plays the part of a reference model that never saw the record.
"""

from __future__ import annotations

import numpy as np

from memberscope.auditing.compare.comparability import get_verdict_threat_model
from memberscope.auditing.documents.comparison import AddedRecords, ValueWithLimits
from memberscope.auditing.documents.result import AttackScores, AuditArrays, Result
from memberscope.auditing.verdict.recompute import restore_plan
from memberscope.statistics import Interval, estimate_auc, roc, tpr_at_fpr
from memberscope.types import Bools, Floats, Ints

# Their scores are minus a loss, so that two of them can be subtracted
LOSSES = ("loss", "prediction_error", "label_loss")
FEWEST = 10  # records, or units, that were added, and that are in neither
LARGEST = 1e300  # so that two infinite losses have a difference


def measure_added_records(before: Result, after: Result) -> list[AddedRecords]:
    """Measure how well the difference of two releases tells what was added between them.

    Added are records that the earlier audit has as non-members and the later as members; they are
    compared with non-members of both. Empty where ids do not show them, or no loss is in both.
    """
    first, second = before.arrays, after.arrays
    if first is None or second is None:
        return []
    scored = _find_common_loss(after, first, second)
    rows = _match_records(first, second)
    if scored is None or rows is None:
        return []
    added = second.member[rows[1]]
    unit = None if first.unit is None or second.unit is None else second.unit[rows[1]]
    # Records of one person count as one
    counted = rows[1] if unit is None else unit
    n_added, n_neither = (len(np.unique(counted[side])) for side in (added, ~added))
    if min(n_added, n_neither) < FEWEST:
        return []
    earlier, later = (
        np.clip(one.scores[chosen], -LARGEST, LARGEST)
        for one, chosen in zip(scored, rows, strict=True)
    )
    found = []
    rate = _choose_rate(after, n_neither)
    for fpr in (None,) if rate is None else (None, rate):
        by_both, by_later = (
            _estimate_number(scores, added, unit, fpr, after.plan.confidence)
            for scores in (later - earlier, later)
        )
        found.append(
            AddedRecords(
                scored[1].attack,
                scored[1].access,
                scored[1].restriction,
                "auc" if fpr is None else "tpr",
                fpr,
                ValueWithLimits(float(by_both.value), float(by_both.low), float(by_both.high)),
                ValueWithLimits(float(by_later.value), float(by_later.low), float(by_later.high)),
                by_both.method,
                int(added.sum()),
                int((~added).sum()),
            )
        )
    return found


def _find_common_loss(
    after: Result, first: AuditArrays, second: AuditArrays
) -> tuple[AttackScores, AttackScores] | None:
    """Find the scores of a loss that both audits have at the level of the verdict."""
    at = get_verdict_threat_model(after)
    mine = {entry.name: entry for entry in first.scored if not entry.learned}
    for entry in second.scored:
        here = (entry.access, entry.restriction) == (at.access.word, at.restriction)
        if here and entry.attack in LOSSES and entry.name in mine:
            return mine[entry.name], entry
    return None


def _match_records(first: AuditArrays, second: AuditArrays) -> tuple[Ints, Ints] | None:
    """Match by id the earlier audit's non-members, as rows (k,) of both; None if ids do not tell."""
    # Numbers in order are rows of a file, and another file's row is another record
    if any((one.ids == np.arange(len(one.ids)).astype(np.str_)).all() for one in (first, second)):
        return None
    _, mine, other = np.intersect1d(first.ids, second.ids, return_indices=True)
    # Another label under the same id is another record
    if len(mine) == 0 or (first.labels[mine] != second.labels[other]).any():
        return None
    new = ~first.member[mine]
    return mine[new], other[new]


def _choose_rate(after: Result, n_neither: int) -> float | None:
    """Choose the smallest rate that allows ten false positives, or else the largest resolved."""
    rates = sorted(restore_plan(after).resolvable_fprs(n_neither))
    ample = [rate for rate in rates if rate * n_neither >= 10 - 1e-9]
    chosen = ample[:1] or rates[-1:]
    return chosen[0] if chosen else None


def _estimate_number(
    scores: Floats, added: Bools, unit: Ints | None, fpr: float | None, confidence: float
) -> Interval:
    """Estimate the AUC, or the share found at `fpr`."""
    if fpr is None:
        return estimate_auc(scores, added, unit).limits(confidence)
    return tpr_at_fpr(roc(scores, added, unit), fpr, confidence)
