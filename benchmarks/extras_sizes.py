"""Print what each extra of the package adds to an installation, in packages and MB on disk.

    python benchmarks/extras_sizes.py

Sizes are those of the installed files of every distribution that the extra requires, directly or
not, and that the core does not; extras that are not installed here are left out. Sizes differ
between platforms and versions: on Linux, torch from the usual index brings CUDA with it.
"""

from __future__ import annotations

import re
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement

PROJECT = "memberscope"
MB = 1e6


def normalize(name: str) -> str:
    """Write the name of a distribution as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def list_requirements(found: Distribution, extras: set[str]) -> list[Requirement]:
    """List what a distribution requires here, with these extras."""
    listed = [Requirement(text) for text in found.requires or ()]
    return [
        entry
        for entry in listed
        if entry.marker is None
        or any(entry.marker.evaluate({"extra": extra}) for extra in (extras or {""}))
    ]


def collect_closure(requirements: list[Requirement]) -> dict[str, Distribution]:
    """Collect what requirements bring, directly or not.

    Raises:
        PackageNotFoundError: Something is not installed here.
    """
    found: dict[str, Distribution] = {}
    pending, seen = list(requirements), set()
    while pending:
        entry = pending.pop()
        name = normalize(entry.name)
        key = (name, frozenset(entry.extras))
        if key in seen or name == PROJECT:
            continue
        seen.add(key)
        found[name] = distribution(entry.name)
        pending += list_requirements(found[name], set(entry.extras) | {""})
    return found


def measure_size(found: Distribution) -> float:
    """Measure the installed files of a distribution, in MB; compiled Python is left out."""
    files = [Path(str(entry.locate())) for entry in found.files or () if entry.suffix != ".pyc"]
    return sum(path.stat().st_size for path in files if path.is_file()) / MB


def main() -> None:
    """Print the table."""
    own = distribution(PROJECT)
    core = collect_closure(list_requirements(own, set()))
    print("| extra | packages | MB | the largest |")
    print("| --- | ---: | ---: | --- |")
    for extra in (None, *sorted(own.metadata.get_all("Provides-Extra") or ())):
        try:
            whole = (
                core
                if extra is None
                else {
                    name: entry
                    for name, entry in collect_closure(list_requirements(own, {extra})).items()
                    if name not in core
                }
            )
        except PackageNotFoundError as missing:
            print(f"| `{extra}` | not measured: {missing.name} is not installed | | |")
            continue
        sizes = {name: measure_size(entry) for name, entry in whole.items()}
        first = sorted(sizes, key=lambda name: -sizes[name])[:2]
        largest = ", ".join(f"{name} {sizes[name]:.0f}" for name in first)
        title = "none (core)" if extra is None else f"`{extra}`"
        print(f"| {title} | {len(sizes)} | {sum(sizes.values()):.0f} | {largest} |")


if __name__ == "__main__":
    main()
