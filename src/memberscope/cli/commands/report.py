"""`memberscope report`: render a stored result again."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from memberscope.cli.options.commands import take_options
from memberscope.cli.options.rows import add_argument, add_option
from memberscope.cli.output import print_line
from memberscope.cli.pipeline.written_options import add_format_option, add_write_option


@dataclass(frozen=True)
class ReportOptions:
    """The options of `report`."""

    result: Path = add_argument("The folder of an audit, or its result.json.")
    out: Path | None = add_option(
        "Where to write report.html: a .html file, or a folder.",
        default=None,
        shown="the folder of the audit",
    )
    write: tuple[Path, ...] | None = add_write_option("Write this file instead")
    format: str | None = add_format_option()
    show_ids: bool = add_option("Show ids instead of hashes.", default=False)
    verbose: bool = add_option(
        "Print the long tables and every note, not the summary alone.", default=False
    )


@take_options(ReportOptions)
def rewrite_report(options: ReportOptions) -> None:
    """Write report.html again from result.json and arrays.safetensors, and print the summary.

    With --write it writes the files named there, and report.html only beside --out.
    """
    from rich.console import Console

    from memberscope.reports import (
        print_summary,
        read_arrays,
        read_result,
        refuse_mistaken_files,
        write_formats,
        write_report,
    )

    files = options.write or ()
    refuse_mistaken_files(files, options.format)
    result, out = options.result, options.out
    folder = result if result.is_dir() else result.parent
    found = read_result(result)
    arrays = read_arrays(folder) if (folder / "arrays.safetensors").is_file() else None
    found = found.model_copy(update={"arrays": arrays})
    ids = options.show_ids
    written = write_formats(found, files, options.format, document=result, show_ids=ids)
    if out is not None or not files:
        page = (out or folder) / "report.html" if out is None or out.suffix != ".html" else out
        write_report(found, page, show_ids=ids, out=folder)
        written.append(page)
    print_summary(found, Console(), folder, verbose=options.verbose)
    for file in written:
        print_line(f"Written to {file}")
