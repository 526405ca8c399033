"""Draw canaries: records that a fair coin puts into the training data or leaves out.

A bound on epsilon can be proved from them.

References:
    [1] T. Steinke, M. Nasr, M. Jagielski, "Privacy Auditing with One (1) Training Run", NeurIPS
        2023, arXiv:2305.08846.
    [2] M. Aerni, J. Zhang, F. Tramèr, "Evaluations of Machine Learning Privacy Defenses are
        Misleading", CCS 2024, arXiv:2404.17399.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from memberscope.errors import InputError
from memberscope.frames import choose_rows
from memberscope.types import Bools, Ints, Records

Kind = Literal["natural", "mislabelled"]


@dataclass(frozen=True, eq=False)
class CanaryDraw:
    """Canaries drawn from a pool: their `rows` (m,) and the labels `y` (m,) that they get.

    `inside` (m,) is true where the coin put the canary into the training data.
    """

    rows: Ints
    y: NDArray[Any]
    inside: Bools


def draw_canary_rows(y: NDArray[Any], m: int, kind: Kind, seed: int, n_classes: int) -> CanaryDraw:
    """Draw `m` canaries from records with labels `y` (n,), which trained nothing.

    Each is in with probability one half by a coin of its own [1].

    `mislabelled` ones get another class, or the true values of another record, drawn at random: a model can only memorise them, so they
    show the worst case where natural ones show the average [2].

    Raises:
        InputError: There are fewer records, or there is no other class.

    >>> found = draw_canary_rows(np.arange(8) % 2, 4, "mislabelled", 0, 2)
    >>> len(found.rows), bool((found.y != found.rows % 2).all())
    (4, True)
    """
    if kind not in get_args(Kind):
        raise InputError(
            f"Expected canaries that are {' or '.join(get_args(Kind))}, got {kind!r}. Choose one "
            "of these."
        )
    if not 2 <= m <= len(y):
        raise InputError(
            f"Expected 2 to {len(y)} canaries from a pool of {len(y)} records, got {m}. Give more "
            "records, or ask for fewer canaries."
        )
    if kind == "mislabelled" and n_classes < 2 and y.ndim == 1 and y.dtype.kind != "f":
        raise InputError(
            "Expected at least two classes for mislabelled canaries, got one. Use natural ones."
        )
    rng = np.random.default_rng(seed)
    # In the pool's order, so that only the choice depends on the seed
    rows = np.sort(rng.permutation(len(y))[:m])
    labels = draw_wrong_labels(y, rows, n_classes, rng) if kind == "mislabelled" else y[rows].copy()
    # Independent fair coins, not a fixed half: the bound on epsilon needs independence
    return CanaryDraw(rows, labels, rng.random(m) < 0.5)


def draw_wrong_labels(
    y: NDArray[Any], rows: Ints, n_classes: int, rng: np.random.Generator
) -> NDArray[Any]:
    """Draw a wrong label for each record among `rows` (m,) of those with labels `y`.

    A class becomes another one, each with the same probability. True numbers (n,) or (n, d), or
    several labels (n, k), become those of another record.

    >>> draw_wrong_labels(np.array([0.5, 2.5]), np.array([0]), 1, np.random.default_rng(0)).tolist()
    [2.5]
    """
    if y.ndim == 1 and y.dtype.kind != "f":
        return np.asarray((y[rows] + rng.integers(1, n_classes, len(rows))) % n_classes)
    others = rng.integers(0, len(y), len(rows))
    for _ in range(100):
        same = (y[others].reshape(len(rows), -1) == y[rows].reshape(len(rows), -1)).all(axis=1)
        if not same.any():
            return np.asarray(y[others])
        others[same] = rng.integers(0, len(y), int(same.sum()))
    raise InputError(
        "Expected records with other true values for mislabelled canaries, got nearly all alike. "
        "Use natural ones."
    )


def draw_canaries(
    pool: Records, m: int, kind: Kind, seed: int, n_classes: int
) -> tuple[Records, Bools]:
    """Draw canaries from `pool` as records (m), and say which of them (m,) to train on.

    Raises:
        InputError: The pool has fewer records, or there is no other class.

    >>> pool = Records(np.arange(8.0)[:, None], np.arange(8) % 2, np.array(list("abcdefgh")))
    >>> records, inside = draw_canaries(pool, 4, "natural", 0, 2)
    >>> len(records), len(inside)
    (4, 4)
    """
    found = draw_canary_rows(pool.y, m, kind, seed, n_classes)
    groups = {name: values[found.rows] for name, values in pool.groups.items()}
    x = None if pool.x is None else choose_rows(pool.x, found.rows)
    return Records(x, found.y, pool.ids[found.rows], groups), found.inside
