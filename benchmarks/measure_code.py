"""Measure how readable the code base is.

Files a folder, circles of imports, names, comments, line widths, the command line.

    python benchmarks/measure_code.py [--source src/memberscope]

Prints one row a measure. Circles count imports inside functions too; a package that is imported
from stands for the modules that define the names taken.
"""

from __future__ import annotations

import argparse
import ast
import re
import subprocess
import sys
import tokenize
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

PACKAGE = "memberscope"


def read_trees(source: Path) -> dict[str, tuple[Path, ast.Module]]:
    """Parse every file, by the dotted name of its module."""
    found = {}
    for path in sorted(source.rglob("*.py")):
        parts = [PACKAGE, *path.relative_to(source).with_suffix("").parts]
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found[name] = (path, ast.parse(path.read_text(encoding="utf-8")))
    return found


def find_exports(trees: dict[str, tuple[Path, ast.Module]]) -> dict[tuple[str, str], str]:
    """Find, for each name that a package imports, the module that it comes from."""
    found = {}
    for name, (path, tree) in trees.items():
        if path.name == "__init__.py":
            for node in ast.walk(tree):
                if isinstance(node, ast.ImportFrom) and node.module:
                    found |= {
                        (name, alias.asname or alias.name): node.module for alias in node.names
                    }
    return found


