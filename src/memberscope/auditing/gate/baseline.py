"""Judge a release against a baseline: the audit that was kept of an earlier release.

What can be compared, and when a release leaks more, is decided as `compare` decides it. A gate asks
two things more: that the baseline is of this model, and that the release was attacked by no less.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass

from memberscope.auditing.compare.comparability import (
    GRANTED,
    collect_attack_versions,
    get_verdict_threat_model,
)
from memberscope.auditing.compare.compare import compare
from memberscope.auditing.documents.comparison import Change, Comparison
from memberscope.auditing.documents.policy import Policy
from memberscope.auditing.documents.result import Result
from memberscope.errors import InputError

FEWER = 0.5  # share of the baseline's records below which an audit counts as weaker
START = "Start a new baseline in another folder if this is another model: --keep-baseline."


@dataclass(frozen=True)
class BaselineOutcome:
    """How a release compares with its baseline: the verdict and a sentence.

    `comparison` has every number; it is None where the baseline is this very audit. `leaks_less`
    tells whether the release was shown to leak less: no claim rose, and one surely fell.
    """

    verdict: Change
    reason: str
    comparison: Comparison | None = None
    leaks_less: bool = False


def judge_against_baseline(
    before: Result,
    after: Result,
    names: tuple[str, str] = ("the baseline", "this release"),
    policy: Policy | None = None,
) -> BaselineOutcome:
    """Judge whether `after` leaks more than the baseline `before`, at the rates of `policy`.

    Without a policy they are those of the release's own. A release whose audit was weaker than the
    baseline's is INCONCLUSIVE, since it may hide what the baseline showed.

    Raises:
        InputError: The baseline is of another model, or its scores are not those of its result.

    >>> import numpy as np
    >>> from memberscope.auditing import audit_signals
    >>> from memberscope.targets import StoredSignals
    >>> def _audit_release(shift):
    ...     rng = np.random.default_rng(0)
    ...     member, labels = np.arange(600) < 300, rng.integers(0, 2, 600)
    ...     outputs = np.eye(2)[labels] * (rng.normal(size=600) + shift * member)[:, None]
    ...     return audit_signals(StoredSignals("logits", outputs, labels, member, np.arange(600).astype(str), {}, None, str(shift)))
    >>> low, high = _audit_release(0.0), _audit_release(2.0)
    >>> judge_against_baseline(low, high).verdict, judge_against_baseline(high, low).leaks_less
    ('LEAKS_MORE', True)
    """
    _refuse_other_model(before, after)
    # Equal digests of model, records, plan and scores: it was kept from here, or audited again
    if before.digests == after.digests:
        return BaselineOutcome("NOT_MORE", f"{names[0]} is this very audit.")
    if policy is not None:
        after = after.model_copy(update={"plan": after.plan.model_copy(update={"policy": policy})})
    found = compare([before, after], names=names)
    weaker = next(_list_weaknesses(before, after), None) or _find_dropped_rate(before, found)
    # More leakage found by a weaker audit is more leakage all the same
    if found.verdict == "NOT_MORE" and weaker is not None:
        reason = f"Not compared: {weaker}"
        found = found.model_copy(update={"verdict": "INCONCLUSIVE", "reason": reason})
    return BaselineOutcome(found.verdict, found.reason, found, _is_shown_to_leak_less(found))


def _refuse_other_model(before: Result, after: Result) -> None:
    """Refuse a baseline that is about another model.

    Raises:
        InputError: Its title or its classes are others.
    """
    if before.title != after.title:
        raise InputError(
            f"Expected a baseline of the model {after.title!r}, got one of {before.title!r}. Audit "
            f"each release under one --title. {START}"
        )
    classes = [set(result.diagnostics.class_sizes) for result in (before, after)]
    if classes[0] != classes[1]:
        odd = sorted(classes[0] ^ classes[1])
        raise InputError(
            f"Expected a baseline with the classes of this model ({len(classes[1])}), got "
            f"{len(classes[0])} classes, of which {odd[0]!r} is on one side only. {START}"
        )


def _list_weaknesses(before: Result, after: Result) -> Iterator[str]:
    """List in what the release was attacked by less than the baseline."""
    former, now = collect_attack_versions(before), collect_attack_versions(after)
    missing = sorted(set(former) - set(now))
    if missing:
        yield (
            f"the baseline's audit ran {', '.join(missing)}, and this one did not. Run the same "
            "attacks."
        )
    changed = sorted(name for name in former if now.get(name, former[name]) != former[name])
    if changed:
        yield (
            f"{', '.join(changed)} ran in another version than in the baseline's audit. Audit the "
            "baseline's model again with this version."
        )
    for side in ("n_members", "n_non_members"):
        counts = [getattr(result.diagnostics, side) for result in (before, after)]
        if counts[1] < FEWER * counts[0]:
            yield (
                f"this audit has {counts[1]} {side[2:].replace('_', '-')}, and the baseline's has "
                f"{counts[0]}. Audit at least half as many."
            )
    if len(after.plan.views) < len(before.plan.views):
        yield "each record was asked about in fewer views. Audit with the same --views."
    if after.plan.confidence > before.plan.confidence:
        yield (
            f"the confidence is {after.plan.confidence:g}, and {before.plan.confidence:g} in the "
            "baseline. Audit at the same confidence."
        )
    granted = [asdict(get_verdict_threat_model(result)) for result in (before, after)]
    for key, what in GRANTED.items():
        if _is_less(granted[1][key], granted[0][key]):
            yield (
                f"the threat model grants less of {what} than the baseline's. Audit under the same "
                "threat model."
            )


def _find_dropped_rate(before: Result, found: Comparison) -> str | None:
    """Find a false-positive rate that the baseline's policy limits and nothing was compared at."""
    policy = before.plan.policy
    rates: list[float] = []
    if policy is not None:
        rates = [*(claim.fpr for claim in policy.max_tpr), *(claim.fpr for claim in policy.max_ppv)]
    compared = {entry.fpr for entry in found.compared if entry.claim}
    for fpr in rates:
        if fpr not in compared:
            return (
                f"the baseline's policy limits what is found at an fpr of {fpr:g}, and nothing was "
                "compared there. Judge both by the same rates."
            )
    return None


def _is_less(value: int | bool | None, former: int | bool | None) -> bool:
    """Tell whether a part of a threat model grants less than before; None is without limit.

    >>> _is_less(4, 16), _is_less(False, True), _is_less(None, 16), _is_less(16, None)
    (True, True, False, True)
    """
    if value is None or former is None:
        return value is not None and former is None
    return value < former


def _is_shown_to_leak_less(comparison: Comparison) -> bool:
    """Tell whether no claim rose and the limits of one exclude that it stayed."""
    changes = [entry.difference for entry in comparison.compared if entry.claim]
    return (
        comparison.verdict == "NOT_MORE"
        and all(change.value <= 0 for change in changes)
        and any(change.high < 0 for change in changes)
    )
