"""One attack on one set of records, and the numbers that several estimates share.

A curve is built once for a part, and each number of a ranking once for all parts that have it.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeVar

import numpy as np

from memberscope.auditing.documents.result import AttackScores, AuditArrays
from memberscope.auditing.scoring.crossfit import pool_scores
from memberscope.statistics import (
    AucEstimate,
    ConfusionCounts,
    Interval,
    Roc,
    Sides,
    UnitNumbers,
    auc_value,
    best_rates,
    can_resolve_fpr,
    effective_counts,
    estimate_curve_auc,
    ranks_for_lower_limit,
    roc,
    tpr_at_fpr,
    tpr_lower,
    tpr_staircase_at_fpr,
)
from memberscope.types import Bools, Estimate, Floats, Ints, Metric

FITTED = "; conditional on the fitted attack, ranks within each fold"

Number = TypeVar("Number")
# What was computed of one ranking, by the function's name and its arguments
SharedNumbers = dict[Hashable, Any]


@dataclass(frozen=True, eq=False)
class AttackPart:
    """One attack on one set of records.

    It holds comparable scores, the truth, the folds and the units of the records (n,).

    `parent` is the part that these records were chosen from, and `chosen` (n,) their places there.
    """

    scored: AttackScores
    group: str | None
    scores: Floats
    member: Bools
    fold: Ints
    smallest_fold: int
    units: UnitNumbers | None = None
    parent: AttackPart | None = None
    chosen: Ints | None = None
    # No argument, so that a part with other scores never takes over the numbers of this one
    _numbers: list[SharedNumbers] = field(init=False, repr=False, default_factory=lambda: [{}])

    def share_numbers(self, numbers: SharedNumbers) -> AttackPart:
        """Read and keep numbers in `numbers`, which belong to all parts with this ranking."""
        self._numbers[0] = numbers
        return self

    @cached_property
    def strict(self) -> Floats | None:
        """The places of the records for lower limits, see `ranks_for_lower_limit`.

        None for attacks that learn nothing.
        """
        if not self.scored.learned:
            return None
        # Places are those among all records, of which a group keeps its own
        if self.parent is not None:
            found = self.parent.strict
            return None if found is None else found[self.chosen]
        return ranks_for_lower_limit(self.scored.scores, self.member, self.fold)

    @cached_property
    def _curves(self) -> tuple[Roc, Roc | None]:
        curve = roc(self.scores, self.member, self.units)
        return curve, None if self.strict is None else roc(self.strict, self.member, self.units)

    def curves(self) -> tuple[Roc, Roc | None]:
        """Give the ROC staircase, and the one for lower limits if it is another."""
        return self._curves

    def drop_curves(self) -> None:
        """Drop the curves; numbers that were computed from them are kept."""
        self.__dict__.pop("_curves", None)

    def decide(self, point: str) -> Bools:
        """Decide each record (n,) by the transferred threshold of its own fold."""
        if self.parent is not None:
            return self.parent.decide(point)[self.chosen]
        kept: dict[str, Bools] = self.__dict__.setdefault("_decided", {})
        if point not in kept:
            kept[point] = self.scored.scores >= self.scored.thresholds[point][self.fold]
        return kept[point]

    def estimate(
        self, metric: Metric, interval: Interval, confidence: float, **conditions: Any
    ) -> Estimate:
        """Build an estimate of `metric` with this part's attack, group and counts filled in."""
        # Transferred thresholds come from other records, so they are not conditional on the fit
        best = conditions.get("threshold") != "transferred"
        method = interval.method + (FITTED if self.scored.learned and best else "")
        return Estimate(
            attack=self.scored.attack,
            access=self.scored.access,
            restriction=self.scored.restriction,
            metric=metric,
            value=float(interval.value),
            low=float(interval.low),
            high=float(interval.high),
            confidence=confidence,
            method=method,
            n_members=self.n_members,
            n_non_members=len(self.member) - self.n_members,
            queries=self.scored.queries,
            group=self.group,
            **conditions,
        )

    @cached_property
    def _sides(self) -> Sides | None:
        # The same at each of the operating points
        return None if self.units is None else self.units.split(self.member)

    @cached_property
    def n_members(self) -> int:
        """The number of members."""
        return int(self.member.sum())

    def counts(self, point: str) -> ConfusionCounts:
        """Count true and false positives at the transferred threshold of an operating point.

        Records in units count as no more than are independent.
        """
        return effective_counts(self.decide(point), self.member, self._sides)

    def resolves(self, fpr: float) -> bool:
        """Tell whether the non-members that are compared with one another resolve this rate."""
        return can_resolve_fpr(fpr, self.n_compared())

    def n_compared(self) -> int:
        """Count non-members whose scores are compared: a fold's, for learned attacks."""
        n = len(self.member) - self.n_members
        return min(n, self.smallest_fold) if self.scored.learned else n

    def measure_area(self) -> float:
        """Measure the area under the staircase."""
        return self._get_number(("area",), lambda: auc_value(self.curves()[0]))

    def measure_auc(self) -> AucEstimate:
        """Measure the AUC with what its interval needs at any confidence."""
        return self._get_number(("auc",), lambda: estimate_curve_auc(self.curves()[0]))

    def measure_tpr(
        self, fpr: float, confidence: float, low_confidence: float | None = None
    ) -> Interval:
        """Measure the TPR at `fpr`, with a confidence of its own for the lower limit."""

        def measure() -> Interval:
            curve, strict = self.curves()
            return tpr_at_fpr(curve, fpr, confidence, strict=strict)

        def bound() -> float:
            assert low_confidence is not None
            curve, strict = self.curves()
            return tpr_lower(curve, fpr, low_confidence, strict=strict)

        found = self._get_number(("tpr", fpr, confidence), measure)
        # Value and upper limit are the same at every confidence of the lower limit
        if low_confidence is None or low_confidence == confidence:
            return found
        return found._replace(low=self._get_number(("tpr low", fpr, low_confidence), bound))

    def measure_staircase(self, fpr: float, confidence: float) -> Interval:
        """Measure the TPR of the most lenient single threshold within `fpr`."""

        def measure() -> Interval:
            curve, strict = self.curves()
            return tpr_staircase_at_fpr(curve, fpr, confidence, strict=strict)

        return self._get_number(("staircase", fpr, confidence), measure)

    def measure_best_rates(self, confidence: float) -> dict[str, Interval]:
        """Measure the rates at the best threshold on these data."""
        return self._get_number(
            ("best rates", confidence), lambda: best_rates(self.curves()[0], confidence)
        )

    def _get_number(self, key: Hashable, compute: Callable[[], Number]) -> Number:
        """Get a number of this ranking, which is computed where nobody did so far."""
        numbers = self._numbers[0]
        if key not in numbers:
            numbers[key] = compute()
        found: Number = numbers[key]
        return found


