"""Measure how much one number varies between trainings of a recipe.

The further target models of two audits tell it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from memberscope.auditing.documents.result import AuditArrays
from memberscope.auditing.estimates.attack_part import build_whole_part
from memberscope.statistics import Interval, Roc, add_variance, auc_value, roc
from memberscope.types import Floats

LEAST = 2  # further target models from which a variance can be had
WORDS = "; with the variance between trainings, from {before} and {after} further target models"


@dataclass(frozen=True)
class BetweenTrainings:
    """Variance of the change of one number when both models are trained again.

    `freedom` is its degrees of freedom, and `n_targets` counts the further target models before and
    after that gave it.
    """

    variance: float
    freedom: float
    n_targets: tuple[int, int]

    def widen(self, change: Interval, confidence: float) -> Interval:
        """Widen the change to allow for other trainings of both recipes."""
        wide = add_variance(change, self.variance, self.freedom, confidence)
        return wide._replace(
            method=change.method + WORDS.format(before=self.n_targets[0], after=self.n_targets[1])
        )


def measure_trainings(before: Sequence[float], after: Sequence[float]) -> BetweenTrainings | None:
    """Measure the variance between trainings from one number of the further targets.

    The numbers are those before (k,) and after (m,); None if neither tells.

    Where only one of the audits has enough targets, its variance stands for both. The variance is
    that of the estimates, whose own sampling error is not taken out, so that it is somewhat too
    large.

    >>> found = measure_trainings([0.6, 0.62, 0.64], [0.7])
    >>> round(found.variance, 6), found.freedom, found.n_targets
    (0.0008, 2.0, (3, 1))
    >>> measure_trainings([], [0.7]) is None
    True
    """
    known = [
        (float(np.var(side, ddof=1)), len(side) - 1)
        for side in (before, after)
        if len(side) >= LEAST
    ]
    if not known:
        return None
    # One audit's variance stands for the other's, which knows none
    sides = known if len(known) == 2 else known * 2
    variance = sides[0][0] + sides[1][0]
    if len(known) == 1:
        # Doubling one variance adds no freedom to it
        freedom = float(known[0][1])
    elif variance > 0:
        # Welch and Satterthwaite, as the two variances may differ
        freedom = variance**2 / sum(part**2 / own for part, own in sides)
    else:
        # All targets agree exactly, so the formula above would divide by zero
        freedom = float(min(own for _, own in sides))
    return BetweenTrainings(variance, freedom, (len(before), len(after)))


def _interpolate_tpr(curve: Roc, fpr: float) -> float:
    """Interpolate the TPR at `fpr` on straight lines between the vertices of `curve`.

    >>> _interpolate_tpr(roc(np.array([9.0, 9, 5, 5]), np.array([True, False, True, False])), 0.25)
    0.25
    """
    return float(np.interp(fpr * curve.n_non_members, curve.fp, curve.tp)) / curve.n_members


@dataclass(frozen=True, eq=False)
class TargetNumbers:
    """AUC (k,) and curves (k) of each attack in the further targets of one audit.

    They are keyed by the attack's name.
    """

    auc: dict[str, Floats]
    curves: dict[str, list[Roc]]
    n_targets: int

    @classmethod
    def of(cls, arrays: AuditArrays) -> TargetNumbers:
        """Collect the numbers of every attack that all further targets ran."""
        names = [entry.name for entry in arrays.scored]
        targets = list(arrays.targets.values())
        curves: dict[str, list[Roc]] = {}
        for name in names:
            found = [_build_curve(target, name) for target in targets]
            # An attack that some target lacks would have its variance from fewer of them
            if targets and all(curve is not None for curve in found):
                curves[name] = [curve for curve in found if curve is not None]
        auc = {name: np.array([auc_value(curve) for curve in own]) for name, own in curves.items()}
        return cls(auc, curves, len(targets))

    def largest(self, names: Sequence[str], fpr: float | None) -> list[float]:
        """List the largest AUC, or TPR at `fpr`, of the attacks `names` in each target (k).

        Empty if one did not run in all.
        """
        if not names or any(name not in self.curves for name in names):
            return []
        if fpr is None:
            return [float(value) for value in np.max([self.auc[name] for name in names], axis=0)]
        return [
            max(_interpolate_tpr(self.curves[name][k], fpr) for name in names)
            for k in range(self.n_targets)
        ]


def _build_curve(target: AuditArrays, name: str) -> Roc | None:
    """Build the curve of one attack on one target; None if it did not run."""
    entry = next((entry for entry in target.scored if entry.name == name), None)
    if entry is None:
        return None
    part = build_whole_part(entry, target)
    return roc(part.scores, part.member)
