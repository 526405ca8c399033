"""Hold the result of an audit: what `result.json` has, and the arrays that numbers come from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from os import PathLike
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from pydantic.json_schema import SkipJsonSchema

from memberscope._version import Tool
from memberscope._views import load_view
from memberscope.attacks import find_attacks, has_log_ratio
from memberscope.auditing.documents.access_levels import format_level
from memberscope.auditing.documents.diagnostics import Diagnostics
from memberscope.auditing.documents.plan_document import CustomDocument, PlanDocument
from memberscope.statistics import UnitNumbers, number_units
from memberscope.types import Bools, Estimate, Finding, Floats, Ints, Needs, ThreatModel

FORMAT = "memberscope-result/2"


@dataclass(frozen=True, eq=False)
class AttackScores:
    """One attack's output: scores (n,), and the decision thresholds transferred from other folds.

    `learned` attacks were fitted once a fold, so their scores are comparable within a fold only.
    `thresholds` maps an operating point (`fpr=0.01`, `balanced`) to the threshold (k,) that each
    fold was given by records outside it. `queries` a record were spent at most. `restriction` names
    what the outputs were put through; a level that is not `declared` is tried beside the one in
    force: it has no thresholds and no groups. `budgets` (b,) with `stages` (b, n) are the scores
    that fewer queries would have given. `own` declares an attack that does not come with this
    package; None where the name is enough.
    """

    attack: str
    access: str
    learned: bool
    scores: Floats
    thresholds: dict[str, Floats]
    queries: int = 1
    restriction: str | None = None
    declared: bool = True
    budgets: Ints | None = None
    stages: Floats | None = None
    own: CustomDocument | None = None

    @property
    def needs(self) -> Needs:
        """What the attack needs."""
        return self.own.restore_needs() if self.own else find_attacks((self.attack,))[0].needs

    @property
    def is_log_ratio(self) -> bool:
        """True if the scores are log likelihood ratios, which add over the records of a unit."""
        return self.own.log_ratio if self.own else has_log_ratio(find_attacks((self.attack,))[0])

    @property
    def level(self) -> str:
        """The level's name, such as `probabilities top:1`."""
        return format_level(self.access, self.restriction)

    @property
    def name(self) -> str:
        """Attack and level, `attack@level`: the key of everything that is kept by attack."""
        return f"{self.attack}@{self.level}"


@dataclass(frozen=True, eq=False)
class AuditArrays:
    """Everything needed to recompute the estimates without the model, record by record (n,).

    `fold` numbers the cross-fitting folds from 0. `groups` maps a group's name (`class` included)
    to codes (n,) into `group_values`. `posterior` and `comparable` are (n,) for each attack by
    `attack@level`: the probability of membership at the prior, and the score as it is, or, of
    learned attacks, as a position among the fold's non-members; higher for likelier members.
    `vulnerability` (n, 3) is each record's separation under the reference models, with its limits;
    NaN where it has none. `overlap` (n,) marks non-members that duplicate a member. `targets` holds
    the same of each further target model by its name; the records are the same, `member` and `fold`
    its own. `unit` (n,) numbers the people or documents that records belong to; None where each
    record stands for itself. `null_draw` (n,) marks the non-members that the null control took for
    members; None where it follows from the ids.
    """

    ids: NDArray[np.str_]
    member: Bools
    labels: Ints
    fold: Ints
    scored: tuple[AttackScores, ...]
    groups: dict[str, Ints] = field(default_factory=dict)
    group_values: dict[str, tuple[str, ...]] = field(default_factory=dict)
    posterior: dict[str, Floats] = field(default_factory=dict)
    comparable: dict[str, Floats] = field(default_factory=dict)
    targets: dict[str, AuditArrays] = field(default_factory=dict)
    vulnerability: Floats | None = None
    overlap: Bools | None = None
    unit: Ints | None = None
    null_draw: Bools | None = None

    @cached_property
    def unit_numbers(self) -> UnitNumbers | None:
        """The units, numbered once for all attacks; None where each record stands for itself."""
        return None if self.unit is None else number_units(self.member, self.unit)


@dataclass(frozen=True)
class NotRun:
    """Something that was asked for or expected and did not run, and why."""

    attack: str
    access: str
    why: str


@dataclass(frozen=True)
class Control:
    """The outcome of one control.

    `passed` is null when it could not run, and `why` is a sentence either way.
    """

    passed: bool | None
    why: str
    value: float | None = None
    low: float | None = None
    high: float | None = None
    smallest_detectable: float | None = None
    details: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Cost:
    """What the audit spent; `seconds` is wall time and `queries` counts records sent to the model.

    `models_trained` counts reference models and further targets. What an earlier, interrupted run
    spent of models and queries counts too; `training_seconds` is the wall time of this run's share
    of them.
    """

    seconds: float
    queries: int
    models_trained: int = 0
    models_failed: int = 0
    training_seconds: float = 0.0


@dataclass(frozen=True)
class ExposedRecord:
    """One of the most exposed records.

    It has its keyed hash, its class, the attack that is surest of it, and how probable that attack
    makes its membership.

    `score` is the share of non-members that look less like members to that attack, in (0, 1).

    `vulnerability` is how far training on the record moves the answer about it, in standard
    deviations and with limits, where there are reference models.
    """

    record: str
    label: str
    member: bool
    attack: str
    posterior: float
    score: float
    vulnerability: float | None = None
    vulnerability_low: float | None = None
    vulnerability_high: float | None = None


