"""Read what targets and recipes may offer beside the members of their protocols.

`Target` and `Recipe` in `memberscope.types` say what an object must have. `TargetFacts` and
`RecipeFacts` say what it may have in addition: whoever writes a target or a recipe of their own
gives it any of these attributes, as a plain attribute, a property or a method. An attribute that
is missing or None gives the default. No other file looks these attributes up by name.
"""

from __future__ import annotations

import operator
import reprlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import Field, dataclass, field, fields
from functools import cached_property
from typing import Any, Literal, get_args

import numpy as np

from memberscope.errors import InputError
from memberscope.types import Bools, Recipe, Records, Target, Task

ModelKind = Literal["boosted_trees", "forest", "tree", "linear", "neural_network", "generator"]


def _convert_flag(value: Any) -> bool:
    """Convert True or False, NumPy's included."""
    if not isinstance(value, bool | np.bool_):
        raise TypeError
    return bool(value)


def _convert_text(value: Any) -> str:
    """Convert a string."""
    if not isinstance(value, str):
        raise TypeError
    return str(value)


def _convert_model_kind(value: Any) -> ModelKind:
    """Convert one of the known kinds of model."""
    if value not in get_args(ModelKind):
        raise ValueError
    return value  # type: ignore[no-any-return]


def _convert_task(value: Any) -> Task:
    """Convert one of the known tasks."""
    if value not in get_args(Task):
        raise ValueError
    return value  # type: ignore[no-any-return]


def _convert_class_names(value: Any) -> tuple[str, ...]:
    """Convert names of classes, of which an array turns all into one type."""
    if isinstance(value, tuple) and all(type(name) is str for name in value):
        return value
    # An array of no dimension, as of a number or a string, cannot be iterated
    return tuple(str(name) for name in np.asarray(value))


def _convert_names(value: Any) -> tuple[str, ...]:
    """Convert several names, each by itself."""
    if isinstance(value, str | bytes | Mapping):
        raise TypeError
    return tuple(map(str, value))


def _convert_entries(value: Any) -> tuple[Any, ...]:
    """Convert a list or a tuple."""
    if not isinstance(value, list | tuple):
        raise TypeError
    return tuple(value)


def _convert_sentences(value: Any) -> tuple[str, ...]:
    """Convert a list or a tuple of strings."""
    return tuple(map(_convert_text, _convert_entries(value)))


def _convert_function(value: Any) -> Callable[..., Any]:
    """Convert something that can be called."""
    if not callable(value):
        raise TypeError
    return value  # type: ignore[no-any-return]


def _convert_target(value: Any) -> Target:
    """Convert something that can be queried."""
    # Not by the protocol, which reads properties that may cost something
    if not callable(getattr(value, "query", None)):
        raise TypeError
    return value  # type: ignore[no-any-return]


# What an attribute must be, in words, and the function that raises TypeError where it is not
_FLAG = {"words": "True or False", "convert": _convert_flag}
_COUNT = {"words": "a whole number", "convert": operator.index}
_TEXT = {"words": "a string", "convert": _convert_text}
_CLASS_NAMES = {"words": "a list of names", "convert": _convert_class_names}
_NAMES = {"words": "a list of names", "convert": _convert_names}
_MODEL_KIND = {
    "words": f"one of {', '.join(get_args(ModelKind))}",
    "convert": _convert_model_kind,
}
_TASK = {"words": f"one of {', '.join(get_args(Task))}", "convert": _convert_task}
_SENTENCES = {"words": "a list of strings", "convert": _convert_sentences}
_FUNCTION = {"words": "a function or a method", "convert": _convert_function}
_TARGET = {"words": "a target", "convert": _convert_target}
_PRINTED = {"words": "anything that can be printed", "convert": str}
_ANYTHING = {"words": "anything", "convert": lambda value: value}
# Common names, which an object may use for something else: then they are passed over
_FUNCTION_IF_ANY = {**_FUNCTION, "lenient": True}
_TARGET_IF_ANY = {**_TARGET, "lenient": True}
_ENTRIES_IF_ANY = {"words": "a list", "convert": _convert_entries, "lenient": True}


