"""Write a frontier of defences for readers.

There is `frontier.json`, one HTML file with two pictures, and a table in the terminal.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from memberscope._files import read_json, write_bytes
from memberscope._html import build_content_policy, keep_options_whole, read_template
from memberscope._text import format_number, format_percentage
from memberscope.auditing.defend import FORMAT, Frontier, FrontierRow, name_quality
from memberscope.errors import InputError
from memberscope.reports import select as lookup
from memberscope.reports.axis_ticks import choose_ticks
from memberscope.reports.defence_words import describe_defence
from memberscope.reports.safe_console import escape_console_text
from memberscope.types import Estimate

WIDTH, HEIGHT, LEFT, BOTTOM, TOP, RIGHT = 520, 400, 88, 62, 14, 26
WORDS = {
    "meets": "met",
    "breaks": "not met",
    "undecided": "undecided",
    "not measured": "not measured",
    None: "",
}
UNKNOWN = "not measured"


def write_frontier(frontier: Frontier, out: Path) -> None:
    """Write `frontier.json` and `frontier.html`, each whole or not at all.

    Raises:
        InputError: The disk is full or the folder cannot be written.
    """
    text = (
        json.dumps(frontier.model_dump(mode="json"), indent=1, ensure_ascii=False, allow_nan=False)
        + "\n"
    )
    write_bytes(out / "frontier.json", text.encode())
    write_bytes(out / "frontier.html", render_frontier(frontier).encode())


def read_frontier(path: Path) -> Frontier:
    """Read a frontier from `frontier.json` or the folder that holds it.

    Raises:
        InputError: It is missing, truncated, or of another format.
    """
    file = path / "frontier.json" if path.is_dir() else path
    try:
        document = read_json(file)
        if not isinstance(document, dict) or document.get("format") != FORMAT:
            raise ValueError(f"no {FORMAT}")
        return Frontier.model_validate(document)
    except (OSError, ValueError) as error:
        # Messages of pydantic span many lines, of which the first says what is wrong
        first = (str(error).splitlines() or [""])[0]
        raise InputError(
            f"Expected a frontier.json in {str(path)!r}, got: {first}. Run `memberscope defend` "
            "again."
        ) from error


def frontier_schema() -> dict[str, object]:
    """Build the JSON Schema of the document."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": FORMAT,
        **Frontier.model_json_schema(),
    }


@dataclass(frozen=True)
class SummaryCard:
    """One number of the summary: what it is, the number, and what stands below it."""

    label: str
    figure: str
    below: str


def render_frontier(frontier: Frontier) -> str:
    """Render the frontier as one HTML text that lets nothing else in."""
    # Imported here, since most commands render nothing
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    style = "".join(map(read_template, ("plain_page.css", "frontier.css")))
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {
        "percent": format_percentage,
        "interval": lookup.format_interval,
        "in_words": describe_defence,
        "options": keep_options_whole,
    }
    environment.globals |= {
        "number": format_number,
        "cell": _format_cell,
        "leak": _format_leakage,
        "measured": _format_measured_epsilon,
        "canary": name_canary_kind,
        "words": WORDS,
    }
    place = _number_rows(frontier)
    environment.globals["number_of"] = lambda names: (
        ", ".join(str(place[name]) for name in names) or "–"
    )
    text = environment.from_string(read_template("frontier.html.j2")).render(
        frontier=frontier,
        quality=name_quality(frontier.plan.task),
        tone=_choose_tone(frontier),
        cards=_build_summary_cards(frontier),
        pictures=[_build_picture(frontier, "worst"), _build_picture(frontier, "average")],
        policy=Markup(build_content_policy([], [style])),
        style=Markup(style),
    )
    return str(text)


def _number_rows(frontier: Frontier) -> dict[str, int]:
    """Number the rows of the table by name; dots and dominating choices are named so."""
    shown = (row.name for row in frontier.rows if row.why_not is None)
    return {name: number for number, name in enumerate(shown, start=1)}


def _choose_tone(frontier: Frontier) -> str:
    """Choose the colour of the heading: whether some choice meets the policy."""
    outcomes = {row.meets for row in frontier.rows}
    if frontier.policy is None:
        return "none"
    if "meets" in outcomes:
        return "pass"
    return "inconclusive" if outcomes & {"undecided", "not measured", None} else "fail"


def _build_summary_cards(frontier: Frontier) -> list[SummaryCard]:
    """Build the summary: without a defence, the choice that is best, and what leaks least."""
    measured = [
        row for row in frontier.rows if row.average is not None and row.accuracy is not None
    ]
    if not measured:
        return []
    # Undefended training comes first in every sweep
    first = _build_card("Without a defence", frontier.rows[0], frontier)
    found = frontier.rows[0].average
    cards = [replace(first, figure=_format_cell(found)) if found else first]
    good = [row for row in measured if row.meets == "meets"]
    if good:
        best = max(good, key=lambda row: row.accuracy.value if row.accuracy else 0.0)
        cards.append(_build_card("Most accurate that meets the policy", best, frontier))
    least = min(measured, key=lambda row: row.average.value if row.average else 1.0)
    cards.append(_build_card("Fewest members found on average", least, frontier))
    worst = [row for row in measured if row.worst is not None]
    if worst:
        least = min(worst, key=lambda row: row.worst.value if row.worst else 1.0)
        cards.append(_build_card("Fewest found in the worst case", least, frontier, worst=True))
    return cards


