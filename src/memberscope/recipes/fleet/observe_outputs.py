"""Observe a model of the fleet that predicts numbers, or several labels a record."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from memberscope.errors import InputError
from memberscope.recipes.fleet.observe_model import (
    RECORD_QUALITY,
    Observation,
    ask_model,
    measure_wanted,
    reduce_views,
    restrict_as_owner,
)
from memberscope.signals import measure_output_quality
from memberscope.types import Bools, Floats, Records, Target


def observe_output_signals(
    look: Observation, model: Target, pool: Records, inside: Bools, population: Records | None
) -> dict[str, NDArray[Any]]:
    """Collect what is kept of a model with real outputs or several labels, by name.

    These are `pool i` and `population i` (n, 1, d) for each signal, its `record_quality` (n,) on
    the pool, and as `metrics` the mean of that over the records inside and over the others.

    Raises:
        InputError: It answers in another way than the target.
    """
    look = restrict_as_owner(look, model, inside)
    outputs = _query_outputs(look, model, pool.x)
    finite = bool(np.isfinite(outputs).all())
    kept = reduce_views(look, [outputs], pool, "pool", finite)
    kept |= measure_wanted(look, model, pool, "pool", finite)
    if population is not None:
        others = _query_outputs(look, model, population.x)
        clean = finite and bool(np.isfinite(others).all())
        kept |= reduce_views(look, [others], population, "population", clean)
        kept |= measure_wanted(look, model, population, "population", clean)
    clear = outputs if finite else np.zeros_like(outputs)
    quality = measure_output_quality(look.signal, clear, pool.y)
    kept[RECORD_QUALITY] = quality.astype(np.float32)
    # There is no top class; the first output tells copies of one model from each other
    kept["predicted"] = np.zeros(len(clear), np.int32)
    kept["confidence"] = clear[:, 0].astype(np.float32)
    # NaN tells the fleet to leave this model out
    kept["metrics"] = np.array(
        [quality[inside].mean(), quality[~inside].mean()] if finite else [np.nan] * 2
    )
    if look.whole:
        kept["outputs"] = clear
    return kept


def _query_outputs(look: Observation, model: Target, x: Any) -> Floats:
    """Query the outputs (n, d) of a model; those of a diverged one are kept.

    Raises:
        TargetError: The model fails.
        InputError: Its answers are of another kind or width than the target's.
    """
    outputs = ask_model(lambda: model.query(x))
    if model.signal != look.signal or outputs.shape != (len(outputs), look.n_classes):
        raise InputError(
            f"Expected reference models that return {look.signal} of {look.n_classes} outputs as "
            f"the target does, got {model.signal} of shape {outputs.shape}. Let the recipe return "
            "a model like the target."
        )
    return outputs
