"""`memberscope audit`: run or resume an audit and write its folder."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from memberscope.cli.exits import FAILED, PASSED, exit_of_verdict
from memberscope.cli.options.commands import take_audit_options
from memberscope.cli.run_audit import audit_from_options

if TYPE_CHECKING:
    from memberscope.cli.options.table import Options


@take_audit_options("audit")
def audit_model(options: Options) -> None:
    """Audit a model, or stored signals, and write the result and its reports into a folder.

    The folder gets result.json, report.html, records.csv and arrays.safetensors. Exit 0 if the
    policy is met or there is none, 1 if it is not, 3 if that is open.
    """
    if options.audit_canaries is not None or options.claimed is not None:
        from memberscope.cli.commands.audit_canaries import audit_canaries

        raise typer.Exit(FAILED if audit_canaries(options) else PASSED)
    result = audit_from_options(options)
    if result.verdict is None:
        raise typer.Exit(PASSED)
    accepted = bool(options.accept_limited)
    raise typer.Exit(
        exit_of_verdict(result.verdict, limited=result.limited, accept_limited=accepted)
    )
