"""Plan an audit: everything that decides it apart from the data and the model.

A plan may be published.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from pydantic import JsonValue

from memberscope import _check
from memberscope.attacks import find_attacks, find_counterpart, is_shipped, list_attacks
from memberscope.auditing.documents.effort import EFFORTS, Effort, SearchBudget
from memberscope.auditing.documents.plan_document import (
    Assignment,
    CustomDocument,
    PlanDocument,
    ThreatDocument,
)
from memberscope.auditing.documents.policy import Policy
from memberscope.errors import InputError
from memberscope.outputs import parse_restriction
from memberscope.signals import check_view
from memberscope.statistics import can_resolve_fpr, smallest_fpr
from memberscope.types import Attack, Task, ThreatModel, get_ladder

DEFAULT_FPRS = (0.1, 0.01, 0.001, 0.0001)


@dataclass(frozen=True)
class Plan:
    """What will be run and how it will be judged.

    `fprs` of None means those of 10%, 1%, 0.1% and 0.01% that the records resolve. `assignment` of
    `independent_coins` declares that a fair coin decided each record's membership.
    `assume_exchangeable` declares that members and non-members come from one distribution where the
    blind control cannot check it. `drop_overlap` leaves out of both sides the records that stand on
    both, and units that do.

    With a recipe, `references` models of `reference_size` records (None: as many as the members)
    are trained, and each record is asked about once a view (see `signals.view`). `unit` is the name
    of the column whose values stand in `Records.unit`. `targets` further models are trained and
    audited as the target is, each on records drawn for it alone: what the training procedure does,
    besides what this one model does.

    `restrictions` are output defences (see `defences.restriction`) tried beside the level in force,
    one level each. `assume_class_order` declares that the classes stand in the model's order
    although the labels fit another one better. `custom` are attacks that `attacks` names and that
    neither this package nor an installed one has. `all_estimates` estimates every attack by class
    and group, not only the leading one of each level.

    `effort` decides the numbers that are None: `references`, `search_queries` a record for each
    label-only search (0 for none) and `boundary_queries` for the boundary search. `quick` chooses
    them so that the audit takes `time_budget` seconds or so, as measured on the first answers; the
    numbers stand in the result's plan, which gives the same result wherever it is run again. `task`
    is that of the target; an audit sets it.
    """

    title: str = "audit"
    threat: ThreatModel = field(default_factory=ThreatModel)
    attacks: tuple[str, ...] = field(default_factory=lambda: tuple(list_attacks()))
    fprs: tuple[float, ...] | None = None
    priors: tuple[float, ...] = (0.01, 0.1, 0.5)
    confidence: float = 0.95
    folds: int = 5
    seed: int = 0
    policy: Policy | None = None
    assume_exchangeable: bool = False
    assignment: Assignment = "unknown"
    drop_overlap: bool = False
    references: int | None = None
    reference_size: int | None = None
    views: tuple[str, ...] = ("identity",)
    unit: str | None = None
    targets: int = 0
    restrictions: tuple[str, ...] = ("top:1", "top:3", "round:2")
    search_queries: int | None = None
    assume_class_order: bool = False
    effort: Effort = "quick"
    boundary_queries: int | None = None
    time_budget: float | None = None
    custom: tuple[Attack, ...] = ()
    all_estimates: bool = False
    task: Task = "classification"

    def __post_init__(self) -> None:
        for rate in (*(self.fprs or ()), *self.priors, self.threat.prior):
            _check.check_rate("fpr or prior", rate)
        _check.check_rate("confidence", self.confidence)
        if self.seed < 0:
            raise InputError(f"Expected a seed of at least 0, got {self.seed}. Give another one.")
        # Thresholds need a fold to learn on and one to choose on beside the one that is judged
        if self.folds < 3:
            raise InputError(
                f"Expected at least 3 folds, got {self.folds}. Thresholds are learned on other "
                "folds; use 5."
            )
        # The budget bounds views as well, since each view of a record is a query
        budget = self.threat.query_budget
        if budget is not None and budget < 1:
            raise InputError(
                f"Expected a query budget of at least 1 per record, got {budget}. Every attack "
                "asks once."
            )
        if budget is not None and len(self.views) > budget:
            raise InputError(
                f"Expected at most {budget} views for the query budget, got {len(self.views)}. "
                "Leave some out."
            )
        # Attacks that read one answer take the first view, which must be the record itself
        if not self.views or self.views[0] != "identity" or len(set(self.views)) < len(self.views):
            raise InputError(
                f"Expected different views, identity first, got {list(self.views)}. Begin --views "
                "with identity, and name each view once."
            )
        for name in self.views:
            check_view(name)
        self._check_effort()
        if self.references is not None and self.references < 1:
            raise InputError(
                f"Expected at least one reference model, got {self.references}. Give --references "
                "16."
            )
        granted = self.threat.references
        if granted is not None and granted < 0:
            raise InputError(
                f"Expected references of at least 0 in the threat model, got {granted}. Give 0 for "
                "none."
            )
        if self.targets < 0:
            raise InputError(
                f"Expected no or some target models, got {self.targets}. Give --targets 3, or "
                "leave it out."
            )
        # Parsed here, so that a misspelt restriction fails before anything is asked
        for name in (
            *self.restrictions,
            *((self.threat.restriction,) if self.threat.restriction else ()),
        ):
            parse_restriction(name)
        if self.search_queries is not None and self.search_queries < 0:
            raise InputError(
                f"Expected no or some search queries, got {self.search_queries}. Give "
                "--search-queries 256."
            )
        for flag, queries in (
            ("--search-queries", self.search_queries),
            ("--boundary-queries", self.boundary_queries),
        ):
            if budget is not None and queries is not None and queries > budget:
                raise InputError(
                    f"Expected at most {budget} search queries for the query budget, got "
                    f"{queries}. Lower {flag}."
                )
        if taken := [attack.name for attack in self.custom if is_shipped(attack.name)]:
            raise InputError(
                f"Expected another name for an attack of your own than {taken[0]!r}, which comes "
                "with memberscope. Rename it."
            )
        # Unknown attacks fail here as well, those that the policy requires among them
        self.find(self.attacks)
        if self.policy is not None:
            self.find(self.policy.require)

    def find(self, names: tuple[str, ...]) -> tuple[Attack, ...]:
        """Find attacks by name, the plan's own among them.

        Raises:
            InputError: A name is unknown.
        """
        return find_attacks(names, self.custom)

    def _check_effort(self) -> None:
        """Refuse an unknown effort, and numbers that it cannot mean.

        Raises:
            InputError: The effort is unknown, or a number is out of range.
        """
        if self.effort not in EFFORTS:
            raise InputError(
                f"Expected an effort of {', '.join(EFFORTS)}, got {self.effort!r}. Give --effort "
                "quick for a first answer."
            )
        if self.boundary_queries is not None and self.boundary_queries < 0:
            raise InputError(
                f"Expected no or some queries for the boundary search, got {self.boundary_queries}. "
                "Give --boundary-queries 20."
            )
        if self.time_budget is None:
            return
        if not 0 < self.time_budget < float("inf"):
            raise InputError(
                f"Expected a time budget of more than 0 seconds, got {self.time_budget}. Give "
                "--time-budget 20."
            )
        if self.effort != "quick":
            raise InputError(
                f"Expected --effort quick for a time budget, got {self.effort}. Leave --time-budget "
                "out: other efforts take as long as they need."
            )

    @classmethod
    def quick(cls, **changes: Any) -> Plan:
        """Plan a first answer within seconds: what an audit does when nobody says.

        >>> Plan.quick(seed=1) == Plan(seed=1)
        True
        """
        return cls(effort="quick", **changes)

    @classmethod
    def normal(cls, **changes: Any) -> Plan:
        """Plan an audit with whole searches and 16 reference models.

        >>> Plan.normal().count_references()
        16
        """
        return cls(effort="normal", **changes)

    @classmethod
    def thorough(cls, **changes: Any) -> Plan:
        """Plan the most that the attacks use: long searches and 64 reference models.

        >>> Plan.thorough().count_references()
        64
        """
        return cls(effort="thorough", **changes)

    def count_references(self) -> int:
        """Count the reference models: those given, or the most of the effort.

        >>> Plan(references=3).count_references()
        3
        """
        return EFFORTS[self.effort].references if self.references is None else self.references

    @property
    def search_budget(self) -> SearchBudget:
        """Queries a record for each search, none where the plan does not say."""
        other = self.search_queries or 0
        return SearchBudget(
            other if self.boundary_queries is None else self.boundary_queries, other
        )

    def chosen(self) -> tuple[Attack, ...]:
        """List the attacks of the plan that the threat model allows, in order."""
        return tuple(
            attack
            for attack in self.find(self.attacks)
            if self.task in attack.needs.tasks and self.withheld_from(attack) is None
        )

    def list_foreign_attacks(self) -> tuple[Attack, ...]:
        """List the attacks of the plan that attack models of another task."""
        return tuple(
            attack for attack in self.find(self.attacks) if self.task not in attack.needs.tasks
        )

    def withheld(self) -> list[tuple[Attack, str]]:
        """List the attacks that need what the threat model does not grant, each with the reason."""
        reasons = [
            (attack, self.withheld_from(attack))
            for attack in self.find(self.attacks)
            if self.task in attack.needs.tasks
        ]
        return [(attack, why) for attack, why in reasons if why is not None]

    def withheld_from(self, attack: Attack) -> str | None:
        """Say why the threat model does not allow an attack; None if it does."""
        threat, needs = self.threat, attack.needs
        # A student is a model of one's own, trained on records that no model saw
        transfers = needs.spec.source == "student"
        if needs.known != "none" and not threat.known_records:
            return "It learns from records of known membership; the threat model grants none (known_records = false)."
        if threat.references == 0 and (any(needs.references) or transfers):
            return "It needs reference models; the threat model grants none (references = 0)."
        if threat.population is False and (needs.population or transfers):
            return "It needs a population that no model saw; the threat model grants none (population = false)."
        return None

    def all_priors(self) -> tuple[float, ...]:
        """List the threat model's prior first, then the other ones."""
        claimed = [claim.prior for claim in self.policy.max_ppv] if self.policy else []
        return tuple(dict.fromkeys((self.threat.prior, *self.priors, *claimed)))

    def claim_fprs(self) -> tuple[float, ...]:
        """List the false-positive rates that the policy speaks of."""
        if self.policy is None:
            return ()
        rates = [claim.fpr for claim in self.policy.max_tpr] + [
            claim.fpr for claim in self.policy.max_ppv
        ]
        return tuple(dict.fromkeys(rates))

    def resolvable_fprs(self, n_non_members: int) -> tuple[float, ...]:
        """List the rates to report, from large to small.

        Raises:
            InputError: A rate that was asked for, or that the policy needs, cannot be resolved by
        so few non-members.
        """
        smallest = smallest_fpr(n_non_members)
        # What was asked for must be resolved; defaults are dropped silently where they cannot be
        asked = (*(self.fprs or ()), *self.claim_fprs())
        for fpr in asked:
            if not can_resolve_fpr(fpr, n_non_members):
                raise InputError(
                    f"Expected at least {int(-(-1 // fpr))} non-members for an FPR of {fpr:g}, got "
                    f"{n_non_members}. "
                    f"Give more non-members, or use an FPR of at least {smallest:.4g}."
                )
        defaults = (
            ()
            if self.fprs
            else tuple(fpr for fpr in DEFAULT_FPRS if can_resolve_fpr(fpr, n_non_members))
        )
        return tuple(sorted({*asked, *defaults}, reverse=True))

    def document(self, execution: Mapping[str, JsonValue] | None = None) -> PlanDocument:
        """Write the plan as data, as it stands in the result.

        `execution` says how reference models were trained; None where there were none.
        """
        found = {name.name: getattr(self, name.name) for name in fields(self)}
        found["threat"] = ThreatDocument.of(self.threat)
        # Versions are kept, as another version of an attack gives other scores
        attacks = self.find(self.attacks)
        found["versions"] = {attack.name: attack.version for attack in attacks}
        # With the hash of their code, so that changed code makes another plan
        own = [CustomDocument.of(attack) for attack in attacks if not is_shipped(attack.name)]
        found["custom"] = own or None
        return PlanDocument.model_validate({**found, "execution": execution})

    @classmethod
    def restore(cls, document: PlanDocument) -> Plan:
        """Restore the plan that was written as `document`."""
        found = {name.name: getattr(document, name.name) for name in fields(cls)}
        # Documents have lists where the plan has tuples
        found |= {name: tuple(value) for name, value in found.items() if isinstance(value, list)}
        own = [entry.restore(document.versions[entry.name]) for entry in document.custom or ()]
        return cls(**{**found, "threat": document.threat.restore(), "custom": tuple(own)})

    def digest(self) -> str:
        """Compute the SHA-256 of the plan.

        >>> Plan().digest() == Plan().digest() != Plan(seed=1).digest()
        True
        """
        found = self.document().model_dump(mode="json")
        return hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class EstimateSettings:
    """What the estimates depend on besides the arrays: rates, priors and confidence.

    The threat model's prior comes first. `all_estimates` takes every attack by class and group;
    `claimed` are the rates that a policy speaks of.
    """

    fprs: tuple[float, ...]
    priors: tuple[float, ...]
    confidence: float
    all_estimates: bool = False
    claimed: tuple[float, ...] = ()


