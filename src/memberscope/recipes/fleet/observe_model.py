"""Do one job of the fleet: train models and query each about all records.

Only what the attacks need is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memberscope._digests import digest_array
from memberscope._numerics import softmax
from memberscope.errors import InputError, MemberscopeError, TargetError
from memberscope.facts import read_recipe_facts, read_target_facts
from memberscope.frames import choose_rows
from memberscope.outputs import Chain, Recovery, derive_part_keys, flatten_chain
from memberscope.signals import (
    SignalRequest,
    is_measured,
    measure_signal,
    reduce_outputs,
    restrict_to_access,
    transform_view,
    validate_outputs,
)
from memberscope.targets import wrap
from memberscope.targets.torch_modules import AnswerReader
from memberscope.types import (
    OUTPUT_TASKS,
    Access,
    Bools,
    Floats,
    Recipe,
    Records,
    Signal,
    Target,
    Task,
)

RECORD_QUALITY = "record_quality"  # name of how right a model is about each record
# Signals of a model that all but diverged are clipped to this, so that their squares stay finite
LARGEST = 1e15
ACCESS: dict[Signal, Access] = {
    "labels": Access.LABEL,
    "probabilities": Access.PROBABILITIES,
    "logits": Access.LOGITS,
}


@dataclass(frozen=True)
class Observation:
    """What is observed of each model: signals of views, in the form of the target's answers.

    `whole` keeps all outputs. `like` is how the answers of the target are read, if it is a torch
    module: a model's are read the same way where nothing else decides it. `tokens_identity` is what
    models of the `task` text must agree in with the target.
    """

    wanted: tuple[SignalRequest, ...]
    signal: Signal
    n_classes: int
    views: tuple[str, ...]
    whole: bool = False
    like: AnswerReader | None = None
    task: Task = "classification"
    tokens_identity: str | None = None


def train_models(
    recipe: Recipe,
    pool: Records,
    inside: Bools,
    seeds: Sequence[int],
    task: Task = "classification",
) -> list[Target]:
    """Train a model of a task for each row of `inside` (b, n), together where the recipe can.

    Raises:
        TargetError: The recipe fails.
        InputError: What it returns is not a model.
    """
    # A recipe that can train several models at once, such as torch's
    many = read_recipe_facts(recipe).many
    try:
        if many is not None:
            models = list(many(pool, inside, seeds))
        else:
            models = [
                recipe(select_records(pool, row), seed)
                for row, seed in zip(inside, seeds, strict=True)
            ]
    # It says what is wrong already
    except MemberscopeError:
        raise
    except Exception as error:
        first = (str(error).splitlines() or [""])[0]
        raise TargetError(
            f"Expected the recipe to train a model, got {type(error).__name__}: {first}. Call it "
            "on a few records to see why."
        ) from error
    # What a function or a module returns is not seen from outside
    known: dict[str, Any] = {"task": task} if task in OUTPUT_TASKS else {}
    return [wrap(model, **known) for model in models]


def select_records(pool: Records, rows: Bools) -> Records:
    """Select the records under `rows` (n,)."""
    where = np.flatnonzero(rows)
    groups = {name: values[where] for name, values in pool.groups.items()}
    unit = None if pool.unit is None else pool.unit[where]
    return Records(choose_rows(pool.x, where), pool.y[where], pool.ids[where], groups, unit)


def observe_signals(
    look: Observation, model: Target, pool: Records, inside: Bools, population: Records | None
) -> dict[str, NDArray[Any]]:
    """Collect what is kept of a model, by name.

    These are `pool i` and `population i` (n, views, d) for each signal, and how accurate it is.
    With `look.whole` its `outputs` (n, k) about the pool are kept too, as float64, like those of
    an audited model.

    Raises:
        InputError: It answers in another way than the target.
    """
    look = restrict_as_owner(look, model, inside)
    answers = [_query_view(look, model, pool.x, name) for name in look.views]
    # A model that diverged is kept with neutral signals, so that rows still match the design
    finite = all(np.isfinite(outputs).all() for outputs in answers)
    kept = reduce_views(look, answers, pool, "pool", finite) | measure_wanted(
        look, model, pool, "pool", finite
    )
    if population is not None:
        others = [_query_view(look, model, population.x, name) for name in look.views]
        # The population's answers may be the only ones that are not finite
        clean = finite and all(np.isfinite(outputs).all() for outputs in others)
        kept |= reduce_views(look, others, population, "population", clean)
        kept |= measure_wanted(look, model, population, "population", clean)
    top, sure = find_top_confidence(look.signal, answers[0])
    right = top == pool.y
    # NaN tells the fleet to leave this model out
    accuracies = (right[inside].mean(), right[~inside].mean()) if finite else (np.nan, np.nan)
    kept["predicted"], kept["confidence"] = top.astype(np.int32), sure.astype(np.float32)
    # Accuracy decides later whether training worked; an attack's outcome never does
    kept["metrics"] = np.array(accuracies, dtype=np.float64)
    if look.whole:
        kept["outputs"] = (
            answers[0] if finite else np.full_like(answers[0], 1.0 / answers[0].shape[1])
        )
    return kept


def restrict_as_owner(look: Observation, model: Target, inside: Bools) -> Observation:
    """Restrict the signals wanted of a model as the owner of that model can.

    A model behind the target's own defence is not restricted twice.

    Raises:
        InputError: The model stands behind another defence than the target.
    """
    wanted = tuple(
        restrict_own_model(_strip_own_restriction(one, model), inside) for one in look.wanted
    )
    return replace(look, wanted=wanted)


def _strip_own_restriction(wanted: SignalRequest, model: Target) -> SignalRequest:
    """Remove from `wanted` the restriction that the model's answers went through already.

    It is the target's own, fitted to this model.

    Raises:
        InputError: The model stands behind another defence than the target.
    """
    facts = read_target_facts(model)
    own = facts.restriction
    if own is None or facts.hides or wanted.access in (Access.LABEL, Access.WHITE_BOX):
        return wanted
    name = wanted.restriction.name if wanted.restriction else ""
    if own != name and not name.startswith(f"{own}+"):
        raise InputError(
            "Expected reference models without output defences or behind the target's, got one "
            f"behind {own}. Return the model itself from the recipe."
        )
    # A chain of defences is named by its parts, joined by +; the model's own come first
    if own == name or not isinstance(wanted.restriction, Chain):
        return replace(wanted, restriction=None)
    parts = wanted.restriction.parts[own.count("+") + 1 :]
    left = parts[0] if len(parts) == 1 else replace(wanted.restriction, parts=parts)
    return replace(wanted, restriction=left)


def restrict_own_model(wanted: SignalRequest, inside: Bools) -> SignalRequest:
    """Restrict a model that was trained on the records under `inside` as its owner can.

    The target's key is not known, so that noise is drawn by another one for each model. Where the
    target's noise was undone, models are seen without any.
    """
    if wanted.restriction is None:
        return wanted
    if isinstance(flatten_chain(wanted.restriction)[-1], Recovery):
        return replace(wanted, restriction=None)
    return replace(
        wanted,
        restriction=derive_part_keys(wanted.restriction, f"model {digest_array(inside)}"),
    )


def ask_model(ask: Callable[[], Any]) -> Floats:
    """Give what `ask` gets of a recipe's model; NaN of a diverged model are kept.

    Raises:
        TargetError: The model fails.
    """
    try:
        return np.asarray(ask(), dtype=np.float64)
    except MemberscopeError:
        raise
    except Exception as error:
        first = (str(error).splitlines() or [""])[0]
        raise TargetError(
            f"Expected the recipe's model to answer, got {type(error).__name__}: {first}. Query "
            "one yourself to see why."
        ) from error


def _query_view(look: Observation, model: Target, x: Any, name: str) -> Floats:
    """Query the model's outputs (n, k) about one view of the records, in the target's signal.

    NaN of a diverged model are kept.
    """

    def ask() -> Any:
        # On the records as they are, so that each view is read in the same way
        find_outputs(model, x, look.n_classes, look.like)
        return model.query(transform_view(name, x))

    outputs = ask_model(ask)
    # An answer that is partly hidden cannot be compared with the target's
    if read_target_facts(model).hides:
        raise InputError(
            "Expected reference models without output defences, got one behind a defence. Return "
            "the model itself from the recipe."
        )
    outputs = align_classes(model, outputs, look.n_classes)
    # More than the target gives can be reduced; less cannot be made up
    have, need = ACCESS.get(model.signal), ACCESS.get(look.signal)
    if need is None or have is None or have < need:
        raise InputError(
            f"Expected reference models that return {look.signal} as the target does, got "
            f"{model.signal}. Audit at a lower --access, or change the recipe."
        )
    # References may answer more than the target; the attacker compares like with like
    outputs = restrict_to_access(need, model.signal, outputs)[1]
    # A diverged model is no mistake of the user's: it is left out later
    if np.isfinite(outputs).all():
        validate_outputs(
            look.signal, outputs, np.arange(len(outputs)).astype(np.str_), look.n_classes
        )
    return outputs


def find_outputs(model: Target, x: Any, n_classes: int, like: AnswerReader | None) -> None:
    """Let a model find out what it returns, if it can.

    It follows `like` where its answers leave that open.
    """
    find = read_target_facts(model).find_outputs
    if find is not None:
        find(x, n_classes=n_classes, like=like)


def align_classes(model: Target, outputs: Floats, n_classes: int) -> Floats:
    """Give outputs one column for each class of the target, zero where a model never saw a class.

    Labels get the target's numbers.

    Raises:
        InputError: The classes are not the target's.
    """
    width = 1 if model.signal == "labels" else n_classes
    names = read_target_facts(model).classes
    # A model that saw only some classes numbers its columns by those
    if names is not None and len(names) < n_classes and all(name.isdigit() for name in names):
        numbers = np.array([int(name) for name in names])
        # Positions among its own classes become the target's numbers
        if model.signal == "labels" and outputs.shape[1] == 1 and numbers.max() < n_classes:
            return np.asarray(numbers[outputs.astype(int)], dtype=np.float64)
        if (
            model.signal == "probabilities"
            and outputs.shape[1] == len(numbers)
            and numbers.max() < n_classes
        ):
            # Such a model gives a class that it never saw no probability
            padded = np.zeros((len(outputs), n_classes))
            padded[:, numbers] = outputs
            return padded
    if outputs.ndim != 2 or outputs.shape[1] != width:
        raise InputError(
            f"Expected reference models with {n_classes} classes as the target, got outputs of "
            f"shape {outputs.shape}. Let the recipe return a model of all classes."
        )
    return outputs


def reduce_views(
    look: Observation, answers: list[Floats], records: Records, part: str, finite: bool
) -> dict[str, NDArray[Any]]:
    """Reduce answers to each wanted signal (n, views, d), by name.

    A model whose answers are not finite gets uniform ones; it is left out later.
    """
    found = {}
    for number, wanted in enumerate(look.wanted):
        # Not reduced from outputs: the model itself is measured
        if is_measured(wanted.spec):
            continue
        views = answers[:1] if wanted.spec.name == "outputs" else answers
        clean = (
            views
            if finite
            else [np.full_like(outputs, 1.0 / outputs.shape[1]) for outputs in views]
        )
        values = [reduce_outputs(wanted, look.signal, outputs, records.y)[1] for outputs in clean]
        found[f"{part} {number}"] = np.clip(np.stack(values, axis=1), -LARGEST, LARGEST).astype(
            np.float32
        )
    return found


def measure_wanted(
    look: Observation, model: Target, records: Records, part: str, finite: bool
) -> dict[str, NDArray[Any]]:
    """Measure each wanted signal (n, 1, d) that has to be measured, by name.

    A model that is left out later gets one zero for each record. Where the model does not allow it,
    or fails, the values are NaN: attacks that need this signal are then not run, and all others
    are.
    """
    found = {}
    for number, wanted in enumerate(look.wanted):
        # Reduced from outputs elsewhere
        if not is_measured(wanted.spec):
            continue
        try:
            values = (
                measure_signal(model, records, wanted.spec).final
                if finite
                else np.zeros((len(records), 1))
            )
        # Measuring may fail in any library; the other signals are still good
        except Exception:
            values = np.full((len(records), 1), np.nan)
        found[f"{part} {number}"] = values[:, None, :].astype(np.float32)
    return found


def find_top_confidence(signal: Signal, outputs: Floats) -> tuple[NDArray[np.int64], Floats]:
    """Find the top class (n,) and its probability (n,).

    The probability is 1 where only labels are known.
    """
    if signal == "labels":
        return outputs[:, 0].astype(np.int64), np.ones(len(outputs))
    # NaN of a diverged model would be the largest of all
    clean = np.nan_to_num(outputs)
    probabilities = softmax(clean) if signal == "logits" else clean
    return probabilities.argmax(axis=1), probabilities.max(axis=1)
