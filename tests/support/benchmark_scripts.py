"""Load scripts of benchmarks/ as modules, without their folder among those of imports.

Some of them are named like packages, such as coverage, and would stand before these.
"""

from __future__ import annotations

import ast
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


def load_benchmark(name: str) -> ModuleType:
    """The module of the script, with the scripts that it imports; the same one each time."""
    path = BENCHMARKS / f"{name}.py"
    loaded = sys.modules.get(name)
    if loaded is not None:
        assert loaded.__file__ == str(path), f"{name} is the module {loaded.__file__} here"
        return loaded
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    for imported in list_imports(path):
        if (BENCHMARKS / f"{imported}.py").is_file():
            load_benchmark(imported)
    sys.modules[name] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def list_imports(path: Path) -> list[str]:
    """The modules that the top of a script imports by their whole name."""
    found = []
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.append(node.module)
    return found
