"""`memberscope canaries`: plant records in a training run made elsewhere, and bound epsilon."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from memberscope.cli.app import add_verb, build_group
from memberscope.cli.options.commands import take_options
from memberscope.cli.options.rows import add_argument, add_option
from memberscope.cli.options.table import CANARY_KIND, LABEL
from memberscope.cli.output import print_line
from memberscope.errors import InputError

if TYPE_CHECKING:
    from memberscope.auditing import EpsilonBound
    from memberscope.targets.tables import Columns

app = build_group("Plant canaries in a training run, and bound epsilon by them.")


@dataclass(frozen=True)
class ExportOptions:
    """The options of `canaries export`."""

    members: Path = add_option("Training records: .csv or .npz.")
    pool: Path = add_option("Records that trained nothing, in the same columns.")
    number: int = add_option(
        "Canaries to draw from the pool; half of them, by coins, are trained on.", default=1000
    )
    kind: str = add_option(
        "What the canaries are: natural, or mislabelled for the worst case.", default=CANARY_KIND
    )
    label: str = add_option("The column of labels.", default=LABEL)
    seed: int | None = add_option(
        "Seed of the coins, for a run that can be repeated; a proof wants the system's randomness.",
        default=None,
        shown="the system's randomness",
    )
    out: Path = add_option("The folder to write.", default=Path("canaries"))


@dataclass(frozen=True)
class ScoreOptions:
    """The options of `canaries score`."""

    result: Path = add_argument("The folder of an audit of canaries, in against out.")
    attack: str = add_option(
        "Whose scores; choose it before you look. It may learn from no known records.",
        default="logit",
    )
    delta: float = add_option("Delta of the guarantee.", default=1e-5)
    confidence: float = add_option("Confidence of the bounds.", default=0.95)
    claimed: float | None = add_option(
        "Epsilon that the training claims; exit 1 if it is refuted.", default=None
    )


@take_options(ExportOptions)
def export_canaries(options: ExportOptions) -> None:
    """Write train (members and the canaries that are in), in and out.

    Train on the first, and audit the second against the third with `--coins`.
    """
    import secrets

    import numpy as np

    from memberscope.recipes import draw_canary_rows

    members, pool, label, number = (
        options.members,
        options.pool,
        options.label,
        options.number,
    )
    out = options.out
    given, others = _read_table_as_written(members), _read_table_as_written(pool)
    if set(given) != set(others):
        raise InputError(
            f"Expected the same columns in {members} and {pool}, got others in one. Give the same "
            "table's parts."
        )
    if label not in given:
        raise InputError(
            f"Expected the column {label!r} of labels in {members}, got {', '.join(given)}. Check "
            "--label."
        )
    classes, codes = np.unique(np.concatenate([given[label], others[label]]), return_inverse=True)
    coins = secrets.randbits(64) if options.seed is None else options.seed
    found = draw_canary_rows(codes[len(given[label]) :], number, options.kind, coins, len(classes))  # type: ignore[arg-type]
    planted = {name: column[found.rows] for name, column in others.items()} | {
        label: classes[found.y]
    }
    parts = {
        "train": {
            name: np.concatenate([given[name], planted[name][found.inside]]) for name in given
        },
        "in": {name: planted[name][found.inside] for name in given},
        "out": {name: planted[name][~found.inside] for name in given},
    }
    for name, table in parts.items():
        _write_table(out / f"{name}{members.suffix.lower()}", table)
    inside = int(found.inside.sum())
    print_line(
        f"Wrote {out}: train with {len(given[label])} + {inside} records, {inside} canaries in, "
        f"{number - inside} out."
    )
    print_line(
        "Train on train alone, then: memberscope audit --members in --non-members out --coins, and "
        "canaries score."
    )


@take_options(ScoreOptions)
def score_canaries(options: ScoreOptions) -> None:
    """Print the lower bounds on epsilon that the canaries prove, with what each assumes."""
    from memberscope.auditing import compute_privacy_bounds
    from memberscope.reports import read_arrays, read_result

    found, arrays = read_result(options.result), read_arrays(options.result)
    if found.plan.assignment != "independent_coins":
        raise InputError(
            "Expected an audit of canaries that coins put in or left out, got another. Audit them "
            "with --coins."
        )
    usable = {
        entry.attack: entry for entry in arrays.scored if not entry.learned and entry.declared
    }
    attack = options.attack
    if attack not in usable:
        raise InputError(
            f"Expected an attack among {', '.join(sorted(usable))}, got {attack!r}. Choose one "
            "that learns nothing."
        )
    bounds = compute_privacy_bounds(
        usable[attack].scores, arrays.member, options.delta, options.confidence
    )
    for bound in bounds:
        print_line(format_bound(bound))
    if options.claimed is not None and report_refutation(bounds, options.claimed):
        raise typer.Exit(1)


def format_bound(bound: EpsilonBound) -> str:
    """Write a bound in a sentence or two."""
    return (
        f"epsilon >= {bound.epsilon:.3f} at delta {bound.delta:g}, {bound.confidence:.0%} "
        f"confidence ({bound.form}: {bound.right} of "
        f"{bound.guesses} guesses about {bound.m} canaries right; at most {bound.most:.2f} could "
        f"be shown). Assumes {bound.assumes}."
    )


def report_refutation(bounds: list[EpsilonBound], claimed: float) -> bool:
    """Tell whether the bounds refute the claimed epsilon, and print it.

    The f-DP form holds for mechanisms like the Gaussian one alone, so it may only cast doubt.
    """
    from memberscope.auditing import is_refuted

    found = is_refuted(bounds, claimed)
    print_line(
        f"REFUTED: epsilon {claimed:g} is claimed."
        if found
        else f"Not refuted: epsilon {claimed:g} is claimed."
    )
    if not found and any(bound.epsilon > claimed for bound in bounds):
        print_line(
            "In doubt: no mechanism whose trade-off curve is a Gaussian one's has that epsilon."
        )
    return found


def _read_table_as_written(path: Path) -> Columns:
    """Read the columns of a table; those of a text table word for word, to write them again.

    Raises:
        InputError: It cannot be read.
    """
    import numpy as np

    from memberscope.targets.tables import TEXT, find_suffix, read_columns, read_words

    if find_suffix(path) in TEXT and path.is_file():
        return {name: np.array(words) for name, words in read_words(path)}
    return read_columns(path)


def _write_table(path: Path, table: Columns) -> None:
    """Write columns as a CSV or an NPZ file, whole or not at all."""
    import io

    import numpy as np

    from memberscope._files import write_bytes

    if path.suffix == ".npz":
        packed = io.BytesIO()
        np.savez_compressed(packed, **table)  # type: ignore[arg-type]
        return write_bytes(path, packed.getvalue())
    if path.suffix != ".csv":
        raise InputError(f"Expected .csv or .npz tables, got {path.suffix}. Convert them.")
    import csv

    text = io.StringIO()
    rows: Any = csv.writer(text, lineterminator="\n")
    rows.writerow(table)
    rows.writerows(zip(*(column.tolist() for column in table.values()), strict=True))
    return write_bytes(path, text.getvalue().encode())


add_verb(app, "export", export_canaries)
add_verb(app, "score", score_canaries)
