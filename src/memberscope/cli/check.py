"""`memberscope check`: the gate; closed unless a stored result passes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

EXIT = {"PASS": 0, "FAIL": 1, "INCONCLUSIVE": 3, None: 3}


def check(
    result: Annotated[Path, typer.Argument(help="The folder of an audit, or its result.json.")],
    policy: Annotated[str | None, typer.Option(help="Judge by this policy instead of the audit's own.")] = None,
    junit: Annotated[Path | None, typer.Option(help="Also write JUnit XML here.")] = None,
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
    judged = found.model_copy(update={"verdict": judgement.verdict, "reason": judgement.reason, "findings": judgement.findings})
    if junit:
        write_junit(judged, junit)
    typer.echo(f"{judged.verdict or 'NO POLICY'}: {judged.reason}")
    raise typer.Exit(EXIT[judged.verdict])
