"""Undo MemGuard's noise, as who has its fitted classifier and not its key does.

The noise follows from the answer and the classifier. Where answers are few, as votes are, each is
guarded and compared with what is seen. Where they are not, answers made up from those that are seen
are guarded, and regression trees learn to take back what that did to them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.spatial import cKDTree

from memberscope._numerics import fill_hidden_probabilities
from memberscope.outputs._bases import Stateless, WholeProbabilities
from memberscope.outputs.chain import flatten_chain
from memberscope.outputs.inversion.vote_grids import VOTES, list_loose_shares
from memberscope.outputs.inversion.votes import INVERTED, LEAST_ANSWERS, LEAST_SHARE, MOST_ANSWERS
from memberscope.outputs.keyed_parts import with_noise_key
from memberscope.outputs.membership_classifier import SortedClassifier
from memberscope.outputs.memguard import MemGuard
from memberscope.outputs.noise_keys import derive_public_key
from memberscope.types import Floats, OutputDefence

MADE_UP, LEARNED_FROM, TREES = 3000, 2000, 60  # answers to learn from and judge by, and trees
TEMPERATURES = (0.3, 2.0)  # how much steeper and flatter made-up answers are
RANKS_READ, RANKS_FOUND = 8, 16  # largest probabilities that are read, and taken back
SMALLEST = 1e-7
TOLERANCE = 0.05  # L1 distance within which an answer counts as undone
OWN_SEED = 1  # the adversary's own key
MOST_GUARDED = 2000  # grid points that are guarded, each of which takes about a millisecond
CLOSE = 1e-5  # where the key draws the end of the noise, answers differ by less


@dataclass(frozen=True, eq=False)
class GuardedVotes(WholeProbabilities, Stateless):
    """Take answers of `guarded` (g, k) back to the votes `points` (g, k) behind them.

    `share` of the answers seen are explained by one.
    """

    defence: OutputDefence
    votes: int
    share: float
    guarded: Floats = field(repr=False)
    points: Floats = field(repr=False)

    @property
    def name(self) -> str:
        """Name `inverted`."""
        return INVERTED

    @property
    def digest(self) -> str:
        """Name with what is undone, and how."""
        return f"{INVERTED}@{self.defence.digest}/{self.votes}"

    @property
    def words(self) -> str:
        """Say how the noise was undone, as the end of a sentence."""
        return (
            f"by whoever has its fitted classifier, with any key: {100 * self.share:.3g}% of the "
            f"answers are those of votes of {self.votes} trees"
        )

    @property
    def is_comparable(self) -> bool:
        """Whether reference models give such answers: they stand behind a MemGuard of their own."""
        return False

    def __call__(self, outputs: Floats) -> Floats:
        """Recover answers (n, k)."""
        distance, nearest = cKDTree(self.guarded).query(outputs)
        return np.where((distance < CLOSE)[:, None], self.points[nearest], outputs)


@dataclass(frozen=True, eq=False)
class LearnedRecovery(WholeProbabilities, Stateless):
    """Take noise of `defence` back as `trees` learned to from made-up answers.

    Among those of them that the noise moved by more than `TOLERANCE`, a `share` came back to within
    it.
    """

    defence: OutputDefence
    share: float
    trees: Any = field(repr=False)

    @property
    def name(self) -> str:
        """Name `inverted`."""
        return INVERTED

    @property
    def digest(self) -> str:
        """Name with what is undone."""
        return f"{INVERTED}@{self.defence.digest}"

    @property
    def words(self) -> str:
        """Say how the noise was undone, as the end of a sentence."""
        return (
            "by whoever has its fitted classifier, with any key: of made-up answers that it moved "
            f"by more than {TOLERANCE:g}, {100 * self.share:.3g}% come back to within that"
        )

    @property
    def is_comparable(self) -> bool:
        """Whether reference models give such answers: they stand behind a MemGuard of their own."""
        return False

    def __call__(self, outputs: Floats) -> Floats:
        """Recover answers (n, k)."""
        order, features = _describe_answers(self.defence, outputs)
        filled = np.take_along_axis(fill_hidden_probabilities(outputs), order, axis=1)
        found = filled.copy()
        top = np.maximum(self.trees.predict(features), 0.0)
        found[:, : top.shape[1]] = top
        # What lies below the ranks that are found keeps its proportions
        rest = np.maximum(1.0 - top.sum(axis=1), 0.0)
        below = filled[:, top.shape[1] :].sum(axis=1)
        found[:, top.shape[1] :] *= (rest / np.maximum(below, SMALLEST))[:, None]
        found /= found.sum(axis=1, keepdims=True)
        answers = np.empty_like(found)
        np.put_along_axis(answers, order, found, axis=1)
        return answers


def find_guarded_votes(answers: Floats, defence: OutputDefence) -> GuardedVotes | None:
    """Find the votes behind answers (n, k) of a fitted MemGuard; None if they are no votes.

    Neither key nor seed is used: the noise itself depends on neither.
    """
    if not isinstance(defence, MemGuard) or not np.isfinite(answers).all():
        return None
    rows = np.unique(answers, axis=0)
    if len(rows) < LEAST_ANSWERS:
        return None
    rows = rows[:: -(-len(rows) // MOST_ANSWERS)]
    for votes in VOTES:
        points = list_loose_shares(votes, answers.shape[1])
        if points is None or len(points) > MOST_GUARDED:
            continue
        # The coin leaves some answers as they are
        guarded = np.concatenate([defence.noisy(points)[0], points])
        share = float((cKDTree(guarded).query(rows)[0] < CLOSE).mean())
        if share >= LEAST_SHARE:
            return GuardedVotes(defence, votes, share, guarded, np.concatenate([points, points]))
    return None


def learn_recovery(answers: Floats, defence: OutputDefence) -> LearnedRecovery | None:
    """Learn to undo the noise of a fitted `defence` on `answers` (n, k), from made-up ones.

    None where the answers are too few to make up others from. Keys of its own make the noise that
    is learned from.
    """
    from sklearn.ensemble import ExtraTreesRegressor

    if len(np.unique(answers, axis=0)) < LEAST_ANSWERS:
        return None
    rng = np.random.default_rng(0)
    low, high = (float(np.log(value)) for value in TEMPERATURES)
    power = np.exp(-rng.uniform(low, high, MADE_UP))[:, None]
    base = fill_hidden_probabilities(answers)[rng.integers(0, len(answers), MADE_UP)]
    plain = np.maximum(base, SMALLEST) ** power
    plain /= plain.sum(axis=1, keepdims=True)
    seen = with_noise_key(defence, derive_public_key(OWN_SEED))(plain)
    order, features = _describe_answers(defence, seen)
    wanted = np.take_along_axis(plain, order, axis=1)
    moved = np.abs(fill_hidden_probabilities(seen) - plain).sum(axis=1)[LEARNED_FROM:] > TOLERANCE
    trees = ExtraTreesRegressor(TREES, min_samples_leaf=3, random_state=0)
    trees.fit(features[:LEARNED_FROM], wanted[:LEARNED_FROM, :RANKS_FOUND])
    found = LearnedRecovery(defence, 0.0, trees)
    off = np.abs(found(seen[LEARNED_FROM:]) - plain[LEARNED_FROM:]).sum(axis=1)
    share = float((off[moved] < TOLERANCE).mean()) if moved.any() else 0.0
    return LearnedRecovery(defence, share, trees)


def _describe_answers(defence: OutputDefence, seen: Floats) -> tuple[Any, Floats]:
    """Sort answers (n, k), and give what trees read of them: the largest, and the classifier."""
    filled = np.nan_to_num(seen)
    order = np.argsort(-filled, axis=1, kind="stable")
    largest = np.take_along_axis(filled, order, axis=1)[:, :RANKS_READ]
    odds = [judge.odds(filled)[:, None] for judge in _list_classifiers(defence)]
    return order, np.column_stack([np.log(np.maximum(largest, SMALLEST)), *odds])


def _list_classifiers(defence: OutputDefence) -> list[SortedClassifier]:
    """List the fitted classifiers of a restriction."""
    return [
        part.classifier
        for part in flatten_chain(defence)
        if isinstance(part, MemGuard) and part.classifier is not None
    ]
