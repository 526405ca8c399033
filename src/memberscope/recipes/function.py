"""Turn a user's own training function into a recipe, and find recipes by name."""

from __future__ import annotations

import dis
import functools
import hashlib
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from memberscope._named_objects import import_named
from memberscope._own_code import digest_source, pickle_by_value
from memberscope.errors import InputError
from memberscope.facts import has_recipe_facts
from memberscope.types import Recipe, Records


@dataclass(frozen=True)
class FunctionRecipe:
    """Recipe that calls a function (records, seed) -> model.

    `digest` is a hash of its source, of the values it carries, and of the user's modules it uses. A
    change elsewhere, in data it reads or libraries it calls, does not change the hash: give
    `version` a new word then.

    >>> recipe = FunctionRecipe(lambda records, seed: f"trained on {len(records.y)} with seed {seed}")
    >>> recipe(Records(None, [0, 1], ["a", "b"]), 3)
    'trained on 2 with seed 3'
    """

    function: Callable[[Records, int], Any]
    version: str = ""

    def __call__(self, records: Records, seed: int) -> Any:
        """Call the function and give its model."""
        return self.function(records, seed)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the recipe with the function's own code.

        Workers then need not find the module that defines it.
        """
        return _rebuild_function_recipe, (type(self), pickle_by_value(self.function), self.version)

    @property
    def reads_seed(self) -> bool:
        """True if the function's code mentions its second argument at all.

        Also true where there is no code to look at.
        """
        # Wrappers mention no seed themselves
        code = getattr(inspect.unwrap(self.function), "__code__", None)
        # In doubt true: the warning about an unused seed must not be wrong
        if code is None or code.co_argcount < 2:
            return True
        # A bound method's first variable is the object itself
        name = code.co_varnames[inspect.ismethod(self.function) + 1]
        loads = (step for step in dis.get_instructions(code) if step.opname.startswith("LOAD"))
        # An inner function may be what reads it
        return name in code.co_cellvars or any(name in _as_names(step.argval) for step in loads)

    @property
    def digest(self) -> str | None:
        """Hash of the function's source and of the values it carries.

        It is None if these cannot be hashed.
        """
        found = digest_source(self.function)
        return (
            None
            if found is None
            else hashlib.sha256(f"{found}:{self.version}".encode()).hexdigest()
        )


class Parcel:
    """Any recipe packed for a cluster, whose workers need not have the user's modules.

    It arrives as the recipe itself.
    """

    def __init__(self, recipe: Recipe) -> None:
        """Pickle the recipe, once for all jobs.

        Raises:
            InputError: It cannot be sent.
        """
        try:
            self.data = pickle_by_value(recipe)
        except Exception as error:
            raise InputError(
                f"Expected a recipe that can be sent to workers, got {type(error).__name__}: "
                f"{error}. Keep open files, locks and connections out of it."
            ) from error

    def __call__(self, records: Records, seed: int) -> Any:
        """Call the recipe and give its model."""
        return _load_pickled(self.data)(records, seed)

    def __reduce__(self) -> tuple[Any, ...]:
        """Arrive as the recipe."""
        return _load_pickled, (self.data,)


def _as_names(value: Any) -> tuple[Any, ...]:
    """Give the names that an instruction loads: one, or a pair where the interpreter joins two."""
    return value if isinstance(value, tuple) else (value,)


def _load_pickled(data: bytes) -> Any:
    """Unpickle an object, in a worker."""
    import cloudpickle

    return cloudpickle.loads(data)


def _rebuild_function_recipe(
    kind: type[FunctionRecipe], data: bytes, version: str
) -> FunctionRecipe:
    """Rebuild the recipe, in a worker."""
    return kind(_load_pickled(data), version)


def as_recipe(given: Any) -> Recipe:
    """Make a recipe of a recipe, a function (records, seed) -> model, or an estimator.

    The estimator is an unfitted one of scikit-learn.

    Raises:
        InputError: It is none of these.
    """
    from memberscope.recipes.sklearn import SklearnRecipe

    if hasattr(given, "fit") and hasattr(given, "get_params"):
        return SklearnRecipe(given)
    # A class would be called with records, and make an object that is no model
    if not callable(given) or isinstance(given, type):
        raise InputError(
            "Expected a recipe: a function (records, seed) -> model, or an estimator, got "
            f"{type(given).__name__}. Wrap it in such a function."
        )
    # It is a recipe already
    if has_recipe_facts(given):
        return given  # type: ignore[no-any-return]
    # The signature of an object is that of its call
    called = (
        given
        if inspect.isroutine(given) or isinstance(given, functools.partial)
        else given.__call__
    )
    try:
        signature = inspect.signature(called)
    except ValueError:  # compiled code has no signature to check
        return FunctionRecipe(called)
    try:
        signature.bind(None, 0)
    except TypeError as error:
        name = getattr(given, "__name__", type(given).__name__)
        raise InputError(
            f"Expected a recipe that takes (records, seed), got {name}{signature}. Give the "
            "function both parameters."
        ) from error
    return FunctionRecipe(called)


def load_recipe(spec: str) -> Recipe:
    """Load the recipe that `module:name` names, looked up in the working directory first.

    Raises:
        InputError: The module or the name does not exist, or it is not a recipe.
    """
    return as_recipe(import_named(spec, "function"))
