"""Check user input and name the offending value; one function for each kind of mistake."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from memberscope.errors import InputError


def check_rate(name: str, value: float, *, open_ends: bool = True) -> float:
    """Return `value` if it is a rate in (0, 1), or in [0, 1] when `open_ends` is false.

    Raises:
        InputError: It is not.
    """
    inside = 0.0 < value < 1.0 if open_ends else 0.0 <= value <= 1.0
    if not inside:
        kind = "strictly between 0 and 1" if open_ends else "between 0 and 1"
        raise InputError(
            f"Expected {name} {kind}, got {value}. Give it as a fraction, for example 0.01 for 1%."
        )
    return float(value)


def check_same_length(**arrays: Any) -> int:
    """Return the common length of `arrays`.

    Raises:
        InputError: The lengths differ.
    """
    lengths = {name: len(array) for name, array in arrays.items()}
    if len(set(lengths.values())) > 1:
        got = ", ".join(f"{name} {n}" for name, n in lengths.items())
        raise InputError(f"Expected arrays of one length, got {got}. Align them record by record.")
    return next(iter(lengths.values()))


def check_finite(name: str, values: NDArray[Any], ids: NDArray[Any] | None = None) -> None:
    """Refuse NaN and infinity in `values` (n, ...), naming the first record that holds one.

    Raises:
        InputError: Some value is not finite.
    """
    bad = ~np.isfinite(values)
    if not bad.any():
        return
    rows = np.flatnonzero(bad.reshape(len(values), -1).any(axis=1))
    first = int(rows[0]) if ids is None else str(ids[rows[0]])
    raise InputError(
        f"Expected finite {name}, got NaN or infinity for {len(rows)} of {len(values)} records, "
        f"first record {first!r}. Correct the model or leave those records out."
    )


def check_binary_scores(scores: NDArray[np.float64], member: NDArray[np.bool_]) -> None:
    """Check that `scores` (n,) and `member` (n,) can be compared.

    Scores must be finite, both arrays of one length, and members and non-members both present.

    Raises:
        InputError: They cannot.
    """
    check_same_length(scores=scores, member=member)
    check_finite("scores", scores)
    n_members = int(np.count_nonzero(member))
    if n_members == 0 or n_members == len(member):
        raise InputError(
            f"Expected members and non-members, got {n_members} members and "
            f"{len(member) - n_members} non-members. "
            f"Give records of both kinds."
        )
