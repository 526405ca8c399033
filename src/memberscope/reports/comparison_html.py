"""Render `comparison.html`.

It is one file without scripts that works offline, its figures drawn as SVG.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from memberscope._files import write_bytes
from memberscope._html import build_content_policy, keep_options_whole, read_template
from memberscope._text import format_percentage
from memberscope.auditing import STRONGEST, Comparison
from memberscope.auditing.documents import Compared, Release, TrendPoint
from memberscope.reports import comparison_terminal as words
from memberscope.reports.axis_ticks import choose_ticks

WIDTH, HEIGHT, LEFT, TOP, BOTTOM = 520, 320, 96, 14, 58
CLASSES = {"LEAKS_MORE": "fail", "NOT_MORE": "pass", "INCONCLUSIVE": "inconclusive"}
# What a reason says of the two releases, between their names
VERBS = ("leaks more than", "is not shown to leak more than")


@dataclass(frozen=True)
class Mark:
    """One release in a figure: where its value and limits stand.

    `number` is that of the release in the table, and `words` is what a reader without the figure
    is told.
    """

    number: int
    x: float
    y: float
    top: float
    bottom: float
    words: str


@dataclass(frozen=True)
class Figure:
    """One number over the releases, with the name and the ticks of its axis (height, words)."""

    name: str
    axis: str
    marks: list[Mark]
    ticks: list[tuple[float, str]]


def label_releases(releases: Sequence[Release]) -> dict[str, str]:
    """Label each release, by its name, for a reader: by its title, unless titles repeat.

    >>> first = Release("v1", "Churn of May", "1", None, 9, 9, True)
    >>> second = Release("v2", "Churn of June", "1", None, 9, 9, True)
    >>> label_releases([first, second]), label_releases([first, first])
    ({'v1': 'Churn of May', 'v2': 'Churn of June'}, {'v1': 'v1'})
    """
    titles = [" ".join(release.title.split()) for release in releases]
    # A title that two releases share, or that is empty, does not say which is meant
    shared = len(set(titles)) < len(titles) or not all(titles)
    return {
        release.name: release.name if shared else title
        for release, title in zip(releases, titles, strict=True)
    }


def _write_reason(comparison: Comparison, labels: dict[str, str]) -> str:
    """Write the reason with the labels of the releases in place of their folders."""
    first, second = comparison.after, comparison.before
    for verb in VERBS:
        start = f"{first} {verb} {second}"
        if comparison.reason.startswith(start):
            return f"{labels[first]} {verb} {labels[second]}{comparison.reason[len(start) :]}"
    return comparison.reason


def _build_figures(comparison: Comparison, labels: dict[str, str]) -> list[Figure]:
    """Build a figure for the AUC and for each claimed rate.

    There are none for two releases, which the tables tell.
    """
    if len(comparison.releases) < 3:
        return []
    kinds = dict.fromkeys((point.metric, point.fpr) for point in comparison.trend)
    return [
        _build_figure(
            comparison, [p for p in comparison.trend if (p.metric, p.fpr) == kind], labels
        )
        for kind in kinds
    ]


def _build_figure(
    comparison: Comparison, points: list[TrendPoint], labels: dict[str, str]
) -> Figure:
    """Build the marks and ticks of one number."""
    low, high = min(point.low for point in points), max(point.high for point in points)
    # At least two points of a share, or the noise of equal releases would fill the figure
    reach = max(high - low, 0.02)
    low, high = max(0.0, low - 0.1 * reach), min(1.0, high + 0.1 * reach)
    area = points[0].metric == "auc"
    write = (lambda value: f"{value:.3f}") if area else format_percentage
    names = [release.name for release in comparison.releases]

    # SVG counts from the top
    def y(value: float) -> float:
        return round(TOP + (HEIGHT - TOP - BOTTOM) * (high - value) / (high - low), 1)

    step = (WIDTH - LEFT) / len(names)
    # Releases keep their place, so one that was audited at another level leaves a gap
    marks = [
        Mark(
            names.index(point.release) + 1,
            round(LEFT + step * (names.index(point.release) + 0.5), 1),
            y(point.value),
            y(point.high),
            y(point.low),
            f"{labels[point.release]}: {write(point.value)} ({write(point.low)} to "
            f"{write(point.high)})",
        )
        for point in points
    ]
    ticks = [
        (y(value), f"{value:.3g}" if area else format_percentage(value))
        for value in choose_ticks(low, high)
    ]
    rate = format_percentage(points[0].fpr)
    name = "AUC" if area else f"Members found at {rate} false positives"
    axis = "AUC (0.5 is guessing)" if area else f"Members found, in % (at {rate})"
    return Figure(f"{name}, strongest attack", axis, marks, ticks)


def _name_in_full(entry: Compared) -> str:
    """Name what a number is, in words that need no heading."""
    if entry.metric == "tpr":
        what = "units" if entry.of == "units" else "members"
        return f"{what} found at {format_percentage(entry.fpr)} false positives"
    return words.name_number(entry)


def render_comparison(comparison: Comparison) -> str:
    """Render the comparison as one HTML text."""
    # Imported here, since most commands render nothing
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    blocks = {
        "style": read_template("plain_page.css"),
        "own_style": read_template("comparison.css"),
    }
    # Escaping is on: titles and names of groups come from users
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"percent": format_percentage, "options": keep_options_whole}
    for name in (
        "format_value",
        "format_difference",
        "format_compared_level",
        "format_leaders",
    ):
        environment.globals[name] = getattr(words, name)
    environment.globals["name_number"] = _name_in_full
    # Accuracies have no attack and stand beside the strongest
    strongest = [entry for entry in comparison.compared if entry.attack in (STRONGEST, None)]
    spans = [
        abs(limit) for entry in strongest for limit in (entry.difference.low, entry.difference.high)
    ]
    labels = label_releases(comparison.releases)
    text = environment.from_string(read_template("comparison.html.j2")).render(
        comparison=comparison,
        labels=labels,
        before=labels[comparison.before],
        after=labels[comparison.after],
        reason=_write_reason(comparison, labels),
        verdict=words.WORDS[comparison.verdict],
        tone=CLASSES[comparison.verdict],
        strongest=strongest,
        others=[entry for entry in comparison.compared if entry not in strongest],
        claims=[entry for entry in comparison.compared if entry.claim],
        methods=list(dict.fromkeys(entry.method for entry in comparison.compared)),
        # A scale of zero, as where nothing changed, would divide by zero
        scale=max([*spans, 0.01]),
        added=words.describe_added_records(comparison),
        figures=_build_figures(comparison, labels),
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