def fit_plan_to_task(plan: Plan, task: Task) -> Plan:
    """Fit a plan to the task of the target.

    The access that was granted becomes the corresponding level of the task, and where no attacks
    were named they are those of the task. A named attack that has other settings there gets them.

    >>> fit_plan_to_task(Plan(), "text").threat.access.word
    'token_probabilities'
    """
    if plan.task == task and plan.threat.access.ladder == get_ladder(task):
        return plan
    usual = tuple(list_attacks(plan.task))
    # Those on somebody's own signals stand behind the usual ones
    if plan.attacks[: len(usual)] == usual:
        attacks = (*list_attacks(task), *plan.attacks[len(usual) :])
    else:
        suited = [(one, find_counterpart(one, task)) for one in plan.find(plan.attacks)]
        names = [one.name if other is None else other.name for one, other in suited]
        attacks = tuple(dict.fromkeys(names))
    tried = () if plan.restrictions == Plan.restrictions else plan.restrictions
    limit = plan.threat.restriction
    # By its first name, which levels and guards have, so that no-logprobs is label
    limit = None if limit is None else parse_restriction(limit).name
    return replace(
        plan,
        task=task,
        attacks=attacks,
        threat=replace(plan.threat, access=plan.threat.access.at(task), restriction=limit),
        restrictions=plan.restrictions if task == "classification" else tried,
    )
