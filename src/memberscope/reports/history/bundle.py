"""Write the page over past audits and their reports as one folder that opens without a server."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from memberscope._files import read_regular_file, translate_disk_errors, write_bytes
from memberscope.errors import InputError
from memberscope.reports.history.linked_reports import LARGEST, find_reports
from memberscope.reports.history.page import render_history
from memberscope.reports.history.series import place_audits
from memberscope.reports.history.store import read_history

PAGE, REPORTS = "index.html", "reports"


def write_bundle(file: Path, folder: Path, *, overwrite: bool = False) -> int:
    """Write index.html and a copy of each report into a new folder, whole or not at all.

    Returns:
        The number of reports that were copied.

    Raises:
        InputError: The history cannot be read, the folder holds something else, or it cannot be
            written.
    """
    entries = read_history(file)
    _refuse_other_folder(folder, overwrite=overwrite)
    folder = Path(os.path.abspath(folder))
    pages = find_reports(entries, file)
    # Beside the folder, so that moving it in is a rename on one disk
    aside = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    before = folder.with_name(f".{folder.name}.{os.getpid()}.old")
    try:
        copied = {ident for ident, page in pages.items() if _copy_report(page, ident, aside)}
        write_bytes(aside / PAGE, render_history(place_audits(entries), copied).encode())
        with translate_disk_errors(folder):
            if folder.exists():
                os.replace(folder, before)
            os.replace(aside, folder)
            shutil.rmtree(before, ignore_errors=True)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
        # Where the new folder could not be moved in, the earlier one goes back
        if before.exists() and not folder.exists():
            os.replace(before, folder)
    return len(copied)


def _copy_report(page: Path, ident: int, aside: Path) -> bool:
    """Copy a page; False where it was removed or replaced in the meantime."""
    try:
        data = read_regular_file(page, LARGEST)
    except OSError:
        return False
    write_bytes(aside / REPORTS / f"{ident}.html", data)
    return True


def _refuse_other_folder(folder: Path, *, overwrite: bool) -> None:
    """Refuse a folder that holds anything but an earlier bundle that may be replaced.

    Raises:
        InputError: It does, or it is a file.
    """
    if not folder.exists():
        return
    names = {entry.name for entry in folder.iterdir()} if folder.is_dir() else {"a file"}
    if names and (not overwrite or not names <= {PAGE, REPORTS}):
        raise InputError(
            f"Expected a new folder for --bundle, got {str(folder)!r}, which is there. Choose another "
            "name; --overwrite replaces an earlier bundle and nothing else."
        )
