"""Hash the user's own code, and pickle things together with it.

Source files, and the values that functions carry with them. A stored model is used again only if
this hash is the same, so what cannot be hashed has none, and nothing is stored.
"""

from __future__ import annotations

import csv
import functools
import hashlib
import inspect
import sys
import sysconfig
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any

# Folders of the interpreter and of what is installed beside it
INSTALLED = {
    Path(path) for key, path in sysconfig.get_paths().items() if key.endswith(("lib", "stdlib"))
} | {Path(sys.prefix)}


def is_own(module: ModuleType) -> bool:
    """Check whether a module is the user's own, which a worker elsewhere could not import.

    It is in the working directory or belongs to no installed package.
    """
    file, name = Path(getattr(module, "__file__", None) or sys.prefix), module.__name__
    if (
        # Compiled code has no source, `__main__` is pickled by value, workers have this package
        file.suffix != ".py"
        or name in ("__main__", "__mp_main__")
        or name.split(".")[0] == "memberscope"
    ):
        return False
    if {"site-packages", "dist-packages"} & set(file.parts) or any(
        file.is_relative_to(place) for place in INSTALLED
    ):
        return False
    # The folder that the outermost package lies in
    depth = name.count(".") + (file.name == "__init__.py")
    above = file.parents[min(depth, len(file.parents) - 1)]
    return file.relative_to(above).as_posix() not in _list_installed_files(above)


@functools.cache
def _list_installed_files(folder: Path) -> frozenset[str]:
    """List the paths of what installers put into a folder, by their own records.

    A folder filled with `pip install --target` has such records.

    >>> sorted(_list_installed_files(Path("/nowhere")))
    []
    """
    found: set[str] = set()
    for path in folder.glob("*.dist-info/RECORD"):
        with suppress(OSError), path.open(encoding="utf-8", errors="replace", newline="") as file:
            found.update(row[0] for row in csv.reader(file) if row)
    return frozenset(found)


def list_own_modules() -> list[ModuleType]:
    """List the user's own modules among those that are loaded."""
    return [
        module
        for module in list(sys.modules.values())
        if isinstance(module, ModuleType) and is_own(module)
    ]


def digest_source(function: Callable[..., Any]) -> str | None:
    """Hash a function's or class's name and source, and the values and modules it uses.

    Values are those it carries; modules are the user's own that its module uses. None if there is
    no source, or a value cannot be hashed.

    >>> def scaled_by(factor):
    ...     return lambda x: factor * x
    >>> digest_source(print) is None, digest_value(2) == digest_value(2) != digest_value(3)
    (True, True)
    """
    # A partial function has no source of its own
    if isinstance(function, functools.partial):
        return join_digests(
            [
                digest_source(function.func),
                digest_value(function.args),
                digest_value(dict(function.keywords)),
            ]
        )
    try:
        unwrapped = inspect.unwrap(function)
        file = inspect.getsourcefile(unwrapped)
        source = Path(file or "").read_bytes() if file else b""
    except (TypeError, OSError):
        return None
    if not source:
        return None
    # The first line tells lambdas of one file apart
    name = f"{unwrapped.__module__}.{unwrapped.__qualname__}:{getattr(getattr(unwrapped, '__code__', None), 'co_firstlineno', 0)}"
    parts = [
        name,
        hashlib.sha256(source).hexdigest(),
        # The same source with another value in its closure is another function
        *(digest_value(value) for value in _list_carried_values(unwrapped)),
    ]
    return join_digests([*parts, *_list_used_modules(unwrapped.__module__)])


def join_digests(parts: list[str | None]) -> str | None:
    """Hash hashes together; None if one is missing."""
    return (
        None if None in parts else hashlib.sha256("\n".join(map(str, parts)).encode()).hexdigest()
    )


def _list_carried_values(function: Any) -> Iterator[Any]:
    """Yield the values that a function carries.

    These are from the scope it was made in, its defaults, and what it is bound to.
    """
    if inspect.ismethod(function):
        yield function.__self__
        function = function.__func__
    # Defaults count too, as they may have been computed
    yield from getattr(function, "__defaults__", None) or ()
    yield getattr(function, "__kwdefaults__", None) or {}
    for cell in getattr(function, "__closure__", None) or ():
        try:
            value = cell.cell_contents
        except ValueError:  # a name that was never bound
            continue
        # A recursive function holds itself in its closure
        if value is not function:
            yield value


