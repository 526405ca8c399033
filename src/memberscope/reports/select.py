"""Find estimates in a result, and write numbers the way every report does."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, Protocol

from memberscope._text import format_number, format_percentage
from memberscope.attacks import list_attacks
from memberscope.auditing import STRONGEST, Result
from memberscope.auditing.defend import name_quality
from memberscope.auditing.documents import (
    DetectableRate,
    ExtractionSummary,
    TargetSpread,
    ValueWithLimits,
)
from memberscope.types import Estimate, Task

Place = tuple[str, str | None]


class NumberWithLimits(Protocol):
    """A number with its limits: an estimate, a share, or a part of the diagnostics."""

    @property
    def value(self) -> float:
        """The number itself."""

    @property
    def low(self) -> float:
        """The lower limit."""

    @property
    def high(self) -> float:
        """The upper limit."""


def select_estimates(result: Result, **conditions: Any) -> Iterator[Estimate]:
    """Select estimates whose fields equal all `conditions`.

    They are of the audited model and all records unless asked for otherwise. A `level` stands for
    its access and its restriction.
    """
    if "level" in conditions:
        conditions["access"], conditions["restriction"] = conditions.pop("level")
    conditions = {"group": None, "target": "target"} | conditions
    attack = conditions.get("attack")
    candidates = result.estimates if attack is None else result.estimates_by_attack.get(attack, ())
    # All fields in one call, as a report asks thousands of times
    read, wanted = attrgetter(*conditions), tuple(conditions.values())
    for entry in candidates:
        if read(entry) == wanted:
            yield entry


def find_estimate(result: Result, **conditions: Any) -> Estimate | None:
    """Find the first such estimate, or None."""
    return next(select_estimates(result, **conditions), None)


def list_levels(result: Result) -> list[Place]:
    """List levels with estimates, weakest first, as access and restriction."""
    return list(
        dict.fromkeys(
            (entry.access, entry.restriction)
            for entry in select_estimates(result, attack=STRONGEST, metric="auc")
        )
    )


def list_unmeasured_levels(result: Result) -> list[Place]:
    """List levels that were to be audited and at which no attack ran, weakest first."""
    ran = {(entry.access, entry.restriction) for entry in select_estimates(result, metric="auc")}
    every = [(threat.access.word, threat.restriction) for threat in result.threat_models]
    return [place for place in dict.fromkeys(every) if place not in ran]


def list_fprs(result: Result) -> list[float]:
    """List false-positive rates with estimates, largest first."""
    found = {
        entry.fpr for entry in select_estimates(result, attack=STRONGEST, metric="tpr") if entry.fpr
    }
    return sorted(found, reverse=True)


def find_headline(result: Result) -> Estimate | None:
    """Find the strongest attack's TPR at the policy's lowest rate.

    Without one it is that at the lowest rate with ten expected false positives.
    """
    found = list_levels(result)
    if not found:
        return None
    # Only claims of the policy are not exploratory
    claimed = [entry.fpr for entry in result.estimates if not entry.exploratory and entry.fpr]
    rates = claimed or [
        entry.fpr
        for entry in select_estimates(result, attack=STRONGEST, level=found[-1], metric="tpr")
        if entry.fpr and not entry.warning
    ]
    # Every rate has a warning in a small audit, so the lowest is shown with it
    rates = rates or list_fprs(result)
    if not rates:
        return None
    return find_estimate(result, attack=STRONGEST, level=found[-1], metric="tpr", fpr=min(rates))


def list_group_estimates(result: Result) -> list[Estimate]:
    """List what the strongest attack finds in each class and group, at the headline's rate and level.

    The strongest is the one that finds most in the group itself, as in a policy's claims about
    groups: another one would understate what the group risks.
    """
    best = find_headline(result)
    if best is None:
        return []
    found = [
        entry
        for entry in result.estimates
        if entry.group is not None
        and entry.target == "target"
        and (entry.metric, entry.fpr, entry.threshold) == ("tpr", best.fpr, "best")
        and (entry.access, entry.restriction) == (best.access, best.restriction)
    ]
    strongest = [entry for entry in found if entry.attack == STRONGEST]
    # Results of earlier versions have groups of single attacks alone
    return strongest or [entry for entry in found if entry.attack == best.reaching_attack] or found


def format_interval(entry: NumberWithLimits, *, rate: bool = True) -> str:
    """Format an estimate with its limits: as percentages, or as plain numbers.

    >>> from memberscope.auditing.documents import ValueWithLimits
    >>> format_interval(ValueWithLimits(0.5, 0.25, 0.75))
    '50% (25% to 75%)'
    """
    write = format_percentage if rate else (lambda value: f"{value:.3f}")
    return f"{write(entry.value)} ({write(entry.low)} to {write(entry.high)})"


def list_detectable_leaks(result: Result) -> list[tuple[DetectableRate, str | None]]:
    """List what the audit could have seen, each with the group of its claim; all records first.

    The numbers are those of all records: in a group, which has fewer, it takes more.
    """
    found, policy = result.diagnostics.minimum_detectable_tpr, result.plan.policy
    groups: list[str | None] = []
    if policy is not None:
        groups = [claim.group for claim in policy.max_tpr]
        groups += [claim.group for claim in policy.max_ppv]
    # The power has a row for each claim about a rate, in the order of the policy
    if len(groups) != len(found):
        groups = [None] * len(found)
    return sorted(zip(found, groups, strict=True), key=lambda pair: pair[1] is not None)


def count_references(result: Result) -> int:
    """Count the reference models that the adversary was given."""
    return max((threat.references or 0 for threat in result.threat_models), default=0)


def group_skipped_attacks(result: Result) -> list[tuple[str, str, str]]:
    """Group attacks that ran nowhere by level of access and reason, and levels with no attack."""
    return _group_reasons(result, ran=False)


def group_partial_attacks(result: Result) -> list[tuple[str, str, str]]:
    """Group attacks that ran, but not at a level, at a rate or on a further target, by reason."""
    return _group_reasons(result, ran=True)


def _group_reasons(result: Result, *, ran: bool) -> list[tuple[str, str, str]]:
    """Group what is listed as not run of attacks that `ran` somewhere, or nowhere."""
    seen = {entry.attack for entry in select_estimates(result)}
    found: dict[tuple[str, str], list[str]] = {}
    for entry in result.not_run:
        # What a rate is too low for is one entry of many attacks
        for name in entry.attack.split(", "):
            if (name in seen) is ran:
                found.setdefault((entry.access, entry.why), []).append(name)
    return [(", ".join(names), access, why) for (access, why), names in found.items()]


def list_skipped_attacks(result: Result) -> list[str]:
    """List the attacks that ran nowhere, by name."""
    names = (name for names, _, _ in group_skipped_attacks(result) for name in names.split(", "))
    # These two stand for a level of access and for further models, not for an attack
    return [name for name in dict.fromkeys(names) if name not in ("all", "targets")]


def describe_threat(result: Result) -> str:
    """Describe the threat model in a sentence."""
    threat = result.plan.threat
    returns = {
        "label": "only the predicted label",
        "probabilities": "the probability of every class",
        "logits": "the raw logits",
        "white_box": "everything about the model",
        "generations": "only texts that the model writes",
        "top_tokens": "the texts that the model writes, with its likeliest tokens",
        "token_probabilities": "the log-probability of each token of a given text",
        "vocabulary": "the probability of every token at each place of a given text",
        "weights": "everything about the model",
        "prediction": "what the model predicts",
    }[threat.access]
    if result.plan.task == "table":
        return _describe_table_threat(result)
    budget = threat.query_budget
    asks = (
        "as many queries as it likes"
        if budget is None
        else f"at most {budget} queries about each record"
    )
    # What was spent may be far below what was granted
    used = max((entry.queries for entry in select_estimates(result)), default=1)
    spent = "one" if used == 1 else f"up to {used}"
    if threat.restriction:
        returns = f"what {threat.restriction} lets through of {returns}"
    trained = count_references(result)
    trains = f", who can train {trained} models like it" if trained else ""
    return (
        f"An adversary who is given {returns}, with {asks} (this audit used {spent} for each), who "
        "knows the truth about some "
        f"other records{trains}, and who tries records of which "
        f"{format_percentage(threat.prior)} are members."
    )


def _describe_table_threat(result: Result) -> str:
    """Describe in a sentence the adversary who is given a released table."""
    made = count_references(result)
    makes = f", who can generate {made} tables like it" if made else ""
    return (
        "An adversary who is given the released table and asks no model, who knows the truth about "
        f"some other records{makes}, and who tries records of which "
        f"{format_percentage(result.plan.threat.prior)} are members."
    )


@dataclass(frozen=True)
class TaskWords:
    """Words of reports for one task.

    `groups` is what numbers are split by, and `group` one of them. `has_classes` says whether the
    class of a record is shown. `beyond` says of what the strongest attack finds how it may be read,
    and `fidelity` what the numbers of reference models compare.
    """

    groups: str
    group: str
    has_classes: bool
    beyond: str
    fidelity: str


_NUMBER_WORDS = TaskWords(
    "groups",
    "group",
    has_classes=False,
    beyond="What it finds beyond the attack prediction_error is memorisation that the error alone "
    "does not show.",
    fidelity="The correlation and the distance of errors are on records new to the target and to "
    "each reference model.",
)
_WORDS: dict[Task, TaskWords] = {
    "classification": TaskWords(
        "classes and groups",
        "class or group",
        has_classes=True,
        beyond="What it finds beyond the gap attack is memorisation that accuracy does not show.",
        fidelity="Agreement (equal top classes) and calibration distance (difference in "
        "overconfidence) are on records new to the target and to each reference model.",
    ),
    "text": TaskWords(
        "groups",
        "group",
        has_classes=False,
        beyond="What it finds beyond the attack loss is memorisation that the loss alone, which "
        "differs from text to text, does not show.",
        fidelity="The rank correlation and the distance of losses are on texts new to the target "
        "and to each reference model.",
    ),
    "regression": _NUMBER_WORDS,
    "forecast": _NUMBER_WORDS,
    "multilabel": TaskWords(
        "groups",
        "group",
        has_classes=False,
        beyond="What it finds beyond the attack label_gap is memorisation that the share of right "
        "labels does not show.",
        fidelity="The correlation and the distance of the share of right labels are on records new "
        "to the target and to each reference model.",
    ),
    "table": TaskWords(
        "groups",
        "group",
        has_classes=False,
        beyond="What it finds beyond the distance to the closest row is what a single distance "
        "does not show.",
        fidelity="The correlation and the distance of nearness are on records new to the released "
        "table and to each one made like it.",
    ),
}


def select_task_words(task: Task) -> TaskWords:
    """Select the words of a task.

    >>> select_task_words("text").groups
    'groups'
    """
    return _WORDS[task]


@dataclass(frozen=True)
class FidelityWords:
    """What the numbers are called that say how like the target the reference models are."""

    alike: str
    apart: str


OUTPUT_WORDS = FidelityWords("correlation of errors", "distance of errors")
FIDELITY_WORDS: dict[Task, FidelityWords] = {
    "classification": FidelityWords("agreement", "calibration distance"),
    "text": FidelityWords("rank correlation of losses", "loss distance, nats"),
    "regression": OUTPUT_WORDS,
    "forecast": OUTPUT_WORDS,
    "multilabel": FidelityWords(
        "correlation of the share of labels right", "distance of the share of labels right"
    ),
    "table": FidelityWords("correlation of nearness", "nearness distance"),
}


def describe_references(result: Result) -> list[tuple[str, str]]:
    """Describe how like the target the reference models are; empty without them.

    Agreement and calibration are on records that were new to the target and to each reference
    model.
    """
    found = result.diagnostics.references
    if not found:
        return []
    own, others = found.train_accuracy, found.held_out_accuracy
    # No model converged, so there is no accuracy to tell
    gap = None if own is None or others is None else own - others
    target_own, target_others = found.target_train_accuracy, found.target_held_out_accuracy
    target_gap = None if target_own is None or target_others is None else target_own - target_others
    words, right = FIDELITY_WORDS[result.plan.task], name_quality(result.plan.task)
    return [
        (
            "trained and left out",
            f"{found.models} trained on {found.records_per_model} records each, "
            f"{found.failed} left out",
        ),
        (
            f"{right} on their own records",
            f"{format_percentage(own)} (target {format_percentage(target_own)})",
        ),
        (
            f"{right} on other records",
            f"{format_percentage(others)} (target {format_percentage(target_others)})",
        ),
        (
            f"{right} gap",
            f"{format_percentage(gap)} (target {format_percentage(target_gap)})",
        ),
        (words.alike, format_percentage(found.agreement)),
        (words.apart, f"{found.calibration_distance:.3f}"),
        ("time spent training", f"{result.cost.training_seconds:.1f} s"),
        ("trained by", _describe_training(result)),
    ]


def _describe_training(result: Result) -> str:
    """Describe how the reference models were trained, in words."""
    found = result.plan.execution or {}
    words = [f"engine {found['engine']}", f"{found['stack']} at a time"] if found else []
    words += [
        f"{found[key]} {name}"
        for key, name in (("threads", "threads a job"), ("processes", "jobs"))
        if key in found
    ]
    words += [str(found[key]) for key in ("precision", "device") if key in found]
    return ", ".join(words) + (f" ({found['note']})" if found.get("note") else "")


def summarise_further_targets(result: Result, *, rows: int | None = None) -> list[TargetSpread]:
    """Summarise mean and spread between further targets.

    The strongest attack comes first, then by mean AUC at its highest level of access.
    """
    found = result.diagnostics.targets
    if not found:
        return []
    access = list_levels(result)[-1]
    areas = {
        (row.attack, (row.access, row.restriction)): row.mean
        for row in found.rows
        if row.metric == "auc"
    }
    names = sorted(
        (
            name
            for name in areas
            # An attack that did not run at the highest level is shown where it ran
            if name[1] == access or (name[0] != STRONGEST and (name[0], access) not in areas)
        ),
        key=lambda name: (name[0] != STRONGEST, -areas[name]),
    )
    chosen = names[:rows]
    return [
        row
        for name in chosen
        for row in found.rows
        if (row.attack, (row.access, row.restriction)) == name
    ]


def list_unit_estimates(result: Result) -> list[Estimate]:
    """List AUC and TPR at each rate of the strongest attack on units at the headline's level."""
    levels = list_levels(result)
    return [
        entry
        for entry in result.by_unit
        if entry.attack == STRONGEST
        and entry.metric in ("auc", "tpr")
        and (entry.access, entry.restriction) == levels[-1]
    ]


