"""Read and keep a baseline: the folder with the audit that later releases are compared with."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from memberscope._files import (
    explain_read_error,
    read_regular_file,
    translate_disk_errors,
    write_bytes,
)
from memberscope.auditing import AuditArrays, Result
from memberscope.errors import InputError
from memberscope.reports.files.arrays_file import read_arrays, write_arrays
from memberscope.reports.files.result_json import read_result

FILES = {"result.json", "arrays.safetensors"}


def read_baseline(path: Path) -> Result:
    """Read the audit of an earlier release, with its scores where they lie beside it.

    Raises:
        InputError: It is missing, truncated, or of another version.
    """
    _restore_former(path)
    if not path.exists():
        raise InputError(
            f"Expected the audit of an earlier release in {str(path)!r}, got nothing there. For the "
            f"first release, leave --baseline out and keep it: --keep-baseline {path}"
        )
    found = read_result(path)
    arrays = (path if path.is_dir() else path.parent) / "arrays.safetensors"
    return found.model_copy(update={"arrays": read_arrays(arrays)}) if arrays.exists() else found


def check_baseline_folder(folder: Path) -> None:
    """Refuse a folder that holds other files than a baseline's, which would be lost.

    Raises:
        InputError: It does, or it is a file.
    """
    _restore_former(folder)
    if folder.exists() and not folder.is_dir():
        raise InputError(
            f"Expected a folder for the baseline, got the file {str(folder)!r}. Choose another name."
        )
    other = sorted(entry.name for entry in folder.glob("*") if entry.name not in FILES)
    if other:
        raise InputError(
            f"Expected a folder of its own for the baseline, got {str(folder)!r} with "
            f"{other[0]!r}. Choose a new folder."
        )


def keep_baseline(source: Path, arrays: AuditArrays, folder: Path) -> None:
    """Keep the audit in `source` as the baseline in `folder`: the result and scores, without ids.

    The folder has the former baseline or the new one, whole, whenever the machine stops: a folder
    that was moved aside is put back by whoever reads next.

    Raises:
        InputError: The disk is full, the folder cannot be written, or it holds other files.
    """
    check_baseline_folder(folder)
    folder = Path(os.path.realpath(folder))
    aside = folder.parent / f".{folder.name}.writing.{os.getpid()}"
    file = source / "result.json" if source.is_dir() else source
    try:
        text = read_regular_file(file)
    except OSError as error:
        raise InputError(
            f"Expected a result in {str(file)!r}, got: {explain_read_error(error)}. Run the audit "
            "again."
        ) from error
    try:
        write_arrays(arrays, aside / "arrays.safetensors", ids=False)
        # The very bytes, since another policy may have judged the result that was read
        write_bytes(aside / "result.json", text)
        with translate_disk_errors(folder):
            former = _name_former(folder)
            if folder.exists():
                # Left by a run that was interrupted after the new baseline was in place
                shutil.rmtree(former, ignore_errors=True)
                os.replace(folder, former)
            os.replace(aside, folder)
            shutil.rmtree(former, ignore_errors=True)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _name_former(folder: Path) -> Path:
    """Name the folder that a baseline is moved to while another takes its place."""
    return folder.parent / f".{folder.name}.former"


def _restore_former(path: Path) -> None:
    """Put back a baseline that was moved aside, where an interrupted run put no other in place."""
    folder = Path(os.path.abspath(path))
    former = _name_former(folder)
    if former.is_dir() and not folder.exists():
        with translate_disk_errors(folder):
            os.replace(former, folder)
    elif former.is_dir():
        # Otherwise it would come back when somebody removes the baseline to begin anew
        shutil.rmtree(former, ignore_errors=True)
