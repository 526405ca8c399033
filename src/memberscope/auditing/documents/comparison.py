"""The comparison of audits as a document: what is written with `memberscope compare --json`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from memberscope._version import Tool

COMPARISON_FORMAT = "memberscope-comparison/1"
Change = Literal["LEAKS_MORE", "NOT_MORE", "INCONCLUSIVE"]
Baseline = Literal["previous", "first"]
Scope = Literal["models", "trainings"]


@dataclass(frozen=True)
class ValueWithLimits:
    """A number with its limits."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Compared:
    """One number in both audits and how it changed, after minus before.

    `before` and `after` have the limits that each audit reports. `difference` has limits of its
    own, made as `method` says.

    `attack` and `access` are null for accuracies. A `claim` bears on the verdict; its `p_value` is
    the probability of such a rise where the truth is no more than the margin, allowing for all
    claims (Holm's correction). Everything else is for information. `of` says whether records are
    found, or the units (people or documents) that they belong to.
    """

    attack: str | None
    access: str | None
    restriction: str | None
    metric: str
    fpr: float | None
    before: ValueWithLimits
    after: ValueWithLimits
    difference: ValueWithLimits
    method: str
    reached_by: tuple[str, str] | None = None
    claim: bool = False
    p_value: float | None = None
    of: Literal["records", "units"] = "records"


@dataclass(frozen=True)
class Release:
    """One audit of the comparison.

    Its name, what it was called, its own verdict, its records and whether scores were at hand.
    """

    name: str
    title: str
    tool_version: str
    verdict: str | None
    n_members: int
    n_non_members: int
    scores: bool


@dataclass(frozen=True)
class TrendPoint:
    """The strongest attack of one release at the level compared.

    Its AUC, or its TPR at a rate, with the limits of its own audit.
    """

    release: str
    metric: Literal["auc", "tpr"]
    fpr: float | None
    value: float
    low: float
    high: float
    reached_by: str


@dataclass(frozen=True)
class AddedRecords:
    """How well the difference of the two releases tells which records were added between them.

    The score is how much surer the later release is: the loss under the earlier minus that under
    the later, as the attack `attack` measures them. `n_added` records are non-members of the
    earlier audit and members of the later, `n_neither` are non-members of both. `by_both` is for
    somebody who asked both releases, `by_later` for one who asked the later one alone. It assumes
    that one id names one record in both audits, and that what was added is like what was not.
    """

    attack: str
    access: str
    restriction: str | None
    metric: Literal["auc", "tpr"]
    fpr: float | None
    by_both: ValueWithLimits
    by_later: ValueWithLimits
    method: str
    n_added: int
    n_neither: int


class Comparison(BaseModel):
    """Whether the last release leaks more than its baseline, and every number that both have.

    `obstacles` say why no verdict could be given, `notes` what was not like with like. `before` and
    `after` name the two releases; `trend` has all of them. `scope` says what is compared: two
    models, or two training procedures, where the variance between trainings is known and allowed
    for. `added` attacks the difference of the two releases, where ids show what was added.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal["memberscope-comparison/1"] = "memberscope-comparison/1"
    tool: Tool
    verdict: Change
    reason: str
    scope: Scope
    margin: float
    baseline: Baseline
    confidence: float
    before: str
    after: str
    releases: list[Release]
    obstacles: list[str]
    notes: list[str]
    compared: list[Compared]
    trend: list[TrendPoint]
    added: list[AddedRecords] = Field(default_factory=list)
