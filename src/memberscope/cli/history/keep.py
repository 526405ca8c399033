"""Keep an audit or a comparison in the history, and choose the file of the history."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from memberscope.cli.options.table import HISTORY, Options
from memberscope.cli.options.variables import read_variables
from memberscope.cli.output import print_error
from memberscope.errors import InputError

if TYPE_CHECKING:
    from memberscope.auditing import Comparison, Result
    from memberscope.reports.history import Kind

VARIABLES = ("MEMBERSCOPE_HISTORY", "MEMBERSCOPE_NO_HISTORY")


def choose_history(options: Options) -> Path | None:
    """Choose the file that an audit is kept in; None where the history is switched off."""
    return None if options.no_history else Path(options.history or HISTORY)


def find_history(file: Path | None, *, off: bool = False) -> Path | None:
    """Find the file to keep something in, for a command that reads no audit.toml.

    None where the history is switched off, by the flag or in the environment.

    Raises:
        InputError: A variable has a value of another type.
    """
    found = _read_history_variables()
    return None if off or found.no_history else file or Path(found.history or HISTORY)


def name_history_file(file: Path | None) -> Path:
    """Name the file of the history that is to be shown, whether or not audits are kept in it.

    Raises:
        InputError: A variable has a value of another type.
    """
    return file or Path(_read_history_variables().history or HISTORY)


def keep_audit(
    result: Result,
    out: Path,
    history: Path | None,
    *,
    kind: Kind = "audit",
    name: str | None = None,
) -> None:
    """Append an audit, whose folder is written, to the history.

    Where that fails there is a warning and nothing else, since the audit itself is not lost.
    """
    if history is None:
        return
    from memberscope.reports.history import (
        append_audit,
        digest_file,
        shorten_report_path,
        summarise_audit,
    )

    with _warn_of_failure():
        entry = summarise_audit(
            result,
            time=_read_clock(),
            report=shorten_report_path(out / "report.html", history),
            digest=digest_file(out / "result.json"),
            kind=kind,
            name=name,
        )
        append_audit(history, entry)


def keep_comparison(comparison: Comparison, page: Path | None, history: Path | None) -> None:
    """Append a comparison to the history, with the page that was written of it, if any.

    Where that fails there is a warning and nothing else.
    """
    if history is None:
        return
    from memberscope.reports.history import (
        append_audit,
        digest_file,
        shorten_report_path,
        summarise_comparison,
    )

    with _warn_of_failure():
        entry = summarise_comparison(
            comparison,
            time=_read_clock(),
            report="" if page is None else shorten_report_path(page, history),
            digest="" if page is None else digest_file(page),
        )
        append_audit(history, entry)


def _read_history_variables() -> Options:
    """Read what the environment says of the history.

    Raises:
        InputError: A variable has a value of another type.
    """
    given = {name: os.environ[name] for name in VARIABLES if name in os.environ}
    return Options(**read_variables("audit", given))


@contextmanager
def _warn_of_failure() -> Iterator[None]:
    """Turn a failure of the history into a warning on standard error."""
    try:
        yield
    except (InputError, OSError) as error:
        print_error(
            f"Warning: this is not kept in the history; nothing else is lost. {error} With "
            "--no-history nothing is kept."
        )


def _read_clock() -> datetime:
    """Read the time that the history notes; no result depends on it."""
    return datetime.now(UTC)
