"""The plan of an audit as data: what a result and a sweep hold of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    JsonValue,
    SerializerFunctionWrapHandler,
    model_serializer,
)

from memberscope.auditing.documents.policy import Policy, parse_policy_table
from memberscope.types import Access, ThreatModel

AccessWord = Literal["label", "probabilities", "logits", "white_box"]
Assignment = Literal["unknown", "independent_coins"]


def _read_policy(value: Any) -> Any:
    """Read a policy from its table; anything else is left to the type."""
    return parse_policy_table(dict(value)) if isinstance(value, Mapping) else value


PolicyDocument = Annotated[Policy | None, BeforeValidator(_read_policy)]


@dataclass(frozen=True)
class ThreatDocument:
    """A threat model whose access is named by a word."""

    access: AccessWord
    restriction: str | None
    known_records: bool
    population: bool | None
    references: int | None
    query_budget: int | None
    prior: float

    @classmethod
    def of(cls, threat: ThreatModel) -> ThreatDocument:
        """Write a threat model as data."""
        return cls(**{**asdict(threat), "access": threat.access.word})

    def restore(self) -> ThreatModel:
        """Restore the threat model."""
        return ThreatModel(**{**asdict(self), "access": Access[self.access.upper()]})


class PlanDocument(BaseModel):
    """The fields of a `Plan`, with the `versions` of its attacks.

    `execution` says how reference models were trained, where their recipe left it open; it is left
    out of the document where there were none.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    title: str
    threat: ThreatDocument
    attacks: list[str]
    fprs: list[float] | None
    priors: list[float]
    confidence: float
    folds: int
    seed: int
    policy: PolicyDocument
    assume_exchangeable: bool
    assignment: Assignment
    drop_overlap: bool
    references: int
    reference_size: int | None
    views: list[str]
    unit: str | None
    targets: int
    restrictions: list[str]
    search_queries: int | None
    assume_class_order: bool
    all_estimates: bool
    versions: dict[str, int]
    execution: dict[str, JsonValue] | None = None

    @model_serializer(mode="wrap")
    def _leave_out_absent(self, write: SerializerFunctionWrapHandler) -> dict[str, object]:
        found: dict[str, object] = write(self)
        return {
            name: value for name, value in found.items() if value is not None or name != "execution"
        }
