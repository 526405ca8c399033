"""Write a comparison as a document, and print it in a terminal of any width."""

from __future__ import annotations

import json
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from memberscope._files import write_bytes
from memberscope._text import format_percentage
from memberscope.auditing import COMPARISON_FORMAT, STRONGEST, Comparison
from memberscope.auditing.documents import Compared, ValueWithLimits, format_level
from memberscope.reports.level_rows import merge_levels, name_levels
from memberscope.reports.safe_console import escape_console_text
from memberscope.reports.select import Place

COLOURS = {"LEAKS_MORE": "bold red", "NOT_MORE": "bold green", "INCONCLUSIVE": "bold yellow"}
WORDS = {"LEAKS_MORE": "LEAKS MORE", "NOT_MORE": "NOT MORE", "INCONCLUSIVE": "INCONCLUSIVE"}
ACCURACIES = {
    "train_accuracy": "train accuracy",
    "test_accuracy": "test accuracy",
    "generalisation_gap": "accuracy gap",
}
EVERYBODY = "all records"  # what stands in for a level with accuracies
WIDE = 100  # columns of a terminal from which the attacks are named too


def format_comparison_json(comparison: Comparison) -> str:
    """Format the document as JSON text."""
    return (
        json.dumps(
            comparison.model_dump(mode="json"), indent=1, ensure_ascii=False, allow_nan=False
        )
        + "\n"
    )


def write_comparison(comparison: Comparison, path: Path) -> None:
    """Write the document, whole or not at all.

    Raises:
        InputError: The disk is full or the folder cannot be written.
    """
    write_bytes(path, format_comparison_json(comparison).encode())


def comparison_schema() -> dict[str, object]:
    """Build the JSON Schema of the comparison document."""
    found: dict[str, object] = Comparison.model_json_schema()
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": COMPARISON_FORMAT,
        **found,
    }


def name_number(entry: Compared) -> str:
    """Name what a number is, in few words: `found` is the share of members that are found."""
    if entry.metric not in ("auc", "tpr"):
        return ACCURACIES[entry.metric]
    found = "AUC" if entry.metric == "auc" else f"found at {format_percentage(entry.fpr)}"
    return f"{found}, units" if entry.of == "units" else found


def format_value(entry: Compared, value: float) -> str:
    """Format a value of an entry: a plain number for an AUC, a percentage otherwise."""
    return f"{value:.3f}" if entry.metric == "auc" else format_percentage(value)


def format_difference(entry: Compared) -> str:
    """Format the difference with its limits: an AUC as it is, rates in percentage points."""
    gain: ValueWithLimits = entry.difference
    if entry.metric == "auc":
        return f"{gain.value:+.3f} ({gain.low:.3f} to {gain.high:.3f})"
    return f"{100 * gain.value:+.3g} ({100 * gain.low:.3g} to {100 * gain.high:.3g})"


def format_compared_level(entry: Compared) -> str:
    """Format the level of an entry, or what stands in for it with accuracies."""
    return EVERYBODY if entry.access is None else format_level(entry.access, entry.restriction)


def format_leaders(entry: Compared) -> str:
    """Name the attack that reached the strongest value, both if they differ."""
    if entry.reached_by is None:
        return entry.attack or ""
    first, second = entry.reached_by
    return first if first == second else f"{first}, then {second}"


def print_comparison(comparison: Comparison, console: Console) -> None:
    """Print the verdict, what was not alike, the strongest attack at each level, and the trend."""
    with escape_console_text(console):
        console.print(
            f"[{COLOURS[comparison.verdict]}]{WORDS[comparison.verdict]}[/] {escape(comparison.reason)}"
        )
        console.print(_build_strongest_table(comparison, wide=console.width >= WIDE))
        # The first obstacle is the reason of the verdict, which stands above
        for sentence in comparison.obstacles[1:]:
            console.print(f"  [yellow]not comparable[/] {escape(sentence)}")
        for sentence in comparison.notes:
            console.print(f"  [yellow]note[/] {escape(sentence)}")
        if comparison.added:
            console.print(f"  {escape(describe_added_records(comparison))}")
        if len(comparison.releases) > 2:
            console.print(_build_trend_table(comparison))


def describe_added_records(comparison: Comparison) -> str:
    """Describe how well the difference of both releases tells what was added; empty if unknown."""
    if not comparison.added:
        return ""
    first = comparison.added[0]
    numbers = []
    for entry in comparison.added:
        write = (lambda value: f"{value:.3f}") if entry.metric == "auc" else format_percentage
        name = "AUC" if entry.metric == "auc" else f"found at {format_percentage(entry.fpr)}"
        both, later = (
            f"{write(one.value)} ({write(one.low)} to {write(one.high)})"
            for one in (entry.by_both, entry.by_later)
        )
        numbers.append(f"{name} {both}, and {later} by the later release alone")
    return (
        f"Added between the releases: {first.n_added} records, against {first.n_neither} in neither. "
        f"Whoever asks both and compares the {first.attack}: {'; '.join(numbers)}. This assumes that "
        "an id names the same record in both audits, and that added records are like the others."
    )


def _build_strongest_table(comparison: Comparison, *, wide: bool) -> Table:
    """Build the table of the strongest attack at each level that both have, and accuracies.

    The attacks that reached it are named if `wide`.
    """
    title = (
        f"{escape(comparison.after)} compared with {escape(comparison.before)}: the strongest attack "
        f"({format_percentage(comparison.confidence)} intervals)"
    )
    table = Table(title=title, title_justify="left")
    # A narrow terminal wraps the level rather than the numbers
    table.add_column("access", min_width=13, max_width=None if wide else 13)
    table.add_column("number", no_wrap=True)
    for name in ("before", "after"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("change (limits)")
    if wide:
        table.add_column("by the attack")
    rows: dict[Place, list[tuple[str, ...]]] = {}
    for entry in comparison.compared:
        if entry.attack not in (STRONGEST, None):
            continue
        values = (
            name_number(entry) + (" *" if entry.claim else ""),
            format_value(entry, entry.before.value),
            format_value(entry, entry.after.value),
            format_difference(entry),
        )
        place = (entry.access or EVERYBODY, entry.restriction)
        rows.setdefault(place, []).append((*values, format_leaders(entry)) if wide else values)
    for places, shown in merge_levels(rows):
        # A level is named once, in the first of its rows
        for name, row in zip([name_levels(places), *[""] * len(shown)], shown, strict=False):
            table.add_row(name, *row)
        table.add_section()
    claims = [entry for entry in comparison.compared if entry.claim]
    if claims:
        tests = "; ".join(f"{name_number(entry)} {entry.p_value:.2g}" for entry in claims)
        table.caption = (
            "Changes of rates in percentage points, with limits of the change itself; those of each "
            "number stand in its own report.\n* decides the verdict; probability of such a rise by "
            f"chance, all claims allowed for: {tests}"
        )
        table.caption_justify = "left"
    return table


def _build_trend_table(comparison: Comparison) -> Table:
    """Build the table of the strongest attack in each release."""
    table = Table(title="Over the releases, at the access of the last one", title_justify="left")
    table.add_column("release")
    table.add_column("number")
    table.add_column("strongest attack, with the interval of its audit")
    table.add_column("by the attack")
    for point in comparison.trend:
        write = (lambda value: f"{value:.3f}") if point.metric == "auc" else format_percentage
        name = "AUC" if point.metric == "auc" else f"found at {format_percentage(point.fpr)}"
        span = f"{write(point.value)} ({write(point.low)} to {write(point.high)})"
        table.add_row(escape(point.release), name, span, point.reached_by)
    return table
