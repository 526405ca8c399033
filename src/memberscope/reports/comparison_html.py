"""Render `comparison.html`.

It is one file without scripts that works offline, its figures drawn as SVG.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from memberscope._files import write_bytes
from memberscope._html import build_content_policy, read_template
from memberscope._text import format_percentage
from memberscope.auditing import STRONGEST, Comparison
from memberscope.auditing.documents import TrendPoint
from memberscope.reports import comparison_terminal as words

WIDTH, HEIGHT, LEFT, TOP, BOTTOM = 640, 240, 56, 14, 40
CLASSES = {"LEAKS_MORE": "fail", "NOT_MORE": "pass", "INCONCLUSIVE": "inconclusive"}


@dataclass(frozen=True)
class Mark:
    """One release in a figure: where its value and limits stand.

    `words` is what a reader without the figure is told.
    """

    release: str
    x: float
    y: float
    top: float
    bottom: float
    words: str


@dataclass(frozen=True)
class Figure:
    """One number over the releases, with the ticks of its axis (height, words)."""

    name: str
    marks: list[Mark]
    ticks: list[tuple[float, str]]


def _build_figures(comparison: Comparison) -> list[Figure]:
    """Build a figure for the AUC and for each claimed rate.

    There are none for two releases, which the tables tell.
    """
    if len(comparison.releases) < 3:
        return []
    kinds = dict.fromkeys((point.metric, point.fpr) for point in comparison.trend)
    return [
        _build_figure(comparison, [p for p in comparison.trend if (p.metric, p.fpr) == kind])
        for kind in kinds
    ]


def _build_figure(comparison: Comparison, points: list[TrendPoint]) -> Figure:
    """Build the marks and ticks of one number."""
    low, high = min(point.low for point in points), max(point.high for point in points)
    # At least two points of a share, or the noise of equal releases would fill the figure
    reach = max(high - low, 0.02)
    low, high = max(0.0, low - 0.1 * reach), min(1.0, high + 0.1 * reach)
    write = (lambda value: f"{value:.3f}") if points[0].metric == "auc" else format_percentage
    names = [release.name for release in comparison.releases]

    # SVG counts from the top
    def y(value: float) -> float:
        return round(TOP + (HEIGHT - TOP - BOTTOM) * (high - value) / (high - low), 1)

    step = (WIDTH - LEFT) / len(names)
    # Releases keep their place, so one that was audited at another level leaves a gap
    marks = [
        Mark(
            point.release,
            round(LEFT + step * (names.index(point.release) + 0.5), 1),
            y(point.value),
            y(point.high),
            y(point.low),
            f"{point.release}: {write(point.value)} ({write(point.low)} to {write(point.high)})",
        )
        for point in points
    ]
    ticks = [
        (y(low + share * (high - low)), write(low + share * (high - low)))
        for share in (0.0, 0.25, 0.5, 0.75, 1.0)
    ]
    name = (
        "AUC"
        if points[0].metric == "auc"
        else f"Members found at {format_percentage(points[0].fpr)} false positives"
    )
    return Figure(f"{name}, strongest attack", marks, ticks)


def render_comparison(comparison: Comparison) -> str:
    """Render the comparison as one HTML text."""
    # Imported here, since most commands render nothing
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    blocks = {"style": read_template("report.css"), "own_style": read_template("comparison.css")}
    # Escaping is on: titles and names of groups come from users
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["percent"] = format_percentage
    for name in (
        "name_number",
        "format_value",
        "format_difference",
        "format_compared_level",
        "format_leaders",
    ):
        environment.globals[name] = getattr(words, name)
    # Accuracies have no attack and stand beside the strongest
    strongest = [entry for entry in comparison.compared if entry.attack in (STRONGEST, None)]
    spans = [
        abs(limit) for entry in strongest for limit in (entry.difference.low, entry.difference.high)
    ]
    text = environment.from_string(read_template("comparison.html.j2")).render(
        comparison=comparison,
        verdict=words.WORDS[comparison.verdict],
        tone=CLASSES[comparison.verdict],
        strongest=strongest,
        others=[entry for entry in comparison.compared if entry not in strongest],
        claims=[entry for entry in comparison.compared if entry.claim],
        methods=list(dict.fromkeys(entry.method for entry in comparison.compared)),
        # A scale of zero, as where nothing changed, would divide by zero
        scale=max([*spans, 0.01]),
        figures=_build_figures(comparison),
        size=(WIDTH, HEIGHT, LEFT, TOP, BOTTOM),
        policy=Markup(build_content_policy([], list(blocks.values()))),
        **{name: Markup(block) for name, block in blocks.items()},
    )
    return str(text)


def write_comparison_page(comparison: Comparison, path: Path) -> None:
    """Write the page, whole or not at all.

    Raises:
        InputError: The disk is full or the folder cannot be written.
    """
    write_bytes(path, render_comparison(comparison).encode())
