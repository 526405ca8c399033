"""Compute on the tokens of many records at once, a block of records at a time.

Memory then does not grow with the number of records. Sums over the tokens of a record go from its
first token to its last, so that no score depends on which records share a block.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memberscope._numerics import FLOOR
from memberscope.texts import TOKEN_ARRAYS, TokenSignals
from memberscope.types import Bools, Floats, Ints

# Tokens in a block: 2 MB as float64, which a processor's cache holds
CELLS = 2**18
# A log-probability of minus infinity would make differences undefined
LOWEST = float(np.log(FLOOR))


def iterate_token_blocks(
    tokens: TokenSignals, size: int = CELLS
) -> Iterator[tuple[slice, TokenSignals]]:
    """Yield consecutive records of at most `size` tokens, or of one longer record, as views."""
    start = 0
    while start < len(tokens):
        first = tokens.offsets[start]
        stop = int(np.searchsorted(tokens.offsets, first + size, side="right")) - 1
        rows = slice(start, max(stop, start + 1))
        yield rows, _view_records(tokens, rows)
        start = rows.stop


def _view_records(tokens: TokenSignals, rows: slice) -> TokenSignals:
    """View consecutive records without a copy of their tokens."""
    inside = slice(tokens.offsets[rows.start], tokens.offsets[rows.stop])
    arrays: dict[str, Any] = {name: getattr(tokens, name) for name in TOKEN_ARRAYS}
    found: dict[str, Any] = {
        name: None if kept is None else kept[inside] for name, kept in arrays.items()
    }
    for name in ("n_bytes", "zlib_bytes"):
        kept = getattr(tokens, name)
        found[name] = None if kept is None else kept[rows]
    offsets = tokens.offsets[rows.start : rows.stop + 1] - tokens.offsets[rows.start]
    copies = {name: kept[rows] for name, kept in tokens.copies.items()}
    return replace(tokens, offsets=offsets, copies=copies, **found)


def compute_by_blocks(
    statistic: Callable[[TokenSignals], Floats], tokens: TokenSignals, size: int = CELLS
) -> Floats:
    """Compute a statistic (n,) or (n, d) of all records, a block at a time.

    >>> tokens = TokenSignals(np.array([0, 2, 3]), np.array([-1.0, -3.0, -0.5]))
    >>> compute_by_blocks(lambda block: block.sum_tokens(block.log_probability), tokens, 1).tolist()
    [-4.0, -0.5]
    """
    return np.concatenate([statistic(block) for _, block in iterate_token_blocks(tokens, size)])


def read_log_probability(tokens: TokenSignals) -> Floats:
    """Read the log-probability (t,) of each token as float64, at least `LOWEST`."""
    return np.maximum(np.asarray(tokens.log_probability, dtype=np.float64), LOWEST)


def read_base_difference(tokens: TokenSignals) -> Floats:
    """Compute how much likelier (t,) each token is than under the base model, in nats."""
    assert tokens.base is not None
    return read_log_probability(tokens) - np.maximum(np.asarray(tokens.base, np.float64), LOWEST)


def spread_over_tokens(values: Floats, tokens: TokenSignals) -> Floats:
    """Repeat the value (n,) of each record for each of its tokens (t,)."""
    return np.repeat(values, tokens.counts)


@dataclass(frozen=True, eq=False)
class TokenGroup:
    """Records `rows` (m,) whose lengths `counts` (m,) differ by a factor of two at most.

    Row i of a matrix (m, width) holds the tokens at `places` of a record, where `real`.
    """

    rows: Ints
    counts: Ints
    places: Ints
    real: Bools

    def lay_out(self, values: NDArray[Any], fill: float) -> Floats:
        """Lay values (t,) out as a matrix (m, width), with `fill` behind the shorter records."""
        found = np.asarray(values, dtype=np.float64)[self.places]
        return found if self.real.all() else np.where(self.real, found, fill)

    def take_at(self, matrix: NDArray[Any], columns: Ints) -> NDArray[Any]:
        """Take one column (m,) of each row."""
        return matrix[np.arange(len(matrix)), columns]


def iterate_groups(tokens: TokenSignals) -> Iterator[TokenGroup]:
    """Yield the records by length, so that less than half of a matrix is padding."""
    counts = tokens.counts
    power = np.ceil(np.log2(counts)).astype(np.int64)
    for code in np.unique(power):
        rows = np.flatnonzero(power == code)
        own = counts[rows]
        column = np.arange(own.max())
        real = column < own[:, None]
        # Padding reads the record's last token, which the fill then covers
        last = tokens.offsets[rows + 1][:, None] - 1
        places = np.minimum(tokens.offsets[rows][:, None] + column, last)
        yield TokenGroup(rows, own, places, real)


def average_lowest(values: Floats, tokens: TokenSignals, fraction: float) -> Floats:
    """Average the lowest `fraction` of the values (t,) of each record, at least one of them.

    >>> tokens = TokenSignals(np.array([0, 5, 6]), np.zeros(6))
    >>> average_lowest(np.array([3.0, 1, 2, 5, 4, 7]), tokens, 0.4).tolist()
    [1.5, 7.0]
    """
    found = np.empty(len(tokens))
    for group in iterate_groups(tokens):
        # Short texts too are judged by one token at least
        kept = np.maximum(1, (fraction * group.counts).astype(np.int64))
        ordered = np.sort(group.lay_out(values, np.inf), axis=1)[:, : kept.max()]
        found[group.rows] = group.take_at(np.cumsum(ordered, axis=1), kept - 1) / kept
    return found
