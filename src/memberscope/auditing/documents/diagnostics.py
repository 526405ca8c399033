"""The diagnostics of a result: what a reader expects beside the estimates.

Accuracy, calibration, sizes, power, reference models, single records, duplicates and queries.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict, SerializerFunctionWrapHandler, model_serializer

from memberscope.auditing.documents.comparison import ValueWithLimits
from memberscope.facts import ModelKind


@dataclass(frozen=True)
class MeasuredValue:
    """A number with its limits, from `n` records."""

    value: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class CalibrationSides:
    """Overconfidence (mean confidence minus accuracy) on members and on non-members."""

    member: MeasuredValue
    non_member: MeasuredValue


@dataclass(frozen=True)
class UnitCounts:
    """People or documents on each side, and the column that names them if it was given.

    The effective numbers are those of as many units of equal size that say as much. `dropped` units
    stood on both sides, and their `dropped_records` were left out.
    """

    column: str | None
    n_members: int
    n_non_members: int
    effective_members: float | None = None
    effective_non_members: float | None = None
    dropped: int = 0
    dropped_records: int = 0


@dataclass(frozen=True)
class ParameterRatio:
    """Training records for each parameter; null where the model's parameters are not known."""

    n_members: int
    n_parameters: int | None
    ratio: float | None


@dataclass(frozen=True)
class DetectableRate:
    """The smallest TPR at `fpr` that fails `limit` with a probability of 80%; null where none does.

    It allows for `n_tests` comparisons of claims and attacks. `coarse` has the same number for each
    attack that gives too many records the same score for this rate.
    """

    fpr: float
    limit: float
    tpr: float | None
    n_tests: int
    coarse: dict[str, float | None]


@dataclass(frozen=True)
class ReliabilityBin:
    """Predicted and observed share of members of a bin, with limits and counts."""

    predicted: float
    observed: float
    low: float
    high: float
    n_members: float
    n_non_members: float


@dataclass(frozen=True)
class ReliabilityDiagram:
    """How far the probabilities of membership of one attack can be believed at a prior."""

    attack: str
    access: str
    prior: float
    method: str
    bins: list[ReliabilityBin]


@dataclass(frozen=True)
class LeadingAttack:
    """The attack with the highest AUC at the level that the verdict speaks of."""

    attack: str
    access: str
    restriction: str | None


@dataclass(frozen=True)
class ReferenceFidelity:
    """How like the target the reference models are, on records new to both.

    `agreement` is the share of equal top classes, and `calibration_distance` the difference in
    overconfidence. Accuracies are null where no model converged, or none is known.
    """

    models: int
    failed: int
    records_per_model: int
    records_in_every_model: int
    records_in_no_model: int
    train_accuracy: float | None
    held_out_accuracy: float | None
    target_train_accuracy: float | None
    target_held_out_accuracy: float | None
    agreement: float
    calibration_distance: float
    method: str


@dataclass(frozen=True)
class SeparatedRecord:
    """A record by its keyed hash, with the effect of training on the answer about it."""

    record: str
    label: str
    member: bool
    value: float
    low: float
    high: float


@dataclass(frozen=True)
class TopOverlap:
    """The overlap of two tops of `n` records, and what chance gives."""

    n: int
    jaccard: float
    by_chance: float


@dataclass(frozen=True)
class RankAgreement:
    """How alike two measurements order `n_records`; null where all ranks of one are tied."""

    n_records: int
    rank_correlation: float | None
    top: list[TopOverlap]


@dataclass(frozen=True)
class HalvesAgreement:
    """How alike two halves of the reference models, of `models` each, order the records."""

    models: list[int]
    n_records: int
    rank_correlation: float | None
    top: list[TopOverlap]


@dataclass(frozen=True)
class MissingHalves:
    """Why the halves of the reference models were not compared."""

    why: str


@dataclass(frozen=True)
class TargetsAgreement:
    """How alike pairs of further targets order the records that both were trained on."""

    attack: str
    access: str
    pairs: list[RankAgreement]


@dataclass(frozen=True)
class OrderStability:
    """How stable the order of the records is, between halves of the models and between targets."""

    method: str
    halves: HalvesAgreement | MissingHalves
    targets: TargetsAgreement | None


@dataclass(frozen=True)
class VulnerabilitySummary:
    """How many records the reference models separate, and which most.

    `above_zero` and `below_zero` are shares of the records whose interval excludes zero, and
    `by_chance` what each would be if no record were exposed.
    """

    signal: str
    models: int
    confidence: float
    method: str
    n_records: int
    median: float | None
    above_zero: float
    below_zero: float
    by_chance: float
    most: list[SeparatedRecord]
    stability: OrderStability


