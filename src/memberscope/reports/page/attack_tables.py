"""Build the tables of every attack; attacks with the same numbers share a row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from memberscope._text import format_percentage
from memberscope.auditing import STRONGEST, Result
from memberscope.auditing.documents import format_level
from memberscope.reports.page.table import Table, format_estimate
from memberscope.reports.select import Place, find_estimate, list_fprs, select_estimates
from memberscope.types import Estimate

Cells = tuple[str, ...]
Name = tuple[str, str]  # an attack and the level that it ran at


def build_attack_tables(result: Result) -> tuple[Table, Table]:
    """Build the tables at the best thresholds and at transferred ones, strongest attacks first."""
    fprs = list_fprs(result)
    best: dict[Name, Cells] = {}
    transferred: dict[Name, Cells] = {}
    for attack, level, area in _list_attacks_by_area(result):
        name = (attack, format_level(*level))
        found = [_find_rate(result, attack, level, "tpr", fpr, "best") for fpr in fprs]
        best[name] = (
            format_estimate(area, rate=False),
            *(format_estimate(entry) for entry in found),
        )
        moved = [_describe_transferred(result, attack, level, fpr) for fpr in fprs]
        balanced = find_estimate(
            result, attack=attack, level=level, metric="balanced_accuracy", threshold="transferred"
        )
        if balanced is not None or any(moved):
            transferred[name] = (format_estimate(balanced, missing=""), *moved)
    rates = [format_percentage(fpr) for fpr in fprs]
    return (
        Table(
            "Members found by each attack, at the threshold that is best on these records",
            (
                "attack",
                "one query returns",
                "AUC",
                *(f"at {rate} false positives" for rate in rates),
            ),
            merge_attacks(best),
            0,
        ),
        Table(
            "With thresholds learned on other records: members found; others named by mistake",
            (
                "attack",
                "one query returns",
                "balanced accuracy",
                *(f"aimed at {rate}" for rate in rates),
            ),
            merge_attacks(transferred),
            0,
        ),
    )


def _list_attacks_by_area(result: Result) -> list[tuple[str, Place, Estimate]]:
    """List attacks and levels with their AUC, the largest first."""
    found = [
        (entry.attack, (entry.access, entry.restriction), entry)
        for entry in select_estimates(result, metric="auc")
        if entry.attack != STRONGEST
    ]
    return sorted(found, key=lambda row: -row[2].value)


def _find_rate(
    result: Result, attack: str, level: Place, metric: str, fpr: float, threshold: str
) -> Estimate | None:
    """Find one rate of an attack at a level."""
    return find_estimate(
        result, attack=attack, level=level, metric=metric, fpr=fpr, threshold=threshold
    )


def _describe_transferred(result: Result, attack: str, level: Place, fpr: float) -> str:
    """Describe what a threshold learned elsewhere gives: members found, others named by mistake."""
    found = _find_rate(result, attack, level, "tpr", fpr, "transferred")
    accused = _find_rate(result, attack, level, "fpr", fpr, "transferred")
    if found is None or accused is None:
        return ""
    return f"{format_estimate(found)}; {format_estimate(accused)}"


def merge_attacks(rows: Mapping[Name, Cells]) -> Sequence[Cells]:
    """Merge attacks with the same numbers, then levels at which the same attacks have them.

    >>> same = ("0.7",)
    >>> merge_attacks({("loss", "logits"): same, ("logit", "logits"): same})
    [('loss, logit', 'logits', '0.7')]
    """
    attacks: dict[tuple[str, Cells], list[str]] = {}
    for (attack, level), cells in rows.items():
        attacks.setdefault((level, cells), []).append(attack)
    levels: dict[tuple[tuple[str, ...], Cells], list[str]] = {}
    for (level, cells), names in attacks.items():
        levels.setdefault((tuple(names), cells), []).append(level)
    return [(", ".join(names), "; ".join(at), *cells) for (names, cells), at in levels.items()]