def find_unit_headline(result: Result) -> Estimate | None:
    """Find what the strongest attack finds of units: TPR at the headline's rate, or near it.

    Where units do not resolve that rate it is the lowest one without a warning, or of all, or the
    AUC; None without units of several records.
    """
    found, best = list_unit_estimates(result), find_headline(result)
    rates = [entry for entry in found if entry.metric == "tpr"]
    same = [entry for entry in rates if best is not None and entry.fpr == best.fpr]
    sure = [entry for entry in rates if entry.warning is None]
    lowest = min(sure or rates, key=lambda entry: entry.fpr or 0.0, default=None)
    return next(iter([*same, lowest] if lowest else found), None)


def list_ignored_units(result: Result) -> list[tuple[Estimate, Estimate]]:
    """List the numbers of the attacks that lead on records, by unit and as if units were nothing.

    They are at the headline's level.
    """
    levels, found = list_levels(result), []
    for entry in result.by_unit:
        place = entry.access, entry.restriction
        if entry.of != "records_ignoring_units" or place != levels[-1]:
            continue
        at = {"metric": entry.metric, "fpr": entry.fpr, "threshold": entry.threshold}
        own = find_estimate(result, attack=entry.attack, level=place, **at)
        if own is not None:
            found.append((own, entry))
    return found


