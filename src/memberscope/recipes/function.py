"""A user's own training function as a recipe, and recipes by name."""

from __future__ import annotations

import dis
import hashlib
import importlib
import inspect
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from memberscope.errors import InputError
from memberscope.types import Recipe, Records


@dataclass(frozen=True)
class FunctionRecipe:
    """A function (records, seed) -> model; `digest` is a hash of the source file it stands in.

    A change elsewhere, in data it reads or libraries it calls, does not show in the hash: give `version` a new word then.

    >>> recipe = FunctionRecipe(lambda records, seed: f"trained on {len(records.y)} with seed {seed}")
    >>> recipe(Records(None, [0, 1], ["a", "b"]), 3)
    'trained on 2 with seed 3'
    """

    function: Callable[[Records, int], Any]
    version: str = ""

    def __call__(self, records: Records, seed: int) -> Any:
        """The model that the function returns."""
        return self.function(records, seed)

    def __reduce__(self) -> tuple[Any, ...]:
        """Travel with the function's own code, so that workers need not find the module it stands in."""
        return unpacked, (type(self), packed(self.function), self.version)

    @property
    def reads_seed(self) -> bool:
        """Whether the function's code mentions its second argument at all; True where there is no code to look at."""
        code = getattr(inspect.unwrap(self.function), "__code__", None)
        if code is None or code.co_argcount < 2:
            return True
        name = code.co_varnames[inspect.ismethod(self.function) + 1]
        loads = (step for step in dis.get_instructions(code) if step.opname.startswith("LOAD"))
        return name in code.co_cellvars or any(name in as_names(step.argval) for step in loads)

    @property
    def digest(self) -> str | None:
        """Hash of the function's source file and name, or None if there is no source to hash."""
        try:
            file = inspect.getsourcefile(inspect.unwrap(self.function))
            source = Path(file or "").read_bytes() if file else b""
        except (TypeError, OSError):
            return None
        if not source:
            return None
        name = f"{self.function.__module__}.{self.function.__qualname__}:{self.version}"
        return hashlib.sha256(name.encode() + source).hexdigest()


def as_names(value: Any) -> tuple[Any, ...]:
    """What an instruction loads: one name, or a pair where the interpreter joins two."""
    return value if isinstance(value, tuple) else (value,)


def packed(function: Callable[[Records, int], Any]) -> bytes:
    """The function as bytes; its module goes along unless it belongs to an installed package."""
    import cloudpickle

    module = inspect.getmodule(function)
    own = module is not None and "site-packages" not in str(getattr(module, "__file__", None) or "site-packages")
    if module is None or not own or module.__name__ == "__main__":
        return bytes(cloudpickle.dumps(function))
    cloudpickle.register_pickle_by_value(module)
    try:
        return bytes(cloudpickle.dumps(function))
    finally:
        cloudpickle.unregister_pickle_by_value(module)


def unpacked(kind: type[FunctionRecipe], data: bytes, version: str) -> FunctionRecipe:
    """The recipe again, in a worker."""
    import cloudpickle

    return kind(cloudpickle.loads(data), version)


def as_recipe(given: Any) -> Recipe:
    """A recipe from a recipe, a function (records, seed) -> model, or an unfitted scikit-learn estimator.

    Raises:
        InputError: It is none of these.
    """
    from memberscope.recipes.sklearn import SklearnRecipe

    if hasattr(given, "fit") and hasattr(given, "get_params"):
        return SklearnRecipe(given)
    if not callable(given) or isinstance(given, type):
        raise InputError(
            f"Expected a recipe: a function (records, seed) -> model, or an estimator, got {type(given).__name__}. Wrap it."
        )
    if inspect.isfunction(given):
        if len(inspect.signature(given).parameters) < 2:
            raise InputError(
                f"Expected a recipe that takes (records, seed), got {given.__name__}{inspect.signature(given)}. Add both."
            )
        return FunctionRecipe(given)
    return given  # type: ignore[no-any-return]


def load_recipe(spec: str) -> Recipe:
    """The recipe that `module:name` names, looked up in the working directory first.

    Raises:
        InputError: The module or the name is not there, or it is no recipe.
    """
    module, _, name = spec.partition(":")
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        return as_recipe(getattr(importlib.import_module(module), name))
    except (ImportError, AttributeError, ValueError) as error:
        raise InputError(f"Expected an importable module:function, got {spec!r}: {error}. Check both names.") from error
