"""Finding estimates in a result, and writing numbers the way every report does."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from memberscope.auditing import STRONGEST, Result
from memberscope.types import Estimate


def select(result: Result, **conditions: Any) -> Iterator[Estimate]:
    """Estimates whose fields equal all `conditions`; group is None unless asked for otherwise."""
    conditions.setdefault("group", None)
    for entry in result.estimates:
        if all(getattr(entry, name) == value for name, value in conditions.items()):
            yield entry


def first(result: Result, **conditions: Any) -> Estimate | None:
    """The first such estimate, or None."""
    return next(select(result, **conditions), None)


def levels(result: Result) -> list[str]:
    """Access levels with estimates, weakest first."""
    return list(dict.fromkeys(entry.access for entry in select(result, attack=STRONGEST, metric="auc")))


def fprs(result: Result) -> list[float]:
    """False-positive rates with estimates, largest first."""
    found = {entry.fpr for entry in select(result, attack=STRONGEST, metric="tpr") if entry.fpr}
    return sorted(found, reverse=True)


def headline(result: Result) -> Estimate | None:
    """The strongest attack's TPR at the policy's lowest rate, or else at the lowest one with ten expected false positives."""
    found = levels(result)
    if not found:
        return None
    claimed = [entry.fpr for entry in result.estimates if not entry.exploratory and entry.fpr]
    rates = claimed or [
        entry.fpr
        for entry in select(result, attack=STRONGEST, access=found[-1], metric="tpr")
        if entry.fpr and not entry.warning
    ]
    rates = rates or fprs(result)
    if not rates:
        return None
    return first(result, attack=STRONGEST, access=found[-1], metric="tpr", fpr=min(rates))


def percent(value: float | None) -> str:
    """A rate as a percentage with three digits.

    >>> percent(0.01234), percent(0.5), percent(None)
    ('1.23%', '50%', 'not available')
    """
    return "not available" if value is None else f"{100 * value:.3g}%"


def interval(entry: Any, *, rate: bool = True) -> str:
    """An estimate with its limits: as percentages, or as plain numbers.

    >>> interval({"value": 0.5, "low": 0.25, "high": 0.75})
    '50% (25% to 75%)'
    """
    get = entry.get if isinstance(entry, dict) else lambda name: getattr(entry, name)
    write = percent if rate else (lambda value: f"{value:.3f}")
    return f"{write(get('value'))} ({write(get('low'))} to {write(get('high'))})"


def reached_by(entry: Estimate) -> str:
    """The attack that reached the strongest value."""
    return entry.method.rsplit("reached by ", 1)[-1] if entry.attack == STRONGEST else entry.attack


def references(result: Result) -> int:
    """How many reference models the adversary was given."""
    return max((threat.references for threat in result.threat_models), default=0)


def gaps(result: Result) -> list[tuple[str, str, str]]:
    """What did not run: attacks that share an access level and a reason, that level, and the reason."""
    found: dict[tuple[str, str], list[str]] = {}
    for entry in result.not_run:
        found.setdefault((entry.access, entry.why), []).append(entry.attack)
    return [(", ".join(names), access, why) for (access, why), names in found.items()]


def threat_words(result: Result) -> str:
    """The threat model in a sentence."""
    threat = result.plan["threat"]
    returns = {
        "label": "only the predicted label",
        "probabilities": "the probability of every class",
        "logits": "the raw logits",
        "white_box": "everything about the model",
    }[threat["access"]]
    budget = threat.get("query_budget")
    asks = "as many queries as it likes" if budget is None else f"at most {budget} queries a record"
    views, trained = len(result.plan.get("views", ("identity",))), references(result)
    used = "one" if views == 1 else str(views)
    trains = f", who can train {trained} models like it" if trained else ""
    return (
        f"An adversary who is given {returns}, with {asks} (this audit used {used} a record), who knows the truth about some "
        f"other records{trains}, and who tries records of which {percent(threat['prior'])} are members."
    )
