"""Build the tables of groups, of single records and of the models trained for the audit."""

from __future__ import annotations

from collections.abc import Sequence

from memberscope._text import format_number, format_percentage
from memberscope.auditing import Result
from memberscope.auditing.documents import format_level
from memberscope.reports.page.chart_data import GroupRow
from memberscope.reports.page.table import Cell, Row, Table, format_estimate
from memberscope.reports.select import (
    describe_references,
    describe_suffix,
    find_headline,
    list_extraction_rows,
    select_task_words,
    summarise_further_targets,
)

SHOWN = 3  # rows of groups and records that are open


def build_group_table(result: Result, rows: Sequence[GroupRow]) -> Table:
    """Build the table of classes and groups at the headline's rate, the most exposed first."""
    fpr, best = _choose_rate(result), result.diagnostics.leading
    leading = "one attack" if best is None else best.attack
    rate = format_percentage(fpr)
    head = (
        "group",
        "members, others",
        "AUC",
        f"members found, if {rate} of its others are named by mistake",
        f"one threshold of {leading} for all, aimed at {rate}: found; named by mistake",
    )
    shown = [_list_cells(row, fpr) for row in _rank_rows(rows, fpr)]
    groups = select_task_words(result.plan.task).groups.capitalize()
    return Table(f"{groups}, the most exposed first", head, shown, SHOWN)


def _choose_rate(result: Result) -> float:
    """Choose the rate at which groups are shown: that of the headline."""
    best = find_headline(result)
    return 0.0 if best is None or best.fpr is None else best.fpr


def _rank_rows(rows: Sequence[GroupRow], fpr: float) -> list[GroupRow]:
    """Rank groups by what is found at a rate, as the summary does; the others keep their order."""

    def find_share(row: GroupRow) -> float:
        entry = row.rates.get((fpr, "tpr", "best"))
        return -1.0 if entry is None else entry.value

    return sorted(rows, key=find_share, reverse=True)


def _list_cells(row: GroupRow, fpr: float) -> Row:
    """List the cells of one group."""
    found = row.rates.get((fpr, "tpr", "transferred"))
    accused = row.rates.get((fpr, "fpr", "transferred"))
    both = f"{format_estimate(found)}; {format_estimate(accused)}"
    return (
        row.group,
        f"{row.n_members:,}, {row.n_non_members:,}",
        Cell(format_estimate(row.auc, rate=False), drawn=row.auc),
        _describe_found(row, fpr),
        format_estimate(None) if found is None or accused is None else both,
    )


def _describe_found(row: GroupRow, fpr: float) -> str:
    """Describe the members found in a group, with the attack that finds them."""
    entry = row.rates.get((fpr, "tpr", "best"))
    return format_estimate(entry) + ("" if entry is None else f", by {entry.reaching_attack}")


def build_exposed_table(result: Result, *, show_ids: bool) -> Table:
    """Build the table of the members that the leading attack is surest of."""
    vulnerable = result.diagnostics.vulnerability is not None
    has_classes = select_task_words(result.plan.task).has_classes
    head = [
        name_record_column(show_ids=show_ids),
        *["class"] * has_classes,
        f"probability of membership, if {format_percentage(result.plan.threat.prior)} are members",
        "others that look less like members",
    ]
    rows: list[Row] = []
    for entry in result.exposed:
        cells: list[Cell | str] = [
            Cell(entry.record, code=True),
            *[entry.label] * has_classes,
            format_percentage(entry.posterior),
            format_percentage(entry.score),
        ]
        if vulnerable:
            limits = (entry.vulnerability_low, entry.vulnerability_high)
            cells.append(_format_effect(entry.vulnerability, *limits))
        rows.append(tuple(cells))
    return Table(
        "Members that are easiest to recognise", [*head, *[EFFECT] * vulnerable], rows, SHOWN
    )


EFFECT = "effect of training on the answer"


def name_record_column(*, show_ids: bool) -> str:
    """Name the column of records.

    >>> name_record_column(show_ids=False)
    'record (keyed hash)'
    """
    return f"record ({'id' if show_ids else 'keyed hash'})"