def describe_units(result: Result) -> list[str]:
    """Describe in sentences what is found of units, and what limits that ignore units would say.

    Empty without units of several records.
    """
    best = find_unit_headline(result)
    if best is None:
        return []
    counts = f"{best.n_members:,} units in and {best.n_non_members:,} out"
    name = best.reaching_attack
    if best.fpr is None:
        told = f"AUC {format_interval(best, rate=False)} by {name}"
    else:
        told = f"{format_interval(best)} found at {format_percentage(best.fpr)} false positives by {name}"
    lines = [f"By unit ({counts}): {told}."]
    pairs = list_ignored_units(result)
    chosen = [pair for pair in pairs if pair[0].fpr == best.fpr] or pairs[:1]
    for own, ignoring in chosen[:1]:
        rate = own.metric != "auc"
        what = f"TPR at {format_percentage(own.fpr)}" if own.fpr else "AUC"
        lines.append(
            f"Of records, {own.attack} has a {what} of {format_interval(own, rate=rate)}; limits "
            f"that ignore units would say {_format_limits(ignoring, rate=rate)}."
        )
    return lines


def _format_limits(entry: Estimate, *, rate: bool) -> str:
    """Format the limits of an estimate without its value."""
    write = format_percentage if rate else format_number
    return f"{write(entry.low)} to {write(entry.high)}"


