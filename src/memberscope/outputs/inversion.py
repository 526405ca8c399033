"""Try to undo a randomised output defence, as an adversary does who knows all but the key.

Two weaknesses are tried. Answers of a forest of T trees are votes, so that true answers lie on the
grid of 1/T: a candidate key that maps grid points exactly to the answers seen is the right one, and
small seeds are tried as keys. Without a key, an answer whose noise is small beside the grid's steps
is taken back to the likeliest grid point.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from math import comb

import numpy as np
from scipy.spatial import cKDTree
from scipy.spatial.distance import cdist

from memberscope.outputs._bases import Stateless, WholeProbabilities
from memberscope.outputs.chain import flatten_chain
from memberscope.outputs.keyed_parts import without_noise_keys
from memberscope.outputs.noise import OutputNoise, multiply_noise
from memberscope.outputs.noise_keys import derive_public_key
from memberscope.outputs.rounding import pick_top_classes
from memberscope.types import Floats, Ints, OutputDefence

INVERTED = "inverted"
SEEDS = 2048  # small seeds that are tried as keys: 0, 1, 2, …
# Usual numbers of trees; what divides one of them is tried with it
VOTES = (20, 50, 64, 100, 200, 500)
# Grid points that are weighed for one answer at most, and those tried with every seed
MOST_POINTS, TRIED_POINTS = 5000, 48
PROBES, TOGETHER = 2, 32  # answers that every seed is tried on, and seeds tried at once
LEAST_ANSWERS = 5  # different answers with noise; fewer prove nothing
MOST_ANSWERS, BLOCK = 500, 256  # different answers that are looked at, and weighed together
EXACT = 1e-9  # distance of answers that are the same
# Share of the answers that must be explained exactly by a seed, or expected to be found by snapping
LEAST_SHARE = 0.5


@dataclass(frozen=True)
class Recovery(WholeProbabilities, Stateless):
    """What undoes the noise of `defence`: grid points of `votes` trees, under a `seed` or nearest.

    Applied to answers with noise it gives answers without, where a grid point explains them.
    `share` of the answers with noise are explained by the seed, or expected to be right.
    """

    defence: OutputNoise
    votes: int
    seed: int | None
    share: float

    @property
    def name(self) -> str:
        """Name `inverted`."""
        return INVERTED

    @property
    def digest(self) -> str:
        """Name with what is undone, and how."""
        return f"{INVERTED}@{self.defence.name}/{self.votes}/{self.seed}"

    @property
    def words(self) -> str:
        """Say how the noise was undone, as the end of a sentence."""
        how = "to the nearest votes" if self.seed is None else f"with the public seed {self.seed}"
        sure = "expected to be right" if self.seed is None else "explained exactly"
        return f"{how} of {self.votes} trees, {100 * self.share:.3g}% of the answers {sure}"

    def __call__(self, outputs: Floats) -> Floats:
        """Recover answers (n, k)."""
        found = np.asarray(outputs, dtype=np.float64).copy()
        rows, back = np.unique(found, axis=0, return_inverse=True)
        for at, shown in _group_by_support(rows):
            points = _list_vote_shares(self.votes, len(shown))
            if points is None:
                continue
            seen = rows[np.ix_(at, shown)]
            if self.seed is None:
                nearest, _, _ = _weigh_points(seen, points, self.defence.scale)
                rows[np.ix_(at, shown)] = points[nearest]
            else:
                whole = _place_classes(points, shown, rows.shape[1])
                answered = replace(self.defence, key=derive_public_key(self.seed))(whole)
                distance, nearest = cKDTree(answered[:, shown]).query(seen)
                exact = distance < EXACT
                rows[np.ix_(at[exact], shown)] = points[nearest[exact]]
        return np.asarray(rows[back.reshape(-1)], dtype=np.float64)


def is_inverted(restriction: str | None) -> bool:
    """Tell whether a level's restriction says that its noise was undone.

    >>> is_inverted("noise:0.5:7+inverted"), is_inverted("noise:0.5:7"), is_inverted(None)
    (True, False, False)
    """
    return restriction is not None and restriction.endswith(f"+{INVERTED}")


def find_recovery(answers: Floats, defence: OutputDefence) -> Recovery | None:
    """Find out how the noise of `defence` on `answers` (n, k) can be undone; None if it cannot.

    Nothing of the defence but its mechanism and its scale is used, neither key nor seed.

    >>> rng = np.random.default_rng(0)
    >>> votes = rng.integers(1, 20, 200)[:, None] / 20
    >>> p = np.column_stack([votes, 1 - votes])
    >>> found = find_recovery(OutputNoise(0.5, seed=7)(p), OutputNoise(0.5))
    >>> found.words, bool(np.allclose(found(OutputNoise(0.5, seed=7)(p)), p))
    ('with the public seed 7 of 20 trees, 100% of the answers explained exactly', True)
    >>> find_recovery(OutputNoise(0.5, key=bytes(32))(p), OutputNoise(0.5)) is None
    True
    """
    noise = without_noise_keys(defence)
    if not isinstance(noise, OutputNoise) or not np.isfinite(answers).all():
        return None
    rows = np.unique(answers, axis=0)
    # A certain answer has no noise, so it says nothing about a key
    rows = rows[(rows > 0).sum(axis=1) > 1]
    if len(rows) < LEAST_ANSWERS or noise.scale == 0:
        return None
    rows = rows[:: -(-len(rows) // MOST_ANSWERS)]
    return _find_public_seed(rows, noise) or _find_small_noise(rows, noise)


def can_try_recovery(defence: OutputDefence) -> bool:
    """Tell whether undoing a defence is tried: of noise alone.

    >>> can_try_recovery(OutputNoise(0.5))
    True
    """
    return isinstance(defence, OutputNoise)


def explain_unrecovered(defence: OutputDefence) -> str:
    """Say what was tried to undo a defence in vain, or why nothing was tried."""
    name = defence.name
    if can_try_recovery(defence):
        return (
            f"{name} was tried to be undone with the public seeds 0 to {SEEDS - 1} and on the "
            f"votes of {VOTES[0]} to {VOTES[-1]} trees, in vain."
        )
    if len(flatten_chain(defence)) > 1:
        return f"{name} was not tried to be undone: it is a chain, and only noise alone is tried."
    return (
        f"{name} was not tried to be undone: what it is fitted to is as secret as its key, and "
        "no seed is tried without it."
    )


def _find_public_seed(rows: Floats, noise: OutputNoise) -> Recovery | None:
    """Find the small seed under which grid points answer exactly as `rows` (n, k)."""
    # Few classes and even answers have the fewest and nearest grid points
    order = np.lexsort((rows.max(axis=1), (rows > 0).sum(axis=1)))
    for votes, row in itertools.product(VOTES, rows[order[:PROBES]]):
        seed = _try_seeds(row, noise, votes)
        if seed is None:
            continue
        found = Recovery(noise, votes, seed, 1.0)
        changed = (found(rows) != rows).any(axis=1).mean()
        # One answer may fit by chance once in many million; half of all do not
        if changed >= LEAST_SHARE:
            return replace(found, share=float(changed))
    return None


def _try_seeds(row: Floats, noise: OutputNoise, votes: int) -> int | None:
    """Try every small seed on the grid points nearest to one answer (k,)."""
    shown = np.flatnonzero(row > 0)
    points = _list_vote_shares(votes, len(shown))
    if points is None:
        return None
    order = np.argsort(_measure_noise(row[None, shown], points)[0], kind="stable")
    points = points[order[:TRIED_POINTS]]
    whole = _place_classes(points, shown, len(row))
    for start in range(0, SEEDS, TOGETHER):
        keys = [derive_public_key(seed) for seed in range(start, start + TOGETHER)]
        drawn = noise.draw_by_keys(whole, keys).reshape(-1, len(row))
        answered = multiply_noise(np.tile(whole, (TOGETHER, 1)), drawn)
        # Under a wrong seed, equal numbers happen once in many million times
        exact = np.abs(answered - row).max(axis=1) < EXACT
        if exact.any():
            return start + int(exact.argmax()) // len(points)
    return None


def _find_small_noise(rows: Floats, noise: OutputNoise) -> Recovery | None:
    """Find the number of votes whose grid is coarse enough beside the noise to snap to."""
    best, found = -np.inf, None
    for votes in VOTES:
        sure, evidence, weighed = 0.0, 0.0, 0
        for at, shown in _group_by_support(rows):
            points = _list_vote_shares(votes, len(shown))
            if points is None:
                continue
            _, likely, log_evidence = _weigh_points(rows[np.ix_(at, shown)], points, noise.scale)
            sure += float(likely.sum())
            evidence += float(log_evidence.sum())
            weighed += len(at)
        # Answers of too many classes have too many grid points to weigh
        if weighed < LEAST_SHARE * len(rows):
            continue
        share = sure / len(rows)
        # A finer grid fits as well, but spreads its points over more, so that the right one wins
        if evidence / weighed > best:
            best = evidence / weighed
            found = Recovery(noise, votes, None, share) if share >= LEAST_SHARE else None
    return found


def _weigh_points(seen: Floats, points: Floats, scale: float) -> tuple[Ints, Floats, Floats]:
    """Find the likeliest grid point of each answer (n,), how likely it is, and the log-evidence."""
    # In blocks, as every answer is compared with every point
    blocks = [
        _weigh_block(seen[start : start + BLOCK], points, scale)
        for start in range(0, len(seen), BLOCK)
    ]
    nearest, sure, evidence = (np.concatenate(parts) for parts in zip(*blocks, strict=True))
    return nearest, sure, evidence


def _weigh_block(seen: Floats, points: Floats, scale: float) -> tuple[Ints, Floats, Floats]:
    """Weigh the grid points for one block of answers."""
    loss = _measure_noise(seen, points) / (2 * scale**2)
    # The defence keeps the top class, so that points with another one are impossible
    loss[pick_top_classes(seen)[:, None] != pick_top_classes(points)[None, :]] = np.inf
    least = loss.min(axis=1, keepdims=True)
    total = np.exp(least - loss).sum(axis=1)
    evidence = np.log(total) - least[:, 0] - np.log(len(points))
    return loss.argmin(axis=1), 1 / total, evidence


def _measure_noise(seen: Floats, points: Floats) -> Floats:
    """Measure the noise (n, g) from each grid point (g, m) to each answer (n, m).

    It is the squared length of the difference of logarithms without the mean, which normalising
    took away.
    """
    one, other = np.log(seen), np.log(points)
    one, other = one - one.mean(axis=1, keepdims=True), other - other.mean(axis=1, keepdims=True)
    return np.asarray(cdist(one, other, "sqeuclidean"), dtype=np.float64)


def _place_classes(points: Floats, shown: Ints, k: int) -> Floats:
    """Place grid points (g, m) at the classes `shown` of k; all others get zero."""
    whole = np.zeros((len(points), k))
    whole[:, shown] = points
    return whole


def _group_by_support(rows: Floats) -> Iterator[tuple[Ints, Ints]]:
    """Group answers (n, k) by the classes above zero, which noise leaves as they are."""
    kinds, group = np.unique(rows > 0, axis=0, return_inverse=True)
    for number, kind in enumerate(kinds):
        yield np.flatnonzero(group.reshape(-1) == number), np.flatnonzero(kind)


@lru_cache(maxsize=32)
def _list_vote_shares(votes: int, m: int) -> Floats | None:
    """List the shares of `votes` among m classes that all get some (g, m).

    None where there are too many, or too few votes.
    """
    # A certain answer has no noise; with few votes not every class could be the top one
    if m < 2 or 2 * m > votes or comb(votes - 1, m - 1) > MOST_POINTS:
        return None
    # Between the votes in a row lie m - 1 bars
    bars = np.array(list(itertools.combinations(range(1, votes), m - 1)), dtype=np.int64)
    bars = bars.reshape(-1, m - 1)
    edges = np.column_stack([np.zeros(len(bars)), bars, np.full(len(bars), votes)])
    return np.asarray(np.diff(edges, axis=1) / votes, dtype=np.float64)
