"""`memberscope history`: list the audits and comparisons that were kept."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from memberscope.cli.history.keep import name_history_file
from memberscope.cli.options.commands import take_options
from memberscope.cli.options.rows import add_option
from memberscope.cli.options.table import HISTORY
from memberscope.cli.output import print_line
from memberscope.errors import InputError

LISTED = 20  # audits that fit a terminal with what is printed around them


@dataclass(frozen=True)
class HistoryOptions:
    """The options of `history`."""

    model: str | None = add_option("Only the audits of this title.", default=None)
    limit: int | None = add_option(
        "How many to list, the newest first.",
        default=None,
        shown=f"{LISTED}; all with --json",
    )
    json: bool = add_option("Print everything that is kept, as JSON.", default=False)
    history: Path | None = add_option("The file of the history.", default=None, shown=HISTORY)


@take_options(HistoryOptions)
def list_history(options: HistoryOptions) -> None:
    """List past audits and comparisons: date, verdict, and main numbers with intervals.

    Every audit and comparison is kept in a file of the current folder: numbers and digests, no ids
    and no scores. `memberscope view` shows them as a page.
    """
    from rich.console import Console

    from memberscope.reports.history import (
        format_history_json,
        place_audits,
        print_history,
        read_history,
    )

    if options.limit is not None and options.limit < 1:
        raise InputError(f"Expected at least 1 for --limit, got {options.limit}. Give another.")
    file = name_history_file(options.history)
    placed = place_audits(read_history(file))
    if options.model is not None:
        _refuse_unknown_model(options.model, [audit.entry.model for audit in placed])
        placed = [audit for audit in placed if audit.entry.model == options.model]
    if options.json:
        print(format_history_json(placed[-(options.limit or len(placed)) :]), end="")
    elif placed:
        print_history(placed, Console(), options.limit or LISTED)
    else:
        print_line(f"No audit is kept in {file} yet. Run `memberscope audit`.")


def _refuse_unknown_model(name: str, known: list[str]) -> None:
    """Refuse a title that no audit has.

    Raises:
        InputError: None has.
    """
    from memberscope._text import suggest_nearest

    if name not in known:
        raise InputError(
            f"Expected the title of an audit for --model, got {name!r}."
            f"{suggest_nearest(name, known)} `memberscope history` lists them."
        )
