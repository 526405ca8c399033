"""Compare a text with slightly changed copies of itself, made by a function of the user's own.

A model finds a member likelier than its neighbours; of other texts there is no reason why it
should.

References:
    [1] J. Mattern, F. Mireshghallah, Z. Jin, B. Schölkopf, M. Sachan, T. Berg-Kirkpatrick,
        "Membership Inference Attacks against Language Models via Neighbourhood Comparison",
        Findings of ACL 2023, arXiv:2305.18462.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from memberscope.attacks.custom import CustomSignal
from memberscope.errors import InputError
from memberscope.texts import TextRecord
from memberscope.types import Access, Floats, Records, Target

Perturb = Callable[[Any, np.random.Generator], TextRecord]


def make_neighbourhood_signal(
    perturb: Perturb, n_neighbours: int = 25, *, name: str = "neighbourhood", seed: int = 0
) -> CustomSignal:
    """Make the signal mean log p(text) minus its mean over neighbours [1], for `signals=[…]`.

    `perturb(record, rng)` gives one changed copy of a record. Equal records have equal neighbours
    under every model, so that reference models are asked about the same ones.

    Raises:
        InputError: `perturb` is no function, or `n_neighbours` is below 1.

    >>> def swap(text, rng):
    ...     words = text.split()
    ...     i = rng.integers(len(words) - 1)
    ...     words[i], words[i + 1] = words[i + 1], words[i]
    ...     return " ".join(words)
    >>> signal = make_neighbourhood_signal(swap, 10)
    >>> signal.name, signal.queries, signal.access.word
    ('neighbourhood', 11, 'token_probabilities')
    """
    if not callable(perturb) or n_neighbours < 1:
        raise InputError(
            "Expected a function perturb(record, rng) and at least one neighbour, got "
            f"{type(perturb).__name__} and {n_neighbours!r}. Give both."
        )
    return CustomSignal(
        name,
        _NeighbourComparison(perturb, n_neighbours, seed),
        higher="member",
        access=Access.TOKEN_PROBABILITIES,
        queries=n_neighbours + 1,
    )


@dataclass(frozen=True)
class _NeighbourComparison:
    """Measures how much likelier records are than their neighbours."""

    perturb: Perturb
    n_neighbours: int
    seed: int

    def __call__(self, target: Target, records: Records) -> Floats:
        """Measure the records (n,), in nats a token."""
        rngs = [_seed_by_content(record, self.seed) for record in records.x]
        total = np.zeros(len(records))
        # A neighbour of every record at a time, so that memory does not grow with their number
        for _ in range(self.n_neighbours):
            changed = np.empty(len(records), dtype=object)
            for place, record in enumerate(records.x):
                changed[place] = self.perturb(record, rngs[place])
            total += target.query(changed)[:, 0]
        # Both are minus the mean log-probability
        difference: Floats = total / self.n_neighbours - target.query(records.x)[:, 0]
        return difference


def _seed_by_content(record: TextRecord, seed: int) -> np.random.Generator:
    """Seed a generator by the record itself, wherever it stands in the audit.

    >>> _seed_by_content("a", 0).random() == _seed_by_content("a", 0).random() != _seed_by_content("b", 0).random()
    True
    """
    content = hashlib.sha256(repr(record).encode("utf-8", "surrogatepass")).digest()
    return np.random.default_rng([seed, int.from_bytes(content[:16], "big")])
