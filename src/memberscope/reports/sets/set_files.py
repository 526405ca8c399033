"""Write `set-result.json`, `set-report.html` and `named.csv`, and read the first."""

from __future__ import annotations

import csv
import io
import json
from os import PathLike
from pathlib import Path

from pydantic import ValidationError

from memberscope._files import (
    explain_read_error,
    read_json,
    translate_disk_errors,
    write_bytes,
)
from memberscope.auditing import SetResult, hash_ids
from memberscope.auditing.sets import SET_FORMAT, NamedRecords
from memberscope.errors import InputError
from memberscope.reports.files.records_csv import escape_formula
from memberscope.reports.sets.set_html import render_set_result

DOCUMENT, PAGE, LIST = "set-result.json", "set-report.html", "named.csv"


def save_set_result(found: SetResult, folder: str | PathLike[str], *, records: bool = True) -> Path:
    """Write the answers into `folder`, as JSON and as a page, and the named list.

    That is left out where there is none, or without `records`.

    A list that an earlier run left is removed where this one writes none.

    Raises:
        InputError: The disk is full or the folder cannot be written.
    """
    place = Path(folder)
    text = json.dumps(found.model_dump(mode="json"), indent=1, ensure_ascii=False, allow_nan=False)
    if records and found.named is not None:
        # The file names people and says that they were in the training data
        write_bytes(place / LIST, _build_named_csv(found.named), mode=0o600)
    else:
        with translate_disk_errors(place / LIST):
            (place / LIST).unlink(missing_ok=True)
    write_bytes(place / PAGE, render_set_result(found).encode())
    write_bytes(place / DOCUMENT, f"{text}\n".encode())
    return place


def _build_named_csv(named: NamedRecords) -> bytes:
    """Build the contents of `named.csv`: one line a record, the smallest p-values first."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    units = [] if named.unit is None else [named.unit.tolist()]
    writer.writerow(["id", "hash", *(["unit"] if units else []), "p_value"])
    ids = map(escape_formula, map(str, named.ids))
    writer.writerows(
        zip(ids, hash_ids(named.ids), *units, map(repr, named.p_values.tolist()), strict=True)
    )
    return stream.getvalue().encode()


def read_set_result(path: str | Path) -> SetResult:
    """Read the answers from `set-result.json`, or from the folder that holds it.

    Raises:
        InputError: It is missing, truncated, of another format, or does not fit the schema.
    """
    file = Path(path)
    file = file / DOCUMENT if file.is_dir() else file
    try:
        document = read_json(file)
    except (OSError, ValueError) as error:
        raise InputError(
            f"Expected complete JSON in {file}, got: {explain_read_error(error)}. Run `memberscope "
            "set-test` again."
        ) from error
    form = document.get("format") if isinstance(document, dict) else None
    if form != SET_FORMAT:
        raise InputError(
            f"Expected answers about a collection ({SET_FORMAT}) in {file}, got {form!r}. Run "
            "`memberscope set-test` again."
        )
    try:
        return SetResult.model_validate(document)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise InputError(
            f"Expected answers as the schema says, got {first['msg']} at {place} in {file}. Run "
            "`memberscope set-test` again."
        ) from error


def set_result_schema() -> dict[str, object]:
    """Build the JSON Schema of the document."""
    found: dict[str, object] = SetResult.model_json_schema()
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": SET_FORMAT,
        **found,
    }
