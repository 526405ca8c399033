"""Turn scores into estimates by pure functions of the stored arrays.

So a result can be recomputed without the model.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from memberscope.auditing.documents.plan import EstimateSettings
from memberscope.auditing.documents.result import (
    BALANCED,
    AuditArrays,
    name_operating_point,
)
from memberscope.auditing.estimates.attack_part import AttackPart, restrict_part
from memberscope.statistics import (
    Interval,
    build_resolution_warning,
    can_resolve_fpr,
    clopper_pearson,
    epsilon_empirical,
    ppv,
    ppv_from_counts,
    threshold_rates,
)
from memberscope.types import Access, Estimate, Ints, Metric, Threshold

SMALLEST_GROUP = 10  # records of each kind below which a group gets no estimates


def iterate_groups(arrays: AuditArrays) -> Iterator[tuple[str, Ints]]:
    """Iterate over groups large enough for estimates, as `group=value` with their places (k,)."""
    for name, codes in arrays.groups.items():
        values = arrays.group_values[name]
        if name == "class" and len(values) == 1:
            continue  # losses without labels: the one class is everything
        members = np.bincount(codes[arrays.member], minlength=len(values))
        counts = np.bincount(codes, minlength=len(values))
        # Sorted by group once, every group is a segment; stable, so that places rise within it
        order, ends = np.argsort(codes, kind="stable"), np.cumsum(counts)
        for code, value in enumerate(values):
            if min(members[code], counts[code] - members[code]) >= SMALLEST_GROUP:
                yield f"{name}={value}", order[ends[code] - counts[code] : ends[code]]


def list_small_groups(arrays: AuditArrays, fprs: tuple[float, ...] = ()) -> list[str]:
    """List the groups too small for any estimate, and those too small for one of the rates.

    Each is named in words.

    >>> member = np.arange(80) < 40
    >>> groups = {"sex": np.arange(80) % 2}
    >>> list_small_groups(AuditArrays(np.arange(80), member, groups["sex"], groups["sex"], (), groups, {"sex": ("f", "m")}), (0.01,))
    ['sex=f at 1%', 'sex=m at 1%']
    """
    groups = dict(iterate_groups(arrays))
    every = [
        f"{name}={value}"
        for name, values in arrays.group_values.items()
        # One class is everything
        if name != "class" or len(values) > 1
        for value in values
    ]
    found = [name for name in every if name not in groups]
    for fpr in fprs:
        short = [
            name
            for name, places in groups.items()
            if not can_resolve_fpr(fpr, int((~arrays.member[places]).sum()))
        ]
        found += [f"{name} at {100 * fpr:g}%" for name in short]
    return found


def estimate_attack(
    part: AttackPart, arrays: AuditArrays, settings: EstimateSettings, *, by_group: bool
) -> list[Estimate]:
    """Estimate everything of one attack: overall first, then by class and by group if `by_group`.

    At a level tried beside there are only AUC and best thresholds.
    """
    if not part.scored.declared:
        return estimate_main_numbers(part, settings)
    found = _estimate_overall(part, settings)
    for name, places in iterate_groups(arrays) if by_group else ():
        found.extend(estimate_group(restrict_part(part, places, name), settings))
    return found


def _estimate_overall(part: AttackPart, settings: EstimateSettings) -> list[Estimate]:
    """Estimate the AUC, then each rate at both kinds of threshold, then the balanced point.

    Rates come with their precision and empirical epsilon.
    """
    found = [_estimate_part_auc(part, settings)]
    for fpr in settings.fprs:
        found.extend(_estimate_at_best_threshold(part, fpr, settings))
        found.extend(_estimate_at_transferred_threshold(part, fpr, settings))
    found.extend(_estimate_balanced_point(part, settings, "transferred"))
    found.extend(_estimate_balanced_point(part, settings, "best"))
    return found


def estimate_main_numbers(part: AttackPart, settings: EstimateSettings) -> list[Estimate]:
    """Estimate the AUC, and each rate at the best threshold with its precision."""
    return [_estimate_part_auc(part, settings)] + [
        entry for fpr in settings.fprs for entry in _estimate_at_best_threshold(part, fpr, settings)
    ]


def estimate_group(part: AttackPart, settings: EstimateSettings) -> list[Estimate]:
    """Estimate a group's AUC, and its TPR at the group's own FPR where it resolves it.

    The rates that the global thresholds really have in the group are estimated as well.
    """
    found = [_estimate_part_auc(part, settings)]
    for fpr in settings.fprs:
        # Precision depends on a prior, which is about all records
        found.extend(
            entry
            for entry in _estimate_at_best_threshold(part, fpr, settings)
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
    interval = part.measure_auc().limits(settings.confidence)
    return part.estimate("auc", interval, settings.confidence)


def _estimate_at_best_threshold(
    part: AttackPart, fpr: float, settings: EstimateSettings
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
    tpr = part.measure_tpr(fpr, confidence)
    # The TPR between vertices, which a coin between two thresholds reaches
    found = [part.estimate("tpr", tpr, confidence, **at)]
    # The staircase is what single thresholds reach, told for all records only
    if part.group is None:
        staircase = part.measure_staircase(fpr, confidence)
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
    if name_operating_point(fpr) not in part.scored.thresholds or not can_resolve_fpr(
        fpr, len(part.member) - part.n_members
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
    part: AttackPart, settings: EstimateSettings, threshold: Threshold
) -> list[Estimate]:
    """Estimate accuracy, precision, recall and their kin at the best balanced accuracy."""
    if threshold == "best":
        found = part.measure_best_rates(settings.confidence)
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