def _build_card(
    label: str, row: FrontierRow, frontier: Frontier, *, worst: bool = False
) -> SummaryCard:
    """Build the card of one choice: which it is, what is found, and its accuracy."""
    found, fpr = (row.worst, frontier.canary_fpr) if worst else (row.average, frontier.fpr)
    share = "not measured" if found is None else format_percentage(found.value)
    where = "inserted records of the worst kind" if worst else "members"
    return SummaryCard(
        label,
        describe_defence(row.name),
        f"{share} of {where} found at {format_percentage(fpr)} false positives; test "
        f"{name_quality(frontier.plan.task)} {_format_cell(row.accuracy)}",
    )


def _format_measured_epsilon(row: FrontierRow) -> str:
    """Format what the inserted records prove of epsilon, in brackets for a Gaussian mechanism."""
    measured = [f"{bound['epsilon']:.2f}" for bound in row.measured]
    return f"{measured[0]} ({measured[1]})" if len(measured) == 2 else "–"


def _format_cell(entry: Any) -> str:
    """Format a share with its limits, or a dash."""
    return "–" if entry is None else lookup.format_interval(entry)


def _format_leakage(entry: Any, row: FrontierRow, *, short: bool = False) -> str:
    """Format leakage with its limits, or say that nothing ran at the row's access."""
    if entry is None and row.average is None:
        return UNKNOWN
    return _format_short_interval(entry) if short else _format_cell(entry)


def name_canary_kind(entry: Estimate | None) -> str:
    """Name the kind of canary that an estimate is about, in words."""
    return (
        ""
        if entry is None or entry.group is None
        else entry.group.partition("=")[2].replace("_", " ")
    )


@dataclass(frozen=True)
class PlottedChoice:
    """A choice in a picture: its place, its limits in pixels, and the words that it shows."""

    number: int
    name: str
    x: float
    y: float
    x_low: float
    x_high: float
    y_low: float
    y_high: float
    good: bool
    title: str


def _build_picture(frontier: Frontier, axis: str) -> dict[str, object]:
    """Build what the template draws of accuracy (up) by leakage (to the right).

    Dots with limits, ticks, and the frontier's steps.
    """
    rows = [
        row for row in frontier.rows if row.accuracy is not None and getattr(row, axis) is not None
    ]
    shown = [(row, getattr(row, axis)) for row in rows]
    # Without canaries there is no worst case to draw
    if not shown:
        return {"axis": axis, "dots": [], "width": WIDTH, "height": HEIGHT}
    lows = [row.accuracy.low for row in rows if row.accuracy]
    highs = [row.accuracy.high for row in rows if row.accuracy]
    y_range = _pad_range(min(lows), max(highs))
    # Leakage starts at zero, so that half of it looks like half
    x_range = (0.0, min(1.0, 1.08 * max(entry.high for _, entry in shown) + 0.01))
    numbers = _number_rows(frontier)
    words = name_quality(frontier.plan.task)
    dots = [
        _build_dot(row, entry, x_range, y_range, numbers[row.name], words) for row, entry in shown
    ]
    return {
        "axis": axis,
        "fpr": shown[0][1].fpr,
        "dots": dots,
        "steps": _format_staircase(dots),
        "x_ticks": [
            (_scale_x(value, x_range), format_percentage(value)) for value in choose_ticks(*x_range)
        ],
        "y_ticks": [
            (_scale_y(value, y_range), format_percentage(value)) for value in choose_ticks(*y_range)
        ],
        "width": WIDTH,
        "height": HEIGHT,
        "left": LEFT,
        "right": WIDTH - RIGHT,
        "top": TOP,
        "bottom": HEIGHT - BOTTOM,
    }


def _build_dot(
    row: FrontierRow,
    entry: Estimate,
    x_range: tuple[float, float],
    y_range: tuple[float, float],
    number: int,
    quality: str,
) -> PlottedChoice:
    """Build one choice's place, limits and words; `quality` names what is up."""
    assert row.accuracy is not None
    return PlottedChoice(
        number=number,
        name=row.name,
        x=_scale_x(entry.value, x_range),
        y=_scale_y(row.accuracy.value, y_range),
        x_low=_scale_x(entry.low, x_range),
        x_high=_scale_x(entry.high, x_range),
        y_low=_scale_y(row.accuracy.low, y_range),
        y_high=_scale_y(row.accuracy.high, y_range),
        good=row.average is not None and not row.dominated_by,
        title=f"{describe_defence(row.name)}: test {quality} {_format_cell(row.accuracy)}, "
        f"members found {_format_cell(entry)}",
    )