@dataclass(frozen=True)
class TargetFacts:
    """What a target may offer beside the members of `Target`.

    Each field has the name of the attribute that it is read from.

    Attributes:
        classes: Names of the classes, in the order of the columns of `query`; numbers become
            strings. The labels of tables are matched with them, and a reference model that saw
            only some of the target's classes is lined up by them if they are numbers.
        columns: Names of the columns that the model takes, in its order. A table that is read from
            a file gets these columns and no others, in this order.
        estimator: The fitted scikit-learn estimator behind the target. Columns, their kinds and
            categories are looked up in it.
        booster: The booster of LightGBM or XGBoost behind the target, which names categories.
        model_kind: What the model is: boosted_trees, forest, tree, linear, neural_network, or the generator of a table. The
            advice of a result fits it; of an `estimator` or a `booster` it is known anyway.
        inputs: The inputs of a model that takes each column by itself, with `name` and `dtype`.
        restriction: Name of the output defence that its answers went through already, such as
            `top:3`. They are not restricted by it again.
        hides: True if answers may leave something out as NaN, such as classes.
        costly: True if queries cost money or load a server. Attacks that choose their queries
            then run only under a declared budget.
        stored: True if answers are stored and no new question can be asked.
        notes: Sentences for a reader of the result, about how the model is read.
        identity: Names what answers where there is no digest, so that an audit can be resumed.
        predict: `predict(x) -> labels (n,)`: the model's own decision, where it may differ from
            the class of the highest score.
        same_labels: A target with the same top classes that answers faster.
        find_outputs: `find_outputs(x, n_classes=..., like=...)` finds out from answers to some
            records what the model returns. It is called before the first query.
        reading: How answers are read, which models trained to resemble this one follow. Pass it
            on as it is.
        lacks_class_count: True if there is an attribute `known_classes` and it is None: an answer
            will show the number of classes, or it is set to that of the records.
        target: The target that this one wraps.
        endpoint: The `memberscope.wire.Endpoint` that is asked.
        spent: `spent()` gives the queries sent and answered, to be shown after an audit.
        task: What the model does: classification, or text for language models.
        base: The text target that this one was fine-tuned from.
        prefix: A text of known non-members, which is put before each record for ReCaLL.
        tokens_identity: What a language model's token log-probabilities depend on beside its
            weights, such as tokenizer, chat template, engine and quantisation. Models that are
            compared must agree in it.
        count_tokens: `count_tokens(x)` gives the tokens (n,) that a language model reads of each
            text, without asking it.
    """

    classes: tuple[str, ...] | None = field(default=None, metadata=_CLASS_NAMES)
    columns: tuple[str, ...] = field(default=(), metadata=_NAMES)
    estimator: Any = field(default=None, metadata=_ANYTHING)
    booster: Any = field(default=None, metadata=_ANYTHING)
    model_kind: ModelKind | None = field(default=None, metadata=_MODEL_KIND)
    inputs: tuple[Any, ...] = field(default=(), metadata=_ENTRIES_IF_ANY)
    restriction: str | None = field(default=None, metadata=_TEXT)
    hides: bool = field(default=False, metadata=_FLAG)
    costly: bool = field(default=False, metadata=_FLAG)
    stored: bool = field(default=False, metadata=_FLAG)
    notes: tuple[str, ...] = field(default=(), metadata=_SENTENCES)
    identity: str | None = field(default=None, metadata=_TEXT)
    predict: Callable[[Any], Any] | None = field(default=None, metadata=_FUNCTION)
    same_labels: Target | None = field(default=None, metadata=_TARGET)
    find_outputs: Callable[..., Any] | None = field(default=None, metadata=_FUNCTION)
    reading: Any = field(default=None, metadata=_ANYTHING)
    target: Target | None = field(default=None, metadata=_TARGET_IF_ANY)
    endpoint: Any = field(default=None, metadata=_ANYTHING)
    spent: Callable[[], Any] | None = field(default=None, metadata=_FUNCTION)
    task: Task = field(default="classification", metadata=_TASK)
    base: Target | None = field(default=None, metadata=_TARGET_IF_ANY)
    prefix: str | None = field(default=None, metadata=_TEXT)
    tokens_identity: str | None = field(default=None, metadata=_TEXT)
    count_tokens: Callable[[Any], Any] | None = field(default=None, metadata=_FUNCTION_IF_ANY)
    lacks_class_count: bool = False


