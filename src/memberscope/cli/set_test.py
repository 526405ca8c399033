"""`memberscope set-test`: was this collection of records used in training?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from memberscope.cli.exits import FAILED, OPEN, PASSED, find_strictest_exit
from memberscope.cli.options.commands import take_audit_options
from memberscope.cli.options.lookup import ROWS, choose_out_folder, is_finished_audit, list_rows
from memberscope.cli.options.table import SET_VERB
from memberscope.cli.output import print_line
from memberscope.cli.run_audit import audit_from_options
from memberscope.errors import InputError

if TYPE_CHECKING:
    from memberscope.auditing import Result, SetResult
    from memberscope.cli.options.table import Options

# What a finished audit does not fix
FREE = ("config", "seed", "no_records", "history", "no_history", "overwrite", "verbose", "show_ids")


@take_audit_options(SET_VERB)
def answer_set_questions(options: Options) -> None:
    """Say of the members as a collection whether it was used, which records, or that it was not.

    Members are the suspect collection, non-members held-out records of the same source. Takes a
    finished audit's folder, or the options of audit, and runs that audit first. Writes
    set-report.html, set-result.json and named.csv beside it. Exit 1 if use was shown, 0 if not, 3 if an answer was
    withheld or is open.
    """
    from rich.console import Console

    from memberscope.auditing import set_test
    from memberscope.reports import print_set_result, save_set_result

    result, folder = _read_or_run_audit(options)
    given = {
        name: getattr(options, name)
        for name in ("fdr", "margin", "significance", "seed")
        if getattr(options, name) is not None
    }
    asked = options.questions
    found = set_test(result, questions=asked, **given)  # type: ignore[arg-type]
    print_set_result(found, Console())
    save_set_result(found, folder, records=not options.no_records)
    _print_places(found, folder, records=not options.no_records)
    raise typer.Exit(choose_set_exit(found))


def choose_set_exit(found: SetResult) -> int:
    """Choose the exit code: 1 if use was shown, 3 if an answer is missing or open, 0 otherwise."""
    codes = [PASSED]
    for answer in found.answers:
        if answer.decision == "YES":
            codes.append(FAILED)
        undecided = answer.question == "not_used" and answer.decision == "NOT_SHOWN"
        if undecided or answer.decision in ("WITHHELD", "NOT_RUN"):
            codes.append(OPEN)
    return find_strictest_exit(*codes)


def _read_or_run_audit(options: Options) -> tuple[Result, Path]:
    """Read the finished audit that the options name, or run the one that they describe.

    Raises:
        InputError: The audit cannot be read, or options would change one that is finished.
    """
    from memberscope.reports import load

    path = options.config
    if path is None or not is_finished_audit(SET_VERB, path):
        return audit_from_options(options), choose_out_folder(options, "audit")
    for name in list_rows(SET_VERB):
        if ROWS[name].section != "set" and name not in FREE and getattr(options, name) is not None:
            raise InputError(
                f"Expected the folder of a finished audit alone, got {str(path)!r} with "
                f"{ROWS[name].flag}. Leave that out, or give an audit.toml in place of the folder."
            )
    return load(path), path if path.is_dir() else path.parent


def _print_places(found: SetResult, folder: Path, *, records: bool) -> None:
    """Say where the answers are, and the list if there is one."""
    print_line(f"Written to {folder / 'set-report.html'} and {folder / 'set-result.json'}")
    if records and found.named is not None:
        n = len(found.named.ids)
        print_line(f"Named records ({n}) in {folder / 'named.csv'}, which only you may read.")
