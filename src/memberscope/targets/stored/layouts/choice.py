"""Find out which tool wrote a folder of signals, and read it so."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from memberscope.errors import InputError
from memberscope.targets.stored.layouts.leakpro import is_leakpro_folder, read_leakpro_folder
from memberscope.targets.stored.layouts.lira import is_lira_folder, read_lira_folder
from memberscope.targets.stored.layouts.privacy_meter import (
    is_privacy_meter_folder,
    read_privacy_meter_folder,
)
from memberscope.targets.stored.references import SignalArrays

READERS: dict[str, Callable[[Path, str | None], SignalArrays]] = {
    "lira": read_lira_folder,
    "privacy-meter": read_privacy_meter_folder,
    "leakpro": read_leakpro_folder,
}
SIGNS: dict[str, Callable[[Path], bool]] = {
    "lira": is_lira_folder,
    "privacy-meter": is_privacy_meter_folder,
    "leakpro": is_leakpro_folder,
}


def find_layout(path: Path) -> str | None:
    """Find the layout of a folder by its files; None for a file, or a folder of our own.

    Raises:
        InputError: Several tools may have written it.
    """
    if not path.is_dir():
        return None
    found = [name for name, has_layout in SIGNS.items() if has_layout(path)]
    if len(found) > 1:
        raise InputError(
            f"Expected the folder of one tool in {path}, got files of {' and '.join(found)}. Say "
            "which with --signals-layout."
        )
    return found[0] if found else None


def read_layout(path: Path, layout: str, model: str | None = None) -> SignalArrays:
    """Read a folder in the layout of a tool; `model` is the audited one by name or number.

    Raises:
        InputError: There is no such layout or model, or files do not fit each other.
        UnsafeFileError: A file holds pickled objects.
    """
    if layout not in READERS:
        raise InputError(
            f"Expected the layout {', '.join(READERS)}, got {layout!r}. Check --signals-layout."
        )
    if not path.is_dir():
        raise InputError(
            f"Expected a folder for the layout {layout}, got {str(path)!r}. Give the folder that "
            "holds all models' files."
        )
    return READERS[layout](path, model)
