"""Draw how often each of n records occurs in n draws with replacement.

The records are not drawn one by one. Such counts are independent Poisson counts given that they add
up to n. So Poisson counts of a slightly smaller mean are drawn, and the draws missing to n are made
record by record. One random byte decides nearly every Poisson count: count k owns floor(256 p_k) of
the bytes, and the few bytes left over share out the rest of the distribution with a double each.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from memberscope.types import Floats, Ints

Drawn = NDArray[np.uint8]  # more than 255 draws of one record have a probability below 1e-500
FEW = 256  # records up to which drawing one by one costs no more
SHORT = 4.0  # standard deviations by which the Poisson counts are to fall short of n


class Resampler:
    """Draw counts of `n` records for `rows` resamples at a time, into one array that is reused.

    >>> counts = Resampler(1000, 2).draw(np.random.default_rng(0))
    >>> counts.shape, counts.sum(axis=1).tolist()
    ((2, 1000), [1000, 1000])
    """

    def __init__(self, n: int, rows: int = 1) -> None:
        self.n = n
        self.counts = np.empty((rows, n), dtype=np.uint8)
        self.beyond = np.empty((rows, n), dtype=bool)
        # Few records need no table, since drawing them one by one costs no more
        self.edges, self.rest = (
            _build_poisson_table(1 - SHORT / np.sqrt(n)) if n > FEW else ((), np.empty(0))
        )

    def draw(self, rng: np.random.Generator) -> Drawn:
        """Draw counts (rows, n), which hold until the next draw."""
        # Too many Poisson counts cannot be taken back, so the row is drawn again
        missing = np.full(len(self.counts), -1)
        while missing.min() < 0:  # again in three of 100,000 draws a row
            if self.edges:
                self.poisson(rng)
            else:
                self.counts.fill(0)
            missing = self.n - self.counts.sum(axis=1, dtype=np.int32)
        # What the Poisson counts lack to n is drawn record by record, for all rows at once
        where = rng.integers(0, self.n, size=int(missing.sum()))
        where += np.repeat(np.arange(len(missing)) * self.n, missing)
        np.add.at(self.counts.reshape(-1), where, np.uint8(1))
        return self.counts

    def poisson(self, rng: np.random.Generator) -> None:
        """Fill `counts` with independent Poisson counts."""
        assert not isinstance(
            rng.bit_generator, np.random.MT19937
        )  # whose raw numbers have 32 bits
        size = self.counts.size
        # Eight bytes of each raw number, one for each record
        noise = (
            rng.bit_generator.random_raw(-(-size // 8))
            .view(np.uint8)[:size]
            .reshape(self.counts.shape)
        )
        # A byte at or beyond the edge of count k means at least k + 1
        np.greater_equal(noise, self.edges[0], out=self.counts.view(bool))
        for edge in self.edges[1:]:
            np.greater_equal(noise, edge, out=self.beyond)
            np.add(self.counts, self.beyond.view(np.uint8), out=self.counts)
        # Bytes beyond the last edge say nothing yet, and share out the rest
        left: Ints = np.flatnonzero(self.beyond)
        self.counts.reshape(-1)[left] = np.searchsorted(
            self.rest, rng.random(len(left)), side="right"
        )


def spawn_fast_rng(rng: np.random.Generator) -> np.random.Generator:
    """Make a generator seeded by `rng` and independent of it, of the kind that gives bytes fastest.

    >>> spawn_fast_rng(np.random.default_rng(0)).random() == spawn_fast_rng(np.random.default_rng(0)).random()
    True
    """
    seed = rng.spawn(1)[0].bit_generator.seed_seq
    assert isinstance(seed, np.random.SeedSequence)
    return np.random.Generator(np.random.SFC64(seed))


@lru_cache(maxsize=16)
def _build_poisson_table(rate: float) -> tuple[tuple[np.uint8, ...], Floats]:
    """Tabulate the bytes that decide a Poisson count.

    First the byte beyond each of the counts 0, 1, …, then the distribution function of a count
    given a byte beyond all of them.
    """
    from scipy.stats import poisson

    probability = poisson.pmf(np.arange(40), rate)
    whole = np.floor(256 * probability)
    rest = np.cumsum(probability - whole / 256)
    edges = np.cumsum(whole[whole > 0])
    return tuple(edges.astype(np.uint8)), rest / rest[-1]
