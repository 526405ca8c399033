"""The record of text canaries to keep: what was drawn, and what each coin said."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from memberscope._files import read_json
from memberscope.errors import InputError
from memberscope.recipes.texts.canaries import TextCanary
from memberscope.texts import Completion, TextRecord

FORMAT = "memberscope-text-canaries/1"


@dataclass(frozen=True)
class CanaryRecord:
    """The canaries of one training run, `kind` as in `CanarySettings`.

    `tokenizer` is the hash of the one they were drawn with, and `train_digest` that of the training
    file. The ids of the canaries begin with the `run`, so that scores of another run are not
    taken for theirs.
    """

    kind: str
    tokenizer: str
    train_digest: str
    canaries: tuple[TextCanary, ...]

    @property
    def run(self) -> str:
        """Hash of the canaries and coins."""
        text = json.dumps([_list_fields(canary) for canary in self.canaries], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    @property
    def ids(self) -> list[str]:
        """Ids of the canaries, in their order."""
        return [f"{self.run}-{k}" for k in range(len(self.canaries))]

    def build_document(self) -> dict[str, Any]:
        """Build the content of the file."""
        rows = [
            {"id": name, **_list_fields(canary)}
            for name, canary in zip(self.ids, self.canaries, strict=True)
        ]
        about = {"kind": self.kind, "tokenizer": self.tokenizer, "train_sha256": self.train_digest}
        return {"format": FORMAT, "run": self.run, **about, "canaries": rows}


def read_canary_record(path: Path) -> CanaryRecord:
    """Read the record of text canaries.

    Raises:
        InputError: It is missing, damaged, or was changed since.
    """
    found = read_json(path)
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        got = found.get("format") if isinstance(found, dict) else type(found).__name__
        raise InputError(
            f"Expected a record of text canaries ({FORMAT}) in {path}, got {got!r}. Give the file "
            "that `memberscope canaries export` wrote."
        )
    try:
        canaries = tuple(_read_canary(row) for row in found["canaries"])
        record = CanaryRecord(
            str(found["kind"]), str(found["tokenizer"]), str(found["train_sha256"]), canaries
        )
        ids = [row["id"] for row in found["canaries"]]
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"Expected a whole record of text canaries in {path}, got one without {error}. Use the "
            "file as it was written."
        ) from error
    if found.get("run") != record.run or ids != record.ids:
        raise InputError(
            f"Expected the canaries of run {found.get('run')} in {path}, got others: the file was "
            "changed since. Use it as it was written."
        )
    return record


def _list_fields(canary: TextCanary) -> dict[str, Any]:
    """List the fields of a canary as JSON has them."""
    return {
        "scored": write_text_record(canary.scored),
        "trained": write_text_record(canary.trained),
        "tokens": canary.tokens,
        "repetitions": canary.repetitions,
        "inside": canary.inside,
    }


def _read_canary(row: dict[str, Any]) -> TextCanary:
    """Read a canary from its fields."""
    return TextCanary(
        _read_text_record(row["scored"]),
        _read_text_record(row["trained"]),
        int(row["tokens"]),
        int(row["repetitions"]),
        bool(row["inside"]),
    )


def write_text_record(record: TextRecord) -> dict[str, Any]:
    """Write a text, or a prompt with its completion, as a line of JSON lines has it.

    >>> write_text_record(Completion("2 + 2 =", " 4"))
    {'prompt': '2 + 2 =', 'completion': ' 4'}
    """
    return asdict(record) if isinstance(record, Completion) else {"text": record}


def _read_text_record(row: dict[str, str]) -> TextRecord:
    """Read what `write_text_record` wrote."""
    return row["text"] if "text" in row else Completion(row["prompt"], row["completion"])
