"""Answers about a collection as a document: what `set-result.json` holds."""

from __future__ import annotations

from os import PathLike
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.json_schema import SkipJsonSchema

from memberscope._version import Tool
from memberscope._views import load_view
from memberscope.auditing.sets.answer import SetAnswer, SetControl
from memberscope.auditing.sets.settings import SetSettings

SET_FORMAT = "memberscope-set-result/1"


class SetResult(BaseModel):
    """The answers to questions about a collection of records, from the scores of an audit.

    The members of that audit are the suspect collection and its non-members the held-out records.
    `digests` are those of the audit, so that a reader can tell which one it was. `named` stays in
    memory and in `named.csv`, never in the document.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)

    format: Literal["memberscope-set-result/1"] = "memberscope-set-result/1"
    tool: Tool
    title: str
    settings: SetSettings
    attacks: list[str]
    n_suspect: int
    n_held_out: int
    n_suspect_units: int | None
    n_held_out_units: int | None
    controls: list[SetControl]
    answers: list[SetAnswer]
    notes: list[str]
    digests: dict[str, str]
    # Names of records do not belong into a document that is passed on
    named: SkipJsonSchema[Any] = Field(default=None, exclude=True, repr=False)

    def find(self, question: str) -> SetAnswer | None:
        """Find the answer to a question, None where it was not asked."""
        return next((entry for entry in self.answers if entry.question == question), None)

    def save(self, folder: str | PathLike[str]) -> Any:
        """Save set-result.json and set-report.html in `folder`, and named.csv, which only its owner may read.

        Raises:
            InputError: The folder cannot be written.
        """
        return load_view("save_set_result")(self, folder)
