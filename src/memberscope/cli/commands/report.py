"""`memberscope report`: render a stored result again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def rewrite_report(
    result: Annotated[Path, typer.Argument(help="The folder of an audit.")],
    out: Annotated[
        Path | None, typer.Option(help="Where to write report.html (the folder itself).")
    ] = None,
    show_ids: Annotated[
        bool, typer.Option("--show-ids", help="Show ids instead of hashes.")
    ] = False,
) -> None:
    """Write report.html again from result.json and arrays.safetensors, and print the summary."""
    from rich.console import Console

    from memberscope.reports import print_summary, read_arrays, read_result, write_report

    folder = result if result.is_dir() else result.parent
    arrays = read_arrays(folder) if (folder / "arrays.safetensors").is_file() else None
    found = read_result(result).model_copy(update={"arrays": arrays})
    target = (out or folder) / "report.html" if out is None or out.suffix != ".html" else out
    write_report(found, target, show_ids=show_ids)
    print_summary(found, Console(), folder)
    typer.echo(f"Written to {target}")
