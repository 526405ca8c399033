"""The size and shape of the code, counted."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path
from statistics import median

import pytest
from benchmark_scripts import load_benchmark

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "src" / "memberscope"
measure_code = load_benchmark("measure_code")
FILES = sorted(SOURCE.rglob("*.py"))
TREES = {path: ast.parse(path.read_text(encoding="utf-8")) for path in FILES}
FUNCTIONS = [
    (path, node)
    for path, tree in TREES.items()
    for node in ast.walk(tree)
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
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


def length(path: Path, node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of a function without its docstring and its comments."""
    written = path.read_text(encoding="utf-8").splitlines()[node.lineno - 1 : node.end_lineno]
    lines = sum(not line.lstrip().startswith("#") for line in written)
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
    assert median(length(path, node) for path, node in FUNCTIONS) <= 10
    assert [f"{path.name}:{node.name}" for path, node in FUNCTIONS if length(path, node) > 80] == []


def test_few_positional_parameters():
    def positional(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
        names = [argument.arg for argument in (*node.args.posonlyargs, *node.args.args)]
        return len([name for name in names if name not in ("self", "cls")])

    long = [f"{path.name}:{node.name}" for path, node in FUNCTIONS if positional(node) > 6]
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


MODULES = measure_code.read_trees(SOURCE)


def test_folders_are_small_and_say_what_belongs_there():
    folders = {path.parent for path in FILES}
    sizes = {folder: len(list(folder.glob("*.py"))) - 1 for folder in folders}
    assert {folder.name: size for folder, size in sizes.items() if size > 15} == {}
    doors = [folder / "__init__.py" for folder in folders]
    assert [door for door in doors if ast.get_docstring(TREES[door]) is None] == []


def test_tests_change_no_paths_of_imports():
    """What files of tests share is in folders that pyproject.toml names."""
    # It starts commands as a shell would, whose folder is then among the paths
    shell = "command_server.py"
    changing = [
        path.name
        for path in (ROOT / "tests").rglob("*.py")
        if path.name != shell and re.search(r"sys\.path\.(insert|append)", path.read_text())
    ]
    assert changing == []


def test_no_circles_of_imports_lazy_ones_counted():
    assert measure_code.find_circles(measure_code.build_graph(MODULES)) == []


def test_rooms_import_from_each_others_packages_what_these_export():
    inside, total = measure_code.count_doors(MODULES)
    assert total > 500 and inside == 0
    for name, (path, tree) in MODULES.items():
        exported = [
            node.value
            for node in tree.body
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
        ]
        if path.name == "__init__.py" and any(
            isinstance(node, ast.ImportFrom) for node in tree.body
        ):
            assert exported, name


def test_names_of_functions_say_what_they_do():
    functions = measure_code.top_functions(MODULES)
    words = [name for _, name in functions if "_" not in name.strip("_")]
    assert len(words) < 0.15 * len(functions)
    repeated, names = measure_code.find_repeated_names(MODULES)
    assert len(repeated) < 0.05 * names


def test_lines_are_narrow_and_some_say_why():
    comments, lines, wide = map(
        sum, zip(*(measure_code.count_comments(path) for path in FILES), strict=True)
    )
    assert 0.04 < comments / lines < 0.07
    assert wide / lines < 0.01


def test_public_names_have_docstrings():
    missing = [
        f"{path.name}:{node.name}"
        for path, node in FUNCTIONS
        if not node.name.startswith("_")
        and ast.get_docstring(node) is None
        and is_top_level(path, node)
    ]
    assert missing == []


def is_top_level(path: Path, node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    return node in TREES[path].body