def find_worst_group(result: Result) -> tuple[Estimate, int] | None:
    """Find the class or group in which most is found at the headline's rate, and their number."""
    groups = list_group_estimates(result)
    return (max(groups, key=lambda entry: entry.value), len(groups)) if groups else None


def list_missing_searches(result: Result) -> list[tuple[str, str]]:
    """List the label-only searches that did not run, those with one reason together."""
    searches = {
        attack.name
        for attack in list_attacks(result.plan.task).values()
        if attack.needs.spec.source in ("search", "student")
        and result.plan.task in attack.needs.tasks
    }
    found: dict[str, list[str]] = {}
    for entry in result.not_run:
        if entry.attack in searches:
            found.setdefault(entry.why, []).append(entry.attack)
    absent = sorted(searches - set(result.plan.attacks))
    if absent:
        found["The plan leaves them out."] = absent
    return [(", ".join(dict.fromkeys(names)), why) for why, names in found.items()]


def list_extraction_rows(found: ExtractionSummary) -> list[tuple[str, str, str]]:
    """List for each number of samples the shares of members and non-members written out."""

    def write(side: ValueWithLimits) -> str:
        low, high = format_percentage(side.low), format_percentage(side.high)
        return f"{format_percentage(side.value)} ({low} to {high})"

    return [(f"{row.n:,}", write(row.members), write(row.non_members)) for row in found.rates]


def describe_suffix(found: ExtractionSummary) -> str:
    """Describe which tokens of a text must be written again.

    >>> describe_suffix(ExtractionSummary(0.5, None, 0.95, "", []))
    'all scored tokens'
    """
    if found.suffix_tokens is None:
        return "all scored tokens"
    return f"the last {found.suffix_tokens} tokens, at most the second half"
