"""Show how far an audit is: bars in a terminal, the same in a notebook, lines where asked for."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from html import escape
from importlib import import_module
from typing import TYPE_CHECKING, Any

from memberscope._text import escape_controls
from memberscope.errors import InputError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as Bars

Report = Callable[[str, int, int], None]

# What a reader sees for each stage
STAGES = {
    "query": "asking the model",
    "train": "training references",
    "train targets": "training targets",
    "measure boundary": "searching boundaries",
    "measure noise": "searching with noise",
    "measure augmentation": "asking about copies",
    "attack": "attacking",
    "targets": "attacking targets",
    "defences": "defences",
    "estimate": "estimating",
    "control": "running controls",
}
NOTE = "note: "
REDRAWN = 0.25  # seconds between two drawings in a notebook


def name_stage(stage: str) -> str:
    """Name a stage in plain words.

    >>> name_stage("query"), name_stage("measure gradient_norm")
    ('asking the model', 'measuring gradient norm')
    """
    if stage in STAGES:
        return STAGES[stage]
    return stage.replace("measure ", "measuring ", 1).replace("_", " ")


@contextmanager
def open_progress(
    progress: Report | bool | None, console: Console | None = None
) -> Iterator[Report | None]:
    """Open what shows the progress of an audit, and close it at the end.

    Args:
        progress: None shows bars in a terminal or a notebook and nothing elsewhere; True shows
            lines elsewhere too; False shows nothing; a function is called with (stage, done,
            total).
        console: The terminal; standard error where it is None.

    Raises:
        InputError: `progress` is something else.
    """
    if isinstance(progress, bool | None):
        if progress is False:
            yield None
            return
    elif callable(progress):
        yield progress
        return
    else:
        raise InputError(
            f"Expected progress None, True, False or a function (stage, done, total), got "
            f"{progress!r}. Leave it out for a bar in terminals and notebooks."
        )
    if is_notebook():
        with _show_cell() as report:
            yield report
        return
    from rich.console import Console as Terminal

    console = console or Terminal(stderr=True)
    if console.is_terminal:
        with show_progress(console) as report:
            yield report
    else:
        yield _write_lines if progress else None


def is_notebook() -> bool:
    """Tell whether this runs in the kernel of a notebook, which shows HTML.

    >>> is_notebook()
    False
    """
    # Asked of what is loaded, since importing IPython takes longer than an audit may
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return shell is not None and getattr(shell, "kernel", None) is not None


@contextmanager
def show_progress(console: Console) -> Iterator[Report]:
    """Give a callback (stage, done, total) that draws one bar a stage, with the time left."""
    with _build_bars(console) as bars:
        yield _follow_stages(bars, lambda note: bars.console.print(note, style="yellow"))


def _build_bars(console: Console | None = None, *, hidden: bool = False) -> Bars:
    """Build the bars: stage, bar, share and time left."""
    from rich.progress import (
        BarColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description:<20}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(),
        TextColumn("left"),
    )
    return Progress(*columns, console=console, transient=True, disable=hidden)


def _follow_stages(bars: Bars, note: Callable[[str], None]) -> Report:
    """Give the callback that moves the bars; notes go to `note`."""
    tasks: dict[str, Any] = {}

    def report(stage: str, done: int, total: int) -> None:
        if stage.startswith(NOTE):
            note(escape_controls(stage.removeprefix(NOTE)))
            return
        if stage not in tasks:
            tasks[stage] = bars.add_task(name_stage(stage), total=total)
        bars.update(tasks[stage], completed=done, total=total)

    return report


@contextmanager
def _show_cell() -> Iterator[Report]:
    """Give a callback that draws the bars below the cell that runs; they go at the end."""
    # Through the front end's own updates, as rich needs ipywidgets for a live display
    screen: Any = import_module("IPython.display")
    bars, notes = _build_bars(hidden=True), list[str]()
    follow, drawn = _follow_stages(bars, notes.append), [0.0]
    handle = screen.display(screen.HTML(""), display_id=True)

    def report(stage: str, done: int, total: int) -> None:
        follow(stage, done, total)
        now = time.monotonic()
        if now - drawn[0] >= REDRAWN or done >= total:
            drawn[0] = now
            handle.update(screen.HTML(_render_bars(bars, notes)))

    try:
        yield report
    finally:
        handle.update(screen.HTML(_render_notes(notes)))


def _render_bars(bars: Bars, notes: list[str]) -> str:
    """Render the bars as HTML: stage, bar, share and time left."""
    rows = []
    for task in bars.tasks:
        left = task.time_remaining
        words = "done" if task.finished else "" if left is None else f"{left:.0f} s left"
        rows.append(
            f"<tr><td>{escape(task.description)}</td>"
            f'<td><progress max="{task.total or 0:g}" value="{task.completed:g}"></progress></td>'
            f"<td>{task.percentage:.0f}%</td><td>{words}</td></tr>"
        )
    return f"<table>{''.join(rows)}</table>{_render_notes(notes)}"


def _render_notes(notes: list[str]) -> str:
    """Render what was noted on the way, a paragraph each."""
    return "".join(f"<p>{escape(note)}</p>" for note in notes)


def _write_lines(stage: str, done: int, total: int) -> None:
    """Write a line when a stage ends, to standard error."""
    if stage.startswith(NOTE):
        print(escape_controls(stage.removeprefix(NOTE)), file=sys.stderr)
    elif done >= total:
        print(f"{name_stage(stage)}: {done} of {total}", file=sys.stderr)
