"""`memberscope verify`: compute every estimate again from the stored scores and compare."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def verify(result: Annotated[Path, typer.Argument(help="The folder of an audit.")]) -> None:
    """Check schema and digests, compute every estimate and the verdict again, and say whether all agree (else exit 1)."""
    from memberscope.auditing import differences, rejudged
    from memberscope.reports import read_arrays, read_result

    found = read_result(result)
    arrays = read_arrays(result if result.is_dir() else result.parent)
    changed = differences(found, arrays)
    if found.plan.get("policy") and rejudged(found, arrays, None).verdict != found.verdict:
        changed.append("the stored scores give another verdict")
    for sentence in changed:
        typer.echo(f"Differs: {sentence}.")
    if changed:
        raise typer.Exit(1)
    typer.echo(f"Verified: {len(found.estimates)} estimates and the verdict follow from the stored scores.")
