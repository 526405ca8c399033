"""Assign records to reference models of one size, each record to equally many of them.

The design does not depend on the target's members. The balance is over the reference models only.
Balancing with the target as one of them would give its members one model less, and attacks would
detect that instead of leakage.
"""

from __future__ import annotations

from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from memberscope.errors import InputError
from memberscope.targets import check_archive
from memberscope.types import Bools, Ints


def build_balanced_design(
    n: int,
    size: int,
    n_models: int,
    rng: np.random.Generator,
    *,
    strata: Ints | None = None,
    unit: NDArray[np.generic] | None = None,
) -> Bools:
    """Build membership (n_models, n) in which each model has `size` records.

    Each record is in equally many models, give or take one. With `strata` (n,) each model has each
    stratum's share, give or take a record or two. With `unit` (n,) the records of one person or
    document are in the same models: each unit is in equally many models, sizes and strata (a unit
    counts for its commonest one) are met on average.

    Raises:
        InputError: The size is not between 1 and n - 1, or all records belong to one unit.

    >>> inside = build_balanced_design(6, 3, 4, np.random.default_rng(0))
    >>> inside.sum(axis=1).tolist(), inside.sum(axis=0).tolist()
    ([3, 3, 3, 3], [2, 2, 2, 2, 2, 2])
    """
    if not 1 <= size < n:
        raise InputError(
            f"Expected reference models of 1 to {n - 1} records, got {size}. Give more "
            "non-members, so that each model can leave some records out."
        )
    if n_models < 1:
        raise InputError(
            f"Expected at least one reference model, got {n_models}. Give for example --references "
            "16."
        )
    codes = None if strata is None else np.unique(strata, return_inverse=True)[1]
    if unit is None:
        return _draw_membership(n, size, n_models, rng, codes)
    # Units are dealt like records, and their records follow them
    numbers = np.unique(unit, return_inverse=True)[1]
    n_units = int(numbers.max()) + 1
    if n_units < 2:
        raise InputError("Expected records of at least two units, got one. Leave --unit out.")
    shared = None if codes is None else _find_commonest_strata(numbers, codes)
    # The same share of units as of records, and at least one unit on each side
    return np.asarray(
        _draw_membership(
            n_units, min(max(1, round(size * n_units / n)), n_units - 1), n_models, rng, shared
        )[:, numbers]
    )


def _find_commonest_strata(unit: Ints, codes: Ints) -> Ints:
    """Find the stratum of `codes` (n,) that each unit (u,) has most records of.

    The lowest of several.

    >>> _find_commonest_strata(np.array([0, 0, 0, 1]), np.array([1, 2, 2, 0])).tolist()
    [1, 0]
    """
    width = int(codes.max()) + 1
    pairs, counts = np.unique(unit * width + codes, return_counts=True)
    # lexsort sorts by its last key first
    order = np.lexsort((pairs, -counts, pairs // width))
    # Sorted by unit, then by falling count: the first of each unit is its commonest
    first = np.unique((pairs // width)[order], return_index=True)[1]
    return np.unique((pairs % width)[order][first], return_inverse=True)[1]


def _spread_strata(order: Ints, codes: Ints, rng: np.random.Generator) -> Ints:
    """Order the records `order` (k,) so that each stratum of `codes` (n,) is spread evenly.

    Any run of them then has its share of each stratum.

    >>> codes = np.array([0, 0, 0, 0, 1, 1])
    >>> codes[_spread_strata(np.arange(6), codes, np.random.default_rng(0))].reshape(2, 3).tolist()
    [[1, 0, 0], [1, 0, 0]]
    """
    own = codes[order]
    counts = np.bincount(own)
    place = np.empty(len(order))
    place[np.argsort(own, kind="stable")] = np.concatenate([np.arange(count) for count in counts])
    # Each stratum at equal steps, from a random start
    key = (place + rng.random(len(counts))[own]) / counts[own]
    return np.asarray(order[np.argsort(key, kind="stable")])


def _draw_membership(
    n: int, size: int, n_models: int, rng: np.random.Generator, codes: Ints | None = None
) -> Bools:
    """Draw membership (n_models, n) by dealing shuffled decks of all records.

    One deck follows another, and no record is twice in a hand. With `codes` (n,) each deck is
    ordered by `_spread_strata`. Strata dealt separately would give records of odd strata, and rare
    classes, too few models on one side, and then attacks could not run.
    """

    def spaced(order: Ints) -> Ints:
        return order if codes is None else _spread_strata(order, codes, rng)

    inside = np.zeros((n_models, n), dtype=bool)
    deck: Ints = np.empty(0, dtype=np.int64)
    for model in range(n_models):
        # Each deck holds all records once, so that all are dealt equally often
        hand, deck = deck[:size], deck[size:]
        if len(hand) < size:
            # The hand reaches into the next deck; what it already holds goes to that deck's rest
            fresh = rng.permutation(n)
            # These are dealt later, so that nobody is twice in one model
            held = np.isin(fresh, hand)
            free = spaced(fresh[~held])
            need = size - len(hand)
            hand = np.concatenate([hand, free[:need]])
            # Shuffled again, or records that were held would always come last
            deck = spaced(rng.permutation(np.concatenate([free[need:], fresh[held]])))
        inside[model, hand] = True
    return inside


def read_design(path: str | Path) -> NDArray[np.generic]:
    """Read the array `inside` (m, n) of an .npz file, unchanged.

    Raises:
        InputError: The file is missing, is no .npz file, or holds no such array.
    """
    file = Path(path)
    if not file.is_file():
        raise InputError(
            f"Expected a design in an .npz file, got {str(path)!r}, which does not exist. Check "
            "the path."
        )
    try:
        # Before numpy reads anything: a small archive can inflate to fill the memory
        check_archive(file)
        with np.load(file, allow_pickle=False) as opened:
            return np.asarray(opened["inside"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError, BadZipFile) as error:
        raise InputError(
            f"Expected an .npz file with an array `inside` (models, records), got {str(path)!r}: "
            f"{type(error).__name__}. Write it with numpy.savez(file, inside=...)."
        ) from error


def check_design(
    inside: NDArray[np.generic], n: int, unit: NDArray[np.str_] | None = None
) -> Bools:
    """Check the user's own membership (m, n).

    Raises:
        InputError: Its shape does not fit, it holds something else than 0 and 1, a model has no
            records or all of them, or some records of a `unit` (n,) are in a model and others are
            not.
    """
    # Shape first, as the other checks count along both axes
    values = np.asarray(inside)
    if values.ndim != 2 or values.shape[1] != n:
        raise InputError(
            f"Expected membership of shape (models, {n}), got {values.shape}. Give one row for "
            "each model and one column for each record."
        )
    if len(values) == 0:
        raise InputError("Expected at least one model in the design, got none. Give a row a model.")
    if not np.isin(values, (0, 1)).all():
        raise InputError("Expected membership of zeros and ones, got other values. Give booleans.")
    found: Bools = values.astype(bool)
    sizes = found.sum(axis=1)
    if (sizes == 0).any() or (sizes == n).any():
        raise InputError(
            "Expected models trained on some of the records, got one with none or all of them. "
            "Change its row of the design."
        )
    if unit is not None:
        names, first, codes = np.unique(unit, return_index=True, return_inverse=True)
        # Each record is compared with the first of its unit
        torn = np.flatnonzero((found != found[:, first][:, codes]).any(axis=0))
        if len(torn):
            raise InputError(
                "Expected all records of a unit in the same models of the design, got "
                f"{str(names[codes[torn[0]]])!r} in some of them only in part. Change the design, "
                "or leave --unit out."
            )
    return found
