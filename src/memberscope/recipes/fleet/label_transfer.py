"""Train models on the target's labels alone, and score the audited records with them.

References:
    [1] Z. Li, Y. Zhang, "Membership Leakage in Label-Only Exposures", CCS 2021, arXiv:2007.15528.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from memberscope.errors import InputError, UnmetNeedError
from memberscope.facts import read_target_facts
from memberscope.recipes.fleet.observe_model import align_classes, find_outputs, train_models
from memberscope.signals import SignalRequest, ask_top_labels, reduce_outputs
from memberscope.targets.torch_modules import AnswerReader
from memberscope.types import Access, Floats, Recipe, Records, SignalSpec, Target


def score_by_transfer(
    recipe: Recipe, target: Target, population: Records, records: Records, seeds: Sequence[int]
) -> Floats:
    """Score records by the logit-scaled confidence (n, 1) in their true classes.

    It is a mean over models trained on the target's labels. The target is queried once for each
    record of the population, and never about `records`. One model is trained for each of `seeds`.

    Raises:
        InputError: The target calls all of the population one class, or a model has other classes.
        UnmetNeedError: The models return only labels.
        TargetError: The target or the recipe fails.
    """
    # The attacker has only the target's labels, not the true ones
    called = replace(population, y=ask_top_labels(target, population.x))
    if len(np.unique(called.y)) < 2:
        raise InputError(
            "Expected the target to give the population two classes or more, got class "
            f"{int(called.y[0])} alone. Give a population that is like the records."
        )
    # Each model is trained on all of the population
    inside = np.ones((len(seeds), len(population)), dtype=bool)
    found = [
        _compute_logit_confidence(
            model, target.n_classes, records, read_target_facts(target).reading
        )
        for model in train_models(recipe, called, inside, seeds)
    ]
    return np.asarray(np.mean(found, axis=0), dtype=np.float64)


def _compute_logit_confidence(
    model: Target, n_classes: int, records: Records, like: AnswerReader | None = None
) -> Floats:
    """Compute the logit-scaled confidence (n, 1) of one model.

    Raises:
        UnmetNeedError: It tells labels alone.
    """
    find_outputs(model, records.x, n_classes, like)
    if model.signal not in ("probabilities", "logits"):
        raise UnmetNeedError(
            "Expected models that return probabilities for the attack transfer, got "
            f"{model.signal}. Change the recipe."
        )
    access = Access.LOGITS if model.signal == "logits" else Access.PROBABILITIES
    # The target may never have called some class, which such a model then lacks
    outputs = align_classes(model, np.asarray(model.query(records.x), dtype=np.float64), n_classes)
    values = reduce_outputs(
        SignalRequest(access, SignalSpec("logit_confidence")), model.signal, outputs, records.y
    )[1]
    return np.asarray(values, dtype=np.float64)
