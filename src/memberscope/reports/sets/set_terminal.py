"""Print answers about a collection in a terminal of any width."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.padding import Padding

from memberscope.auditing import SetAnswer, SetResult
from memberscope.reports.safe_console import escape_console_text
from memberscope.reports.sets.set_words import (
    describe_power,
    describe_sides,
    list_assumptions,
    write_decision,
    write_question,
)

COLOURS = {
    "YES": "bold red",
    "NO": "bold green",
    "NOT_SHOWN": "bold",
    "ESTIMATED": "bold",
    "WITHHELD": "bold yellow",
    "NOT_RUN": "bold yellow",
}


def print_set_result(found: SetResult, console: Console) -> None:
    """Print each question with its answer, then what the answers rest on."""
    with escape_console_text(console):
        console.print(escape(f"{found.title}: {describe_sides(found)}"))
        for answer in found.answers:
            _print_answer(answer, found.settings.margin, console)
        console.print()
        console.print(escape(" ".join(list_assumptions(found))))
        console.print()
        for control in found.controls:
            word = {True: "passed", False: "[red]failed[/]", None: "[yellow]not run[/]"}
            console.print(f"control {control.name} {word[control.passed]}: {escape(control.why)}")
        for note in found.notes:
            console.print(f"[yellow]note[/] {escape(note)}")


def _print_answer(answer: SetAnswer, margin: float, console: Console) -> None:
    """Print one question, its answer, and the power of its test."""
    console.print()
    console.print(
        f"[bold]{write_question(answer, margin)}[/] "
        f"[{COLOURS[answer.decision]}]{write_decision(answer)}[/]"
    )
    console.print(Padding(escape(answer.statement), (0, 0, 0, 2)))
    if answer.power:
        console.print(Padding(escape(describe_power(answer)), (0, 0, 0, 2)))
