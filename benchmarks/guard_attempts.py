"""Count the attempts on the guard that its tests repeat, by area.

    python benchmarks/guard_attempts.py

An attempt is one test, or one variant of a test, in tests/guard/attacks, and in the files beside
them that attack a running guard: paths, verbs, headers and bodies, and hostile files.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# Files of attempts that stand outside tests/guard/attacks
BESIDE = (
    "tests/cases/test_hostile_text.py",
    "tests/guard/test_evasion.py",
    "tests/guard/test_fuzz.py",
    "tests/guard/test_identity.py",
)


def count_attempts() -> dict[str, int]:
    """Count the tests of each file, variants included, by the file's path."""
    folder = ROOT / "tests/guard/attacks"
    files = [*sorted(str(file.relative_to(ROOT)) for file in folder.glob("test_*.py")), *BESIDE]
    listed = subprocess.run(
        [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", *files],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    found = Counter(line.partition("::")[0] for line in listed.stdout.splitlines() if "::" in line)
    return {file: found[file] for file in files}


def read_area(file: str) -> str:
    """Read what a file of tests attacks: the first sentence of its docstring."""
    about = ast.get_docstring(ast.parse((ROOT / file).read_text(encoding="utf-8"))) or file
    return about.split("\n\n")[0].split(". ")[0].replace("\n", " ").rstrip(".")


def main() -> None:
    """Print one row a file."""
    counts = count_attempts()
    print("| attempts on | tests | attempts |\n| --- | --- | --- |")
    for file, n in counts.items():
        print(f"| {read_area(file)} | `{file}` | {n} |")
    print(f"| all | | {sum(counts.values())} |")


if __name__ == "__main__":
    main()
