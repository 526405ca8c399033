"""Find the pages of past audits, as long as they still are of these audits.

An audit that replaces another in its folder replaces the page too, so a page is linked only while
the result beside it has the digest that the history keeps.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

from memberscope._files import read_regular_file
from memberscope.reports.history.past_audit import PastAudit
from memberscope.reports.history.store import FOLDER

LARGEST = 256 << 20  # bytes of a page or of a result


def digest_file(path: Path) -> str:
    """Give the SHA-256 of a regular file.

    Raises:
        OSError: It cannot be read, or is no regular file.
    """
    return hashlib.sha256(read_regular_file(path, LARGEST)).hexdigest()


def shorten_report_path(report: Path, file: Path) -> str:
    """Write the path of a page as the history keeps it: from its own folder, if it is below it.

    So a project can be moved with its history and its reports.
    """
    home = _find_home_folder(file)
    page = Path(os.path.abspath(report))
    return page.relative_to(home).as_posix() if page.is_relative_to(home) else str(page)


def find_reports(entries: Iterable[PastAudit], file: Path) -> dict[int, Path]:
    """Find the pages that are still there and still those of the audits, by the audits' ids."""
    home, digests = _find_home_folder(file), dict[Path, str | None]()
    found = {}
    for entry in entries:
        page = home / entry.report
        # A file of another kind is none that an audit wrote, whatever the history says
        if entry.id is None or page.suffix != ".html" or "\0" in entry.report:
            continue
        source = page if entry.kind == "comparison" else page.with_name("result.json")
        if source not in digests:
            digests[source] = _digest_if_readable(source) if _is_plain_file(page) else None
        if digests[source] is not None and digests[source] == entry.digests.get("result"):
            found[entry.id] = page
    return found


def _find_home_folder(file: Path) -> Path:
    """Find the folder that paths of pages are relative to: the project's, or the history's own."""
    folder = Path(os.path.abspath(file)).parent
    return folder.parent if folder.name == FOLDER else folder


def _is_plain_file(path: Path) -> bool:
    """Tell whether this is a file itself, not a link to another."""
    return path.is_file() and not path.is_symlink()


def _digest_if_readable(path: Path) -> str | None:
    """Give the digest of a file, None if it cannot be read."""
    try:
        return digest_file(path)
    except OSError:
        return None