def get_comparable_scores(scored: AttackScores, arrays: AuditArrays) -> Floats:
    """Get the scores (n,) of all records that compare with one another."""
    scores = arrays.comparable.get(scored.name)
    # Scores of a fresh audit are pooled here; stored ones were pooled before
    return pool_scores(scored, arrays.member, arrays.fold) if scores is None else scores


def build_whole_part(
    scored: AttackScores, arrays: AuditArrays, numbers: SharedNumbers | None = None
) -> AttackPart:
    """Take all records as one part.

    `numbers` are those that are known of this ranking of these records.
    """
    # The smallest fold decides which rates a learned attack resolves
    folds = np.bincount(arrays.fold[~arrays.member])
    part = AttackPart(
        scored,
        None,
        get_comparable_scores(scored, arrays),
        arrays.member,
        arrays.fold,
        int(folds.min()),
        arrays.unit_numbers,
    )
    return part if numbers is None else part.share_numbers(numbers)


def restrict_part(part: AttackPart, chosen: Bools | Ints, group: str | None) -> AttackPart:
    """Restrict the part to its records that are `chosen`: a mask (n,) or their places."""
    places: Ints = np.flatnonzero(chosen) if chosen.dtype == bool else chosen.astype(np.int64)
    member = part.member[places]
    return AttackPart(
        part.scored,
        group,
        part.scores[places],
        member,
        part.fold[places],
        part.smallest_fold,
        None if part.units is None else part.units.restrict(places, member),
        part,
        places,
    )
