"""Undo a randomised restriction of answers that are votes, as who knows all but the key does.

True answers of a forest of T trees lie on the grid of 1/T. A candidate key that maps grid points
to the answers seen is the right one, and small seeds are tried as keys. Without a key, an answer
whose noise is small beside the grid's steps is taken back to the likeliest grid point.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.spatial import cKDTree

from memberscope.outputs._bases import Stateless, WholeProbabilities
from memberscope.outputs.inversion.keyed_step import (
    KeyedStep,
    keep_noisy_answers,
    split_keyed_step,
)
from memberscope.outputs.inversion.vote_grids import VOTES
from memberscope.outputs.noise import OutputNoise
from memberscope.types import Floats, Ints, OutputDefence

INVERTED = "inverted"
SEEDS = 2048  # small seeds that are tried as keys: 0, 1, 2, …
OTHER_SEED = 2**40 + 1  # shows how much a wrong seed explains
# Grid points that are tried with every seed, of exact answers and of those that many points share
EXACT_TRIED, SHARED_TRIED = 48, 200
# Answers that every seed is tried on; those after the first few are for seeds that are left
EXACT_PROBES, SHARED_PROBES, FIRST_PROBES = 2, 24, 4
TOGETHER = 32  # seeds that are tried at once
LEAST_ANSWERS = 5  # different answers with noise; fewer prove nothing
MOST_ANSWERS, BLOCK = 500, 256  # different answers that are looked at, and weighed together
EXACT = 1e-9  # distance of answers that are the same
HIDDEN = -1.0  # stands for a hidden class where answers are compared
# Share of the answers that must be explained exactly by a seed, or expected to be found by snapping
LEAST_SHARE = 0.5


@dataclass(frozen=True)
class Recovery(WholeProbabilities, Stateless):
    """What undoes the noise of `defence`: grid points of `votes` trees, under a `seed` or nearest.

    Applied to answers with noise it gives answers without, where a grid point explains them.
    `share` of the answers with noise are explained by the seed, or expected to be right.
    """

    defence: OutputDefence
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

    @property
    def is_comparable(self) -> bool:
        """Whether answers come back that reference models give without any restriction."""
        step = split_keyed_step(self.defence)
        return step is not None and step.is_whole

    def __call__(self, outputs: Floats) -> Floats:
        """Recover answers (n, k)."""
        found = np.asarray(outputs, dtype=np.float64).copy()
        step = split_keyed_step(self.defence)
        assert step is not None
        # Unique rows by a stand-in, as NaN is not equal to itself
        rows, back = np.unique(_mark_hidden(found), axis=0, return_inverse=True)
        rows[rows == HIDDEN] = np.nan
        for at, example in step.group_answers(rows):
            points = step.list_points(self.votes, example)
            if points is None:
                continue
            if self.seed is None:
                nearest, sure, _ = _weigh_points(step, rows[at], points)
                good = sure > 0
            else:
                nearest, good = _match_points(step, rows[at], points, self.seed)
            rows[at[good]] = points[nearest[good]]
        return np.asarray(rows[back.reshape(-1)], dtype=np.float64)


def find_vote_recovery(answers: Floats, defence: OutputDefence) -> Recovery | None:
    """Find out how the noise of `defence` on `answers` (n, k) can be undone; None if it cannot.

    Nothing of the defence but its mechanism and its scale is used, neither key nor seed.

    >>> rng = np.random.default_rng(0)
    >>> votes = rng.integers(1, 20, 200)[:, None] / 20
    >>> p = np.column_stack([votes, 1 - votes])
    >>> found = find_vote_recovery(OutputNoise(0.5, seed=7)(p), OutputNoise(0.5))
    >>> found.words, bool(np.allclose(found(OutputNoise(0.5, seed=7)(p)), p))
    ('with the public seed 7 of 20 trees, 100% of the answers explained exactly', True)
    >>> find_vote_recovery(OutputNoise(0.5, key=bytes(32))(p), OutputNoise(0.5)) is None
    True
    """
    step = split_keyed_step(defence)
    if step is None or step.scale == 0:
        return None
    rows = keep_noisy_answers(answers)
    if len(rows) < LEAST_ANSWERS:
        return None
    rows = rows[:: -(-len(rows) // MOST_ANSWERS)]
    found = _find_public_seed(rows, defence, step)
    if found is None and isinstance(step.keyed, OutputNoise):
        found = _find_small_noise(rows, defence, step)
    return found


def _find_public_seed(rows: Floats, defence: OutputDefence, step: KeyedStep) -> Recovery | None:
    """Find the small seed under which grid points answer exactly as `rows` (n, k)."""
    # Few classes and even answers have the fewest and nearest grid points
    top = np.nanmax(rows, axis=1)
    probes = rows[np.lexsort((top, (np.nan_to_num(rows) > 0).sum(axis=1)))]
    for votes in VOTES:
        for seed in _list_seeds(step, probes, votes):
            found = Recovery(defence, votes, seed, 1.0)
            share = _measure_explained(found, step, rows)
            # One exact answer may fit by chance once in many million, a rounded one often
            by_chance = _measure_explained(replace(found, seed=OTHER_SEED), step, rows)
            if share >= LEAST_SHARE and by_chance <= share / 2:
                return replace(found, share=share)
    return None


def _list_seeds(step: KeyedStep, probes: Floats, votes: int) -> list[int]:
    """List the small seeds that explain some exact answer, or all of several others."""
    seeds, kept = list(range(SEEDS)), []
    if step.is_exact:
        for probe in probes[:EXACT_PROBES]:
            kept += _try_seeds(step, probe, votes, seeds)
        return list(dict.fromkeys(kept))
    # Evenly over all answers, so that not all are coarse
    some = probes[:: max(1, len(probes) // SHARED_PROBES)][:SHARED_PROBES]
    for number, probe in enumerate(some):
        # Where most seeds explain what is seen, nothing tells which is right
        if not seeds or (number == FIRST_PROBES and len(seeds) > SEEDS // 2):
            break
        seeds = _try_seeds(step, probe, votes, seeds)
    return seeds if len(seeds) <= SEEDS // 100 else []


def _try_seeds(step: KeyedStep, row: Floats, votes: int, seeds: list[int]) -> list[int]:
    """Try seeds on the grid points nearest to one answer (k,); list those that explain it."""
    points = step.list_points(votes, row[None])
    if points is None:
        return []
    loss = step.measure_noise(row[None], points)[0]
    order = np.argsort(loss, kind="stable")
    order = order[np.isfinite(loss[order])]
    points = points[order[: EXACT_TRIED if step.is_exact else SHARED_TRIED]]
    if not len(points):
        return []
    seen, found = _mark_hidden(row), []
    for start in range(0, len(seeds), TOGETHER):
        some = seeds[start : start + TOGETHER]
        answered = _mark_hidden(step.answer_with_seeds(points, some))
        # Under a wrong seed, equal numbers happen once in many million times
        exact = (np.abs(answered - seen).max(axis=2) < EXACT).any(axis=1)
        found += [seed for seed, fits in zip(some, exact, strict=True) if fits]
    return found


def _match_points(
    step: KeyedStep, rows: Floats, points: Floats, seed: int
) -> tuple[Ints, np.ndarray]:
    """Match answers (n, k) to the points whose answer they are under a seed, if there is one."""
    answered = _mark_hidden(step.answer_with_seeds(points, [seed])[0])
    distance, nearest = cKDTree(answered).query(_mark_hidden(rows))
    return nearest, distance < EXACT


def _measure_explained(found: Recovery, step: KeyedStep, rows: Floats) -> float:
    """Measure the share of answers (n, k) that grid points give under the recovery's seed."""
    explained = 0
    assert found.seed is not None
    for at, example in step.group_answers(rows):
        points = step.list_points(found.votes, example)
        if points is not None:
            explained += int(_match_points(step, rows[at], points, found.seed)[1].sum())
    return explained / len(rows)


