"""`memberscope canaries`: plant records in a training run made elsewhere, and bound epsilon."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from memberscope.cli.app import add_verb, build_group
from memberscope.cli.epsilon_words import format_bound, refutes_claim, report_refutation
from memberscope.cli.options.canaries import ExportOptions, ScoreOptions
from memberscope.cli.options.commands import take_options
from memberscope.cli.options.table import CANARY_KIND
from memberscope.cli.output import print_line
from memberscope.cli.text_canaries import (
    export_text_canaries,
    is_text_export,
    is_text_record,
    score_text_canaries,
)
from memberscope.errors import InputError

if TYPE_CHECKING:
    from memberscope.targets.tables import Columns

app = build_group("Plant canaries in a training run, and bound epsilon by them.")


@take_options(ExportOptions)
def export_canaries(options: ExportOptions) -> None:
    """Write train (members and the canaries that are in), in and out.

    Train on the first, and audit the second against the third with `--coins`. Of texts, keep
    planted.json too, and score the canaries with it.
    """
    import secrets

    coins = secrets.randbits(64) if options.seed is None else options.seed
    if is_text_export(options):
        return export_text_canaries(options, coins)
    return _export_table_canaries(options, coins)


def _export_table_canaries(options: ExportOptions, coins: int) -> None:
    """Write the tables of canaries that classify.

    Raises:
        InputError: The tables do not fit together, or options are about texts.
    """
    import numpy as np

    from memberscope.recipes import draw_canary_rows

    members, pool, label = options.members, options.pool, options.label
    out, number = options.out, 1000 if options.number is None else options.number
    kind: Any = options.kind or CANARY_KIND
    if pool is None:
        raise InputError(
            "Expected --pool, records that trained nothing to draw canaries from, got none. Give "
            "it, or --task text for texts."
        )
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
    found = draw_canary_rows(codes[len(given[label]) :], number, kind, coins, len(classes))
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

    if is_text_record(options.result):
        bounds = score_text_canaries(options)
        if options.claimed is not None and refutes_claim(bounds, options.claimed):
            raise typer.Exit(1)
        return
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
