"""Add noise to probabilities that is the same for the same answer, so that nothing averages out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from memberscope.errors import InputError
from memberscope.outputs._stateless import Stateless
from memberscope.outputs.rounding import pick_top_classes
from memberscope.types import Floats, Signal

Words = NDArray[np.uint64]


@dataclass(frozen=True)
class OutputNoise(Stateless):
    """Multiply each probability by exp(`scale` times normal noise) and normalise.

    The top class keeps the largest.

    The noise is a function of the answer to six decimals and of `seed`, which must stay secret: the
    last digits, which differ between batch sizes and machines, change nothing. Inputs that are
    varied a little get other noise, which can be averaged.

    >>> answers = np.array([[0.6, 0.3, 0.1]])
    >>> once, twice = OutputNoise(0.5)(answers), OutputNoise(0.5)(answers)
    >>> bool((once == twice).all()), int(once.argmax()), round(float(once.sum()), 9)
    (True, 0, 1.0)
    """

    scale: float = 0.5
    seed: int = 0

    def __post_init__(self) -> None:
        if not (np.isfinite(self.scale) and self.scale >= 0):
            raise InputError(
                f"Expected a noise scale of at least 0, got {self.scale:g}. Give noise:0.5."
            )
        if not 0 <= self.seed < 2**64:
            raise InputError(
                f"Expected a noise seed of 0 to 2^64 - 1, got {self.seed}. Give noise:0.5:1."
            )

    @property
    def name(self) -> str:
        """Name `noise:s`, with a seed other than zero."""
        return f"noise:{self.scale:.15g}" + (f":{self.seed}" if self.seed else "")

    @property
    def signal(self) -> Signal:
        """Kind of the answers: probabilities."""
        return "probabilities"

    @property
    def hides(self) -> bool:
        """Whether something is left out: nothing is."""
        return False

    def __call__(self, outputs: Floats) -> Floats:
        """Answer (n, k)."""
        noisy = np.maximum(outputs, 0.0) * np.exp(
            self.scale * draw_keyed_normals(np.round(outputs, 6) + 0.0, self.seed)
        )
        rows, top, best = (
            np.arange(len(outputs)),
            pick_top_classes(outputs),
            pick_top_classes(noisy),
        )
        # Where noise made another class the top one, the two change places
        noisy[rows, top], noisy[rows, best] = noisy[rows, best], noisy[rows, top].copy()
        # Hidden classes are NaN; those that are shown keep the sum that they had
        total = np.nansum(noisy, axis=1, keepdims=True)
        answered: Floats = (
            noisy * np.nansum(outputs, axis=1, keepdims=True) / np.where(total > 0, total, 1.0)
        )
        return answered


def draw_keyed_normals(values: Floats, seed: int) -> Floats:
    """Draw normal numbers (n, k) from the row of `values` (n, k), the column and `seed` alone.

    >>> rows = np.array([[0.1, 0.9], [0.1, 0.9], [0.2, 0.8]])
    >>> drawn = draw_keyed_normals(rows, 0)
    >>> bool((drawn[0] == drawn[1]).all()), bool((drawn[0] == drawn[2]).any())
    (True, False)
    """
    # Multiples of the golden ratio's bits set the columns of a row far apart
    columns = np.arange(1, values.shape[1] + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    return np.asarray(
        ndtri(map_to_uniform(_mix_bits(hash_rows(values, seed)[:, None] + columns[None, :]))),
        dtype=np.float64,
    )


def hash_rows(values: Floats, seed: int) -> Words:
    """Hash each row of `values` (n, k) with `seed` to one word (n,)."""
    words = np.ascontiguousarray(values, dtype=np.float64).view(np.uint64)
    state = np.full(len(words), np.uint64(seed), dtype=np.uint64)
    for column in range(words.shape[1]):
        state = _mix_bits(state ^ words[:, column])
    return state


def map_to_uniform(words: Words) -> Floats:
    """Map words to numbers strictly between 0 and 1."""
    # A double holds 53 bits; the half keeps away from 0, where normal numbers are infinite
    return np.asarray(
        ((words >> np.uint64(11)).astype(np.float64) + 0.5) / 2.0**53, dtype=np.float64
    )


def _mix_bits(words: Words) -> Words:
    """Mix each word's bits, by the finaliser of SplitMix64 (Steele, Lea and Flood 2014)."""
    words = words + np.uint64(0x9E3779B97F4A7C15)
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(words ^ (words >> np.uint64(31)), dtype=np.uint64)
