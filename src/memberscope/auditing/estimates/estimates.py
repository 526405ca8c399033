"""Turn scores into estimates by pure functions of the stored arrays.

So a result can be recomputed without the model.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from memberscope.auditing.documents.plan import EstimateSettings
from memberscope.auditing.documents.result import (
    BALANCED,
    AttackScores,
    AuditArrays,
    name_operating_point,
)
from memberscope.auditing.scoring.crossfit import pool_scores
from memberscope.statistics import (
    ConfusionCounts,
    Interval,
    Roc,
    auc_interval,
    best_rates,
    build_resolution_warning,
    can_resolve_fpr,
    clopper_pearson,
    effective_counts,
    epsilon_empirical,
    ppv,
    ppv_from_counts,
    ranks_for_lower_limit,
    roc,
    threshold_rates,
    tpr_at_fpr,
    tpr_staircase_at_fpr,
)
from memberscope.types import Access, Bools, Estimate, Floats, Ints, Metric, Threshold

FITTED = "; conditional on the fitted attack, ranks within each fold"
SMALLEST_GROUP = 10  # records of each kind below which a group gets no estimates


@dataclass(frozen=True, eq=False)
class AttackPart:
    """One attack on one set of records.

    It holds comparable scores, the truth, and the decisions at transferred thresholds.

    `strict` places records for the lower limits of learned attacks, see `ranks_for_lower_limit`;
    None for the others.
    """

    scored: AttackScores
    group: str | None
    scores: Floats
    strict: Floats | None
    member: Bools
    decisions: dict[str, Bools]
    smallest_fold: int
    unit: Ints | None = None

    def estimate(
        self, metric: Metric, interval: Interval, confidence: float, **conditions: Any
    ) -> Estimate:
        """Build an estimate of `metric` with this part's attack, group and counts filled in."""
        n_members = int(self.member.sum())
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
            n_members=n_members,
            n_non_members=len(self.member) - n_members,
            queries=self.scored.queries,
            group=self.group,
            **conditions,
        )

    def curves(self) -> tuple[Roc, Roc | None]:
        """Build the ROC staircase, and the one for lower limits if it is another."""
        curve = roc(self.scores, self.member, self.unit)
        return curve, None if self.strict is None else roc(self.strict, self.member, self.unit)

    def counts(self, point: str) -> ConfusionCounts:
        """Count true and false positives at the transferred threshold of an operating point.

        Records in units count as no more than are independent.
        """
        return effective_counts(self.decisions[point], self.member, self.unit)

    def resolves(self, fpr: float) -> bool:
        """Tell whether the non-members that are compared with one another resolve this rate."""
        return can_resolve_fpr(fpr, self.n_compared())

    def n_compared(self) -> int:
        """Count non-members whose scores are compared: a fold's, for learned attacks."""
        n = int((~self.member).sum())
        return min(n, self.smallest_fold) if self.scored.learned else n


def build_whole_part(scored: AttackScores, arrays: AuditArrays) -> AttackPart:
    """Take all records as one part."""
    scores = arrays.comparable.get(scored.name)
    # Scores of a fresh audit are pooled here; stored ones were pooled before
    if scores is None:
        scores = pool_scores(scored, arrays)
    strict = (
        ranks_for_lower_limit(scored.scores, arrays.member, arrays.fold) if scored.learned else None
    )
    # Each record is judged by the threshold that its own fold was given
    decisions = {name: scored.scores >= cut[arrays.fold] for name, cut in scored.thresholds.items()}
    # The smallest fold decides which rates a learned attack resolves
    folds = np.bincount(arrays.fold[~arrays.member])
    return AttackPart(
        scored, None, scores, strict, arrays.member, decisions, int(folds.min()), arrays.unit
    )


def restrict_part(part: AttackPart, mask: Bools, group: str) -> AttackPart:
    """Restrict the part to its records under `mask` (n,)."""
    decisions = {name: called[mask] for name, called in part.decisions.items()}
    strict = None if part.strict is None else part.strict[mask]
    unit = None if part.unit is None else part.unit[mask]
    return replace(
        part,
        group=group,
        scores=part.scores[mask],
        strict=strict,
        member=part.member[mask],
        decisions=decisions,
        unit=unit,
    )


