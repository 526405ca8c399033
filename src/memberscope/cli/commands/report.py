"""`memberscope report`: render a stored result again."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from memberscope.cli.options.commands import take_options
from memberscope.cli.options.rows import add_argument, add_option
from memberscope.cli.output import print_line


@dataclass(frozen=True)
class ReportOptions:
    """The options of `report`."""

    result: Path = add_argument("The folder of an audit, or its result.json.")
    out: Path | None = add_option(
        "Where to write report.html: a .html file, or a folder.",
        default=None,
        shown="the folder of the audit",
    )
    show_ids: bool = add_option("Show ids instead of hashes.", default=False)
    verbose: bool = add_option(
        "Print the long tables and every note, not the summary alone.", default=False
    )


@take_options(ReportOptions)
def rewrite_report(options: ReportOptions) -> None:
    """Write report.html again from result.json and arrays.safetensors, and print the summary."""
    from rich.console import Console

    from memberscope.reports import print_summary, read_arrays, read_result, write_report

    result, out = options.result, options.out
    folder = result if result.is_dir() else result.parent
    arrays = read_arrays(folder) if (folder / "arrays.safetensors").is_file() else None
    found = read_result(result).model_copy(update={"arrays": arrays})
    target = (out or folder) / "report.html" if out is None or out.suffix != ".html" else out
    write_report(found, target, show_ids=options.show_ids, out=folder)
    print_summary(found, Console(), folder, verbose=options.verbose)
    print_line(f"Written to {target}")
