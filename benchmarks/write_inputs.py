"""Write docs/inputs-tried.md.

Run the tests of files and models, and list what each tried and what came of it.

    python benchmarks/write_inputs.py [--check]

With `--check` nothing is run or written: exit 1 if the page lists other tests than there are.
"""

from __future__ import annotations

import ast
import re
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "inputs-tried.md"
FILES = [
    "tests/contracts/test_formats.py",
    "tests/cases/test_files_keep_types.py",
    "tests/targets/test_tables.py",
    "tests/cases/test_data_frames.py",
    "tests/cases/test_integer_columns.py",
    "tests/cases/test_one_sigmoid.py",
    "tests/cases/test_torch_models.py",
    "tests/cases/test_weights.py",
    "tests/cases/test_own_decisions.py",
    "tests/cases/test_labels.py",
    "tests/cases/test_tasks.py",
    "tests/cases/test_stored_signals.py",
    "tests/cases/test_safe_files.py",
    "tests/cases/test_failing_parts.py",
    "tests/cases/test_user_mistakes.py",
]
HEAD = """# Inputs tried

What the test suite tries of files, data frames, models and mistakes: each line is a test, with the number of variants that it ran and
how many passed. `python benchmarks/write_inputs.py` runs them and writes this page; [Files and data frames](inputs.md) has the rules.
"""


class Recorder:
    """Collects the tests and, where they are run, their outcomes."""

    def __init__(self) -> None:
        """Start empty."""
        self.tests: dict[str, str] = {}

    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        """List every test."""
        items[:] = [item for item in items if "test_the_page_of_inputs" not in item.nodeid]
        self.tests |= {item.nodeid: "not run" for item in items}

    def pytest_runtest_logreport(self, report: Any) -> None:
        """Keep what came of a test."""
        if report.when == "call" or report.outcome != "passed":
            self.tests[report.nodeid] = report.outcome


def page_of(tests: dict[str, str]) -> str:
    """Write the page: one section a file, one row a test."""
    parts = [HEAD, *matrix_of(tests)]
    for file in FILES:
        mine = {
            name.partition("::")[2]: outcome
            for name, outcome in tests.items()
            if name.startswith(f"{file}::")
        }
        tried = Counter(name.partition("[")[0] for name in mine)
        passed = Counter(
            name.partition("[")[0] for name, outcome in mine.items() if outcome == "passed"
        )
        about = ast.get_docstring(ast.parse((ROOT / file).read_text(encoding="utf-8"))) or ""
        parts.append(f"## {about.splitlines()[0].rstrip('.')}\n")
        parts.append("| tried | variants | passed |\n| --- | --- | --- |")
        parts += [f"| {sentence(name)} | {n} | {passed[name]} |" for name, n in tried.items()]
        parts.append("")
    return "\n".join(parts)


def matrix_of(tests: dict[str, str]) -> list[str]:
    """Write the table of model kinds and formats.

    Whether the verdict and all estimates are those of the data frame.
    """
    tree = ast.parse((ROOT / FILES[0]).read_text(encoding="utf-8"))
    formats = next(
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "FORMATS"
    )
    rows = [
        "## Kinds of models and formats of files\n",
        "Missing values, words, dates, truth values and categories are among the columns, as far "
        "as the model takes them.\n",
    ]
    rows += [f"| model | {' | '.join(formats)} |", f"| --- |{' --- |' * len(formats)}"]
    for name, outcome in tests.items():
        if name.startswith(f"{FILES[0]}::"):
            word = "as the frame" if outcome == "passed" else outcome
            rows.append(
                f"| {name.partition('[')[2].rstrip(']').replace('_', ' ')} | "
                f"{' | '.join([word] * len(formats))} |"
            )
    return [*rows, ""]


def sentence(name: str) -> str:
    """Give a test's name as words."""
    return name.rpartition("::")[2].removeprefix("test_").replace("_", " ")


def rows_of(page: str) -> list[str]:
    """List the rows of a page without their outcomes."""
    return [
        row.rpartition(" | ")[0]
        for row in re.findall(r"^\| .* \|$", page, flags=re.M)
        if "frame" not in row and "not run" not in row
    ]


def main() -> int:
    """Run the tests and write the page, or check it."""
    check = "--check" in sys.argv[1:]
    recorder = Recorder()
    flags = ["-q", "-p", "no:cacheprovider", *(["--collect-only"] if check else [])]
    code = pytest.main([*flags, *(str(ROOT / file) for file in FILES)], plugins=[recorder])
    page = page_of(recorder.tests)
    if check:
        same = rows_of(page) == rows_of(PAGE.read_text(encoding="utf-8"))
        print(
            "docs/inputs-tried.md lists the tests."
            if same
            else "docs/inputs-tried.md is old: run `make inputs`."
        )
        return 0 if same else 1
    PAGE.write_text(page, encoding="utf-8")
    return int(code)


if __name__ == "__main__":
    raise SystemExit(main())
