"""Look up options by name, verb and section of `audit.toml`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from memberscope.cli.options.choices import VALUES
from memberscope.cli.options.rows import Row, read_rows
from memberscope.cli.options.table import CANARIES, CANARY_OUT, OUT, SERVED, SET_VERB, Options

ROWS = {name: replace(row, **VALUES.get(name, {})) for name, row in read_rows(Options).items()}
FINISHED_OR_CONFIG = (
    "The folder of a finished audit; or an audit.toml, whose audit is run first, overridden by "
    "environment variables and flags."
)
ALIASES = {"train": "recipe"}  # [recipe] train = "module:function"
SECTIONS: dict[str, tuple[str, ...]] = {
    section: tuple(name for name, row in ROWS.items() if row.section == section)
    for section in ("target", "data", "recipe", "defend", "threat", "audit", "set")
}
ENDPOINT_KEYS = ("url", "outputs", *(name for name, row in ROWS.items() if row.panel == SERVED))


def list_rows(verb: str) -> dict[str, Row]:
    """List the rows that a verb has as flags.

    >>> "audit_canaries" in list_rows("plan"), "canaries" in list_rows("plan")
    (True, False)
    """
    if verb != SET_VERB:
        return {name: row for name, row in ROWS.items() if verb in row.verbs}
    # It runs an audit where none is finished, so it takes what `audit` takes beside its own
    found = {
        name: row
        for name, row in ROWS.items()
        if {"audit", SET_VERB} & {*row.verbs} and row.panel != CANARIES
    }
    return found | {"config": replace(found["config"], help=FINISHED_OR_CONFIG)}


def is_finished_audit(verb: str, path: Path | None) -> bool:
    """Tell whether a verb was given an audit that is finished, in place of an `audit.toml`."""
    return verb == SET_VERB and path is not None and path.suffix != ".toml"


def choose_out_folder(options: Options, verb: str) -> Path:
    """Choose the folder that a verb writes."""
    if options.out is None and options.audit_canaries is not None:
        return Path(CANARY_OUT)
    return Path(options.out or OUT[verb])
