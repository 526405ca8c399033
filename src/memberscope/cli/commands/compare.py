"""`memberscope compare`: does this release leak more than the last?"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import typer

from memberscope.cli.history.keep import find_history, keep_comparison
from memberscope.cli.options.commands import take_options
from memberscope.cli.options.rows import add_argument, add_option
from memberscope.cli.options.table import HISTORY
from memberscope.cli.output import print_line

if TYPE_CHECKING:
    from memberscope.auditing import Result

EXIT = {"NOT_MORE": 0, "LEAKS_MORE": 1, "INCONCLUSIVE": 3}


@dataclass(frozen=True)
class CompareOptions:
    """The options of `compare`."""

    results: tuple[Path, ...] = add_argument(
        "Two or more audits in order of release: folders, or result.json files."
    )
    margin: float = add_option(
        "What a difference in TPR or AUC may be before it counts.", default=0.0
    )
    baseline: str = add_option(
        "Compare the last audit with the previous one, or with the first: previous or first.",
        default="previous",
    )
    out: Path | None = add_option("Write a page here: a .html file, or a folder.", default=None)
    json: Path | None = add_option("Write the comparison as JSON here.", default=None)
    history: Path | None = add_option(
        "The file of past audits that this comparison is appended to.", default=None, shown=HISTORY
    )
    no_history: bool = add_option("Append to no file of past audits.", default=False)


@take_options(CompareOptions)
def compare_audits(options: CompareOptions) -> None:
    """Compare audits: exit 1 if the last leaks more than the one before it, 0 if that is not shown.

    Exit 3 if they cannot be compared.
    """
    from rich.console import Console

    from memberscope.auditing import compare as compared
    from memberscope.auditing.documents import Baseline
    from memberscope.errors import InputError
    from memberscope.reports import print_comparison, write_comparison, write_comparison_page

    results, baseline, out = options.results, options.baseline, options.out
    history = find_history(options.history, off=options.no_history)
    if baseline not in get_args(Baseline):
        raise InputError(
            f"Expected --baseline previous or first, got {baseline!r}. Choose one of them."
        )
    found = compared(
        [_read_result_with_arrays(path) for path in _refuse_repeated_audits(results)],
        names=[str(_find_audit_folder(path)) for path in results],
        margin=options.margin,
        baseline=baseline,  # type: ignore[arg-type]
    )
    print_comparison(found, Console())
    if options.json is not None:
        write_comparison(found, options.json)
    page = out if out is None or out.suffix == ".html" else out / "comparison.html"
    if page is not None:
        write_comparison_page(found, page)
        print_line(f"Written to {page}")
    keep_comparison(found, page, history)
    raise typer.Exit(EXIT[found.verdict])


def _refuse_repeated_audits(paths: tuple[Path, ...]) -> tuple[Path, ...]:
    """Give the paths, each of another audit.

    Raises:
        InputError: There is one only, or one twice.
    """
    from memberscope.errors import InputError

    if len(paths) < 2:
        raise InputError(
            f"Expected at least two audits to compare, got {str(paths[0])!r} alone. Give the "
            "earlier one first."
        )
    homes = [_find_audit_folder(path).resolve() for path in paths]
    for i, place in enumerate(homes):
        if place in homes[:i]:
            raise InputError(
                f"Expected different audits, got {str(paths[i])!r} twice. Give each once."
            )
    return paths


def _find_audit_folder(path: Path) -> Path:
    """Find the folder of an audit, or its file where that is not called result.json."""
    return path.parent if path.name == "result.json" and path.parent != Path() else path


def _read_result_with_arrays(path: Path) -> Result:
    """Read a result, with its scores where they lie beside it."""
    from memberscope.reports import read_arrays, read_result

    found = read_result(path)
    arrays = (path if path.is_dir() else path.parent) / "arrays.safetensors"
    return found.model_copy(update={"arrays": read_arrays(arrays)}) if arrays.is_file() else found