class Result(BaseModel):
    """The whole account of an audit.

    In a notebook it shows as a card. `arrays` stays in memory and in `arrays.safetensors`, never in
    the document.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)

    format: Literal["memberscope-result/2"] = "memberscope-result/2"
    tool: Tool
    verdict: Literal["PASS", "FAIL", "INCONCLUSIVE"] | None
    reason: str
    limited: bool = False
    title: str
    plan: PlanDocument
    threat_models: list[ThreatModel]
    findings: list[Finding]
    estimates: list[Estimate]
    budgets: list[Estimate]
    by_unit: list[Estimate] = Field(default_factory=list)
    controls: dict[str, Control]
    not_run: list[NotRun]
    diagnostics: Diagnostics
    exposed: list[ExposedRecord]
    cost: Cost
    environment: dict[str, str]
    digests: dict[str, str]
    # Scores by record do not belong into a document that is passed on
    arrays: SkipJsonSchema[Any] = Field(default=None, exclude=True, repr=False)

    @property
    def estimates_by_attack(self) -> dict[str, list[Estimate]]:
        """The estimates of each attack, in order; grouped at the first use."""
        kept = self.__dict__.get("_grouped")
        # A copy with other estimates brings along what was kept for the former
        if kept is None or kept[0] is not self.estimates:
            found: dict[str, list[Estimate]] = {}
            for entry in self.estimates:
                found.setdefault(entry.attack, []).append(entry)
            kept = self.__dict__["_grouped"] = (self.estimates, found)
        grouped: dict[str, list[Estimate]] = kept[1]
        return grouped

    def __repr__(self) -> str:
        """Describe the verdict and the headline in at most five lines."""
        return str(load_view("describe_result")(self))

    __str__ = __repr__

    def __rich_repr__(self) -> Iterator[Any]:
        yield from (("verdict", self.verdict), ("title", self.title), ("reason", self.reason))

    def _repr_html_(self) -> str:
        """Render the summary of the report as a card, as notebooks show it."""
        return str(load_view("render_card")(self))

    def to_frame(self, backend: Literal["pandas", "polars"] | None = None) -> Any:
        """Give the estimates as a data frame, one row an estimate.

        Args:
            backend: The library of the frame; None takes the one that is loaded, or else installed,
                pandas before polars.

        Raises:
            InputError: The library is not installed.
        """
        return load_view("build_estimate_frame")(self, backend)

    def scores(
        self, backend: Literal["pandas", "polars"] | None = None, *, show_ids: bool = False
    ) -> Any:
        """Give the scores as a data frame, one row a record and one column an `attack@level`.

        Records are named by keyed hashes, as in the report, or by their ids if `show_ids`. Scores
        of attacks that were fitted fold by fold compare within a `fold` only.

        Raises:
            InputError: The result has no arrays, or the library is not installed.
        """
        return load_view("build_score_frame")(self, backend, show_ids=show_ids)

    def records(
        self, backend: Literal["pandas", "polars"] | None = None, *, show_ids: bool = False
    ) -> Any:
        """Give the records as a data frame: side, class, groups, and each attack's risk.

        `risk:attack@level` is the probability of membership at the threat model's prior.

        Raises:
            InputError: The result has no arrays, or the library is not installed.
        """
        return load_view("build_record_frame")(self, backend, show_ids=show_ids)

    def roc(self, attack: str, access: str | None = None) -> Any:
        """Give the ROC of an attack as arrays `fpr`, `tpr` and `threshold` (v,).

        Args:
            attack: The name of an attack that ran.
            access: The level, such as `label` or `probabilities top:1`; None takes the highest
                in force.

        Raises:
            InputError: The result has no arrays, or the attack did not run there.
        """
        return load_view("build_roc_points")(self, attack, access)

    @property
    def plot(self) -> Any:
        """The charts `roc()` and `groups()`, drawn by matplotlib on given or new axes."""
        return load_view("build_plots")(self)

    def save(
        self, folder: str | PathLike[str], *, records: bool = True, show_ids: bool = False
    ) -> Any:
        """Save result.json, report.html, records.csv and arrays.safetensors in `folder`.

        Args:
            folder: Where to write; it is made where it does not exist.
            records: Whether to write records.csv, and the ids into arrays.safetensors.
            show_ids: Whether the report names records by their ids.

        Returns:
            The path of the folder, which `memberscope.load` reads.

        Raises:
            InputError: The folder cannot be written.
        """
        return load_view("save_result")(self, folder, records=records, show_ids=show_ids)

    def write(self, path: str | PathLike[str], format: str | None = None) -> Any:
        """Write the result as a file that another program reads, such as `audit.sarif`.

        Args:
            path: The file; its suffix says the format (`memberscope.reports.list_formats`).
            format: The format, where the suffix does not say it.

        Returns:
            The path.

        Raises:
            InputError: There is no such format, or the file cannot be written.
        """
        return load_view("write_format")(self, path, format)

    def citations(self) -> list[Any]:
        """List the works behind the attacks that ran, each with `arxiv`, `bibtex`, `attacks`."""
        found: list[Any] = load_view("list_citations")(self)
        return found


BALANCED = "balanced"


def name_operating_point(fpr: float) -> str:
    """Name the operating point at a false-positive rate.

    >>> name_operating_point(0.01)
    'fpr=0.01'
    """
    return f"fpr={fpr:g}"
