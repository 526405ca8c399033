"""Observe a language model of the fleet: its losses, and what is made of them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from memberscope.errors import InputError
from memberscope.facts import read_target_facts
from memberscope.recipes.fleet.observe_model import (
    RECORD_QUALITY,
    Observation,
    ask_model,
    measure_wanted,
    reduce_views,
)
from memberscope.signals import RestrictedTextTarget
from memberscope.types import Bools, Floats, Records, Target


def observe_text_signals(
    look: Observation, model: Target, pool: Records, inside: Bools, population: Records | None
) -> dict[str, NDArray[Any]]:
    """Collect what is kept of a language model, by name.

    These are `pool i` and `population i` (n, 1, d) for each signal, its `record_quality` (n,)
    of the pool's records, the mean log-probability, and as `metrics` the geometric-mean probability of a token, averaged over
    the records inside and over the others.

    Raises:
        InputError: It answers in another way than the target, or reads texts differently.
    """
    if read_target_facts(model).task != "text":
        raise InputError(
            "Expected reference models that are language models as the target is, got "
            f"{type(model).__name__}. Let the recipe return one, such as a CausalLMTarget."
        )
    require_equal_reading(read_target_facts(model).tokens_identity, look.tokens_identity)
    model = _restrict_model(model, look)
    losses = _query_losses(model, pool.x)
    finite = bool(np.isfinite(losses).all())
    kept = reduce_views(look, [losses], pool, "pool", finite)
    kept |= measure_wanted(look, model, pool, "pool", finite)
    if population is not None:
        others = _query_losses(model, population.x)
        clean = finite and bool(np.isfinite(others).all())
        kept |= reduce_views(look, [others], population, "population", clean)
        kept |= measure_wanted(look, model, population, "population", clean)
    mean = -losses[:, 0] if finite else np.zeros(len(losses))
    probability = np.exp(mean)
    kept[RECORD_QUALITY] = mean.astype(np.float32)
    # One class, of which the model is as sure as it is of a token
    kept["predicted"] = np.zeros(len(mean), np.int32)
    kept["confidence"] = probability.astype(np.float32)
    # NaN tells the fleet to leave this model out
    kept["metrics"] = np.array(
        [probability[inside].mean(), probability[~inside].mean()] if finite else [np.nan] * 2
    )
    if look.whole:
        kept["outputs"] = losses if finite else np.zeros_like(losses)
    return kept


def _restrict_model(model: Target, look: Observation) -> Target:
    """Put a model behind the restriction of the target, through which all of an audit is seen."""
    limits = [wanted.restriction for wanted in look.wanted if wanted.restriction is not None]
    if not limits or read_target_facts(model).restriction is not None:
        return model
    return RestrictedTextTarget(model, limits[0])


def _query_losses(model: Target, x: Any) -> Floats:
    """Query the losses (n, 1) of texts; those of a diverged model are kept.

    Raises:
        TargetError: The model fails.
        InputError: It gives something else than losses.
    """
    losses = ask_model(lambda: model.query(x))
    if model.signal != "loss" or losses.shape != (len(x), 1):
        raise InputError(
            f"Expected reference models that return losses of shape {(len(x), 1)}, got "
            f"{model.signal} of shape {losses.shape}. Let the recipe return a language model."
        )
    return losses


def require_equal_reading(own: str | None, wanted: str | None) -> None:
    """Require that references read texts as the target does, as far as both say how.

    Raises:
        InputError: They differ in the tokenizer, the template, the engine or something else.

    >>> require_equal_reading("tokenizer=a", None)
    """
    if own is None or wanted is None or own == wanted:
        return
    raise InputError(
        f"Expected reference models that read texts as the target does, got another "
        f"{describe_difference(own, wanted)}. Give the recipe the tokenizer, template and engine "
        "of the target."
    )


def describe_difference(own: str, wanted: str) -> str:
    """Describe in what two identities, written as `name=value; name=value`, differ.

    >>> describe_difference("tokenizer=a; engine=x", "tokenizer=b; engine=x")
    'tokenizer (a, the target has b)'
    """
    parts = [dict(_split_identity(text)) for text in (own, wanted)]
    names = [name for name in parts[1] | parts[0] if parts[0].get(name) != parts[1].get(name)]
    return " and ".join(
        f"{name} ({parts[0].get(name, 'none')}, the target has {parts[1].get(name, 'none')})"
        for name in names
    )


def _split_identity(text: str) -> list[tuple[str, str]]:
    """Split an identity into names and values; one without names is named `identity`."""
    entries = [entry.partition("=") for entry in text.split("; ")]
    return [(name, value) if mark else ("identity", name) for name, mark, value in entries]
