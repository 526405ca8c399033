"""`memberscope check`: the gate; closed unless a stored result passes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from memberscope.auditing import Result

EXIT = {"PASS": 0, "FAIL": 1, "INCONCLUSIVE": 3, None: 3}


def exit_code(verdict: str | None, *, limited: bool, accept_limited: bool, ungated: int = 3) -> int:
    """The exit code of a verdict: a limited pass is 3 unless it is accepted, no policy is `ungated`.

    >>> exit_code("PASS", limited=True, accept_limited=False), exit_code("PASS", limited=True, accept_limited=True)
    (3, 0)
    """
    if verdict is None:
        return ungated
    return 3 if limited and not accept_limited else EXIT[verdict]


def accepted(result: Result) -> Result:
    """The result with its limited findings taken as passed."""
    return result.model_copy(update={"findings": [replace(finding, limited=False) for finding in result.findings]})


def check(
    result: Annotated[Path, typer.Argument(help="The folder of an audit, or its result.json.")],
    policy: Annotated[str | None, typer.Option(help="Judge by this policy instead of the audit's own.")] = None,
    junit: Annotated[Path | None, typer.Option(help="Also write JUnit XML here.")] = None,
    accept_limited: Annotated[
        bool, typer.Option("--accept-limited", help="Exit 0 on a pass without the reference models that the policy requires.")
    ] = False,
) -> None:
    """Exit 0 if the result passes its policy, 1 if it fails, 3 if it is inconclusive or was not judged, 2 if unreadable."""
    from memberscope.auditing import contradictions, differences, load_policy, rejudged
    from memberscope.errors import InputError
    from memberscope.reports import read_arrays, read_result, write_junit

    found = read_result(result)
    arrays = read_arrays(result if result.is_dir() else result.parent)
    changed = differences(found, arrays)
    if changed:
        raise InputError(f"Expected a result that agrees with its arrays, got: {changed[0]}. Run the audit again.")
    judgement = rejudged(found, arrays, load_policy(policy) if policy else None)
    changed = [] if policy else contradictions(found, judgement)
    if changed:
        raise InputError(f"Expected a result that its scores bear out, got: {changed[0]}. Run the audit again.")
    judged = found.model_copy(
        update={
            "verdict": judgement.verdict,
            "limited": judgement.limited,
            "reason": judgement.reason,
            "findings": judgement.findings,
        }
    )
    if junit:
        write_junit(accepted(judged) if accept_limited else judged, junit)
    limited = " (limited)" if judged.limited else ""
    typer.echo(f"{judged.verdict or 'NO POLICY'}{limited}: {judged.reason}")
    raise typer.Exit(exit_code(judged.verdict, limited=judged.limited, accept_limited=accept_limited))
