"""Build the data behind the charts of a report, from the stored arrays.

They are plain lists, small enough for one file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from memberscope.auditing import STRONGEST, AuditArrays, Result
from memberscope.auditing.documents import LeadingAttack
from memberscope.auditing.estimates import build_whole_part
from memberscope.reports.select import find_headline
from memberscope.statistics import Roc, randomised_tpr, roc, roc_band
from memberscope.types import Estimate, Floats

# The first false positives are drawn one by one, since low rates are what counts
EXACT_CORNERS = 40
GRID_POINTS = 120
# Limits are costly, so they are computed at every few points
BAND_EVERY = 6
HISTOGRAM_BINS = 60


def build_charts(result: Result) -> dict[str, object]:
    """Build ROC curves with bands, score histograms and the reliability diagram.

    They are empty without arrays.
    """
    arrays: AuditArrays | None = result.arrays
    diagram = result.diagnostics.reliability
    reliability = None if diagram is None else asdict(diagram)
    if arrays is None:
        return {"roc": None, "histograms": {}, "reliability": reliability}
    names = _order_attacks(arrays)
    confidence = result.plan.confidence
    grid = _build_false_positive_grid(int((~arrays.member).sum()))
    parts = {
        entry.name: build_whole_part(entry, arrays).curves()
        for entry in arrays.scored
        if entry.declared
    }
    merged = _merge_curves(names, parts)
    return {
        "roc": {
            "fpr": _round_values(grid / (~arrays.member).sum()),
            "curves": {name: _evaluate_curve(parts[name], grid, confidence) for name in merged},
            "same": merged,
        },
        "histograms": {name: _build_histogram(arrays, name) for name in names},
        "reliability": reliability,
    }


def _merge_curves(
    names: list[str], parts: Mapping[str, tuple[Roc, Roc | None]]
) -> dict[str, list[str]]:
    """Merge attacks that order the records alike: the first of each, and the others by it."""
    first: dict[tuple[bytes, ...], str] = {}
    found: dict[str, list[str]] = {}
    for name in names:
        curves = [curve for curve in parts[name] if curve is not None]
        key = tuple(part.tobytes() for curve in curves for part in (curve.fp, curve.tp))
        leader = first.setdefault(key, name)
        found.setdefault(leader, []).extend([name] * (name != leader))
    return found


def _order_attacks(arrays: AuditArrays) -> list[str]:
    """Order the attacks by `attack@level`, the largest area first.

    Those at levels tried beside the one in force are left out.
    """
    from memberscope.statistics import auc_value

    names = [entry.name for entry in arrays.scored if entry.declared]
    areas = {name: auc_value(roc(arrays.comparable[name], arrays.member)) for name in names}
    return sorted(areas, key=lambda name: -areas[name])


def _build_false_positive_grid(n: int) -> Floats:
    """Build the numbers of false positives at which curves are drawn.

    The first forty, then evenly on a log scale.
    """
    late = np.geomspace(1, n, GRID_POINTS).round()
    return np.unique(np.concatenate([np.arange(1, min(EXACT_CORNERS, n) + 1), late])).astype(
        np.float64
    )


def _evaluate_curve(
    curves: tuple[Roc, Roc | None], grid: Floats, confidence: float
) -> dict[str, list[float | None]]:
    """Evaluate the TPR at each number of false positives, straight between vertices.

    Limits are given at every few of them (None between).
    """
    curve, strict = curves
    tpr = np.array([randomised_tpr(curve, min(1.0, count / curve.n_non_members)) for count in grid])
    low: list[float | None] = [None] * len(grid)
    high: list[float | None] = [None] * len(grid)
    # At a rate of one the TPR is one, which has no limits
    chosen = [i for i in range(0, len(grid), BAND_EVERY) if grid[i] < curve.n_non_members]
    if chosen:
        _, lows, highs = roc_band(
            curve, grid[chosen] / curve.n_non_members, confidence, strict=strict
        )
        for i, a, b in zip(chosen, lows, highs, strict=True):
            low[i], high[i] = float(f"{a:.4g}"), float(f"{b:.4g}")
    return {"tpr": _round_values(tpr), "low": low, "high": high}


def _round_values(values: Any) -> list[float | None]:
    """Round numbers to four digits for drawing."""
    return [float(f"{value:.4g}") for value in values]


def _build_histogram(arrays: AuditArrays, name: str) -> dict[str, object]:
    """Build shares of members and of non-members by score, at most the central 99% of scores."""
    scores = next(entry.scores for entry in arrays.scored if entry.name == name)
    # A few extreme scores would squeeze all others into one bar
    low, first, last, high = np.quantile(scores, [0.005, 0.05, 0.95, 0.995])
    # More than a few may be extreme: certain answers have logits of hundreds
    if first < last:
        low, high = max(low, 2 * first - last), min(high, 2 * last - first)
    # Equal scores have no width, so one bar of width one is drawn
    if low == high:
        low, high = low - 0.5, high + 0.5
    edges = np.linspace(low, high, HISTOGRAM_BINS + 1)
    # Scores beyond the ends count in the last bars, so that shares sum to one
    clipped = np.clip(scores, low, high)
    shares = {}
    for side, mask in (("members", arrays.member), ("non_members", ~arrays.member)):
        counts = np.histogram(clipped[mask], edges)[0]
        shares[side] = _round_values(counts / mask.sum())
    return {"x": _round_values((edges[1:] + edges[:-1]) / 2), **shares}


# The most exposed come first, so only the least exposed are cut
MOST_ROWS = 150


@dataclass
class GroupRow:
    """A class or group: its size, its AUC, and its rates by FPR, metric and kind of threshold."""

    group: str
    n_members: int
    n_non_members: int
    auc: Estimate | None = None
    rates: dict[tuple[float, str, str | None], Estimate] = field(default_factory=dict)


def build_group_rows(result: Result, leading: LeadingAttack) -> list[GroupRow]:
    """Build one row a class or group, the most exposed first.

    Size, then AUC and TPR at its own FPR by the attack that finds most in it, and what the global
    thresholds of the leading attack give it.
    """
    best, rows = find_headline(result), dict[str, GroupRow]()
    of_leading = (leading.attack, leading.access, leading.restriction)
    strongest = None if best is None else (STRONGEST, best.access, best.restriction)
    grouped = [entry for entry in result.estimates if entry.group and entry.target == "target"]
    # Results of earlier versions have groups of single attacks alone
    if not any(_identify_attack(entry) == strongest for entry in grouped):
        strongest = of_leading
    for entry in grouped:
        # A threshold for all records is that of one attack, whatever finds most in a group
        wanted = of_leading if entry.threshold == "transferred" else strongest
        if entry.group is None or _identify_attack(entry) != wanted:
            continue
        row = rows.setdefault(
            entry.group, GroupRow(entry.group, entry.n_members, entry.n_non_members)
        )
        if entry.metric == "auc":
            row.auc = entry
        elif entry.metric in ("tpr", "fpr") and entry.fpr is not None:
            row.rates[entry.fpr, entry.metric, entry.threshold] = entry
    found = [(row.auc.value, row) for row in rows.values() if row.auc is not None]
    return [row for _, row in sorted(found, key=lambda entry: -entry[0])][:MOST_ROWS]


def _identify_attack(entry: Estimate) -> tuple[str, str, str | None]:
    """Give the attack and the level that an estimate is of."""
    return entry.attack, entry.access, entry.restriction


@dataclass
class BudgetRow:
    """A label-only search stopped after `queries` a record: its AUC, and its TPR where resolved."""

    attack: str
    queries: int
    auc: Estimate | None = None
    tpr: Estimate | None = None


def build_budget_rows(result: Result) -> list[BudgetRow]:
    """Build one row for each label-only search and number of queries.

    AUC, and TPR at the headline's rate.
    """
    best = find_headline(result)
    rows: dict[tuple[str, int], BudgetRow] = {}
    for entry in result.budgets:
        row = rows.setdefault((entry.attack, entry.queries), BudgetRow(entry.attack, entry.queries))
        if entry.metric == "auc":
            row.auc = entry
        elif best is not None and entry.fpr == best.fpr:
            row.tpr = entry
    return list(rows.values())


def build_budget_curves(result: Result) -> dict[str, dict[str, list[float]]]:
    """Build AUC with limits by queries a record, for each label-only search."""
    found: dict[str, dict[str, list[float]]] = {}
    for row in build_budget_rows(result):
        if row.auc is None:
            continue
        curve = found.setdefault(row.attack, {"queries": [], "auc": [], "low": [], "high": []})
        values = (row.queries, row.auc.value, row.auc.low, row.auc.high)
        for name, value in zip(curve, values, strict=True):
            curve[name].append(value)
    return found
