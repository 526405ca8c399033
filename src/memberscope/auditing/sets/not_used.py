"""Answer whether a collection was not used, or less of it than a margin."""

from __future__ import annotations

import numpy as np

from memberscope._text import format_percentage
from memberscope.auditing.sets.answer import SetAnswer, SetDecision
from memberscope.auditing.sets.evidence import KnownModel, SetEvidence
from memberscope.auditing.sets.settings import SetSettings
from memberscope.auditing.sets.withheld import ASSUMPTION, HIDDEN
from memberscope.statistics.sets import (
    MeanDifference,
    UsedShare,
    bound_used_share,
    combine_differences,
    learn_known_weights,
    measure_mean_difference,
    scale_by_non_members,
)
from memberscope.types import Bools, Floats, Ints

PROPORTION = (
    "It also assumes that records of the collection, where they were used, look as records do on "
    "which the further models were trained, in the mean."
)
NO_MODELS = (
    "It cannot be said whether the collection was not used: that takes to know what used records "
    "look like under a model like this one. Add --targets 2 to an audit with a recipe, which trains "
    "further models on known records."
)
WEAK = (
    "It cannot be said whether the collection was not used: these attacks do not even tell known "
    "training records of the further models from others, so an absent difference says nothing."
)


def answer_not_used(
    evidence: SetEvidence, settings: SetSettings, rng: np.random.Generator
) -> SetAnswer:
    """Bound the share of the collection that was used, by how known members stand out."""
    found = None
    if evidence.known:
        weights, known = measure_known_effect(evidence.known, evidence.unit, rng)
        features, member = scale_by_non_members(evidence.scores, evidence.member, evidence.unit)
        difference = measure_mean_difference(features @ weights, member)
        found = bound_used_share(difference, known, settings.margin, level=settings.significance)
    if found is None:
        return _build_answer(evidence, WEAK if evidence.known else NO_MODELS)
    return _build_answer(evidence, _state_share(found, settings), found, settings)


def measure_known_effect(
    models: tuple[KnownModel, ...], unit: Ints | None, rng: np.random.Generator
) -> tuple[Floats, MeanDifference]:
    """Learn weights (f,) from models of known truth, and measure the difference that members make.

    Each model's difference is measured by weights that were learned without it; that of a single
    model by those of one half of its units on the other.
    """
    sides = [scale_by_non_members(model.scores, model.member, unit) for model in models]
    if len(sides) == 1:
        features, member = sides[0]
        order = rng.permutation(len(member))
        learned, used = order[: len(order) // 2], order[len(order) // 2 :]
        weights = learn_known_weights(features[learned], member[learned])
        return weights, measure_mean_difference(features[used] @ weights, member[used])
    found = []
    for index, (features, member) in enumerate(sides):
        others = sides[:index] + sides[index + 1 :]
        weights = _scale_to_one(_learn_from_all(others))
        found.append(measure_mean_difference(features @ weights, member))
    return _scale_to_one(_learn_from_all(sides)), combine_differences(found)


def _learn_from_all(sides: list[tuple[Floats, Bools]]) -> Floats:
    """Learn weights (f,) from the units of several models together."""
    return learn_known_weights(
        np.concatenate([features for features, _ in sides]),
        np.concatenate([member for _, member in sides]),
    )


def _scale_to_one(weights: Floats) -> Floats:
    """Scale weights (f,) to a sum of one, so that differences by several of them compare."""
    scaled: Floats = weights / weights.sum()
    return scaled


def _build_answer(
    evidence: SetEvidence,
    statement: str,
    found: UsedShare | None = None,
    settings: SetSettings | None = None,
) -> SetAnswer:
    """Build the answer; without a share it was not run."""
    suspect = evidence.unit_sizes[0]
    return SetAnswer(
        question="not_used",
        value=None if found is None else found.value,
        low=None if found is None else found.low,
        high=None if found is None else found.high,
        p_value=None if found is None else found.p_value,
        power=(),
        decision="NOT_RUN" if found is None else _decide_share(found),
        statement=statement,
        assumption=f"{ASSUMPTION} {PROPORTION} {HIDDEN}",
        withheld=None,
        n_suspect=evidence.sizes[0],
        n_held_out=evidence.sizes[1],
        n_units=None if evidence.unit is None else suspect,
        method=_describe_method(evidence, settings),
    )


def _decide_share(found: UsedShare) -> SetDecision:
    """Decide whether the margin or more was used."""
    if found.high < found.margin:
        return "NO"
    return "YES" if found.low > found.margin else "NOT_SHOWN"


def _state_share(found: UsedShare, settings: SetSettings) -> str:
    """State how much may have been used, and the least that would have been seen."""
    margin, high = format_percentage(settings.margin), format_percentage(max(found.high, 0.0))
    seen = (
        f"The least that this test tells from nothing, with a probability of 80%, is "
        f"{format_percentage(min(found.smallest, 1.0))} of the collection."
    )
    sure = format_percentage(1 - settings.significance)
    decision = _decide_share(found)
    if decision == "NO":
        return (
            f"The model was not trained on {margin} or more of this collection: at most {high} of it "
            f"was used, with {sure} confidence. {seen} Use of less than that is not excluded."
        )
    if decision == "YES":
        return (
            f"The model was trained on more than {margin} of this collection: at least "
            f"{format_percentage(min(found.low, 1.0))} of it was used, with {sure} confidence. {seen}"
        )
    return (
        f"It was not shown that less than {margin} of this collection was used: with {sure} "
        f"confidence it may be up to {format_percentage(min(found.high, 1.0))}. {seen}"
    )


def _describe_method(evidence: SetEvidence, settings: SetSettings | None) -> str:
    """Describe how the share came about."""
    if settings is None:
        return "not run"
    return (
        f"difference of mean scores over that of known members under {len(evidence.known)} further "
        f"models, weights learned from these; one-sided limits of {100 * (1 - settings.significance):g}% each "
        "by Fieller's method, the spread between the models included"
    )