def _format_staircase(dots: list[PlottedChoice]) -> str:
    """Format the staircase of choices that no other beats in this picture, as a line's points."""
    best = float("inf")
    points: list[str] = []
    # From the least leakage; SVG counts from the top, so a smaller y is more accuracy
    for found in sorted(dots, key=lambda entry: (entry.x, entry.y)):
        if found.y < best:
            if points:
                points.append(f"{found.x:.1f},{best:.1f}")
            points.append(f"{found.x:.1f},{found.y:.1f}")
            best = found.y
    return " ".join(points)


def _pad_range(low: float, high: float) -> tuple[float, float]:
    """Pad a range with some room at both ends, within 0 and 1."""
    room = max(0.01, 0.08 * (high - low))
    return max(0.0, low - room), min(1.0, high + room)


def _scale_x(value: float, x_range: tuple[float, float]) -> float:
    """Scale a share to its place from the left."""
    return round(
        LEFT + (value - x_range[0]) / (x_range[1] - x_range[0]) * (WIDTH - LEFT - RIGHT), 1
    )


def _scale_y(value: float, y_range: tuple[float, float]) -> float:
    """Scale a share to its place from the top."""
    return round(
        HEIGHT
        - BOTTOM
        - (value - y_range[0]) / (y_range[1] - y_range[0]) * (HEIGHT - BOTTOM - TOP),
        1,
    )


def print_frontier(frontier: Frontier, console: Console, out: Path | None = None) -> None:
    """Print the table of choices, what did not run, and what the frontier means."""
    with escape_console_text(console):
        console.print(_build_frontier_table(frontier))
        for row in frontier.rows:
            if row.why_not:
                console.print(f"  [yellow]not run[/] {escape(row.name)}: {escape(row.why_not)}")
            for note in row.notes:
                console.print(f"  [yellow]note[/] {escape(row.name)}: {escape(note)}")
        for sentence in frontier.advice:
            console.print(escape(sentence))
        # No folder where a stored frontier is only shown again
        if out is not None:
            console.print(
                f"Written to {escape(str(out))}/: frontier.json, frontier.html, and one audit for each "
                "way of training"
            )


def _build_frontier_table(frontier: Frontier) -> Table:
    """Build the table with one row a choice; those that no other one beats are marked."""
    confidence = format_percentage(frontier.plan.confidence)
    table = Table(
        title=f"{name_quality(frontier.plan.task).capitalize()}, and members found by an attacker who knows the defence ({confidence} intervals)",
        title_justify="left",
    )
    table.add_column("defence", overflow="fold")
    table.add_column(name_quality(frontier.plan.task))
    table.add_column(f"found on average at {format_percentage(frontier.fpr)}")
    worst = "" if frontier.canary_fpr is None else f" at {format_percentage(frontier.canary_fpr)}"
    table.add_column(f"found in the worst case{worst}")
    table.add_column("if defence not known")
    # Columns that no row could fill are left out
    if any(row.proven for row in frontier.rows):
        table.add_column("epsilon proven; measured")
    if frontier.policy:
        table.add_column("policy")
    for row in frontier.rows:
        if row.why_not is None:
            table.add_row(*format_frontier_cells(row, frontier))
    table.caption = (
        "Members that the strongest attack finds at so many false positives. If the attacker does not "
        "know the defence: the same two numbers, average and worst case. "
        f"* no other choice is at least as good in {name_quality(frontier.plan.task)}, average and worst "
        "case"
    )
    table.caption_justify = "left"
    return table


def format_frontier_cells(row: FrontierRow, frontier: Frontier) -> list[str]:
    """Format the texts of one row."""
    mark = "" if row.dominated_by or row.average is None else " *"
    unaware = [
        format_percentage(entry.value)
        for entry in (row.unaware_average, row.unaware_worst)
        if entry is not None
    ]
    found = [
        escape(row.name) + mark,
        _format_short_interval(row.accuracy),
        _format_leakage(row.average, row, short=True),
    ]
    found += [_format_leakage(row.worst, row, short=True), ", ".join(unaware) or "–"]
    if any(entry.proven for entry in frontier.rows):
        found.append(format_epsilons(row))
    if frontier.policy:
        found.append(WORDS[row.meets])
    return found


def _format_short_interval(entry: Any) -> str:
    """Format a share with its limits as short as a narrow terminal wants it."""
    if entry is None:
        return "–"
    value, low, high = (
        float(f"{100 * share:.3g}") for share in (entry.value, entry.low, entry.high)
    )
    return f"{value:g}% ({low:g}–{high:g})"


def format_epsilons(row: FrontierRow) -> str:
    """Format the proven epsilon, and what the canaries prove.

    First without an assumption and then, in brackets, with that of a Gaussian curve.
    """
    proven = "none" if row.proven is None else f"{row.proven['epsilon']:.3g}"
    measured = [f"{bound['epsilon']:.2f}" for bound in row.measured]
    return f"{proven}; {measured[0]} ({measured[1]})" if len(measured) == 2 else f"{proven}; –"
