"""Write `result.json` deterministically, and read it.

There is a sentence for every way it can be wrong.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from memberscope._files import explain_read_error, read_json, write_bytes
from memberscope.auditing import Result
from memberscope.auditing.documents import FORMAT
from memberscope.auditing.verdict import restore_plan
from memberscope.errors import InputError

MOST_ESTIMATES = 200_000
MOST_ENTRIES = 10_000
MOST_LEVELS = 200


def format_result_json(result: Result) -> str:
    """Format the document as JSON text, keys in the order of the type, floats as Python does."""
    return (
        json.dumps(result.model_dump(mode="json"), indent=1, ensure_ascii=False, allow_nan=False)
        + "\n"
    )


def write_result(result: Result, path: Path) -> None:
    """Write `result.json`, whole or not at all.

    Raises:
        InputError: The disk is full or the folder cannot be written.
    """
    write_bytes(path, format_result_json(result).encode())


def read_result(path: str | Path) -> Result:
    """Read a result from `result.json` or from the folder that holds it.

    Raises:
        InputError: It is missing, truncated, of another format, or does not fit the schema.
    """
    file = Path(path)
    file = file / "result.json" if file.is_dir() else file
    if not file.is_file():
        raise InputError(
            f"Expected a result.json, got {str(path)!r}, which holds none. Give the folder of an "
            "audit."
        )
    try:
        document: Any = read_json(file)
    except (OSError, ValueError) as error:
        raise InputError(
            f"Expected complete JSON in {file}, got: {explain_read_error(error)}. Run the "
            "audit again."
        ) from error
    # The format first, as another version fails the schema with words that help nobody
    found = document.get("format") if isinstance(document, dict) else None
    if found != FORMAT:
        raise InputError(
            f"Expected a result of this version ({FORMAT}) in {file}, got {found!r}. Audit again: "
            "verdicts of other versions "
            f"rest on other rules."
        )
    _refuse_long_lists(document, file)
    try:
        result = Result.model_validate(document)
        # Rates that the records do not resolve would fail later, in every reader
        restore_plan(result).resolvable_fprs(result.diagnostics.n_non_members)
        return result
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise InputError(
            f"Expected a result as the schema says, got {first['msg']} at {place} in {file}. Run "
            "the audit again."
        ) from error


def _refuse_long_lists(document: dict[str, Any], file: Path) -> None:
    """Refuse a document that no audit wrote and that a report would take hours to lay out.

    Raises:
        InputError: Some list is longer than any audit makes it.
    """
    lists: list[tuple[str, object]] = list(document.items())
    while lists:
        name, value = lists.pop()
        if isinstance(value, list):
            most = MOST_ESTIMATES if name in ("estimates", "budgets") else MOST_ENTRIES
            if len(value) > most:
                raise InputError(
                    f"Expected at most {most} entries of {name} in {file}, got {len(value)}. No "
                    "audit writes so many; run it again."
                )
            # Numbers of estimates hold no lists
            if most == MOST_ENTRIES:
                lists += [(name, part) for part in value if isinstance(part, dict | list)]
        elif isinstance(value, dict):
            lists += value.items()
    levels = {
        (str(entry.get("access")), str(entry.get("restriction")))
        for entry in document.get("estimates") or ()
        if isinstance(entry, dict)
    }
    if len(levels) > MOST_LEVELS:
        raise InputError(
            f"Expected at most {MOST_LEVELS} access levels in {file}, got {len(levels)}. No audit "
            "writes so many; run it again."
        )


def result_schema() -> dict[str, object]:
    """Build the JSON Schema of the result document."""
    found: dict[str, object] = Result.model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": FORMAT, **found}
