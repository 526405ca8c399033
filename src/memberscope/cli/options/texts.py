"""Build the language model and the texts that the options describe."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from memberscope.cli.options.endpoint import build_text_endpoint_target
from memberscope.cli.options.table import Options
from memberscope.errors import InputError

if TYPE_CHECKING:
    from memberscope.auditing import Subject
    from memberscope.targets import LoadedTarget
    from memberscope.types import Records


def build_text_subject(options: Options, loaded: LoadedTarget) -> Subject:
    """Build the language model with its texts, its base model and its prefix.

    Raises:
        InputError: A file or the base model cannot be read, or the sides do not fit.
    """
    from memberscope.auditing import make_text_subject
    from memberscope.targets import load_target, read_text_pair

    target: Any = loaded.target
    if options.base_model is not None and options.url is not None:
        # A base must be served as the target is, so that it is no folder
        target.base = build_text_endpoint_target(options, options.base_model)
    elif options.base_model is not None:
        found = load_target(options.base_model, device=options.device, long=options.long)
        target.base = found.target
    if options.recall_prefix is not None:
        target.prefix = _read_prefix(options.recall_prefix)
    sides = read_text_pair(
        options.members or "", options.non_members or "", **_list_columns(options)
    )
    return make_text_subject(target, *sides, notes=loaded.notes)


def read_texts(options: Options, path: str) -> Records:
    """Read the texts of one file, such as a population.

    Raises:
        InputError: It cannot be read.
    """
    from memberscope.targets import read_text_records

    return read_text_records(path, **_list_columns(options))


def _list_columns(options: Options) -> dict[str, Any]:
    """List the names of columns that the options give."""
    names = ("text", "prompt", "completion", "messages", "id", "unit")
    return {name: getattr(options, name) for name in names} | {"groups": options.groups or ()}


def _read_prefix(path: str) -> str:
    """Read the texts that are put before each record.

    Raises:
        InputError: The file is missing, empty or no text.
    """
    try:
        found = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"Expected a text file for --recall-prefix, got {path!r}: {error}. Check the path."
        ) from error
    if not found.strip():
        raise InputError(
            f"Expected texts in the file of --recall-prefix, got none in {path!r}. Give some that "
            "the model was not trained on."
        )
    return found
