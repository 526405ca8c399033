"""Look up options by name, verb and section of `audit.toml`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from memberscope.cli.options.choices import VALUES
from memberscope.cli.options.rows import Row, read_rows
from memberscope.cli.options.table import CANARY_OUT, OUT, SERVED, Options

ROWS = {name: replace(row, **VALUES.get(name, {})) for name, row in read_rows(Options).items()}
ALIASES = {"train": "recipe"}  # [recipe] train = "module:function"
SECTIONS: dict[str, tuple[str, ...]] = {
    section: tuple(name for name, row in ROWS.items() if row.section == section)
    for section in ("target", "data", "recipe", "defend", "threat", "audit")
}
ENDPOINT_KEYS = ("url", "outputs", *(name for name, row in ROWS.items() if row.panel == SERVED))


def list_rows(verb: str) -> dict[str, Row]:
    """List the rows that a verb has as flags.

    >>> "audit_canaries" in list_rows("plan"), "canaries" in list_rows("plan")
    (True, False)
    """
    return {name: row for name, row in ROWS.items() if verb in row.verbs}


def choose_out_folder(options: Options, verb: str) -> Path:
    """Choose the folder that a verb writes."""
    if options.out is None and options.audit_canaries is not None:
        return Path(CANARY_OUT)
    return Path(options.out or OUT[verb])
