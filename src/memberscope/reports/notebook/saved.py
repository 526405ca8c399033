"""Save a result as the folder that `audit` writes, and load it again."""

from __future__ import annotations

from pathlib import Path

from memberscope.auditing import Result
from memberscope.errors import InputError
from memberscope.reports.files.arrays_file import read_arrays
from memberscope.reports.files.audit_folder import write_all
from memberscope.reports.files.result_json import read_result


def save_result(
    result: Result, folder: str | Path, *, records: bool = True, show_ids: bool = False
) -> Path:
    """Save `result` as result.json, report.html, records.csv and arrays.safetensors in `folder`.

    Raises:
        InputError: The folder is a file or cannot be written.
    """
    path = Path(folder)
    if path.exists() and not path.is_dir():
        raise InputError(
            f"Expected a folder to save in, got the file {str(folder)!r}. Choose another name."
        )
    write_all(result, path, records=records, show_ids=show_ids)
    return path


def load(folder: str | Path) -> Result:
    """Load the result that `audit` or `Result.save` wrote into `folder`, with its arrays.

    Without `arrays.safetensors` the numbers are there and the scores of single records are not.
    What is loaded is not computed again: `memberscope verify` does that.

    Args:
        folder: The folder of an audit, or its result.json.

    Raises:
        InputError: There is no result, or a file is broken or of another version.

    >>> load("/nowhere")
    Traceback (most recent call last):
    ...
    memberscope.errors.InputError: Expected a result.json, got '/nowhere', which holds none. ...
    """
    result, place = read_result(folder), Path(folder)
    place = place if place.is_dir() else place.parent
    if not (place / "arrays.safetensors").is_file():
        return result
    return result.model_copy(update={"arrays": read_arrays(place)})