def read_imports(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """Give each (module, name) that is imported from this package, lazily or not.

    Imports for types alone are left out.
    """
    typing = {
        id(child)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        for child in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in typing:
            continue
        if (
            isinstance(node, ast.ImportFrom)
            and node.module
            and node.module.partition(".")[0] == PACKAGE
        ):
            for alias in node.names:
                yield node.module, alias.name
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.partition(".")[0] == PACKAGE:
                    yield alias.name, ""


def build_graph(trees: dict[str, tuple[Path, ast.Module]]) -> dict[str, set[str]]:
    """Give the modules that each module imports."""
    exports, graph = find_exports(trees), defaultdict(set)
    for name, (path, tree) in trees.items():
        if path.name == "__init__.py":
            continue
        for module, taken in read_imports(tree):
            while (module, taken) in exports:
                module = exports[module, taken]
            target = f"{module}.{taken}" if f"{module}.{taken}" in trees else module
            if target in trees and target != name and trees[target][0].name != "__init__.py":
                graph[name].add(target)
    return graph


def find_circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Find groups of modules that import each other, by Tarjan's algorithm."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    circles = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for child in graph.get(node, ()):
            if child not in index:
                visit(child)
            if child in stack:
                low[node] = min(low[node], low[child])
        if low[node] == index[node]:
            group = []
            while not group or group[-1] != node:
                group.append(stack.pop())
            if len(group) > 1:
                circles.append(sorted(group))

    sys.setrecursionlimit(10_000)
    for name in list(graph):
        if name not in index:
            visit(name)
    return circles


def count_doors(trees: dict[str, tuple[Path, ast.Module]]) -> tuple[int, int]:
    """Count imports from another room that name a file instead of a package.

    And all imports from other rooms.
    """
    inside, total = 0, 0
    for name, (_, tree) in trees.items():
        room = name.split(".")[1] if "." in name else ""
        for module, _taken in read_imports(tree):
            parts = module.split(".")
            door = trees.get(".".join(parts[:2])) if len(parts) > 1 and parts[1] != room else None
            if door is not None and door[0].name == "__init__.py":
                total += 1
                inside += trees[module][0].name != "__init__.py"
    return inside, total


def top_functions(trees: dict[str, tuple[Path, ast.Module]]) -> list[tuple[str, str]]:
    """Give (module, name) of every function at the top of a file, async ones included."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return [
        (name, node.name)
        for name, (_, tree) in trees.items()
        for node in tree.body
        if isinstance(node, kinds)
    ]


def find_repeated_names(trees: dict[str, tuple[Path, ast.Module]]) -> tuple[list[str], int]:
    """Find the public functions and classes that several files define, and count all of them."""
    definitions = defaultdict(set)
    for name, (_, tree) in trees.items():
        for node in tree.body:
            defines = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
            if defines and not node.name.startswith("_"):
                definitions[node.name].add(name)
    return [name for name, where in definitions.items() if len(where) > 1], len(definitions)


def count_comments(path: Path) -> tuple[int, int, int]:
    """Count the comment lines, all lines that are not empty, and the lines wider than 100."""
    lines = path.read_text(encoding="utf-8").splitlines()
    with path.open("rb") as stream:
        comments = {
            token.start[0]
            for token in tokenize.tokenize(stream.readline)
            if token.type == tokenize.COMMENT
        }
    return (
        len(comments),
        sum(bool(line.strip()) for line in lines),
        sum(len(line) > 100 for line in lines),
    )


def loaded_by_guard() -> tuple[int, int]:
    """Count the modules of this package that a fresh process loads with the guard's server.

    And those that are not the guard's.
    """
    code = f"import {PACKAGE}.guard.server.serve, sys; print(*[name for name in sys.modules if name.split('.')[0] == '{PACKAGE}'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    if done.returncode:
        code = code.replace("guard.server.serve", "guard.run")
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        )
    names = done.stdout.split()
    return len(names), sum(
        not name.startswith(f"{PACKAGE}.guard") for name in names if name != PACKAGE
    )


def count_parameters(trees: dict[str, tuple[Path, ast.Module]]) -> int:
    """Count the parameters of commands that are written by hand as typer options or arguments."""
    text = "".join(
        ast.unparse(tree) for name, (_, tree) in trees.items() if f"{PACKAGE}.cli" in name
    )
    return len(re.findall(r"typer\.(?:Option|Argument)\(", text))


def measure_code(source: Path) -> dict[str, str]:
    """Give every measure by name."""
    trees = read_trees(source)
    folders = Counter(path.parent for path, _ in trees.values() if path.name != "__init__.py")
    largest = [f"{n} ({folder.relative_to(source)})" for folder, n in folders.most_common(4)]
    functions = top_functions(trees)
    words = sum("_" not in name.strip("_") for _, name in functions)
    repeated, defined = find_repeated_names(trees)
    comments, lines, wide = map(
        sum, zip(*(count_comments(path) for path, _ in trees.values()), strict=True)
    )
    circles = find_circles(build_graph(trees))
    inside, doors = count_doors(trees)
    loaded, foreign = loaded_by_guard()
    anything = sum(ast.unparse(tree).count("dict[str, Any]") for _, tree in trees.values())
    return {
        "files in the largest folders": ", ".join(largest),
        "folders of more than 15 files": str(sum(n > 15 for n in folders.values())),
        "circles of imports": f"{len(circles)} ({', '.join(str(len(circle)) for circle in circles) or 'none'})",
        "imports that pass a room's door": f"{inside} of {doors} ({inside / max(doors, 1):.0%})",
        "one-word names of top-level functions": f"{words / len(functions):.1%} of {len(functions)}",
        "names defined in more than one file": f"{len(repeated) / defined:.1%} of {defined}",
        "private top-level functions": f"{sum(name.startswith('_') for _, name in functions) / len(functions):.1%}",
        "comment lines": f"{comments / lines:.1%}",
        "lines wider than 100": f"{wide / lines:.1%}",
        "modules loaded by the guard's server": f"{loaded}, {foreign} of them outside guard",
        "parameters of commands written by hand": str(count_parameters(trees)),
        "dict[str, Any]": str(anything),
        "files, lines": f"{len(trees)}, {lines}",
    }


def main() -> None:
    """Print the measures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--source", type=Path, default=Path(__file__).resolve().parent.parent / "src" / PACKAGE
    )
    given = parser.parse_args()
    print("| measure | value |\n| --- | --- |")
    for name, value in measure_code(given.source).items():
        print(f"| {name} | {value} |")


if __name__ == "__main__":
    main()
