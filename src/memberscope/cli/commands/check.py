"""`memberscope check`: the gate; closed unless a stored result passes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from memberscope.cli.exits import exit_of_verdict

if TYPE_CHECKING:
    from memberscope.auditing import Result


def _accept_limited_findings(result: Result) -> Result:
    """The result with its limited findings taken as passed."""
    return result.model_copy(
        update={"findings": [replace(finding, limited=False) for finding in result.findings]}
    )


def check(
    result: Annotated[Path, typer.Argument(help="The folder of an audit, or its result.json.")],
    policy: Annotated[
        str | None, typer.Option(help="Judge by this policy instead of the audit's own.")
    ] = None,
    junit: Annotated[Path | None, typer.Option(help="Also write JUnit XML here.")] = None,
    accept_limited: Annotated[
        bool,
        typer.Option(
            "--accept-limited",
            help="Exit 0 on a pass without the reference models that the policy requires.",
        ),
    ] = False,
) -> None:
    """Exit 0 if the result passes its policy, 1 if it fails.

    3 if it is inconclusive or was not judged, 2 if unreadable.
    """
    from memberscope.auditing import load_policy
    from memberscope.reports import read_verified, write_junit

    judged, _ = read_verified(result, load_policy(policy) if policy else None)
    if junit:
        write_junit(_accept_limited_findings(judged) if accept_limited else judged, junit)
    limited = " (limited)" if judged.limited else ""
    typer.echo(f"{judged.verdict or 'NO POLICY'}{limited}: {judged.reason}")
    raise typer.Exit(
        exit_of_verdict(judged.verdict, limited=judged.limited, accept_limited=accept_limited)
    )
