"""Compare how reference models were trained with how the target was, record by record.

A reference model says something only if it was trained like the target: on records that both were
trained on, and on records new to both, the two are equally good, and each gains as much on its own
records as the other. All three are compared record by record, so that how hard a record is cancels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np
from scipy.stats import norm, t

from memberscope.auditing.collect.reference_models import References, explain_untrained_models
from memberscope.auditing.documents.diagnostics import ReferenceFidelity
from memberscope.auditing.documents.result import Control
from memberscope.auditing.subject.subject import Subject
from memberscope.types import Bools, Floats, Ints


@dataclass(frozen=True)
class Difference:
    """A difference of target and references, with limits over records and over models."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class TrainingComparison:
    """How the target and the reference models differ in how good they are, record by record.

    How good is measured in log-probability of texts, in explained variance of numbers, in right
    labels, or in nearness of a table.

    Attributes:
        members: Mean of the target minus that of the references, on records that both were trained
            on; None where there are none.
        others: The same on records new to both.
        target_gain: What the target gains on a record by training on it.
        reference_gain: What the references gain.
        gain: The references' gain minus the target's, with limits.
    """

    members: Difference | None
    others: Difference | None
    target_gain: float | None
    reference_gain: float | None
    gain: Difference | None


def compare_training(
    target: Floats,
    member: Bools,
    references: Floats,
    inside: Bools,
    confidence: float,
    unit: Ints | None = None,
) -> TrainingComparison:
    """Compare how good the target is (n,) with how good references are (m, n).

    `member` (n,) says what the target was trained on, `inside` (m, n) what the references were,
    and `unit` (n,) numbers the documents that records belong to.

    >>> rng = np.random.default_rng(0)
    >>> inside = np.arange(2)[:, None] == rng.integers(0, 2, 400)
    >>> member, hard = rng.random(400) < 0.5, rng.normal(size=400)
    >>> found = compare_training(hard + 0.2 * member, member, hard + 0.1 * inside, inside, 0.95)
    >>> round(found.target_gain, 2), round(found.reference_gain, 2), round(found.members.value, 2)
    (0.2, 0.1, 0.1)
    """
    difference = target[None] - references
    both, neither = inside & member, ~inside & ~member
    sides = _Sides(difference, unit, confidence)
    members, others = sides.average(both), sides.average(neither)
    only_target, only_them = sides.average(member & ~inside), sides.average(inside & ~member)
    # What training on a record adds, apart from the two models' general difference
    own = None if others is None or only_target is None else only_target[0] - others[0]
    theirs = None if others is None or only_them is None else others[0] - only_them[0]
    gain = None
    if own is not None and theirs is not None and others is not None:
        assert only_target is not None and only_them is not None
        gain = sides.limit(theirs - own, 2 * others[1] - only_them[1] - only_target[1])
    return TrainingComparison(
        None if members is None else sides.limit(*members),
        None if others is None else sides.limit(*others),
        None if own is None else float(own.mean()),
        None if theirs is None else float(theirs.mean()),
        gain,
    )


@dataclass(frozen=True, eq=False)
class _Sides:
    """Differences (m, n) of target and references, to be averaged over some records of each model."""

    difference: Floats
    unit: Ints | None
    confidence: float

    def average(self, chosen: Bools) -> tuple[Floats, Floats] | None:
        """Average over the records `chosen` (m, n) of each model.

        Give the averages (m,), and how much each record moves their mean (n,). None where a model
        has no such records.
        """
        counts = chosen.sum(axis=1)
        if not counts.all():
            return None
        means = (self.difference * chosen).sum(axis=1) / counts
        centred = (self.difference - means[:, None]) * chosen / counts[:, None]
        return means, centred.mean(axis=0)

    def limit(self, means: Floats, influence: Floats) -> Difference:
        """Give the mean of `means` (m,) with limits over the records and over the models.

        Each limit is one-sided: the claim is that models differ by more, or by less.
        """
        m, value = len(means), float(means.mean())
        summed = influence if self.unit is None else np.bincount(self.unit, weights=influence)
        margin = float(norm.ppf(self.confidence)) ** 2 * float((summed**2).sum())
        if m > 1:
            # A t-interval: the models' own spread is known from few of them
            margin += (float(t.ppf(self.confidence, m - 1)) * float(means.std(ddof=1))) ** 2 / m
        return Difference(value, value - margin**0.5, value + margin**0.5)


@dataclass(frozen=True)
class TrainingWords:
    """The words of a control on how references were trained.

    Attributes:
        models: What references are, such as `reference models`.
        too_weak: Why some are left out.
        mistrained: What follows where they differ from the target: a whole sentence, after a colon.
        alike: What they are where they do not, after the number of them.
        unknown_gain: What is said where the design does not show what they gain on own records.
    """

    models: str
    too_weak: str
    mistrained: str
    alike: str
    unknown_gain: str


def compare_references(
    found: References, subject: Subject, own: Floats, confidence: float
) -> TrainingComparison:
    """Compare the references that learned with the target, which is so right (n,) about records."""
    theirs, good = found.fleet.record_quality, found.good
    assert theirs is not None, "a fleet of which no number a record is known"
    return compare_training(
        own,
        subject.member,
        theirs[good].astype(np.float64),
        found.fleet.inside[good],
        confidence,
        subject.unit_codes,
    )


def run_training_control(
    found: References,
    subject: Subject,
    own: Floats,
    fidelity: ReferenceFidelity,
    words: TrainingWords,
    *,
    confidence: float,
    explain: Callable[[TrainingComparison], str | None],
    describe_gains: Callable[[TrainingComparison], str],
) -> Control:
    """Check that enough references were trained, and trained as the target was.

    `own` (n,) says how right the target is about each record. `explain` says in what references differ surely, None if in nothing, and `describe_gains` what
    they and the target gain on their own records.
    """
    details = asdict(fidelity)
    why = explain_untrained_models(found, words.too_weak)
    if why is not None:
        return Control(False, why, details=details)
    compared = compare_references(found, subject, own, confidence)
    details |= {
        "target_gain": compared.target_gain,
        "reference_gain": compared.reference_gain,
        "difference_on_members": None if compared.members is None else compared.members.value,
        "difference_on_others": None if compared.others is None else compared.others.value,
    }
    limits = {} if compared.gain is None else asdict(compared.gain)
    named = f"{int(found.good.sum())} {words.models}"
    other = explain(compared)
    if other is not None:
        return Control(False, f"{named} {other}: {words.mistrained}", details=details, **limits)
    gains = words.unknown_gain if compared.gain is None else describe_gains(compared)
    left_out = f"; {found.n_failed} left out, which did not learn" if found.n_failed else ""
    return Control(True, f"{named} {words.alike}: {gains}{left_out}.", details=details, **limits)


def find_other_level(
    found: TrainingComparison, allowed: float
) -> tuple[Difference, Literal["members", "others"]] | None:
    """Find the records on which target and references surely differ by more than `allowed`.

    Give the difference, and whether it is on records that both were trained on (`members`) or on
    records new to both (`others`).
    """
    if _is_beyond(found.members, allowed):
        assert found.members is not None
        return found.members, "members"
    if _is_beyond(found.others, allowed):
        assert found.others is not None
        return found.others, "others"
    return None


def _is_beyond(difference: Difference | None, allowed: float) -> bool:
    """Tell whether a difference is surely larger than `allowed`, in either direction."""
    return difference is not None and (difference.low > allowed or difference.high < -allowed)
