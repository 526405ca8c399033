"""Add MemGuard's noise: the defender's own membership classifier becomes undecided.

References:
    [1] J. Jia, A. Salem, M. Backes, Y. Zhang, N. Z. Gong, "MemGuard: Defending against Black-Box
        Membership Inference Attacks via Adversarial Examples", ACM CCS 2019, arXiv:1909.10594.
    [2] L. Song, P. Mittal, "Systematic Evaluation of Privacy Risks of Machine Learning Models",
        USENIX Security 2021, arXiv:2003.10595.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal, get_args

import numpy as np
from scipy.special import expit

from memberscope._numerics import softmax
from memberscope.errors import InputError
from memberscope.outputs._bases import WholeProbabilities
from memberscope.outputs.membership_classifier import SortedClassifier, fit_sorted_classifier
from memberscope.outputs.noise_keys import (
    check_noise_key,
    digest_noise_key,
    draw_keyed_words,
    map_to_uniform,
    require_noise_key,
)
from memberscope.outputs.rounding import pick_top_classes
from memberscope.types import Bools, Floats, Ints

KEPT = 10.0  # weight of keeping the top class
# Length of a step in the logits; the published 0.1 takes off a tenth of a percent of the noise
STEP = 0.5
# Weights of the distortion, tried in turn while noise is found
WEIGHTS = tuple(10.0**power for power in range(-1, 6))
# Tighter searches get this many times the steps of the first; waiting longer takes off less than 1%
# of the noise
PATIENCE = 2
FLOOR = 1e-6  # smallest probability that a search starts from, so that it can leave certain answers
DECIDED = 1e-5  # how far from 0.5 the classifier must be for noise to be worth it
UNMOVED = 1e-12  # differences below which are rounding
UNDECIDED, CUTS = 1e-5, 20  # log-odds near enough to zero, and how often the way to it is cut
# Parts of the way: by which the slope is measured, and that a last step may have
BACK, FARTHEST = 1e-4, 1e-2

Stop = Literal["undecided", "crossed"]


@dataclass(frozen=True)
class MemGuard(WholeProbabilities):
    """Add the smallest noise (L1) at which a membership classifier says 0.5, within a budget.

    `fit` trains the classifier. The top class stays. Noise of norm d is used with probability
    min(1, `distortion` / d), drawn by the answer to six decimals and the secret `key`, or a `seed`
    that everybody knows: asking again gives the same answer. The expected distortion of each answer
    is at most `distortion`. The key also draws on which side of 0.5 noise ends, all but on it, so that
    who has the classifier does not read there what it said before.

    With `stop` at `crossed`, noise is not shortened to where the classifier says 0.5, but ends with
    the first step beyond, as in the authors' code: more of it, which hides more from other
    classifiers. This one's decision can be read from it.

    It misleads attacks that read sorted outputs by thresholds learned elsewhere. Attacks that know
    the label get at least what the top class tells [2].

    >>> rng = np.random.default_rng(0)
    >>> member = np.arange(400) < 200
    >>> top = np.where(member, rng.uniform(0.8, 1.0, 400), rng.uniform(0.5, 0.9, 400))
    >>> answers = np.column_stack([top, 1 - top])
    >>> guard = MemGuard(2.0, key=bytes(32)).fit(answers, member)
    >>> chance = 1 / (1 + np.exp(-guard.classifier.odds(guard(answers))))
    >>> bool((abs(chance - 0.5) < 1e-3).all()), bool((guard(answers).argmax(axis=1) == 0).all())
    (True, True)
    """

    distortion: float = 1.0
    steps: int = 300
    stop: Stop = "undecided"
    seed: int | None = None
    classifier: SortedClassifier | None = None
    key: bytes | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if not (np.isfinite(self.distortion) and self.distortion >= 0):
            raise InputError(
                f"Expected a distortion of at least 0, got {self.distortion:g}. Give memguard:1."
            )
        check_noise_key(self.seed, self.key, "memguard:1:300:undecided:1")
        if self.steps < 1:
            raise InputError(f"Expected at least one step, got {self.steps}. Give memguard:1:300.")
        if self.stop not in get_args(Stop):
            raise InputError(
                f"Expected MemGuard to stop at undecided or crossed, got {self.stop!r}. Give "
                "memguard:1:300:crossed."
            )

    @property
    def name(self) -> str:
        """Name `memguard:d`, with the steps, stop and seed that are not the usual."""
        # Only what follows the last unusual part is left out, as parts are read by place
        rest, usual = (self.steps, self.stop, self.seed), (300, "undecided", None)
        given = max((place + 1 for place in range(3) if rest[place] != usual[place]), default=0)
        return ":".join(["memguard", f"{self.distortion:.15g}", *map(str, rest[:given])])

    @property
    def digest(self) -> str:
        """Name with the hashes of the classifier and of the secret key, if there are any."""
        found = [] if self.classifier is None else [self.classifier.digest]
        return "@".join([self.name, *found, *([digest_noise_key(self.key)] if self.key else [])])

    def fit(self, outputs: Floats, member: Bools) -> MemGuard:
        """Fit the classifier to answers (n, k) about records that trained the model, and others."""
        return replace(self, classifier=fit_sorted_classifier(outputs, member))

    def __call__(self, outputs: Floats) -> Floats:
        """Answer (n, k).

        Raises:
            InputError: It is not fitted or has no key, classes are hidden, or their number is
                another.
        """
        noisy, length = self.noisy(outputs)
        key = require_noise_key(self.name, self.seed, self.key)
        # Neither the steps nor the stop change how often noise is used, so both share their draws
        words = draw_keyed_words(outputs, key, f"memguard:{self.distortion:.15g}", 2)
        drawn = map_to_uniform(words[:, 0])
        # With probability min(1, distortion / length): the expected distortion stays in the budget
        used = (length > 0) & (drawn * length < self.distortion)
        if self.stop == "undecided" and self.classifier is not None:
            # Noise that always ends beyond 0.5 would tell on which side of it the answer was
            wanted = UNDECIDED * (2 * map_to_uniform(words[used, 1]) - 1)
            noisy[used] = _end_near_zero(self.classifier, outputs[used], noisy[used], wanted)
        return np.where(used[:, None], noisy, outputs)

    def noisy(self, outputs: Floats) -> tuple[Floats, Floats]:
        """Add the noise that the classifier asks for; give answers (n, k) and its L1 norm (n,).

        Raises:
            InputError: It is not fitted, classes are hidden, or their number is another.
        """
        judge = self.classifier
        if judge is None:
            raise InputError(
                f"Expected a fitted {self.name}, got one that has no classifier yet. Call "
                "fit(outputs, member) with answers about "
                f"records that trained the model and about others, and use what it returns."
            )
        if (
            outputs.ndim != 2
            or outputs.shape[1] != judge.n_classes
            or not np.isfinite(outputs).all()
        ):
            raise InputError(
                f"Expected whole answers of {judge.n_classes} classes before {self.name}, got "
                f"shape {outputs.shape} "
                f"with {int((~np.isfinite(outputs)).sum())} hidden. Put {self.name} first."
            )
        return _find_least_noise(
            judge, np.asarray(outputs, dtype=np.float64), self.steps, self.stop
        )


def _find_least_noise(
    judge: SortedClassifier, outputs: Floats, steps: int, stop: Stop
) -> tuple[Floats, Floats]:
    """Find answers (n, k) at which `judge` is undecided, and their L1 distances (n,).

    The distance is from `outputs` (n, k), and 0 where none was found.

    Where `stop` is `crossed`, it is of another mind. The distortion's weight grows tenfold while
    noise is found, and the shortest is kept.
    """
    odds = judge.odds(outputs)
    best, length = outputs.copy(), np.full(len(outputs), np.inf)
    # Where the classifier is undecided already, noise would only distort
    rows = np.flatnonzero(np.abs(0.5 - expit(odds)) > DECIDED)
    patience = np.full(len(outputs), steps)
    # Rows that found noise go on with a larger weight, the others keep what they have
    for number, weight in enumerate(WEIGHTS):
        if not len(rows):
            break
        crossed, took = _find_crossing(judge, outputs[rows], weight, patience[rows])
        found = took >= 0
        rows, noisy = rows[found], crossed[found]
        if stop == "undecided":
            noisy = _find_undecided_points(judge, outputs[rows], noisy)
        # Later searches are tighter, and seldom take much longer than the first
        if number == 0:
            patience[rows] = np.minimum(steps, PATIENCE * took[found] + 2)
        distance = np.abs(noisy - outputs[rows]).sum(axis=1)
        better = (distance < length[rows]) & (
            pick_top_classes(noisy) == pick_top_classes(outputs[rows])
        )
        best[rows[better]], length[rows[better]] = noisy[better], distance[better]
    # Rounding or a search that went astray must not make an answer tell more than before
    worse = np.abs(judge.odds(best)) >= np.abs(odds)
    best[worse], length[worse] = outputs[worse], 0.0
    return best, length


def _find_crossing(
    judge: SortedClassifier, outputs: Floats, weight: float, patience: Ints
) -> tuple[Floats, Ints]:
    """Find the first answers (n, k) beyond 0.5 with the same top class, and the steps (n,).

    Steps follow the gradient of |log-odds| + KEPT * lead of another class + `weight` * L1 distance
    by the logits, each STEP long; a row is given up, with -1 steps, after its `patience` (n,).
    """
    reached, took = outputs.copy(), np.full(len(outputs), -1)
    start = np.sign(judge.odds(outputs))
    rows, z, top = (
        np.arange(len(outputs)),
        np.log(np.maximum(outputs, FLOOR)),
        pick_top_classes(outputs),
    )
    for step in range(int(patience.max(initial=0)) + 1):
        p = softmax(z)
        odds, slopes = judge.odds_and_slopes(p)
        # Beyond 0.5 counts only with the same top class, which must stay
        over = (np.sign(odds) != start[rows]) & (p.argmax(axis=1) == top[rows])
        reached[rows[over]], took[rows[over]] = p[over], step
        left = ~over & (patience[rows] > step)
        if not left.any():
            break
        # Rows that have ended are dropped, so that later steps take less time
        if not left.all():
            rows, z, p, odds, slopes = rows[left], z[left], p[left], odds[left], slopes[left]
        moved = p - outputs[rows]
        # The gradient of the L1 distance, without the sign of what is only rounding
        away = np.sign(moved) * (np.abs(moved) > UNMOVED)
        z = z - STEP * _compute_step_direction(
            p, np.sign(odds)[:, None] * slopes + weight * away, z, top[rows]
        )
    return reached, took


def _compute_step_direction(p: Floats, slopes: Floats, z: Floats, top: Ints) -> Floats:
    """Compute the direction (n, k) in the logits `z`, of length one.

    It comes from `slopes` by the probabilities `p` and the lead of another class.
    """
    # The chain rule through softmax, from probabilities to logits
    found = p * (slopes - (slopes * p).sum(axis=1, keepdims=True))
    rows, others = np.arange(len(z)), z.copy()
    others[rows, top] = -np.inf
    rival = others.argmax(axis=1)
    # Only where another class leads does keeping the top class push
    leads = KEPT * (others[rows, rival] > z[rows, top])
    found[rows, rival] += leads
    found[rows, top] -= leads
    length = np.sqrt((found * found).sum(axis=1, keepdims=True))
    # A gradient of zero stays zero
    scaled: Floats = found / np.maximum(length, 1e-300)
    return scaled


def _find_undecided_points(judge: SortedClassifier, outputs: Floats, crossed: Floats) -> Floats:
    """Find the points (n, k) from `outputs` to `crossed` just beyond 0.5.

    Both ends are probabilities with the same top class, and so is everything between; nearer to
    `outputs` is less distortion. The place is found by false position with the kept end's value
    halved (Illinois).
    """
    before, beyond = judge.odds(outputs), judge.odds(crossed)
    start, low, high, last = (
        np.sign(before),
        np.zeros(len(outputs)),
        np.ones(len(outputs)),
        np.zeros(len(outputs)),
    )
    rows = np.arange(len(outputs))
    for _ in range(CUTS):
        # Where the line between both ends crosses zero
        middle = low[rows] + (high - low)[rows] * before[rows] / (before - beyond)[rows]
        odds = judge.odds(outputs[rows] + middle[:, None] * (crossed - outputs)[rows])
        over = np.sign(odds) != start[rows]
        here, there = rows[over], rows[~over]
        # An end kept twice in a row has its value halved, else the search creeps from one side
        before[here] /= np.where(last[here] > 0, 2, 1)
        beyond[there] /= np.where(last[there] < 0, 2, 1)
        beyond[here], high[here], last[here] = odds[over], middle[over], 1
        before[there], low[there], last[there] = odds[~over], middle[~over], -1
        # A row ends only just beyond 0.5, on the side that counts
        rows = rows[~(over & (np.abs(odds) < UNDECIDED))]
        if not len(rows):
            break
    return np.asarray(outputs + high[:, None] * (crossed - outputs), dtype=np.float64)


def _end_near_zero(
    judge: SortedClassifier, outputs: Floats, noisy: Floats, wanted: Floats
) -> Floats:
    """Move answers (n, k) just beyond 0.5 to log-odds `wanted` (n,), on the line from `outputs`.

    Where that fails, they stay.
    """
    way, beyond = outputs - noisy, judge.odds(noisy)
    slope = (judge.odds(noisy + BACK * way) - beyond) / BACK
    part, odds = np.zeros(len(slope)), beyond
    # The second step takes back what the first is off, which would hang on the side it came from
    for _ in range(2):
        # A flat place leads nowhere
        part += np.divide(wanted - odds, slope, out=np.zeros(len(slope)), where=slope != 0)
        moved = noisy + part[:, None] * way
        odds = judge.odds(moved)
    good = (np.abs(part) < FARTHEST) & (moved >= 0).all(axis=1)
    good &= pick_top_classes(moved) == pick_top_classes(outputs)
    good &= np.abs(odds) < 2 * UNDECIDED
    return np.where(good[:, None], moved, noisy)