def digest_value(value: Any) -> str | None:
    """Hash a value by its content, and code by its source; None if it has neither."""
    import joblib

    # By name alone: its source counts if it is the user's own
    if isinstance(value, ModuleType):
        return value.__name__
    # Compiled, so that there is no source
    if inspect.isbuiltin(value):
        return f"{value.__module__}.{value.__qualname__}"
    if (
        inspect.isfunction(value)
        or inspect.ismethod(value)
        or isinstance(value, type | functools.partial)
    ):
        return digest_source(value)
    if type(value) in (tuple, list):
        return join_digests([type(value).__name__, *map(digest_value, value)])
    if type(value) is dict:
        return join_digests(
            [
                part
                # Equal dicts may differ in order, and keys in type
                for key in sorted(value, key=repr)
                for part in (digest_value(key), digest_value(value[key]))
            ]
        )
    try:
        kind = type(value)
        home = sys.modules.get(kind.__module__)
        code = digest_source(kind) if home is not None and is_own(home) else kind.__module__
        return join_digests([code, kind.__qualname__, joblib.hash(value)])
    # What cannot be pickled has no hash, and nothing is stored of it, which is always safe
    except Exception:
        return None


def _list_used_modules(name: str, seen: set[str] | None = None) -> list[str]:
    """List names and hashes of the user's own modules that the module `name` uses.

    It may use them directly or through each other.
    """
    seen = {name} if seen is None else seen
    found = []
    for value in list(vars(sys.modules[name]).values()) if name in sys.modules else []:
        other = (
            value
            if isinstance(value, ModuleType)
            else sys.modules.get(str(getattr(value, "__module__", "")))
        )
        # Modules may import each other in a circle
        if other is None or other.__name__ in seen or not is_own(other):
            continue
        seen.add(other.__name__)
        found.append(
            f"{other.__name__}:{hashlib.sha256(Path(str(other.__file__)).read_bytes()).hexdigest()}"
        )
        found += _list_used_modules(other.__name__, seen)
    # Sorted, since the order of imports does not matter
    return sorted(found)


def digest_object(thing: Any) -> str:
    """Hash an object by the code of its class and by its values; always gives a hash.

    Code of a notebook or a shell has no file, and is hashed as it was typed or compiled.

    >>> class Scaled:
    ...     def __init__(self, by): self.by = by
    >>> digest_object(Scaled(2)) == digest_object(Scaled(2)) != digest_object(Scaled(3))
    True
    """
    if inspect.isroutine(thing) or isinstance(thing, type | functools.partial):
        return digest_source(thing) or _digest_typed_code(thing)
    parts = [digest_object(type(thing))]
    slots = {name: getattr(thing, name) for name in getattr(thing, "__slots__", ())}
    for name, value in sorted({**slots, **getattr(thing, "__dict__", {})}.items()):
        parts.append(f"{name}={digest_value(value) or _digest_typed_code(value)}")
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _digest_typed_code(thing: Any) -> str:
    """Hash code without a file by its text, or else by what it was compiled to."""
    name = f"{getattr(thing, '__module__', '')}.{getattr(thing, '__qualname__', type(thing))}"
    # Two functions made by one factory differ in the values that they carry
    if inspect.isroutine(thing):
        name += "".join(f" {digest_value(value)}" for value in _list_carried_values(thing))
    with suppress(OSError, TypeError):
        return hashlib.sha256(f"{name}\n{inspect.getsource(thing)}".encode()).hexdigest()
    functions = [thing, *vars(thing).values()] if isinstance(thing, type) else [thing]
    compiled = [
        f"{code.co_code.hex()} {code.co_names} {_list_constants(code)}"
        for code in (getattr(function, "__code__", None) for function in functions)
        if code is not None
    ]
    return hashlib.sha256("\n".join([name, *compiled]).encode()).hexdigest()


def _list_constants(code: Any) -> list[str]:
    """List the constants of compiled code; of code inside it, what it was compiled to."""
    return [
        f"{value.co_code.hex()} {_list_constants(value)}"
        if hasattr(value, "co_code")
        else repr(value)
        for value in code.co_consts
    ]


def pickle_by_value(thing: Any) -> bytes:
    """Pickle an object with the code of the user's own modules."""
    import cloudpickle

    # A recipe that pickles its function is pickled itself, too: only what is new here is undone
    already = cloudpickle.list_registry_pickle_by_value()
    own = [module for module in list_own_modules() if module.__name__ not in already]
    # cloudpickle sends a module's functions by name unless it is told otherwise
    for module in own:
        cloudpickle.register_pickle_by_value(module)
    try:
        return bytes(cloudpickle.dumps(thing))
    finally:
        for module in own:
            cloudpickle.unregister_pickle_by_value(module)
