"""Print answers about a collection in a terminal of any width."""

from __future__ import annotations

import re

from rich.console import Console
from rich.markup import escape
from rich.padding import Padding

from memberscope._text import format_percentage
from memberscope.auditing import SetAnswer, SetResult
from memberscope.reports.safe_console import escape_console_text

COLOURS = {
    "YES": "bold red",
    "NO": "bold green",
    "NOT_SHOWN": "bold",
    "ESTIMATED": "bold",
    "WITHHELD": "bold yellow",
    "NOT_RUN": "bold yellow",
}
ASKED = {
    "used": "Was the collection used?",
    "share": "How much of it was used?",
    "list": "Can any of it be named as used?",
    "near": "Was anything near it used?",
}


def print_set_result(found: SetResult, console: Console) -> None:
    """Print each question with its answer, then what the answers rest on."""
    with escape_console_text(console):
        units = f" ({found.n_suspect_units} units)" if found.n_suspect_units else ""
        others = f" ({found.n_held_out_units} units)" if found.n_held_out_units else ""
        console.print(
            escape(
                f"{found.title}: a collection of {found.n_suspect} records{units}, compared with "
                f"{found.n_held_out} held-out records{others}"
            )
        )
        for answer in found.answers:
            _print_answer(answer, found, console)
        # Assumptions of several answers share sentences
        every = " ".join(entry.assumption for entry in found.answers)
        console.print()
        console.print(escape(" ".join(dict.fromkeys(re.split(r"(?<=\.) ", every)))))
        console.print()
        for control in found.controls:
            word = {True: "passed", False: "[red]failed[/]", None: "[yellow]not run[/]"}
            console.print(f"control {control.name} {word[control.passed]}: {escape(control.why)}")
        for note in found.notes:
            console.print(f"[yellow]note[/] {escape(note)}")


def _print_answer(answer: SetAnswer, found: SetResult, console: Console) -> None:
    """Print one question, its answer, and the power of its test."""
    margin = format_percentage(found.settings.margin)
    question = ASKED.get(answer.question, f"Was {margin} or more of it used?")
    word = answer.decision.replace("_", " ")
    console.print()
    console.print(f"[bold]{question}[/] [{COLOURS[answer.decision]}]{word}[/]")
    console.print(Padding(escape(answer.statement), (0, 0, 0, 2)))
    if answer.power:
        console.print(Padding(escape(describe_power(answer)), (0, 0, 0, 2)))


def describe_power(answer: SetAnswer) -> str:
    """Describe the power at each number of units.

    >>> from memberscope.auditing import SetAnswer
    >>> describe_power(SetAnswer("used", 0.6, 0.5, 0.7, 0.001, ((10, 0.36), (400, 1.0)), "YES", "", "",
    ...     None, 400, 400, None, ""))
    'Probability of showing use at a difference as large, by records a side: 10: 36%, 400: 100%.'
    """
    many = "records" if answer.n_units is None else "units"
    parts = ", ".join(f"{n}: {format_percentage(share)}" for n, share in answer.power)
    return f"Probability of showing use at a difference as large, by {many} a side: {parts}."
