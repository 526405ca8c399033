"""`memberscope verify`: compute every estimate again from the stored scores and compare."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def verify_audit(result: Annotated[Path, typer.Argument(help="The folder of an audit.")]) -> None:
    """Check schema and digests, compute every estimate and the verdict again.

    And say whether all agree (else exit 1).
    """
    from memberscope.auditing import judge_again, recompute_controls, verify_arrays, verify_verdict
    from memberscope.reports import is_records_file_current, read_arrays, read_result

    found = read_result(result)
    folder = result if result.is_dir() else result.parent
    arrays = read_arrays(folder)
    changed = verify_arrays(found, arrays) + recompute_controls(found, arrays)
    changed += verify_verdict(found, judge_again(found, arrays, None))
    if not is_records_file_current(arrays, folder / "records.csv"):
        changed.append("records.csv is not the one that the stored scores give")
    for sentence in changed:
        typer.echo(f"Differs: {sentence}.")
    if changed:
        raise typer.Exit(1)
    typer.echo(
        f"Verified: {len(found.estimates)} estimates, the findings and the verdict follow from the "
        "stored scores."
    )