@dataclass(frozen=True)
class RecipeFacts:
    """What a recipe may offer beside being called.

    Each field has the name of the attribute that it is read from. `digest` and `reads_seed` are
    read when they are first asked for, since both look at source code.

    Attributes:
        stack: How many models are trained together. A batch always holds the same models.
        threads: CPU threads of one training job.
        device: Device on which models are trained; one that begins with `cuda` takes a GPU of a
            cluster for each job.
        many: `many(records, inside, seeds)` trains one model on each row of `inside` (b, n).
        tuned: `tuned(records, size, n_models) -> (recipe, choice)` settles by measurement what the
            recipe leaves open. `choice` has at least `engine`, `stack`, `threads` and `note`.
        chosen: `chosen(choice) -> recipe` applies an earlier choice without measuring.
        proof: `proof(n_records)` gives the privacy that is proven of a model, or None.
        estimator: The unfitted scikit-learn estimator, whose own types are trusted when kept
            weights are opened.
        built: `built()` gives the untrained torch module, into which kept weights are loaded.
        model: Does the same where there is no `built`; ignored if it is not a function.
        tokens_identity: How its language models read texts, as `tokens_identity` of a target.
        count_tokens: `count_tokens(records)` gives the tokens that a language model reads while it
            is trained on these records, all epochs together.
    """

    stack: int | None = field(default=None, metadata=_COUNT)
    threads: int = field(default=1, metadata=_COUNT)
    device: str = field(default="cpu", metadata=_PRINTED)
    many: Callable[[Records, Bools, Sequence[int]], Iterable[Any]] | None = field(
        default=None, metadata=_FUNCTION
    )
    tuned: Callable[[Records, int, int], tuple[Recipe, dict[str, Any]]] | None = field(
        default=None, metadata=_FUNCTION
    )
    chosen: Callable[[dict[str, Any]], Recipe] | None = field(default=None, metadata=_FUNCTION)
    proof: Callable[[int], Any] | None = field(default=None, metadata=_FUNCTION)
    estimator: Any = field(default=None, metadata=_ANYTHING)
    built: Callable[[], Any] | None = field(default=None, metadata=_FUNCTION)
    model: Callable[[], Any] | None = field(default=None, metadata=_FUNCTION_IF_ANY)
    tokens_identity: str | None = field(default=None, metadata=_TEXT)
    count_tokens: Callable[[Records], int] | None = field(default=None, metadata=_FUNCTION_IF_ANY)
    recipe: Any = field(default=None, repr=False, compare=False)

    @cached_property
    def digest(self) -> str | None:
        """Hash of all that decides the training; without one nothing trained is kept.

        Raises:
            InputError: It is no string.
        """
        value: str | None = _read_attribute(self.recipe, "digest", _TEXT, None)
        return value

    @cached_property
    def reads_seed(self) -> bool:
        """Whether training depends on the seed; where it does not, the result says so.

        Raises:
            InputError: It is neither True nor False.
        """
        value: bool = _read_attribute(self.recipe, "reads_seed", _FLAG, True)
        return value


_TARGET_FIELDS = tuple(entry for entry in fields(TargetFacts) if entry.metadata)
_RECIPE_FIELDS = tuple(entry for entry in fields(RecipeFacts) if entry.metadata)


def read_target_facts(target: Any) -> TargetFacts:
    """Read what a target offers beside the members of `Target`, as it is now.

    Raises:
        InputError: An attribute is of the wrong type.

    >>> from memberscope.targets import FunctionTarget
    >>> target = FunctionTarget(len, n_classes=2)
    >>> target.classes = ("no", "yes")
    >>> read_target_facts(target).classes, read_target_facts(target).costly
    (('no', 'yes'), False)
    """
    return TargetFacts(
        **_read_fields(target, _TARGET_FIELDS),
        # Here None says something else than that there is no such attribute
        lacks_class_count=getattr(target, "known_classes", 0) is None,
    )


def read_recipe_facts(recipe: Any) -> RecipeFacts:
    """Read what a recipe offers beside being called.

    Raises:
        InputError: An attribute is of the wrong type.

    >>> facts = read_recipe_facts(lambda records, seed: None)
    >>> facts.threads, facts.digest
    (1, None)
    """
    return RecipeFacts(**_read_fields(recipe, _RECIPE_FIELDS), recipe=recipe)


def has_recipe_facts(given: Any) -> bool:
    """Check whether an object shows that it is a recipe, by what no other function offers.

    >>> has_recipe_facts(lambda records, seed: None)
    False
    """
    # The digest last, since a property may compute it
    return any(hasattr(given, name) for name in ("many", "tuned", "digest"))


def _read_fields(owner: Any, entries: Iterable[Field[Any]]) -> dict[str, Any]:
    """Read the attributes of these fields that are there."""
    # Most are missing, and searches read them before each query: no call for these
    given = [(entry, getattr(owner, entry.name, None)) for entry in entries]
    return {
        entry.name: _convert_value(owner, entry.name, value, entry.metadata, entry.default)
        for entry, value in given
        if value is not None
    }


def _read_attribute(owner: Any, name: str, kind: Mapping[str, Any], default: Any) -> Any:
    """Read one attribute; `default` where it is missing or None.

    Raises:
        InputError: It is of another kind.
    """
    value = getattr(owner, name, None)
    return default if value is None else _convert_value(owner, name, value, kind, default)


def _convert_value(owner: Any, name: str, value: Any, kind: Mapping[str, Any], default: Any) -> Any:
    """Convert the value of an attribute to what its field holds.

    Raises:
        InputError: It is of another kind, and its name is not one for other things too.
    """
    try:
        return kind["convert"](value)
    except (TypeError, ValueError) as error:
        if kind.get("lenient"):
            return default
        raise InputError(
            f"Expected {name} of {type(owner).__name__} to be {kind['words']}, got "
            f"{reprlib.repr(value)}. Correct the attribute, or leave it out."
        ) from error
