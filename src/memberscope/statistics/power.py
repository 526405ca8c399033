"""Compute what an audit could have detected.

The smallest TPR and the smallest AUC, and whether the audit was able to fail.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from scipy.special import bdtr, betainc, ndtr, ndtri

from memberscope._check import check_rate
from memberscope.statistics.curves.effective_sizes import effective_sizes, kish_members
from memberscope.statistics.curves.rank_tails import mixture_weights
from memberscope.statistics.curves.roc import Roc, allowed_false_positives
from memberscope.statistics.curves.tpr_limits import mixture_p_value
from memberscope.types import Floats, Ints

STEPS = 14  # halvings of the search, which leave an error below the simulation's own
RUNS = 1200  # simulated audits; the power is known to one point in a hundred
FEW = 120  # of them, which decide where the power is far from the one asked for
DOUBT = 1e-6  # chance beyond which the few do not decide
TABLE_STEPS = 8  # entries a member of the table of p-values, straight lines between
MANY = 5_000  # non-members, from which on several are drawn as one cell
CELLS = 64  # cells that are left of the ranks where there are many non-members


class CellLayout(NamedTuple):
    """Where simulated members are counted, and how each rank reads the resulting curve.

    Members are counted in cells of scores, each with its place on the curve.

    Attributes:
        edges: True rates (r, c) at the lower ends of the cells, rising from the strictest.
        fold: Fold (c,) that each cell belongs to.
        vertex: Vertex (r, c) of the curve at which the members of a cell are accused.
        below: Vertex (r, k) at which each rank stands.
        share: Share (r, k) of the members of that vertex which stand above the rank.
    """

    edges: Floats
    fold: Ints
    vertex: Ints
    below: Ints
    share: Floats


@lru_cache(maxsize=256)
def minimum_detectable_tpr(
    n_members: int,
    n_non_members: int,
    fpr: float,
    limit: float,
    *,
    confidence: float = 0.95,
    n_candidates: int = 1,
    power: float = 0.8,
    n_folds: int | None = None,
    blocks: tuple[float, ...] | None = None,
) -> float | None:
    """Find the smallest true TPR at `fpr` that "lower limit above `limit`" detects with `power`.

    The answer is None if the rule detects none.

    The ROC curve is taken to have the Gaussian shape, with straight lines across ties; the lower
    limit is that of `tpr_at_fpr` with the error shared among `n_candidates`. The power is that of
    `RUNS` simulated audits, the same ones at each call.

    Args:
        n_members: Members, or effective members where records belong to units.
        n_non_members: Non-members, likewise.
        fpr: The false-positive rate of the claim.
        limit: The TPR that the claim allows.
        confidence: Of the two-sided interval, before it is shared.
        n_candidates: Attacks times claims that share the error.
        power: Share of audits that are to detect the TPR.
        n_folds: Folds of an attack that learns, whose lower limit is taken on the strict curve;
        None for other attacks.
        blocks: Non-members with the highest score, with the two highest and so on, from
            `count_non_member_blocks`, where scores tie; None where they do not.

    Raises:
        InputError: The non-members do not resolve `fpr`.

    >>> 0.05 < minimum_detectable_tpr(500, 500, 0.05, 0.1) < 0.3
    True
    """
    # Refuses a rate that the non-members do not resolve
    allowed_false_positives(fpr, n_non_members)
    tail = (1 - check_rate("confidence", confidence)) / 2 / max(n_candidates, 1)
    # Everything that does not depend on the TPR is simulated and computed once
    ranks, weights = mixture_weights(n_non_members, fpr)
    if n_non_members >= MANY and len(ranks) > CELLS:
        ranks, weights = _merge_ranks(ranks, weights)
    layout = _build_layout(ranks, n_non_members, n_folds or 1, blocks)
    sizes = _fold_sizes(n_members, n_folds or 1)[layout.fold]
    # Looking p-values up is far faster than beta functions in each step of the search
    table = _p_value_table(n_members, limit)

    # On the scale on which the curve of a larger TPR is shifted
    layout = layout._replace(edges=ndtri(layout.edges))
    few = _take_runs(layout, FEW)

    def count_detected(runs: CellLayout, shift: float) -> int:
        heights = ndtr(runs.edges + shift)
        counts = _counts_at_ranks(_member_counts(heights, sizes, runs.fold), runs)
        # The p-value of each rank, weighted as in the lower limit's mixture
        below = np.interp(counts * TABLE_STEPS, np.arange(len(table)), table)
        return int((below @ weights < tail).sum())

    def detected(shift: float) -> bool:
        # Most steps of the search are far from its end, where a tenth of the audits tells
        seen = count_detected(few, shift)
        if bdtr(seen, FEW, power) < DOUBT:
            return False
        if 1 - bdtr(seen - 1, FEW, power) < DOUBT:
            return True
        return count_detected(layout, shift) >= power * len(layout.edges)

    # From the shift at which the TPR is `limit` itself to one at which it is all but 1
    low, high = -float(ndtri(fpr)) + float(ndtri(max(limit, fpr))), 7.0 - float(ndtri(fpr))
    if not detected(high):
        return None
    for _ in range(STEPS):
        middle = (low + high) / 2
        low, high = (low, middle) if detected(middle) else (middle, high)
    return _true_tpr(high, fpr, n_non_members, blocks)


def can_fail(
    curve: Roc, fpr: float, limit: float, significance: float = 0.025, *, strict: Roc | None = None
) -> bool:
    """Check whether the audit was able to fail "at most `limit` at `fpr`" with this attack.

    Suppose every member tied with or beat the highest non-members, as many of whom share the top
    score as do. The audit could fail if the p-value would then be below `significance`. Too few
    non-members, or a score too coarse to separate members from them, cannot fail.

    >>> from memberscope.statistics.curves.roc import roc
    >>> member = np.arange(2000) < 1000
    >>> can_fail(roc(np.arange(2000.0), member), 0.01, 0.03), can_fail(roc(np.arange(2000.0), member), 0.001, 0.03)
    (True, False)
    >>> can_fail(roc(np.arange(2000) % 2 * 1.0, member), 0.01, 0.03)
    False
    """
    # Learned attacks are judged on the strict curve, so their ties are counted there
    counted = strict or curve
    # The highest score may be shared by several non-members, whom members can only tie with
    top = float(counted.fp[np.searchsorted(counted.fp, 0, side="right")])
    n_members, n_non_members = kish_members(curve), effective_sizes(curve, fpr).n_non_members
    ranks, weights = mixture_weights(n_non_members, fpr)
    # Members tied with the top non-members stand above a share of them by chance
    share = ranks * curve.n_non_members / n_non_members / (top + 1)
    return (
        mixture_p_value(n_members * np.minimum(1.0, share), weights, n_members, limit)
        < significance
    )


def records_needed_to_fail(fpr: float, significance: float = 0.025) -> int:
    """Count the non-members without which no attack can fail a claim at `fpr`.

    With fewer, the chance that none exceeds the true threshold is not below `significance`.

    >>> records_needed_to_fail(0.01), records_needed_to_fail(0.001), records_needed_to_fail(0.01, 0.025 / 20)
    (368, 3688, 666)
    """
    return (
        int(
            np.floor(
                np.log(check_rate("significance", significance)) / np.log1p(-check_rate("fpr", fpr))
            )
        )
        + 1
    )


def count_non_member_blocks(curve: Roc, fpr: float) -> tuple[float, ...] | None:
    """Count the non-members at or above each of the highest distinct scores.

    As `minimum_detectable_tpr` takes them; None without ties. Where records belong to units, the
    counts are in effective non-members.

    >>> from memberscope.statistics.curves.roc import roc
    >>> count_non_member_blocks(roc(np.array([9.0, 9, 9, 5, 5, 4]), np.array([True, False, False, False, False, True])), 0.25)
    (2.0, 4.0)
    """
    n = effective_sizes(curve, fpr).n_non_members
    ranks, _ = mixture_weights(n, fpr)
    # Only blocks up to the last rank that matters decide anything
    ends = np.unique(curve.fp)[1:].astype(np.float64)
    reach = int(np.searchsorted(ends, ranks[-1] * curve.n_non_members / n)) + 1
    # No block of more than one non-member: there are no ties
    if (np.diff(ends[:reach], prepend=0.0) <= 1).all():
        return None
    return tuple((ends[:reach] * n / curve.n_non_members).tolist())


def _merge_ranks(ranks: Floats, weights: Floats) -> tuple[Floats, Floats]:
    """Merge neighbouring ranks (k,) into at most `CELLS`, each at the mean of those it stands for.

    Among many non-members the p-values of neighbouring ranks hardly differ.

    >>> ranks, weights = _merge_ranks(np.arange(1.0, 129), np.full(128, 1 / 128))
    >>> len(ranks), float(ranks[0]), round(float(weights.sum()), 12)
    (64, 1.5, 1.0)
    """
    starts = np.arange(0, len(ranks), -(-len(ranks) // CELLS))
    merged = np.add.reduceat(weights, starts)
    return np.add.reduceat(ranks * weights, starts) / merged, merged


def _build_layout(
    ranks: Floats, n: int, n_folds: int, blocks: tuple[float, ...] | None
) -> CellLayout:
    """Simulate the non-members of all runs."""
    # One fold without ties needs the non-members at the ranks alone, not one by one
    if n_folds == 1 and blocks is None:
        return _untied_layout(ranks, n)
    # Always the same seed: the power at two settings is compared on the same simulated audits
    rng = np.random.default_rng(0)
    sizes = _fold_sizes(n, n_folds)
    parts = [_fold_cells(ranks, int(size), n, n_folds, blocks, rng) for size in sizes]
    edges, counts = (np.concatenate([part[i] for part in parts], axis=1) for i in range(2))
    # Every fold has as many cells as the first
    n_cells = parts[0][0].shape[1]
    fold = np.repeat(np.arange(n_folds), n_cells)
    # Folds are compared on the strict curve, where thresholds stand at non-members
    if n_folds > 1:
        place = _strict_places(counts.reshape(len(counts), n_folds, n_cells), sizes)
    else:
        place = np.broadcast_to(np.arange(n_cells, dtype=np.float64), counts.shape)
    return _read_layout(edges, fold, counts, place, ranks)


def _strict_places(counts: Ints, sizes: Ints) -> Floats:
    """Give the places (r, f * c) of each fold's cells on the strict curve.

    `counts` (r, f, c) are the cells' non-members, one row if every run has the same, and `sizes`
    (f,) those of each fold. The members of a
    cell without non-members stand at the next lower one that has some.
    """
    # Cells without non-members take the place of the next lower one that has some
    accused = np.where(counts > 0, np.cumsum(counts, axis=2), sizes.max() + 1)
    accused = np.minimum.accumulate(accused[:, :, ::-1], axis=2)[:, :, ::-1]
    return np.asarray((accused / sizes[None, :, None]).reshape(len(counts), -1), dtype=np.float64)


def _take_runs(layout: CellLayout, n: int) -> CellLayout:
    """Take the first `n` simulated audits; what all share has one row, which stays."""
    edges, fold, vertex, below, share = layout
    return CellLayout(edges[:n], fold, vertex[:n], below[:n], share[:n])


def _untied_layout(ranks: Floats, n: int) -> CellLayout:
    """Place the non-members at `ranks` (k,) by the law of order statistics.

    The members of a cell stand above its rank.
    """
    rng = np.random.default_rng(0)
    # Gaps between uniform order statistics are gamma variables divided by their sum
    gaps = rng.standard_gamma(np.diff(np.append(ranks, n + 1), prepend=0), (RUNS, len(ranks) + 1))
    places = np.cumsum(gaps, axis=1)
    cells = np.arange(len(ranks))
    vertex = np.broadcast_to(cells, (RUNS, len(ranks)))
    return CellLayout(
        places[:, :-1] / places[:, -1:],
        np.zeros(len(ranks), dtype=np.int64),
        vertex,
        vertex,
        np.ones((1, 1)),
    )


def _fold_cells(
    ranks: Floats,
    size: int,
    n: int,
    n_folds: int,
    blocks: tuple[float, ...] | None,
    rng: np.random.Generator,
) -> tuple[Floats, Ints]:
    """Give the lower edges (r, c) of a fold's cells, and the non-members (r, c) in each.

    Non-members stand one by one, in the same numbers (1, c) in every run, or in blocks of tied
    scores. Where there are many, those that stand above every rank are one first cell, whose members
    are counted at all ranks, and the others share some 64 cells.
    """
    if blocks is not None:
        edges = np.append(np.asarray(blocks)[np.asarray(blocks) < n] / n, 1.0)
        counts = np.diff(
            _rising_counts(edges[None, :].repeat(RUNS, 0), np.full(len(edges), size), rng),
            axis=1,
            prepend=0,
        )
        return edges[None, :].repeat(RUNS, 0), counts
    # Only the strictest ranks matter; the rest of the fold is one last cell
    n_cells = min(size, int(ranks[-1] / n_folds) + 8)
    counts = np.append(np.ones(n_cells, dtype=np.int64), size - n_cells)
    merged = int(max(ranks[0] - 1, 0) // n_folds)
    if n >= MANY:
        # The others few by few, as a rank within a cell has its share of the members there
        # Cells of many folds tie at one place of the strict curve, which would grow too wide
        together = max(1, (n_cells - merged) * min(n_folds, 5) // CELLS)
        wholes = (n_cells - merged) // together
        counts = np.append(np.full(wholes, together), size - merged - wholes * together)
        counts = np.append(merged, counts) if merged else counts
    # The gap up to the k-th non-member is the sum of k single ones
    shapes = np.append(counts[:-1].astype(np.float64), counts[-1] + 1)
    places = np.cumsum(rng.standard_gamma(shapes, (RUNS, len(shapes))), axis=1)
    edges = np.append(places[:, :-1] / places[:, -1:], np.ones((RUNS, 1)), axis=1)
    return edges, counts[None, :]


def _read_layout(
    edges: Floats, fold: Ints, counts: Ints, place: Floats, ranks: Floats
) -> CellLayout:
    """Order the cells of each run by `place` (r, c), and find each rank's vertex.

    Cells at one place form one vertex. One row of `place` and `counts` stands for all runs.
    """
    n_rows = len(place)
    vertex = np.empty(place.shape, dtype=np.int64)
    below, share = np.zeros((n_rows, len(ranks)), dtype=np.int64), np.zeros((n_rows, len(ranks)))
    # Row by row, since each has vertices of its own
    for run in range(n_rows):
        _, vertex[run] = np.unique(place[run], return_inverse=True)
        tied = np.bincount(vertex[run], weights=counts[run])
        ends = np.cumsum(tied)
        below[run] = np.searchsorted(ends, np.minimum(ranks, ends[-1]), side="left")
        # A rank inside a block has its share of the members tied there
        share[run] = (ranks - ends[below[run]] + tied[below[run]]) / (tied[below[run]] + 1)
    return CellLayout(edges, fold, vertex, below, np.where(ranks > 0, share, 0.0))


def _counts_at_ranks(counts: Ints, layout: CellLayout) -> Floats:
    """Count the members (r, k) above each rank, from the members (r, c) in each cell."""
    n_vertices = int(layout.vertex.max()) + 1
    flat = (np.arange(len(counts))[:, None] * n_vertices + layout.vertex).ravel()
    tied = np.bincount(flat, weights=counts.ravel(), minlength=len(counts) * n_vertices).reshape(
        len(counts), n_vertices
    )
    above = np.cumsum(tied, axis=1) - tied
    return np.asarray(
        np.take_along_axis(above, layout.below, axis=1)
        + layout.share * np.take_along_axis(tied, layout.below, axis=1)
    )


def _member_counts(heights: Floats, sizes: Ints, fold: Ints) -> Ints:
    """Draw the members (r, c) in each cell.

    A share `heights` (r, c) of the `sizes` (c,) members of its fold reach or exceed a cell.
    """
    # A seed other than the non-members', so that both sides are independent
    rng = np.random.default_rng(1)
    parts = []
    # Folds are independent, and so are their members
    for f in np.unique(fold):
        own = fold == f
        parts.append(np.diff(_rising_counts(heights[:, own], sizes[own], rng), axis=1, prepend=0))
    return np.concatenate(parts, axis=1)


def _rising_counts(heights: Floats, sizes: Ints, rng: np.random.Generator) -> Ints:
    """Draw binomial counts (r, c) of nested events with rising chances `heights` (r, c)."""
    counts = np.zeros(heights.shape, dtype=np.int64)
    so_far, height = np.zeros(len(heights), dtype=np.int64), np.zeros(len(heights))
    for j in range(heights.shape[1]):
        # The chance to lie in this cell for those who are in no stricter one
        share = (heights[:, j] - height) / np.maximum(1 - height, 1e-300)
        so_far = so_far + rng.binomial(sizes[j] - so_far, np.clip(share, 0.0, 1.0))
        counts[:, j], height = so_far, heights[:, j]
    return counts


def _p_value_table(n: int, limit: float) -> Floats:
    """Tabulate P(binomial(n, limit) >= count) at counts of 0, 1/8, … up to where it vanishes."""
    # Twelve standard deviations and some more, beyond which the p-value vanishes
    most = min(float(n), n * limit + 12 * (n * limit) ** 0.5 + 40)
    counts = np.arange(int(most * TABLE_STEPS) + 1) / TABLE_STEPS
    table = np.where(counts > 0, betainc(np.maximum(counts, 1e-300), n - counts + 1, limit), 1.0)
    # One entry more, so that the interpolation never runs off the end
    return np.asarray(np.append(table, table[-1]))


def _true_tpr(shift: float, fpr: float, n: int, blocks: tuple[float, ...] | None) -> float:
    """Give the TPR at exactly `fpr` of the Gaussian curve with this shift.

    It is linear across blocks of tied scores.
    """
    if blocks is None:
        return float(ndtr(ndtri(fpr) + shift))
    # Ties make the curve straight between the ends of their blocks
    edges = np.concatenate([[0.0], np.asarray(blocks)[np.asarray(blocks) < n] / n, [1.0]])
    return float(np.interp(fpr, edges, ndtr(ndtri(edges) + shift)))


def _fold_sizes(n: int, n_folds: int) -> Ints:
    """Divide records evenly: the number (f,) in each fold."""
    return n // n_folds + (np.arange(n_folds) < n % n_folds)


def minimum_detectable_auc(
    n_members: int, n_non_members: int, *, confidence: float = 0.95, power: float = 0.8
) -> float:
    """Find the smallest AUC whose lower limit at `confidence` exceeds one half with `power`.

    The variance is the AUC's under the null.

    >>> round(minimum_detectable_auc(1000, 1000), 3)
    0.536
    """
    spread = ((n_members + n_non_members + 1) / (12 * n_members * n_non_members)) ** 0.5
    return float(min(1.0, 0.5 + (ndtri((1 + confidence) / 2) + ndtri(power)) * spread))
