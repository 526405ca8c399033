"""Compare fine-tuned reference models with the audited language model, and judge them.

A reference model says something only if it was trained like the target. Loss shows it: on records
that both were trained on, and on records new to both, the two are equally good, and each gains as
much on its own records as the other. All three are compared record by record, so that how hard a
text is cancels.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
from scipy.stats import norm, rankdata, t

from memberscope.auditing.collect.reference_models import (
    References,
    explain_untrained_models,
    mark_converged_models,
)
from memberscope.auditing.documents.diagnostics import ReferenceFidelity
from memberscope.auditing.documents.result import Control
from memberscope.auditing.subject.subject import Subject
from memberscope.signals import Observed
from memberscope.statistics import DESCRIPTIVE
from memberscope.types import Bools, Floats, Ints

# A model is left out if a token is less than half as probable to it as to the others or the target
LEARNED = 0.5
# Share of the target's gain on its own records by which references may differ from it, and the
# nats a token by which they always may: `benchmarks/text_control.py` shows what these let pass
SHARE, ALLOWED = 0.5, 0.05


@dataclass(frozen=True)
class Difference:
    """A difference in nats a token, with limits over records and over reference models."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class TrainingComparison:
    """How the target and the reference models differ in loss, record by record.

    Attributes:
        members: Mean log-probability of the target minus that of the references, on records that
            both were trained on; None where there are none.
        others: The same on records new to both.
        target_gain: What the target gains in log-probability on a record by training on it.
        reference_gain: What the references gain.
        gain: The references' gain minus the target's, with limits.
    """

    members: Difference | None
    others: Difference | None
    target_gain: float | None
    reference_gain: float | None
    gain: Difference | None


def measure_text_accuracy(subject: Subject, observed: Observed) -> float:
    """Measure the target's geometric-mean probability of a token, averaged over its members."""
    return float(np.exp(-observed.outputs[subject.member, 0]).mean())


def mark_learned_models(train_accuracy: Floats, of_target: float) -> Bools:
    """Mark models (m,) whose own texts are not far less probable than to the median and the target.

    Whether they were trained as long as the target is judged apart from that.

    >>> mark_learned_models(np.array([0.03, 0.02, 0.001, np.nan]), 0.03).tolist()
    [True, True, False, False]
    """
    return mark_converged_models(train_accuracy, of_target, LEARNED)


