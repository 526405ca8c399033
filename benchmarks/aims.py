"""State each figure of a benchmark beside its aim, and list all of them.

Where the environment variable BENCH_FIGURES names a file, each figure that a benchmark states is
added to it as a line of JSON; `make bench` sets it. `python benchmarks/aims.py FILE` prints the
table of a file.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

VARIABLE = "BENCH_FIGURES"


@dataclass(frozen=True)
class Figure:
    """A measured number, the limits it is to keep (either may be missing), and who printed it."""

    command: str
    name: str
    value: float
    unit: str
    at_least: float | None
    at_most: float | None

    @property
    def aim(self) -> str:
        """The limits in words, or "no aim"."""
        unit = f" {self.unit}" if self.unit else ""
        if self.at_least is not None and self.at_most is not None:
            return f"aim {self.at_least:g} to {self.at_most:g}{unit}"
        if self.at_least is not None:
            return f"aim at least {self.at_least:g}{unit}"
        return "no aim" if self.at_most is None else f"aim at most {self.at_most:g}{unit}"

    @property
    def holds(self) -> bool | None:
        """Whether the value is within its limits; None without any."""
        if self.at_least is None and self.at_most is None:
            return None
        low = self.at_least is None or self.value >= self.at_least
        return low and (self.at_most is None or self.value <= self.at_most)

    @property
    def verdict(self) -> str:
        """The words that a line of a benchmark ends with."""
        if self.holds is None:
            return f"({self.aim})"
        return f"({self.aim}: {'holds' if self.holds else 'does not hold'})"


def judge(
    name: str,
    value: float,
    unit: str = "",
    *,
    at_least: float | None = None,
    at_most: float | None = None,
) -> str:
    """Say whether a figure keeps its aim, as "(aim at most 20 s: holds)", and add it to the table.

    >>> judge("verdict", 15.3, "s", at_most=20)
    '(aim at most 20 s: holds)'
    >>> judge("forecast over truth", 2.5, at_least=0.5, at_most=2)
    '(aim 0.5 to 2: does not hold)'
    >>> judge("rows", 7)
    '(no aim)'
    """
    command = " ".join([Path(sys.argv[0]).name, *sys.argv[1:]])
    figure = Figure(command, name, float(value), unit, at_least, at_most)
    if path := os.environ.get(VARIABLE):
        with open(path, "a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(figure)) + "\n")
    return figure.verdict


def read_figures(path: Path) -> list[Figure]:
    """Read the figures of a file; of one stated several times the last."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    figures = [Figure(**json.loads(line)) for line in lines]
    return list({(figure.command, figure.name): figure for figure in figures}.values())


def print_table(figures: list[Figure]) -> None:
    """Print all figures, those with an aim first, and how many aims hold."""
    print("| benchmark | figure | value | aim | |\n| --- | --- | ---: | --- | --- |")
    for figure in sorted(figures, key=lambda figure: figure.holds is None):
        number = f"{figure.value:,.0f}" if abs(figure.value) >= 1000 else f"{figure.value:.3g}"
        value = f"{number} {figure.unit}".strip()
        word = {True: "holds", False: "**does not hold**", None: ""}[figure.holds]
        aim = figure.aim.removeprefix("aim ")
        print(f"| {figure.command} | {figure.name} | {value} | {aim} | {word} |")
    judged = [figure for figure in figures if figure.holds is not None]
    print(f"\n{sum(figure.holds is True for figure in judged)} of {len(judged)} aims hold.")


if __name__ == "__main__":
    print_table(read_figures(Path(sys.argv[1])))
