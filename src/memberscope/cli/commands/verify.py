"""`memberscope verify`: compute every estimate again from the stored scores and compare."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def verify(result: Annotated[Path, typer.Argument(help="The folder of an audit.")]) -> None:
    """Check schema and digests, compute every estimate and the verdict again, and say whether all agree (else exit 1)."""
    from memberscope.auditing import contradictions, differences, recompute_controls, rejudged
    from memberscope.reports import read_arrays, read_result, same_records

    found = read_result(result)
    folder = result if result.is_dir() else result.parent
    arrays = read_arrays(folder)
    changed = differences(found, arrays) + recompute_controls(found, arrays)
    changed += contradictions(found, rejudged(found, arrays, None))
    if not same_records(arrays, folder / "records.csv"):
        changed.append("records.csv is not the one that the stored scores give")
    for sentence in changed:
        typer.echo(f"Differs: {sentence}.")
    if changed:
        raise typer.Exit(1)
    typer.echo(f"Verified: {len(found.estimates)} estimates, the findings and the verdict follow from the stored scores.")