def _iterate_group_masks(arrays: AuditArrays) -> Iterator[tuple[str, Bools]]:
    """Iterate over groups large enough for estimates, as `group=value` with their records (n,)."""
    for name, codes in arrays.groups.items():
        if name == "class" and len(arrays.group_values[name]) == 1:
            continue  # losses without labels: the one class is everything
        members = np.bincount(codes[arrays.member], minlength=len(arrays.group_values[name]))
        others = np.bincount(codes[~arrays.member], minlength=len(arrays.group_values[name]))
        for code, value in enumerate(arrays.group_values[name]):
            if min(members[code], others[code]) >= SMALLEST_GROUP:
                yield f"{name}={value}", codes == code


def list_small_groups(arrays: AuditArrays, fprs: tuple[float, ...] = ()) -> list[str]:
    """List the groups too small for any estimate, and those too small for one of the rates.

    Each is named in words.

    >>> member = np.arange(80) < 40
    >>> groups = {"sex": np.arange(80) % 2}
    >>> list_small_groups(AuditArrays(np.arange(80), member, groups["sex"], groups["sex"], (), groups, {"sex": ("f", "m")}), (0.01,))
    ['sex=f at 1%', 'sex=m at 1%']
    """
    masks = dict(_iterate_group_masks(arrays))
    every = [f"{name}={value}" for name, values in arrays.group_values.items() for value in values]
    found = [name for name in every if name not in masks]
    for fpr in fprs:
        short = [
            name
            for name, mask in masks.items()
            if not can_resolve_fpr(fpr, int((mask & ~arrays.member).sum()))
        ]
        found += [f"{name} at {100 * fpr:g}%" for name in short]
    return found


def estimate_attack(
    scored: AttackScores, arrays: AuditArrays, settings: EstimateSettings
) -> list[Estimate]:
    """Estimate everything of one attack: overall first, then by class and by group.

    At a level tried beside there are only AUC and best thresholds.
    """
    part = build_whole_part(scored, arrays)
    if not scored.declared:
        return estimate_main_numbers(part, settings)
    found = _estimate_overall(part, settings)
    for name, mask in _iterate_group_masks(arrays):
        found.extend(estimate_group(restrict_part(part, mask, name), settings))
    return found


def _estimate_overall(part: AttackPart, settings: EstimateSettings) -> list[Estimate]:
    """Estimate the AUC, then each rate at both kinds of threshold, then the balanced point.

    Rates come with their precision and empirical epsilon.
    """
    curve, strict = part.curves()
    found = [_estimate_part_auc(part, settings)]
    for fpr in settings.fprs:
        found.extend(_estimate_at_best_threshold(part, curve, strict, fpr, settings))
        found.extend(_estimate_at_transferred_threshold(part, fpr, settings))
    found.extend(_estimate_balanced_point(part, settings, "transferred"))
    found.extend(_estimate_balanced_point(part, settings, "best", curve))
    return found


def estimate_main_numbers(part: AttackPart, settings: EstimateSettings) -> list[Estimate]:
    """Estimate the AUC, and each rate at the best threshold with its precision."""
    curve, strict = part.curves()
    return [_estimate_part_auc(part, settings)] + [
        entry
        for fpr in settings.fprs
        for entry in _estimate_at_best_threshold(part, curve, strict, fpr, settings)
    ]


def estimate_group(part: AttackPart, settings: EstimateSettings) -> list[Estimate]:
    """Estimate a group's AUC, and its TPR at the group's own FPR where it resolves it.

    The rates that the global thresholds really have in the group are estimated as well.
    """
    curve, strict = part.curves()
    found = [_estimate_part_auc(part, settings)]
    for fpr in settings.fprs:
        # Precision depends on a prior, which is about all records
        found.extend(
            entry
            for entry in _estimate_at_best_threshold(part, curve, strict, fpr, settings)
            if entry.metric == "tpr"
        )
        wanted = ("tpr", "fpr")
        # A threshold for all may accuse one group far more often than another
        found.extend(
            entry
            for entry in _estimate_at_transferred_threshold(part, fpr, settings)
            if entry.metric in wanted
        )
    found.extend(_estimate_balanced_point(part, settings, "transferred"))
    return found


def _estimate_part_auc(part: AttackPart, settings: EstimateSettings) -> Estimate:
    """Estimate the area under the ROC curve."""
    interval = auc_interval(part.scores, part.member, settings.confidence, part.unit)
    return part.estimate("auc", interval, settings.confidence)


