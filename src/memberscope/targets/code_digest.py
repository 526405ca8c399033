"""Hash the user's own code behind a model.

Its answers change with the code, so stored answers must be identified by it too.
"""

from __future__ import annotations

import hashlib
import io
import pickle
import sys
import sysconfig
from collections.abc import Iterable
from pathlib import Path
from types import FunctionType
from typing import Any

INSTALLED = tuple(
    {
        str(Path(sysconfig.get_path(name)).resolve())
        for name in ("stdlib", "platstdlib", "purelib", "platlib")
    }
)


class Definitions(pickle.Pickler):
    """Pickler that collects in `modules` which modules define what is inside a model.

    What is pickled is thrown away.
    """

    def __init__(self) -> None:
        super().__init__(io.BytesIO(), protocol=5, buffer_callback=lambda buffer: False)
        self.modules: set[str] = set()

    def persistent_id(self, obj: Any) -> None:
        """Note the module of `obj` and let it be pickled as usual."""
        self.modules.add(find_defining_module(obj))


def find_defining_module(obj: Any) -> str:
    """Name the module that defines a class, a function, or the class of anything else.

    >>> find_defining_module(Path()), find_defining_module(hashlib.sha256().__class__) != ""
    ('pathlib', True)
    """
    own = obj if isinstance(obj, type | FunctionType) else type(obj)
    return str(getattr(own, "__module__", None) or "builtins")


def list_defining_modules(model: Any) -> set[str]:
    """List the modules that define anything inside `model`.

    Raises:
        Exception: It cannot be pickled.
    """
    seen = Definitions()
    seen.dump(model)
    return seen.modules


def hash_source_code(modules: Iterable[str]) -> str | None:
    """Hash the source files of `modules` that are not installed packages; "" if all are.

    Give None if a source is missing.

    >>> hash_source_code(["numpy", "builtins"])
    ''
    """
    hasher, own = hashlib.sha256(), False
    for name in sorted(set(modules)):
        module = sys.modules.get(name)
        file = getattr(module, "__file__", None)
        if file is None:
            # Code of a notebook or a shell has no file, and may change from one cell to the next
            if name == "__main__" or module is None:
                return None
            continue
        path = Path(file).resolve()
        # This package and installed ones count by their versions, not by their source
        if path.is_relative_to(Path(__file__).resolve().parents[1]) or any(
            path.is_relative_to(root) for root in INSTALLED
        ):
            continue
        if not path.is_file():
            return None
        hasher.update(f"{name}:".encode() + hashlib.sha256(path.read_bytes()).digest())
        own = True
    return hasher.hexdigest() if own else ""
