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

from memberscope.attacks import CustomAttack, has_log_ratio
from memberscope.auditing.documents.effort import Effort
from memberscope.auditing.documents.policy import Policy, parse_policy_table
from memberscope.types import Access, Attack, Needs, SignalSpec, Task, ThreatModel

AccessWord = Literal[
    "label",
    "probabilities",
    "logits",
    "white_box",
    "generations",
    "top_tokens",
    "token_probabilities",
    "vocabulary",
    "weights",
    "prediction",
]
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


@dataclass(frozen=True)
class CustomDocument:
    """An attack of somebody's own as data: the hash of its code, and what it needs.

    `signal` names what it reads, and `log_ratio` says that its scores are log likelihood ratios.
    With this a result is verified where the code is not at hand.
    """

    name: str
    digest: str
    access: AccessWord
    signals: list[str]
    known: Literal["none", "non_members", "both"]
    features: bool
    population: bool
    references: tuple[int, int]
    signal: str
    tasks: tuple[Task, ...] = ("classification",)
    log_ratio: bool = False

    @classmethod
    def of(cls, attack: Attack) -> CustomDocument:
        """Write an attack as data."""
        needs = attack.needs
        return cls(
            attack.name,
            attack.digest if isinstance(attack, CustomAttack) else "",
            needs.access.word,  # type: ignore[arg-type]
            list(needs.signals),
            needs.known,
            needs.features,
            needs.population,
            (int(needs.references[0]), int(needs.references[1])),
            needs.spec.name,
            needs.tasks,
            has_log_ratio(attack),
        )

    def restore_needs(self) -> Needs:
        """Restore what the attack needs."""
        return Needs(
            Access[self.access.upper()],
            tuple(self.signals),  # type: ignore[arg-type]
            SignalSpec(self.signal),  # type: ignore[arg-type]
            self.known,
            self.features,
            self.population,
            (self.references[0], self.references[1]),
            self.tasks,
        )

    def restore(self, version: int) -> CustomAttack:
        """Restore the attack without its code."""
        return CustomAttack(
            self.name, version, self.restore_needs(), self.digest, log_ratio=self.log_ratio
        )


class PlanDocument(BaseModel):
    """The fields of a `Plan`, with the `versions` of its attacks.

    `custom` are the attacks that do not come with this package; it is left out where there are
    none.

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
    references: int | None
    reference_size: int | None
    views: list[str]
    unit: str | None
    targets: int
    restrictions: list[str]
    search_queries: int | None
    assume_class_order: bool
    effort: Effort = "normal"
    boundary_queries: int | None = None
    time_budget: float | None = None
    all_estimates: bool = False
    task: Task = "classification"
    versions: dict[str, int]
    custom: list[CustomDocument] | None = None
    execution: dict[str, JsonValue] | None = None

    @model_serializer(mode="wrap")
    def _leave_out_absent(self, write: SerializerFunctionWrapHandler) -> dict[str, object]:
        found: dict[str, object] = write(self)
        # Plans were written before attacks could say it, and must keep their digests
        for own in found["custom"] or ():  # type: ignore[attr-defined]
            if not own["log_ratio"]:
                del own["log_ratio"]
        return {
            name: value
            for name, value in found.items()
            if value is not None or name not in ("custom", "execution")
            # Plans of classifiers were written before there were other tasks
            if name != "task" or value != "classification"
        }