def _estimate_at_best_threshold(
    part: AttackPart, curve: Roc, strict: Roc | None, fpr: float, settings: EstimateSettings
) -> list[Estimate]:
    """Estimate TPR and precision at the best threshold on these data.

    Nothing where the rate is not resolved.
    """
    if not part.resolves(fpr):
        return []
    confidence = settings.confidence
    at: dict[str, object] = {
        "fpr": fpr,
        "threshold": "best",
        "warning": build_resolution_warning(fpr, part.n_compared()),
    }
    tpr = tpr_at_fpr(curve, fpr, confidence, strict=strict)
    # The TPR between vertices, which a coin between two thresholds reaches
    found = [part.estimate("tpr", tpr, confidence, **at)]
    # The staircase is what single thresholds reach, told for all records only
    if part.group is None:
        staircase = tpr_staircase_at_fpr(curve, fpr, confidence, strict=strict)
        found.append(part.estimate("tpr_staircase", staircase, confidence, **at))
        for prior in settings.priors:
            found.append(
                part.estimate(
                    "ppv", convert_tpr_to_ppv(tpr, fpr, prior), confidence, prior=prior, **at
                )
            )
    return found


def convert_tpr_to_ppv(tpr: Interval, fpr: float, prior: float) -> Interval:
    """Convert a TPR's value and limits to the precision of a rule that accuses exactly `fpr`.

    >>> convert_tpr_to_ppv(Interval(0.5, 0.01, 0.9, "example"), 0.01, 0.5)[:3] == (ppv(0.5, 0.01, 0.5), 0.5, ppv(0.9, 0.01, 0.5))
    True
    """
    value, low, high = (ppv(rate, fpr, prior) for rate in tpr[:3])
    return Interval(value, low, high, f"precision at exactly this FPR, from the TPR: {tpr.method}")


def _estimate_at_transferred_threshold(
    part: AttackPart, fpr: float, settings: EstimateSettings
) -> list[Estimate]:
    """Estimate TPR, the FPR really obtained, precision and empirical epsilon.

    They are those at the threshold learned on other folds.
    """
    # A group may lack the non-members for a rate that all records resolve
    if name_operating_point(fpr) not in part.decisions or not can_resolve_fpr(
        fpr, int((~part.member).sum())
    ):
        return []
    confidence, counts = settings.confidence, part.counts(name_operating_point(fpr))
    at: dict[str, object] = {"fpr": fpr, "threshold": "transferred"}
    # Both rates are counted, since a transferred threshold does not hit its FPR exactly
    found = [
        part.estimate(
            "tpr", _estimate_exact_share(counts.tp, counts.n_members, confidence), confidence, **at
        ),
        part.estimate(
            "fpr",
            _estimate_exact_share(counts.fp, counts.n_non_members, confidence),
            confidence,
            **at,
        ),
    ]
    if part.group is None:
        found.append(
            part.estimate(
                "epsilon_empirical",
                epsilon_empirical(counts, confidence=confidence),
                confidence,
                **at,
            )
        )
        for prior in settings.priors:
            interval = ppv_from_counts(
                counts.tp,
                counts.n_members,
                counts.fp,
                counts.n_non_members,
                prior=prior,
                confidence=confidence,
            )
            found.append(part.estimate("ppv", interval, confidence, prior=prior, **at))
    return found


def _estimate_exact_share(k: float, n: float, confidence: float) -> Interval:
    """Estimate a share with its Clopper-Pearson interval."""
    low, high = clopper_pearson(k, n, confidence)
    return Interval(k / n, float(low), float(high), "Clopper-Pearson; threshold from other folds")


def _estimate_balanced_point(
    part: AttackPart, settings: EstimateSettings, threshold: Threshold, curve: Roc | None = None
) -> list[Estimate]:
    """Estimate accuracy, precision, recall and their kin at the best balanced accuracy."""
    if threshold == "best":
        assert curve is not None
        found = best_rates(curve, settings.confidence)
    else:
        found = threshold_rates(part.counts(BALANCED), settings.confidence)
    # Precision is told at the share of members in these records, its own prior
    share = float(part.member.mean())
    names: tuple[Metric, ...] = (
        "balanced_accuracy",
        "accuracy",
        "precision",
        "recall",
        "fpr",
        "fnr",
        "advantage",
    )
    return [
        part.estimate(
            name,
            found[name],
            settings.confidence,
            threshold=threshold,
            prior=share if name == "precision" else None,
        )
        for name in names
    ]


def parse_access(access: str) -> Access:
    """Parse the access level called `access` in a result.

    >>> parse_access("white_box").name
    'WHITE_BOX'
    """
    return Access[access.upper()]
