"""Write the output folder of an audit: everything whole, or as it was before."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from memberscope._files import translate_disk_errors
from memberscope.auditing import Result
from memberscope.reports.files.arrays_file import write_arrays
from memberscope.reports.files.records_csv import write_records
from memberscope.reports.files.result_json import write_result
from memberscope.reports.next_step import Arguments
from memberscope.reports.page.report_html import write_report

FILES = ("arrays.safetensors", "records.csv", "report.html", "result.json")


def write_all(
    result: Result,
    out: str | Path,
    *,
    records: bool = True,
    show_ids: bool = False,
    arguments: Arguments | None = None,
) -> None:
    """Write arrays.safetensors, records.csv (if `records`), report.html and result.json.

    They are written aside and moved in once all are whole, so that a full disk leaves the folder as
    it was. What an earlier run left of a file that this one does not write is removed, since ids
    that were not asked for must not stay. `arguments` gives what named the model on the command
    line, for the next command in the report.

    Raises:
        InputError: The disk is full or the folder cannot be written.
    """
    folder = Path(out)
    # Beside the files, so that moving them in is a rename on one disk
    aside = folder / f".writing.{os.getpid()}"
    try:
        if result.arrays is not None:
            write_arrays(result.arrays, aside / "arrays.safetensors", ids=records)
            if records:
                write_records(result.arrays, aside / "records.csv")
        write_report(
            result, aside / "report.html", show_ids=show_ids, arguments=arguments, out=folder
        )
        write_result(result, aside / "result.json")
        with translate_disk_errors(folder):
            for name in FILES:
                if (aside / name).is_file():
                    os.replace(aside / name, folder / name)
                else:
                    (folder / name).unlink(missing_ok=True)
    # Whatever happened, nothing half written stays
    finally:
        shutil.rmtree(aside, ignore_errors=True)
