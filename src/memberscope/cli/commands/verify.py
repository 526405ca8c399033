"""`memberscope verify`: compute every estimate again from the stored scores and compare."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import typer

from memberscope.cli.options.commands import take_options
from memberscope.cli.options.rows import add_argument
from memberscope.cli.output import print_line


@dataclass(frozen=True)
class VerifyOptions:
    """The options of `verify`."""

    result: Path = add_argument("The folder of an audit, or its result.json.")


@take_options(VerifyOptions)
def verify_audit(options: VerifyOptions) -> None:
    """Check schema and digests, and compute every estimate and the verdict again.

    Exit 1 if something differs.
    """
    from memberscope.auditing import (
        judge_again,
        recompute_controls,
        restore_ranking,
        verify_arrays,
        verify_verdict,
    )
    from memberscope.reports import is_records_file_current, read_arrays, read_result

    result = options.result
    found = read_result(result)
    folder = result if result.is_dir() else result.parent
    arrays = read_arrays(folder)
    ranking = restore_ranking(found, arrays)
    changed = verify_arrays(found, arrays, ranking) + recompute_controls(found, arrays)
    changed += verify_verdict(found, judge_again(found, arrays, None, ranking))
    if not is_records_file_current(arrays, folder / "records.csv"):
        changed.append("records.csv is not the one that the stored scores give")
    for sentence in changed:
        print_line(f"Differs: {sentence}.")
    if changed:
        raise typer.Exit(1)
    print_line(
        f"Verified: {len(found.estimates)} estimates, the findings and the verdict follow from the "
        "stored scores."
    )
