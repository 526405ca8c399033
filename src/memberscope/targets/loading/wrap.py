"""Wrap any model object as a target.

No framework is imported that the caller has not imported.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from memberscope.errors import InputError, MemberscopeError, TargetError
from memberscope.facts import read_target_facts
from memberscope.frames import slice_rows
from memberscope.targets.answers.one_vs_all import has_raw_scores
from memberscope.targets.answers.output_kind import Outputs, parse_declared_outputs
from memberscope.targets.answers.real_outputs import parse_task
from memberscope.targets.frameworks.boosters import BoosterTarget
from memberscope.targets.frameworks.function import FunctionOutputsTarget, FunctionTarget
from memberscope.targets.frameworks.huggingface import HuggingFaceTarget
from memberscope.targets.frameworks.keras import KerasTarget
from memberscope.targets.frameworks.onnx import OnnxTarget
from memberscope.targets.frameworks.sklearn import SklearnTarget
from memberscope.targets.frameworks.sklearn_outputs import SklearnOutputsTarget
from memberscope.targets.http.target import HttpTarget
from memberscope.targets.tasks import CAUSAL, MASKED, choose_task
from memberscope.targets.texts import CausalLMTarget, MaskedLMTarget, find_local_tokenizer
from memberscope.targets.torch_modules.target import TorchTarget
from memberscope.targets.torch_modules.wrappers import unwrap_module
from memberscope.types import OUTPUT_SIGNALS, OUTPUT_TASKS, Access, Target, Task


def wrap(
    model: Any,
    *,
    n_classes: int | None = None,
    outputs: str | None = None,
    task: Task | None = None,
) -> Target:
    """Make a target of a model of any framework here, or of a function x -> answers.

    A target itself is returned unchanged. Known are fitted scikit-learn estimators, torch modules,
    onnxruntime sessions, boosters of LightGBM and XGBoost, Keras models, and models and pipelines
    of transformers; of its language models the pair of model and tokenizer. `outputs` declares what
    a classifier returns, where that cannot be inferred.

    `task` is what the model does: `classification`, `regression` (one or several numbers),
    `multilabel` (several labels a record) or `forecast`. Estimators and boosters show it
    themselves; functions and networks are classifiers where it is not given. `n_classes` is the
    number of classes, outputs or labels.

    Raises:
        InputError: The object is none of these, does another task, or does not return `outputs`.

    >>> from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor
    >>> wrap(DecisionTreeClassifier().fit([[0.0], [1.0]], [0, 1])).n_classes
    2
    >>> wrap(DecisionTreeRegressor().fit([[0.0], [1.0]], [0.5, 1.5])).signal
    'prediction'
    """
    wanted = parse_task(task)
    known = (
        model
        # Own targets by their class: the protocol reads attributes that they may not have yet
        if isinstance(model, (*LATE, Target))
        else _build_target(model, n_classes, parse_declared_outputs(outputs), wanted)
    )
    return apply_declaration(take_task(known, wanted), outputs)


def take_task(target: Target, task: Task | None) -> Target:
    """Give a target of the same model for this `task`, as recipes return targets of classifiers.

    Raises:
        InputError: It does another task.

    >>> from sklearn.linear_model import Ridge
    >>> take_task(wrap(Ridge().fit([[0.0], [1.0]], [0.0, 1.0])), "forecast").task
    'forecast'
    """
    own = read_target_facts(target).task
    if task is None or own == task:
        return target
    if isinstance(target, SklearnTarget | SklearnOutputsTarget):
        return SklearnOutputsTarget(target.estimator, task=choose_task(target.estimator, task))
    if isinstance(target, TorchTarget) and own == "classification":
        return rebuild_torch_target(target, task=task)
    raise InputError(
        f'Expected a target for task="{task}", got {type(target).__name__} for {own}. Give the '
        "model itself with task=, or leave out the task."
    )


def apply_declaration(target: Target, outputs: str | None) -> Target:
    """Check that the target returns what was declared, and apply the declaration.

    It is applied to a torch module of which nothing was declared.

    Raises:
        InputError: It returns something else.
    """
    if target.signal in OUTPUT_SIGNALS:
        _check_output_declaration(target, outputs)
        return target
    if outputs is not None and isinstance(target, TorchTarget) and target.declared is None:
        return place_target(target, None, outputs)
    if (
        # With the user's own objective predict_proba may give logits
        outputs == "logits"
        and isinstance(target, SklearnTarget)
        and has_raw_scores(target.estimator)
    ):
        target.signal, target.access = "logits", Access.LOGITS
    if outputs not in (None, target.signal):
        raise InputError(
            f"Expected a model that returns {outputs}, got one of {target.signal}. Leave out "
            "--outputs."
        )
    return target


def _check_output_declaration(target: Target, outputs: str | None) -> None:
    """Refuse a declaration that says nothing about a model of this task.

    Raises:
        InputError: It does not.
    """
    # Networks with several labels may return logits; whoever builds the target applies it
    if outputs in (None, "probabilities") or target.signal == "label_probabilities":
        return
    raise InputError(
        f"Expected no declared outputs for a model that predicts numbers, got {outputs!r}. Leave "
        "out --outputs, which says what a classifier returns."
    )


def place_target(target: Target, device: str | None, outputs: str | None = None) -> Target:
    """Put the target on the `device` and give it the `outputs` that were asked for.

    Only a torch module is changed; any other target is returned as it is.

    Raises:
        InputError: The device is not available.
    """
    if not isinstance(target, TorchTarget) or (device is None and outputs is None):
        return target
    return rebuild_torch_target(target, outputs=outputs, device=device)


def rebuild_torch_target(
    target: TorchTarget,
    *,
    outputs: str | None = None,
    device: str | None = None,
    task: Task | None = None,
) -> TorchTarget:
    """Build a target of the same module with other outputs, another device or another task.

    >>> import torch
    >>> rebuild_torch_target(TorchTarget(torch.nn.Linear(2, 1)), task="regression").signal
    'prediction'
    """
    return TorchTarget(
        target.module,
        outputs=outputs or target.declared,
        batch_size=target.batch_size,
        device=device or target.device,
        n_classes=target.known_classes,
        task=task or target.task,
    )


# Targets that learn their number of classes or outputs from the first answer
LATE = (
    TorchTarget,
    SklearnOutputsTarget,
    FunctionOutputsTarget,
    KerasTarget,
    OnnxTarget,
    HttpTarget,
)


def _build_target(
    model: Any, n_classes: int | None, outputs: Outputs | None, given: Task | None
) -> Target:
    """Build the target for an object of a known framework, or for a function.

    Raises:
        InputError: It is neither.
    """
    # A model of a framework that was never imported cannot exist
    if isinstance(model, getattr(sys.modules.get("torch.nn"), "Module", ())):
        model = unwrap_module(model)
    if (text := _wrap_language_model(model)) is not None:
        return text
    # Before any framework: an error here says what the model is for
    task = choose_task(model, given)
    for module, name, make in FRAMEWORKS:
        if isinstance(model, getattr(sys.modules.get(module), name, ())):
            return make(model, outputs, n_classes, given)
    # scikit-learn's interface, which other libraries offer too
    if any(hasattr(model, name) for name in ("predict_proba", "decision_function", "predict")):
        if task in OUTPUT_TASKS:
            return SklearnOutputsTarget(model, task=task)
        return SklearnTarget(model)
    # Last, since models of most frameworks can be called
    if callable(model) and not isinstance(model, type):
        if task in OUTPUT_TASKS:
            return FunctionOutputsTarget(model, task=task, n_classes=n_classes)
        if n_classes is None:
            raise InputError(
                "Expected n_classes for a function, got none. Wrap it: FunctionTarget(f, "
                'n_classes=k); give task="regression" if it predicts numbers.'
            )
        if n_classes < 2:
            raise InputError(
                "Expected a function that answers for at least two classes, got "
                f"n_classes={n_classes}. If it gives the probability of one class, return that of "
                'the other too; if it predicts numbers, give task="regression".'
            )
        return FunctionTarget(model, n_classes=n_classes, signal=outputs or "probabilities")
    raise InputError(
        f"Expected a fitted estimator, a torch module or a function, got {type(model).__name__}. "
        "Give an object that answers predict_proba, or a function that returns probabilities."
    )


def _wrap_language_model(model: Any) -> Target | None:
    """Wrap a language model of transformers, a pipeline of one, or a model with its tokenizer.

    Give None for anything else.

    Raises:
        InputError: It comes without a tokenizer.
    """
    kind = getattr(sys.modules.get("transformers.modeling_utils"), "PreTrainedModel", None)
    if kind is None:
        return None
    tokenizer: Any = None
    pipeline: Any = getattr(sys.modules.get("transformers.pipelines.base"), "Pipeline", ())
    if isinstance(model, tuple) and len(model) == 2:
        model, tokenizer = model
    elif isinstance(model, pipeline):
        model, tokenizer = model.model, model.tokenizer
    # Adapters of PEFT hide the model that they change
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    name = type(inner).__name__
    if not isinstance(inner, kind) or not name.endswith((*CAUSAL, *MASKED)):
        return None
    target = MaskedLMTarget if name.endswith(MASKED) else CausalLMTarget
    return target(model, tokenizer or find_local_tokenizer(model))


# A framework's module, its class, and the target for it, from the model, declared outputs, number of
# classes and task. The first that fits is taken, as Keras and transformers models may be torch modules
# too. Only modules that are imported already are looked up.
FRAMEWORKS: tuple[
    tuple[str, str, Callable[[Any, str | None, int | None, Task | None], Target]], ...
] = (
    (
        "onnxruntime",
        "InferenceSession",
        lambda model, outputs, k, task: OnnxTarget(
            model, outputs=outputs, n_classes=k, task=choose_task(model, task)
        ),
    ),
    (
        "lightgbm",
        "Booster",
        lambda model, outputs, k, task: BoosterTarget(model, outputs=outputs, task=task),
    ),
    (
        "xgboost",
        "Booster",
        lambda model, outputs, k, task: BoosterTarget(model, outputs=outputs, task=task),
    ),
    (
        "keras",
        "Model",
        lambda model, outputs, k, task: KerasTarget(
            model, outputs=outputs, n_classes=k, task=task or "classification"
        ),
    ),
    (
        "transformers.pipelines.base",
        "Pipeline",
        lambda model, outputs, k, task: HuggingFaceTarget(model.model, model.tokenizer),
    ),
    (
        "transformers.modeling_utils",
        "PreTrainedModel",
        lambda model, outputs, k, task: HuggingFaceTarget(model),
    ),
    (
        "torch.nn",
        "Module",
        lambda model, outputs, k, task: TorchTarget(
            model, outputs=outputs, n_classes=k, task=task or "classification"
        ),
    ),
)


def read_class_names(target: Target) -> tuple[str, ...] | None:
    """Read the names of the classes if the target knows them."""
    return read_target_facts(target).classes


def resolve_n_classes(target: Target, x: Any, n_classes: int) -> Target:
    """Let the target find out what it returns and its number of classes, if it does not know.

    Answers to some of the records `x` show it for a torch module; for others the answer to the
    first record does, or where answers are labels alone or cost something, the records' own
    `n_classes`.

    Raises:
        TargetError: The model fails.
    """
    find = read_target_facts(target).find_outputs
    if find is not None and x is not None:
        find(x, n_classes=n_classes)
    if read_target_facts(target).lacks_class_count:
        # A query of a server costs; its answers are compared with that number
        costly = target.signal in OUTPUT_SIGNALS and read_target_facts(target).costly
        if target.signal == "labels" or costly:
            # Labels do not show how many classes there are
            target.known_classes = n_classes  # type: ignore[attr-defined]
        else:
            # The width of one answer is the number of classes
            _query_first_record(target, x)
    return target


def _query_first_record(target: Target, x: Any) -> None:
    """Query the first of the records `x`, whose answer shows its width.

    Raises:
        TargetError: The model fails.
    """
    try:
        target.query(slice_rows(x, 0, 1))
    except MemberscopeError:
        raise
    except Exception as error:
        first = (str(error).splitlines() or [""])[0].rstrip(".")
        raise TargetError(
            f"Expected an answer for the first record, got {type(error).__name__}: {first}. Give the "
            "records the columns that the model was trained on, or call it yourself to see why."
        ) from error