def _format_effect(value: float | None, low: float | None, high: float | None) -> str:
    """Format how many standard deviations training on a record moves the model's answer."""
    if value is None or low is None or high is None:
        return "not available"
    return f"{value:.2f} ({low:.2f} to {high:.2f})"


def build_vulnerable_table(result: Result, *, show_ids: bool) -> Table | None:
    """Build the table of records that any model trained on them would show; None without one."""
    found = result.diagnostics.vulnerability
    if found is None:
        return None
    has_classes = select_task_words(result.plan.task).has_classes
    rows: list[Row] = [
        (
            Cell(entry.record, code=True),
            *[entry.label] * has_classes,
            "yes" if entry.member else "no",
            _format_effect(entry.value, entry.low, entry.high),
        )
        for entry in found.most[:10]
    ]
    class_column = ["class"] * has_classes
    head = (
        name_record_column(show_ids=show_ids),
        *class_column,
        "member of this model",
        EFFECT,
    )
    return Table("Records that any model trained on them would show most", head, rows, SHOWN)


def build_reliability_table(result: Result) -> Table | None:
    """Build the table of predicted and observed shares of members; None where none was made."""
    found = result.diagnostics.reliability
    if found is None:
        return None
    return Table(
        f"Predicted and observed share of members ({found.attack}, if "
        f"{format_percentage(found.prior)} are members)",
        ("predicted", "observed", "members, others"),
        [
            (
                format_percentage(entry.predicted),
                f"{format_percentage(entry.observed)} ({format_percentage(entry.low)} to "
                f"{format_percentage(entry.high)})",
                f"{entry.n_members:,.0f}, {entry.n_non_members:,.0f}",
            )
            for entry in found.bins
        ],
        0,
    )


def build_extraction_table(result: Result) -> Table | None:
    """Build the table of texts that a language model would write out; None where not measured."""
    found = result.diagnostics.extraction
    if found is None:
        return None
    return Table(
        f"Texts written out with probability {found.p:g} or more, after what stands before them "
        f"({describe_suffix(found)})",
        ("samples of each", "members", "non-members"),
        list_extraction_rows(found),
        0,
    )


def build_reference_table(result: Result) -> Table | None:
    """Build the table of how like the target the reference models are; None without them."""
    rows: list[Row] = list(describe_references(result))
    if not rows:
        return None
    return Table(
        "Reference models, and how like the target they are", ("property", "value"), rows, 3
    )


def build_target_table(result: Result) -> Table | None:
    """Build the table of the further target models; None without them."""
    found = result.diagnostics.targets
    if found is None:
        return None
    rows: list[Row] = []
    for row in summarise_further_targets(result):
        area = row.metric == "auc"
        write = format_number if area else format_percentage
        rows.append(
            (
                row.attack,
                format_level(row.access, row.restriction),
                "AUC" if area else f"members found at {format_percentage(row.fpr)} false positives",
                write(row.own),
                write(row.mean),
                "one target" if row.spread is None else write(row.spread),
                f"{write(row.lowest)} to {write(row.highest)}",
            )
        )
    left_out = f", {found.failed} left out" if found.failed else ""
    return Table(
        f"The training procedure: {found.trained} further models, each on random records of its "
        f"own{left_out}",
        (
            "attack",
            "one query returns",
            "number",
            "this model",
            "mean of the others",
            "their spread",
            "from, to",
        ),
        rows,
        SHOWN,
    )


def build_annex_groups(result: Result, rows: Sequence[GroupRow]) -> Table | None:
    """Build the short table of groups that an assessment needs; None without groups."""
    if not rows:
        return None
    fpr = _choose_rate(result)
    return Table(
        f"Groups: members found by each one's strongest attack, if {format_percentage(fpr)} of its "
        "others are named by mistake",
        ("group", "training records", "other records", "members found"),
        [
            (
                row.group,
                f"{row.n_members:,}",
                f"{row.n_non_members:,}",
                _describe_found(row, fpr),
            )
            for row in _rank_rows(rows, fpr)
        ],
        0,
    )
