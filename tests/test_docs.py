"""The pages name only what there is: modules, functions, files."""

from __future__ import annotations

import ast
import pkgutil
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "src" / "memberscope"
# renamed.md maps names of one commit to those of another; neither need exist today.
PAGES = [
    ROOT / "README.md",
    *(page for page in sorted((ROOT / "docs").rglob("*.md")) if page.name != "renamed.md"),
]
DOTTED = re.compile(
    r"(?<![\w./@-])memberscope(?!\.(?:xml|sarif)\b)((?:[.:][A-Za-z_]\w*)+)(?![\w/])"
)
IMPORTED = re.compile(r"from (memberscope[\w.]*) import ([\w, ]+)")
# a path from the root, or one below src/memberscope in code quotes
PLACED = re.compile(r"(?<![\w./-])((?:src|tests|benchmarks)/[\w./-]*\w)(?![\w*{<$])")
STEP = re.compile(r"`(\w+(?:\.\w+)?)`\s+\(`([\w/]+\.py)`\)")
FILE = re.compile(r"`((?:\w+/)+\w+\.py)`")


def read_names(page: Path) -> set[str]:
    """Every dotted name of this package on a page, and what its examples import."""
    text = re.sub(r"urn:\S+", "", page.read_text(encoding="utf-8"))
    names = {"memberscope" + rest.replace(":", ".") for rest in DOTTED.findall(text)}
    for module, taken in IMPORTED.findall(text):
        names |= {f"{module}.{name.split()[0]}" for name in taken.split(",") if name.strip()}
    return names


def can_resolve(name: str) -> bool:
    """Whether a dotted name is a module, or something that one holds."""
    try:
        pkgutil.resolve_name(name)
    except (ImportError, AttributeError):
        return False
    return True


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_names_on_a_page_exist(page):
    assert [name for name in sorted(read_names(page)) if not can_resolve(name)] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_paths_on_a_page_exist(page):
    text = page.read_text(encoding="utf-8")
    missing = [path for path in PLACED.findall(text) if not (ROOT / path).exists()]
    rooms = {folder.name for folder in SOURCE.iterdir() if folder.is_dir()}
    missing += [
        path
        for path in FILE.findall(text)
        if path.partition("/")[0] in rooms and not (SOURCE / path).exists()
    ]
    assert missing == []


def defined_names(path: Path) -> set[str]:
    """Functions and classes at the top of a file, and the methods of its classes."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    found = {node.name for node in tree.body if isinstance(node, kinds)}
    return found | {
        f"{holder.name}.{node.name}"
        for holder in tree.body
        if isinstance(holder, ast.ClassDef)
        for node in holder.body
        if isinstance(node, kinds)
    }


def test_each_step_of_a_walk_is_in_its_file():
    steps = STEP.findall((ROOT / "docs/design/walks.md").read_text(encoding="utf-8"))
    assert len(steps) > 80
    wrong = [
        f"{name} in {path}"
        for name, path in steps
        if not (SOURCE / path).exists() or name not in defined_names(SOURCE / path)
    ]
    assert wrong == []