@dataclass(frozen=True)
class DuplicatePair:
    """A non-member and the member that it duplicates, by their keyed hashes."""

    kind: str
    non_member: str
    member: str


@dataclass(frozen=True)
class OverlapSummary:
    """How many non-members duplicate members, and how many of them were left out.

    `compared_near` counts the records of each side that the search for near duplicates looked at.
    """

    exact: int
    near: int
    compared_near: list[int]
    dropped: int
    examples: list[DuplicatePair]


@dataclass(frozen=True)
class TargetSpread:
    """One number of one attack over the further targets; `own` is that of the audited model.

    `spread` is the standard deviation between targets, null for a single one.
    """

    attack: str
    access: str
    restriction: str | None
    metric: str
    fpr: float | None
    n_targets: int
    mean: float
    spread: float | None
    lowest: float
    highest: float
    own: float | None


@dataclass(frozen=True)
class TargetsSummary:
    """The further target models: how many, how well they learned, and what they share."""

    trained: int
    failed: int
    records_per_model: int
    train_accuracy: list[float]
    held_out_accuracy: list[float]
    method: str
    rows: list[TargetSpread]


@dataclass(frozen=True)
class SpentQueries:
    """Queries a record of one label-only search: the budget, the mean and the most."""

    budget: int
    mean: float
    most: int


@dataclass(frozen=True)
class ModelDescription:
    """What kind of model was audited, as far as its target says.

    `library` and `name` are those of its class. `prefix` stands before the names of its parameters
    in the estimator that was given: empty for the estimator itself, `step__` for the last step of a
    pipeline, null where its parameters are not reached by name. `source` is `signals` where answers
    were stored, and `endpoint` where a server gave them.
    """

    kind: ModelKind | Literal["unknown"]
    library: str | None = None
    name: str | None = None
    prefix: str | None = None
    source: Literal["model", "endpoint", "signals"] = "model"


@dataclass(frozen=True)
class ExtractionRate:
    """Share of the records whose suffix is sampled in `n` tries, on each side."""

    n: int
    members: ValueWithLimits
    non_members: ValueWithLimits


@dataclass(frozen=True)
class ExtractionSummary:
    """How many texts a language model would write out, with probability at least `p`.

    `suffix_tokens` are the last tokens that must be produced, null for all that are scored.
    """

    p: float
    suffix_tokens: int | None
    confidence: float
    method: str
    rates: list[ExtractionRate]


class EndpointDeclaration(BaseModel):
    """What was declared of the endpoint that was audited; what was not is left out."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    protocol: str
    model_name: str | None = None
    answer: str | None = None
    outputs: str
    classes: list[str] | None = None
    n_classes: int | None = None
    columns: list[str] | None = None
    path: str
    body: str | None = None

    @model_serializer(mode="wrap")
    def _leave_out_absent(self, write: SerializerFunctionWrapHandler) -> dict[str, object]:
        return {name: value for name, value in write(self).items() if value is not None}


class Diagnostics(BaseModel):
    """What a reader expects beside the estimates.

    What cannot be had is left out of the document. Three parts are null instead: `overlap` without
    records, `targets` without further target models, and `vulnerability` where reference models
    were trained and show no single record.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    n_members: int
    n_non_members: int
    smallest_fpr: float
    class_sizes: dict[str, int]
    groups_too_small: list[str]
    minimum_detectable_tpr: list[DetectableRate]
    notes: list[str]
    units: UnitCounts | None = None
    train_accuracy: MeasuredValue | None = None
    test_accuracy: MeasuredValue | None = None
    generalisation_gap: ValueWithLimits | None = None
    calibration: CalibrationSides | None = None
    records_per_parameter: ParameterRatio
    model: ModelDescription | None = None
    endpoint: EndpointDeclaration | None = None
    reliability: ReliabilityDiagram | None = None
    leading: LeadingAttack | None = None
    references: ReferenceFidelity | None = None
    vulnerability: VulnerabilitySummary | None = None
    overlap: OverlapSummary | None
    targets: TargetsSummary | None
    extraction: ExtractionSummary | None = None
    searches: dict[str, SpentQueries]

    @model_serializer(mode="wrap")
    def _leave_out_absent(self, write: SerializerFunctionWrapHandler) -> dict[str, object]:
        kept = {"overlap", "targets"}
        kept |= {"vulnerability"} if self.references is not None else set()
        return {
            name: value for name, value in write(self).items() if value is not None or name in kept
        }