def _find_small_noise(rows: Floats, defence: OutputDefence, step: KeyedStep) -> Recovery | None:
    """Find the number of votes whose grid is coarse enough beside the noise to snap to."""
    best, found = -np.inf, None
    for votes in VOTES:
        sure, evidence, weighed = 0.0, 0.0, 0
        for at, example in step.group_answers(rows):
            points = step.list_points(votes, example)
            if points is None:
                continue
            _, likely, log_evidence = _weigh_points(step, rows[at], points)
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
            found = Recovery(defence, votes, None, share) if share >= LEAST_SHARE else None
    return found


def _weigh_points(step: KeyedStep, seen: Floats, points: Floats) -> tuple[Ints, Floats, Floats]:
    """Find the likeliest grid point of each answer (n,), how likely it is, and the log-evidence."""
    # In blocks, as every answer is compared with every point
    blocks = [
        _weigh_block(step, seen[start : start + BLOCK], points)
        for start in range(0, len(seen), BLOCK)
    ]
    nearest, sure, evidence = (np.concatenate(parts) for parts in zip(*blocks, strict=True))
    return nearest, sure, evidence


def _weigh_block(step: KeyedStep, seen: Floats, points: Floats) -> tuple[Ints, Floats, Floats]:
    """Weigh the grid points for one block of answers."""
    loss = step.measure_noise(seen, points)
    least = loss.min(axis=1, keepdims=True)
    # An answer that no point can give is explained by none
    possible = np.isfinite(least[:, 0])
    least = np.where(possible[:, None], least, 0.0)
    total = np.exp(least - loss).sum(axis=1)
    sure = np.divide(1.0, total, out=np.zeros(len(total)), where=possible)
    evidence = np.log(np.maximum(total, 1e-300)) - least[:, 0] - np.log(len(points))
    return loss.argmin(axis=1), sure, evidence


def _mark_hidden(rows: Floats) -> Floats:
    """Put a stand-in for hidden classes, which can be compared."""
    return np.where(np.isnan(rows), HIDDEN, rows)
