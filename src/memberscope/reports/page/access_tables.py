"""Build the tables of what each level of access gives an attacker."""

from __future__ import annotations

from memberscope._text import format_number, format_percentage
from memberscope.auditing import STRONGEST, Result
from memberscope.auditing.documents import format_level
from memberscope.reports.page.access_matrix import Matrix, MatrixRow
from memberscope.reports.page.chart_data import build_budget_rows
from memberscope.reports.page.table import Cell, Row, Table, format_estimate
from memberscope.reports.select import (
    find_estimate,
    find_headline,
    list_ignored_units,
    list_levels,
    list_missing_searches,
    list_unit_estimates,
    select_estimates,
)

NO_SEARCH = "label-only searches did not run"


def build_level_table(result: Result, matrix: Matrix) -> Table:
    """Build the table of the strongest attack at each level, weakest access first."""
    at = "" if matrix.fpr is None else f" at {format_percentage(matrix.fpr)} false positives"
    right = f"accusations that are right, if {format_percentage(matrix.prior)} are members"
    searched = not list_missing_searches(result)
    return Table(
        f"The strongest attack at each level of access{at}",
        ("one query returns", "members found", right, "AUC", "attack, queries for each record"),
        [_build_level_row(row, searched=searched) for row in matrix.rows],
    )


def _build_level_row(row: MatrixRow, *, searched: bool) -> Row:
    """Build the row of one level; what was not audited says why."""
    # The weakest level looks harmless where nobody searched
    words = row.words if searched or row.level != "label" else f"{row.words}; {NO_SEARCH}"
    name = Cell(row.level, note=words)
    if row.why is not None:
        return (name, f"not audited: {row.why}")
    leading = row.tpr or row.auc
    return (
        name,
        format_estimate(row.tpr),
        format_estimate(row.ppv, missing=""),
        format_estimate(row.auc, rate=False, missing=""),
        row.attack if leading is None else f"{row.attack}, {leading.queries:,}",
    )


def build_area_table(matrix: Matrix) -> Table:
    """Build the table of the AUC of the leading attacks at each level."""
    return Table(
        "AUC of the leading attacks at each level",
        ("one query returns", *(name.replace("_", " ") for name in matrix.attacks)),
        [
            (
                row.level,
                *("" if entry is None else format_number(entry.value) for entry in row.areas),
            )
            for row in matrix.rows
            if row.why is None
        ],
        0,
    )


def build_rate_table(result: Result) -> Table:
    """Build the table of the strongest attack at every level and rate."""
    prior = result.plan.threat.prior
    rows: list[Row] = []
    for level in list_levels(result):
        name = format_level(*level)
        for entry in select_estimates(result, attack=STRONGEST, level=level, metric="tpr"):
            sure = find_estimate(
                result, attack=STRONGEST, level=level, metric="ppv", fpr=entry.fpr, prior=prior
            )
            mark = " *" if entry.warning else ""
            numbers = (
                format_percentage(entry.fpr) + mark,
                Cell(format_estimate(entry), drawn=entry),
                format_estimate(sure, missing=""),
            )
            rows.append((name, *numbers, entry.reaching_attack, f"{entry.queries:,}"))
        area = find_estimate(result, attack=STRONGEST, level=level, metric="auc")
        if area is not None:
            shown = Cell(format_estimate(area, rate=False), drawn=area)
            rows.append((name, "AUC", shown, "", area.reaching_attack, f"{area.queries:,}"))
    right = f"accusations that are right, if {format_percentage(prior)} are members"
    return Table(
        "The strongest attack at every rate of false positives; * fewer than ten false positives",
        (
            "one query returns",
            "false positives",
            "members found",
            right,
            "attack",
            "queries for each record",
        ),
        rows,
        0,
    )


def build_unit_table(result: Result) -> Table | None:
    """Build the table of the strongest attack on units: was this person in? None without units."""
    found = list_unit_estimates(result)
    if not found:
        return None
    return Table(
        f"Was this person in? The strongest attack on {found[0].n_members:,} units that were and "
        f"{found[0].n_non_members:,} that were not; * fewer than ten false positives",
        ("false positives", "units found", "attack, scores of a unit's records"),
        [
            (
                "AUC"
                if entry.fpr is None
                else format_percentage(entry.fpr) + (" *" if entry.warning else ""),
                Cell(format_estimate(entry, rate=entry.metric != "auc"), drawn=entry),
                f"{entry.reaching_attack}, {'added' if 'the sum of' in entry.method else 'averaged'}",
            )
            for entry in found
        ],
    )


def build_ignored_table(result: Result) -> Table | None:
    """Build the table of what limits that ignore units would claim; None without units."""
    pairs = list_ignored_units(result)
    if not pairs:
        return None
    return Table(
        f"Was this record in? {pairs[0][0].attack} with limits by unit, and with limits that take "
        "the records of a unit as independent",
        ("false positives", "by unit", "ignoring units: too narrow"),
        [
            (
                "AUC" if own.fpr is None else format_percentage(own.fpr),
                format_estimate(own, rate=own.metric != "auc"),
                format_estimate(entry, rate=own.metric != "auc"),
            )
            for own, entry in pairs
        ],
    )


def build_budget_table(result: Result) -> Table | None:
    """Build the table of label-only searches stopped earlier; None where none ran."""
    if not result.budgets:
        return None
    best = find_headline(result)
    rate = (
        () if best is None else (f"members found at {format_percentage(best.fpr)} false positives",)
    )
    return Table(
        "Label-only searches, had they stopped earlier",
        ("attack", "queries for each record, at most", "AUC", *rate),
        [
            (
                row.attack,
                f"{row.queries:,}",
                format_estimate(row.auc, rate=False),
                *(format_estimate(row.tpr) for _ in rate),
            )
            for row in build_budget_rows(result)
        ],
        0,
    )
