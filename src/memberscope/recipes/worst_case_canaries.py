"""Insert worst-case records on purpose.

Wrong labels, records out of distribution, and pairs of near-duplicates.

References:
    [1] M. Aerni, J. Zhang, F. Tramèr, "Evaluations of Machine Learning Privacy Defenses are
        Misleading", CCS 2024, arXiv:2404.17399.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from memberscope.errors import InputError, UnmetNeedError
from memberscope.recipes.canaries import draw_wrong_labels
from memberscope.signals import encode_in_domain
from memberscope.types import Ints, Records

WorstCase = Literal["mislabelled", "out_of_distribution", "near_duplicate"]
NATURAL, COPY = "none", "copy"  # values of the group `canary` beside the kinds
GROUP = "canary"  # group of the records that says which are canaries, and of what kind
# Share of its features that a near-duplicate keeps; the others are another record's
COPIED = 0.95


@dataclass(frozen=True, eq=False)
class Planted:
    """Records (n) with the group `canary`, and the `unit` (n,) that each moves with.

    A unit is the record itself, or a record and its near-duplicate.
    """

    records: Records
    unit: Ints

    @property
    def kinds(self) -> NDArray[np.str_]:
        """Kind of each record (n,)."""
        return np.asarray(self.records.groups[GROUP])


def plant_canaries(records: Records, n_each: int, seed: int, n_classes: int) -> Planted:
    """Turn `n_each` of the records into canaries of each kind, and append near-duplicates.

    These are copies of the canaries of that kind [1]. Mislabelled ones get another class, or the true values
    of another record, at random.
    Those out of distribution get each feature from a record of its own, and any class.
    Near-duplicates are mislabelled, and share all but a twentieth of their features with a copy of
    the same wrong class that moves with them: a model that saw only the copy recognises the record
    from it.

    Raises:
        InputError: There are too few records or classes, or they have no features that could be
            mixed.

    >>> pool = Records(np.random.default_rng(0).normal(size=(40, 3)), np.arange(40) % 2, np.arange(40).astype(str))
    >>> found = plant_canaries(pool, 4, 0, 2)
    >>> len(found.records), sorted(set(found.kinds.tolist()))
    (44, ['copy', 'mislabelled', 'near_duplicate', 'none', 'out_of_distribution'])
    """
    kinds = get_args(WorstCase)
    n = len(records)
    if n_classes < 2 and records.y.ndim == 1 and records.y.dtype.kind != "f":
        raise InputError(
            "Expected at least two classes for mislabelled canaries, got one. Leave the canaries "
            "out with --canaries 0."
        )
    if not 2 <= n_each <= n // (2 * len(kinds)):
        raise InputError(
            f"Expected 2 to {n // (2 * len(kinds))} canaries of each kind from {n} records, got "
            f"{n_each}. Lower --canaries."
        )
    rng = np.random.default_rng(seed)
    # No record is a canary of two kinds
    rows = rng.permutation(n)[: n_each * len(kinds)].reshape(len(kinds), n_each)
    y, kind = records.y.copy(), np.full(n + n_each, NATURAL, dtype="<U24")
    for name, where in zip(kinds, rows, strict=True):
        kind[where] = name
        y[where] = draw_wrong_labels(records.y, where, n_classes, rng)
    kind[n:] = COPY
    try:
        domain, z = encode_in_domain(records.x)
    except UnmetNeedError as error:
        raise InputError(
            f"Expected records whose features can be mixed for canaries. {error} Or leave the "
            "canaries out with --canaries 0."
        ) from error
    # The second kind: each feature comes from a record of its own
    z[rows[1]] = _mix_features(z, n_each, rng)
    # The third kind: copies that share most features with their originals
    copies = z[rows[2]]
    other = rng.random(copies.shape) >= COPIED
    # At least one feature differs, or the copy would be an identical record
    other[np.arange(n_each), rng.integers(0, copies.shape[1], n_each)] = True
    copies[other] = _mix_features(z, n_each, rng)[other]
    x = domain.decode(domain.inside(np.concatenate([z, copies])))
    # A copy moves with its original, so both are members or neither is
    every = np.concatenate([np.arange(n), rows[2]])
    ids = np.concatenate([records.ids, np.char.add(records.ids[rows[2]], " (copy)")])
    groups = {name: values[every] for name, values in records.groups.items() if name != GROUP}
    return Planted(
        Records(_restore_dtype(x, records.x), y[every], ids, groups | {GROUP: kind}), every
    )


def _mix_features(z: NDArray[Any], n: int, rng: np.random.Generator) -> NDArray[Any]:
    """Mix records (n, f) of which each feature is another record's of `z` (m, f)."""
    return np.asarray(z[rng.integers(0, len(z), (n, z.shape[1])), np.arange(z.shape[1])])


def _restore_dtype(x: Any, before: Any) -> Any:
    """Give the records the type of numbers that they had.

    It takes less room where it was small.
    """
    return (
        x.astype(before.dtype)
        if isinstance(before, np.ndarray) and isinstance(x, np.ndarray)
        else x
    )


def find_natural_records(planted_records: Records) -> NDArray[np.bool_]:
    """Mark the records (n,) that are not canaries.

    >>> find_natural_records(Records(None, np.zeros(2, dtype=np.int64), np.array(["a", "b"])))
    array([ True,  True])
    """
    kinds = planted_records.groups.get(GROUP)
    return (
        np.ones(len(planted_records), dtype=bool) if kinds is None else np.asarray(kinds == NATURAL)
    )


__all__ = [
    "COPY",
    "GROUP",
    "NATURAL",
    "Planted",
    "WorstCase",
    "find_natural_records",
    "plant_canaries",
]
