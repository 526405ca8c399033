"""Attack synthetic tables made from Adult, and print what is known of each generator.

    python benchmarks/released_tables.py [--records 1000] [--draws 3] [--references 8]

A table is made from as many members as there are non-members; as many others are the population.
Generators draw one column after the other: from leaves of a tree on the columns before it (CART, as
the R package synthpop does), or independently of the others. The column `fnlwgt`, a sampling weight
that is nearly unique, is left out.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import io

import numpy as np
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

import data
from memberscope.attacks import RMIA, LiRA
from memberscope.attacks.tables import ClosestRecord, Domias, NearnessAttack
from memberscope.auditing.subject.released import measure_closer_share
from memberscope.statistics import auc_value, roc, tpr_at_fpr
from memberscope.targets import ReleasedTable
from memberscope.types import Attack, Evidence

LEFT_OUT = ("fnlwgt", "split")
# Area under the curve of distance and of DOMIAS, TPR at 1% of both, share of closer rows: measured
# once with another implementation
KNOWN = {
    "CART, leaf 2": "distance .683 / 16.9%, DOMIAS .665 / 5.5%, closer share .82",
    "CART, leaf 10": "distance .564, DOMIAS .577, closer share .63",
    "independent columns": "all .50",
}
LEAVES = {"CART, leaf 2": 2, "CART, leaf 10": 10, "independent columns": None}
Table = dict[str, np.ndarray]


def read_adult() -> Table:
    """Read Adult by column: numbers as float64, words as objects."""
    path = data.FOLDER / "adult.csv.gz"
    with gzip.open(path) as stream:
        header, *rows = list(csv.reader(io.TextIOWrapper(stream, encoding="utf-8")))
    columns = {}
    for name, values in zip(header, zip(*rows, strict=True), strict=True):
        if name in LEFT_OUT:
            continue
        try:
            columns[name] = np.array(values, dtype=np.float64)
        except ValueError:
            columns[name] = np.array(values, dtype=object)
    return columns


def take_rows(table: Table, rows: np.ndarray) -> Table:
    """Take some rows of a table."""
    return {name: values[rows] for name, values in table.items()}


def generate_table(table: Table, leaf: int | None, seed: int) -> Table:
    """Generate as many rows as a table has, one column given those before it.

    `leaf` is the fewest rows in a leaf of a tree; None draws each column independently.
    """
    rng = np.random.default_rng(seed)
    n = len(next(iter(table.values())))
    # Trees take numbers, words by their place in the alphabet
    codes = {
        name: values if values.dtype.kind == "f" else np.unique(values, return_inverse=True)[1]
        for name, values in table.items()
    }
    chosen: dict[str, np.ndarray] = {}
    for name in table:
        before = list(chosen)
        if leaf is None or not before:
            chosen[name] = rng.integers(0, n, n)
            continue
        seen = np.column_stack([codes[other] for other in before])
        made = np.column_stack([codes[other][chosen[other]] for other in before])
        kind = DecisionTreeRegressor if table[name].dtype.kind == "f" else DecisionTreeClassifier
        tree = kind(min_samples_leaf=leaf, random_state=seed).fit(seen, codes[name])
        chosen[name] = draw_from_leaves(tree.apply(seen), tree.apply(made), rng)
    return {name: table[name][chosen[name]] for name in table}


def draw_from_leaves(
    leaves: np.ndarray, wanted: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Draw for each wanted leaf (m,) a row at random among those (n,) that fell into it."""
    order = np.argsort(leaves, kind="stable")
    first = np.searchsorted(leaves[order], wanted, "left")
    last = np.searchsorted(leaves[order], wanted, "right")
    return order[first + (rng.random(len(wanted)) * (last - first)).astype(np.int64)]


def list_attacks(n_references: int) -> list[Attack]:
    """List the attacks, those with references last."""
    found: list[Attack] = [ClosestRecord(), ClosestRecord("population"), Domias()]
    if n_references:
        found += [
            NearnessAttack(base, number)  # type: ignore[arg-type]
            for number in ("closest_record", "density")
            for base in (
                LiRA(),
                LiRA("offline"),
                RMIA(gamma=1.0, signal="gradient_norm"),
            )
        ]
    return found


def draw_evidence(table: Table, leaf: int | None, n: int, m: int, seed: int):  # type: ignore[no-untyped-def]
    """Draw members, make tables of them and of others, and ask each about all records."""
    rng = np.random.default_rng(seed)
    places = rng.permutation(len(table["age"]))[: 3 * n]
    records, population = take_rows(table, places[: 2 * n]), take_rows(table, places[2 * n :])
    member = np.arange(2 * n) < n
    made = generate_table(take_rows(records, np.flatnonzero(member)), leaf, seed)
    target = ReleasedTable(made, population)
    half = np.array([rng.permutation(2 * n) < n for _ in range(m // 2)], dtype=bool)
    inside = np.concatenate([half, ~half]).reshape(-1, 2 * n)
    references = [
        target.make_alike(
            generate_table(take_rows(records, np.flatnonzero(row)), leaf, 1000 * seed + k + 1)
        ).query(records)
        for k, row in enumerate(inside)
    ]
    evidence = Evidence(
        "proximity",
        target.query(records)[:, None, :],
        np.zeros((2 * n, 1)),
        np.full(2 * n, -1, dtype=np.int8),
        references=np.array(references)[:, :, None, :] if references else None,
        inside=inside if references else None,
    )
    sides = [
        target.encode_records(take_rows(records, np.flatnonzero(s))) for s in (member, ~member)
    ]
    return evidence, member, measure_closer_share(target.rows, *sides)


def main() -> None:
    """Print a table of attacks for each generator."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=1000, help="members of each table")
    parser.add_argument("--draws", type=int, default=3, help="tables of each generator")
    parser.add_argument("--references", type=int, default=8, help="tables made of other records")
    options = parser.parse_args()
    table = read_adult()
    for title, leaf in LEAVES.items():
        drawn = [
            draw_evidence(table, leaf, options.records, options.references, seed)
            for seed in range(options.draws)
        ]
        shares = np.mean([share for _, _, share in drawn])
        print(f"\n{title}: closer share {shares:.2f}. Known: {KNOWN[title]}.")
        print(f"{'attack':34s} {'AUC':>6s} {'TPR at 1%':>10s}")
        for attack in list_attacks(options.references):
            scores = [
                (attack.score(evidence, np.random.default_rng(0)), member)
                for evidence, member, _ in drawn
            ]
            area = np.mean([auc_value(roc(*pair)) for pair in scores])
            rate = np.mean([tpr_at_fpr(roc(*pair), 0.01).value for pair in scores])
            print(f"{attack.name:34s} {area:6.3f} {100 * rate:9.1f}%")


if __name__ == "__main__":
    main()