def compare_training(
    target: Floats,
    member: Bools,
    references: Floats,
    inside: Bools,
    confidence: float,
    unit: Ints | None = None,
) -> TrainingComparison:
    """Compare mean log-probabilities of the target (n,) with those of references (m, n).

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
    """Differences (m, n) of log-probabilities, to be averaged over some records of each model."""

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


def explain_other_training(found: TrainingComparison) -> str | None:
    """Say in what references were surely trained unlike the target; None if in nothing.

    >>> same = Difference(0.0, -0.01, 0.01)
    >>> explain_other_training(TrainingComparison(same, same, 0.2, 0.2, same)) is None
    True
    >>> less = Difference(0.3, 0.28, 0.32)
    >>> explain_other_training(TrainingComparison(less, same, 0.2, 0.2, same)).split(" on ")[0]
    'lose 0.3 nats a token more than the audited model'
    """
    target = max(found.target_gain or 0.0, 0.0)
    allowed = max(SHARE * target, ALLOWED)
    for difference, words in (
        (found.members, "texts that both were trained on"),
        (found.others, "texts new to both"),
    ):
        if difference is None or (difference.low <= allowed and difference.high >= -allowed):
            continue
        more = "more" if difference.value > 0 else "less"
        lost = f"{abs(difference.value):.2g} nats a token {more}"
        return f"lose {lost} than the audited model on {words}"
    gain = found.gain
    # Half as much is judged like twice as much
    if gain is None or (
        gain.high >= -max(SHARE * target, ALLOWED / 2) and gain.low <= max(target, ALLOWED)
    ):
        return None
    return (
        f"gain {found.reference_gain:.2g} nats a token on texts that they were trained on, where the "
        f"audited model gains {found.target_gain:.2g}"
    )


def run_text_reference_control(found: References, subject: Subject, confidence: float) -> Control:
    """Check that enough references were trained, and trained as the target was."""
    fidelity = measure_text_fidelity(found, subject)
    details = asdict(fidelity)
    least = (
        f"a token of their own texts is less than {LEARNED:g} times as probable as to the others "
        "or the audited model"
    )
    why = explain_untrained_models(found, least)
    if why is not None:
        return Control(False, why, details=details)
    compared = _compare_references(found, subject, confidence)
    details |= _list_nats(compared)
    limits = {} if compared.gain is None else asdict(compared.gain)
    other = explain_other_training(compared)
    n_good = int(found.good.sum())
    if other is not None:
        why = (
            f"{n_good} reference models {other}: they were trained in another way, such as for "
            "other epochs, on other data or with another template. Attacks with them say little; "
            "give the recipe the settings of the audited model."
        )
        return Control(False, why, details=details, **limits)
    gains = (
        "their gain on own texts cannot be told from this design"
        if compared.gain is None
        else f"they gain {compared.reference_gain:.2g} nats a token on texts that they were trained "
        f"on, the audited model {compared.target_gain:.2g}"
    )
    left_out = f"; {found.n_failed} left out, which did not learn" if found.n_failed else ""
    why = f"{n_good} reference models were trained like the audited model: {gains}{left_out}."
    return Control(True, why, details=details, **limits)


def _compare_references(
    found: References, subject: Subject, confidence: float
) -> TrainingComparison:
    """Compare the references that learned with the target."""
    told, good = found.fleet.record_quality, found.good
    assert told is not None, "a fleet of language models without log-probabilities"
    return compare_training(
        -found.observed[:, 0],
        subject.member,
        told[good].astype(np.float64),
        found.fleet.inside[good],
        confidence,
        subject.unit_codes,
    )


def _list_nats(compared: TrainingComparison) -> dict[str, float | None]:
    """List the differences in nats a token by name, for a result."""
    return {
        "target_gain": compared.target_gain,
        "reference_gain": compared.reference_gain,
        "difference_on_members": None if compared.members is None else compared.members.value,
        "difference_on_others": None if compared.others is None else compared.others.value,
    }


def measure_text_fidelity(found: References, subject: Subject) -> ReferenceFidelity:
    """Measure how like the target the reference models are.

    Accuracies are geometric-mean probabilities of a token. On records new to both, `agreement` is
    the rank correlation of their mean log-probabilities with the target's, and
    `calibration_distance` the difference of their means, in nats a token.
    """
    fleet, good, member = found.fleet, found.good, subject.member
    own = -found.observed[:, 0]
    agreement, distance = measure_likeness(found, own, member)
    return ReferenceFidelity(
        models=len(good),
        failed=found.n_failed,
        records_per_model=round(float(fleet.inside.sum(axis=1).mean())),
        records_in_every_model=int(fleet.inside[good].all(axis=0).sum()),
        records_in_no_model=int((~fleet.inside[good]).all(axis=0).sum()),
        train_accuracy=float(np.nanmean(fleet.train_accuracy[good])) if good.any() else None,
        held_out_accuracy=float(np.nanmean(fleet.held_out_accuracy[good])) if good.any() else None,
        target_train_accuracy=float(np.exp(own[member]).mean()),
        target_held_out_accuracy=float(np.exp(own[~member]).mean()),
        agreement=agreement,
        calibration_distance=distance,
        method=DESCRIPTIVE,
    )


def measure_likeness(found: References, own: Floats, member: Bools) -> tuple[float, float]:
    """Measure how like the target's numbers `own` (n,) the references' are, on records new to both.

    Give the mean rank correlation, and the distance of their means.
    """
    fleet, told = found.fleet, found.fleet.record_quality
    assert told is not None, "a fleet of which no number a record is known"
    agreements, distances = [], []
    for model in np.flatnonzero(found.good):
        new = ~fleet.inside[model] & ~member
        if new.sum() < 3:
            continue
        ranks = [rankdata(values[new]) for values in (own, told[model])]
        # All ranks tied have no correlation
        if min(rank.std() for rank in ranks) > 0:
            agreements.append(float(np.corrcoef(ranks)[0, 1]))
        distances.append(float((told[model] - own)[new].mean()))
    agreement = float(np.mean(agreements)) if agreements else 0.0
    return agreement, abs(float(np.mean(distances))) if distances else 0.0
