"""What the history keeps of an audit or a comparison: numbers, digests and names.

It keeps no ids, no scores and no records. The label of the worst group, such as `sex=f`, is kept: at
least ten members and ten non-members share it, or there would be no estimate, and the report names
it too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pydantic import AwareDatetime, FiniteFloat

from memberscope.auditing import STRONGEST, Comparison, Result
from memberscope.auditing.documents import format_level
from memberscope.reports.select import find_estimate, find_headline, find_worst_group, list_levels
from memberscope.types import Estimate

Kind = Literal["audit", "canaries", "sweep", "demo", "comparison"]
NO_POLICY = "NO POLICY"
COMPARED = {"LEAKS_MORE": "LEAKS MORE", "NOT_MORE": "NOT MORE"}


@dataclass(frozen=True)
class PastNumber:
    """The strongest attack's number at one level of access, with its limits.

    `metric` is `tpr` or `auc`. In a comparison the value is a difference, after minus before.
    """

    access: str
    restriction: str | None
    metric: str
    fpr: FiniteFloat | None
    value: FiniteFloat
    low: FiniteFloat
    high: FiniteFloat
    attack: str
    group: str | None = None

    @property
    def level(self) -> str:
        """The level's name, such as `probabilities top:1`."""
        return format_level(self.access, self.restriction)


@dataclass(frozen=True)
class PastAudit:
    """One audit or comparison of the history.

    `model` is the name that a trend goes by: the title of the audit. `numbers` go from the weakest
    level of access to the highest. `digests` are those of `model`, `records`, `plan` and `result`,
    as far as there are any. `report` is the path of the page, empty without one. `controls` say by
    name whether each passed, None where it could not run. `id` is None until it is kept.
    """

    time: AwareDatetime
    kind: Kind
    model: str
    title: str
    verdict: str | None
    limited: bool
    policy: str | None
    confidence: FiniteFloat
    n_members: int
    n_non_members: int
    numbers: tuple[PastNumber, ...]
    worst: PastNumber | None
    controls: dict[str, bool | None]
    digests: dict[str, str]
    report: str
    version: str
    id: int | None = None

    @property
    def verdict_words(self) -> str:
        """The verdict as readers see it."""
        limited = " (limited)" if self.limited else ""
        return COMPARED.get(self.verdict or "", self.verdict or NO_POLICY) + limited

    def find_last(self, metric: str) -> PastNumber | None:
        """Find the number of a metric at the highest level of access."""
        return next((entry for entry in reversed(self.numbers) if entry.metric == metric), None)


def summarise_audit(
    result: Result,
    *,
    time: AwareDatetime,
    report: str,
    digest: str,
    kind: Kind = "audit",
    name: str | None = None,
) -> PastAudit:
    """Summarise a result for the history.

    Args:
        result: The audit.
        time: When it was audited; a result says nothing of time.
        report: The path of its page.
        digest: The SHA-256 of its result.json.
        kind: Which command audited.
        name: The name in the history; None for the title of the audit.
    """
    title = result.title if name is None else name
    sizes = result.diagnostics
    # Answers stand in for a model that has no digest
    found = result.digests
    model = found.get("target", found.get("outputs"))
    digests = {"model": model, "records": found.get("records"), "plan": found.get("plan")}
    return PastAudit(
        time=time,
        kind=kind,
        model=title,
        title=title,
        verdict=result.verdict,
        limited=result.limited,
        policy=None if result.plan.policy is None else result.plan.policy.name,
        confidence=result.plan.confidence,
        n_members=sizes.n_members,
        n_non_members=sizes.n_non_members,
        numbers=tuple(_list_numbers(result)),
        worst=_find_worst_group(result),
        controls={control: outcome.passed for control, outcome in result.controls.items()},
        digests={key: value for key, value in digests.items() if value} | {"result": digest},
        report=report,
        version=result.tool.version,
    )


def summarise_comparison(
    comparison: Comparison, *, time: AwareDatetime, report: str, digest: str
) -> PastAudit:
    """Summarise a comparison for the history: its verdict and the differences it rests on.

    `digest` is the SHA-256 of its page, empty as `report` where none was written.
    """
    last = next(entry for entry in comparison.releases if entry.name == comparison.after)
    claims = (entry for entry in comparison.compared if entry.claim and entry.access is not None)
    return PastAudit(
        time=time,
        kind="comparison",
        model=last.title,
        title=f"{comparison.before} → {comparison.after}",
        verdict=comparison.verdict,
        limited=False,
        policy=None,
        confidence=comparison.confidence,
        n_members=last.n_members,
        n_non_members=last.n_non_members,
        numbers=tuple(
            PastNumber(
                access=str(entry.access),
                restriction=entry.restriction,
                metric=entry.metric,
                fpr=entry.fpr,
                value=entry.difference.value,
                low=entry.difference.low,
                high=entry.difference.high,
                attack=str(entry.attack),
            )
            for entry in claims
        ),
        worst=None,
        controls={},
        digests={"result": digest} if digest else {},
        report=report,
        version=comparison.tool.version,
    )


def _keep_number(entry: Estimate) -> PastNumber:
    """Keep of an estimate what the history shows."""
    return PastNumber(
        access=entry.access,
        restriction=entry.restriction,
        metric=entry.metric,
        fpr=entry.fpr,
        value=entry.value,
        low=entry.low,
        high=entry.high,
        attack=entry.reaching_attack,
        group=entry.group,
    )


def _list_numbers(result: Result) -> list[PastNumber]:
    """List the TPR at the headline's rate, and the AUC, of each level."""
    best = find_headline(result)
    fpr = None if best is None else best.fpr
    found = []
    for level in list_levels(result):
        if fpr is not None:
            found.append(
                find_estimate(result, attack=STRONGEST, level=level, metric="tpr", fpr=fpr)
            )
        found.append(find_estimate(result, attack=STRONGEST, level=level, metric="auc"))
    return [_keep_number(entry) for entry in found if entry is not None]


def _find_worst_group(result: Result) -> PastNumber | None:
    """Find the class or group with the largest TPR at the headline's rate and level."""
    found = find_worst_group(result)
    return None if found is None else _keep_number(found[0])
