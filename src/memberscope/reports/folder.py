"""The output folder of an audit: everything whole, or as it was before."""

from __future__ import annotations

from pathlib import Path

from memberscope.auditing import Result
from memberscope.reports.arrays import write_arrays
from memberscope.reports.document import write_result
from memberscope.reports.html import write_report
from memberscope.reports.records import write_records


def write_all(result: Result, out: str | Path, *, records: bool = True, show_ids: bool = False) -> None:
    """Write arrays.safetensors, records.csv (unless `records` is false), report.html and, last, result.json.

    Raises:
        InputError: The disk is full or the folder cannot be written.
    """
    folder = Path(out)
    if result.arrays is not None:
        write_arrays(result.arrays, folder / "arrays.safetensors", ids=records)
        if records:
            write_records(result.arrays, folder / "records.csv")
    write_report(result, folder / "report.html", show_ids=show_ids)
    write_result(result, folder / "result.json")
