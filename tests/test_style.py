"""The size and shape of the code, counted."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path
from statistics import median

import pytest

SOURCE = Path(__file__).resolve().parent.parent / "src" / "memberscope"
FILES = sorted(SOURCE.rglob("*.py"))
TREES = {path: ast.parse(path.read_text(encoding="utf-8")) for path in FILES}
FUNCTIONS = [
    (path, node)
    for path, tree in TREES.items()
    for node in ast.walk(tree)
    if isinstance(node, ast.FunctionDef)
]
HEAVY = (
    "torch",
    "sklearn",
    "onnxruntime",
    "matplotlib",
    "pandas",
    "skops",
    "pyarrow",
    "scipy.stats",
)


def length(node: ast.FunctionDef) -> int:
    """Lines of a function without its docstring."""
    lines = (node.end_lineno or 0) - node.lineno + 1
    first = node.body[0]
    if (
        isinstance(first, ast.Expr)
        and isinstance(first.value, ast.Constant)
        and isinstance(first.value.value, str)
    ):
        lines -= (first.end_lineno or 0) - first.lineno + 1
    return lines


def test_files_are_short():
    sizes = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in FILES}
    assert median(sizes.values()) <= 130
    assert [path.name for path, size in sizes.items() if size > 600] == []


def test_functions_are_short():
    assert median(length(node) for _, node in FUNCTIONS) <= 10
    assert [f"{path.name}:{node.name}" for path, node in FUNCTIONS if length(node) > 80] == []


def test_few_positional_parameters():
    def positional(node: ast.FunctionDef) -> int:
        names = [argument.arg for argument in (*node.args.posonlyargs, *node.args.args)]
        return len([name for name in names if name not in ("self", "cls")])

    verbs = {
        "audit",
        "defend",
        "plan",
        "init",
        "export",
        "run",
        "prepare",
    }  # every parameter of a verb is a flag, not a position
    long = [
        f"{path.name}:{node.name}"
        for path, node in FUNCTIONS
        if positional(node) > 6 and path.parent.name != "cli"
    ]
    long += [
        f"{p.name}:{n.name}"
        for p, n in FUNCTIONS
        if positional(n) > 6 and p.parent.name == "cli" and n.name not in verbs
    ]
    assert long == []


def test_shallow_inheritance_and_no_drawer_of_odds_and_ends():
    classes = {
        node.name: node
        for tree in TREES.values()
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
    }

    def depth(name: str) -> int:
        bases = (
            [base.id for base in classes[name].bases if isinstance(base, ast.Name)]
            if name in classes
            else []
        )
        return 1 + max((depth(base) for base in bases if base in classes), default=0)

    assert max(map(depth, classes)) <= 2
    assert [path for path in FILES if path.stem in ("utils", "helpers", "misc", "common")] == []


@pytest.mark.parametrize(
    ("command", "heavy"),
    [("import memberscope", HEAVY), ("from memberscope.cli import main", (*HEAVY, "numpy"))],
)
def test_a_fresh_process_imports_nothing_heavy(command, heavy):
    check = f"{command}; import sys; print([m for m in {heavy!r} if m in sys.modules])"
    found = subprocess.run(
        [sys.executable, "-c", check], capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == "[]"


def test_public_names_have_docstrings():
    missing = [
        f"{path.name}:{node.name}"
        for path, node in FUNCTIONS
        if not node.name.startswith("_")
        and ast.get_docstring(node) is None
        and is_top_level(path, node)
    ]
    assert missing == []


def is_top_level(path: Path, node: ast.FunctionDef) -> bool:
    return node in TREES[path].body
