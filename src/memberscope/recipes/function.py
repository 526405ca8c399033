"""A user's own training function as a recipe, and recipes by name."""

from __future__ import annotations

import dis
import functools
import hashlib
import importlib
import inspect
import sys
import sysconfig
from collections.abc import Callable
from dataclasses import dataclass, is_dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

from memberscope.errors import InputError
from memberscope.types import Recipe, Records

INSTALLED = {Path(path) for key, path in sysconfig.get_paths().items() if key.endswith(("lib", "stdlib"))} | {Path(sys.prefix)}


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
        found = source_digest(self.function)
        return None if found is None else hashlib.sha256(f"{found}:{self.version}".encode()).hexdigest()


def source_digest(function: Callable[..., Any]) -> str | None:
    """Hash of a function's or class's name, source file and bound arguments, or None if there is no source to hash."""
    if isinstance(function, functools.partial):
        inner = source_digest(function.func)
        return (
            None if inner is None else hashlib.sha256(f"{inner}:{function.args!r}:{function.keywords!r}".encode()).hexdigest()
        )
    try:
        unwrapped = inspect.unwrap(function)
        file = inspect.getsourcefile(unwrapped)
        source = Path(file or "").read_bytes() if file else b""
    except (TypeError, OSError):
        return None
    if not source:
        return None
    name = (
        f"{unwrapped.__module__}.{unwrapped.__qualname__}:{getattr(getattr(unwrapped, '__code__', None), 'co_firstlineno', 0)}"
    )
    return hashlib.sha256(name.encode() + source).hexdigest()


class Parcel:
    """Any recipe on its way to a cluster, whose workers need not have the user's modules; it arrives as the recipe itself."""

    def __init__(self, recipe: Recipe) -> None:
        """Pack it, once for all jobs.

        Raises:
            InputError: It cannot be sent.
        """
        try:
            self.data = packed(recipe)
        except Exception as error:
            raise InputError(
                f"Expected a recipe that can be sent to workers, got {type(error).__name__}: {error}. "
                f"Keep open files, locks and connections out of it."
            ) from error

    def __call__(self, records: Records, seed: int) -> Any:
        """What the recipe returns."""
        return opened(self.data)(records, seed)

    def __reduce__(self) -> tuple[Any, ...]:
        """Arrive as the recipe."""
        return opened, (self.data,)


def as_names(value: Any) -> tuple[Any, ...]:
    """What an instruction loads: one name, or a pair where the interpreter joins two."""
    return value if isinstance(value, tuple) else (value,)


def packed(thing: Any) -> bytes:
    """The thing as bytes, with the code of the user's own modules."""
    import cloudpickle

    already = cloudpickle.list_registry_pickle_by_value()  # a recipe that packs its function is packed itself, too
    own = [module for module in own_modules() if module.__name__ not in already]
    for module in own:
        cloudpickle.register_pickle_by_value(module)
    try:
        return bytes(cloudpickle.dumps(thing))
    finally:
        for module in own:
            cloudpickle.unregister_pickle_by_value(module)


def own_modules() -> list[ModuleType]:
    """Loaded modules of the working directory or of no package, which a worker elsewhere could not import."""
    found = []
    for name, module in list(sys.modules.items()):
        file = Path(getattr(module, "__file__", None) or sys.prefix)
        installed = "site-packages" in file.parts or any(file.is_relative_to(place) for place in INSTALLED)
        if (
            file.suffix == ".py"
            and not installed
            and name not in ("__main__", "__mp_main__")
            and name.split(".")[0] != "memberscope"
        ):
            found.append(module)
    return found


def opened(data: bytes) -> Any:
    """What was packed, in a worker."""
    import cloudpickle

    return cloudpickle.loads(data)


def unpacked(kind: type[FunctionRecipe], data: bytes, version: str) -> FunctionRecipe:
    """The recipe again, in a worker."""
    return kind(opened(data), version)


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


def with_precision(recipe: Recipe, precision: str | None) -> Recipe:
    """The recipe trained in another precision; unchanged if `precision` is None.

    Raises:
        InputError: The recipe has no precision to choose, or not this one.
    """
    if precision is None:
        return recipe
    if not (is_dataclass(recipe) and hasattr(recipe, "precision")):
        raise InputError(f"Expected a TorchRecipe for a precision, got {type(recipe).__name__}. Leave out --precision.")
    return replace(recipe, precision=precision)


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
