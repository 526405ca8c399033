"""Measure how much noise, or how many transformed copies, a record's label survives.

A label survives where it still agrees with the true label.

Noise is normal on numbers and pixels, a flip on bits, a draw from the column on categories. Which
strength separates records depends on the model and the record, and may not be chosen by looking at
members. So each record's own strength at which nine copies in ten keep the label is sought, first on
a coarse ladder, then by stochastic approximation [3]. All records share their random numbers.

References:
    [1] C. Choquette-Choo, F. Tramèr, N. Carlini, N. Papernot, "Label-Only Membership Inference
        Attacks", ICML 2021, arXiv:2007.14321.
    [2] H. Robbins, S. Monro, "A Stochastic Approximation Method", Annals of Mathematical Statistics
        22, 1951.
    [3] B. Polyak, A. Juditsky, "Acceleration of Stochastic Approximation by Averaging", SIAM J.
Control 30, 1992.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from memberscope.errors import UnmetNeedError
from memberscope.signals.domain import Domain
from memberscope.signals.feature_domain import encode_in_domain
from memberscope.signals.label_oracle import (
    Block,
    Oracle,
    ask_first_labels,
    build_oracle,
    measure_in_stages,
    plan_stages,
    read_query_budget,
    split_rows,
)
from memberscope.signals.measured import MeasuredSignal, Progress, read_parameter
from memberscope.types import Floats, Records, SignalSpec, Target

QUERIES = 128  # queries for each record unless the specification says otherwise
# Strengths of the first copies: normal noise in standard deviations of a feature
LADDER = np.geomspace(0.02, 5.0, 8)
# A bit flips, a category is drawn anew, with this share of the strength as probability, at most one
# half
CHANCE = 0.1
AGREE = 0.9  # share of copies that keep the label at the strength sought
# Log-distance from where the ladder breaks, at half of the copies, to where nine in ten agree, at
# first
BELOW = 1.0
GROUP = 8  # copies asked between two moves of the strength
# First move, for a disagreement of one, in log-strength; later ones shrink with the square root
STEP = 2.0
LEAST, MOST = -6.0, 4.0  # log-strengths outside are not tried
WRONG = -7.0  # value of a record that is labelled wrongly, below all others


def measure_noise(
    target: Target, records: Records, spec: SignalSpec, progress: Progress | None = None
) -> MeasuredSignal:
    """Measure the log-strength of noise that nine copies of ten survive, (n, stages, 1).

    At most `queries` are spent for each record.

    Parameters: `queries`, `settled`, `seed`, and `scale`, which fixes the strength; the value is
    then the logit of the share of copies that keep the label.

    Raises:
        InputError: The budget is less than one query.
        UnmetNeedError: The records cannot be moved.
        TargetError: The model fails.
    """
    budget = read_query_budget(spec, QUERIES)
    domain, z = encode_in_domain(records.x)
    oracle = build_oracle(target, domain, records, "noise")
    right = ask_first_labels(oracle, z) == records.y
    search = Staircase(
        oracle, z, right, int(read_parameter(spec, "seed", 0)), read_parameter(spec, "scale", 0.0)
    )
    return measure_in_stages(spec, plan_stages(budget), search.advance, oracle, right, progress)


class Staircase:
    """State of the search: each record's log-strength (n,), and those it has gone through."""

    def __init__(
        self, oracle: Oracle, z: Floats, right: NDArray[np.bool_], seed: int, scale: float
    ) -> None:
        """Start for the records `z` (n, f) that are labelled `right` (n,).

        With a positive `scale`, the strength is fixed to it.
        """
        self.oracle, self.z, self.right, self.scale = oracle, z, right, scale
        self.rng = np.random.default_rng(seed)
        self.strength = np.zeros(len(z))
        self.trace: list[Floats] = []
        self.kept, self.spent, self.moves = np.zeros(len(z)), 1, 0

    def advance(self, budget: int) -> Floats:
        """Search until every record labelled right has spent `budget` queries; give values (n,)."""
        while self.spent < budget and self.right.any():
            # The ladder gives a start; with a fixed strength there is nothing to look for
            if not self.scale and not self.trace:
                self.climb(min(len(LADDER), budget - self.spent))
            else:
                self.move(min(GROUP, budget - self.spent))
        return self.values()

    def values(self) -> Floats:
        """Give the mean log-strength after the first quarter of moves.

        With a fixed strength, give the logit of the share of copies that kept the label.
        """
        if self.scale:
            # Half a pseudo-copy keeps the logit finite
            share = (self.kept + 0.5) / self.spent
            return (
                np.where(self.right, np.log(share / (1 - share)), WRONG)
                if self.spent > 1
                else self.plain()
            )
        if not self.trace:
            return self.plain()
        # The first moves still carry the start: the mean of the later ones converges fastest [3]
        found = np.mean(self.trace[len(self.trace) // 4 :], axis=0)
        return np.where(self.right, found, WRONG)

    def plain(self) -> Floats:
        """Give what one query shows: whether the label is right."""
        return np.where(self.right, 0.0, WRONG)

    def climb(self, n_copies: int) -> None:
        """Ask the first copies, one at each strength of the ladder.

        The strength then starts below the point where about half of the copies keep the label.
        """
        rungs = (
            LADDER
            if n_copies == len(LADDER)
            else LADDER[np.linspace(0, len(LADDER) - 1, n_copies).astype(int)]
        )
        kept = self.ask(np.log(rungs)[:, None] + np.zeros(len(self.z)))
        # As many rungs as copies kept the label, less a half, is about where it breaks
        width = np.log(LADDER[-1] / LADDER[0]) / len(rungs)
        self.strength = np.maximum(np.log(LADDER[0]) + width * (kept - 0.5) - BELOW, LEAST)
        self.trace.append(self.strength.copy())

    def move(self, n_copies: int) -> None:
        """Ask copies at each record's own strength, then move it up or down."""
        level = np.log(self.scale) + np.zeros(len(self.z)) if self.scale else self.strength
        kept = self.ask(np.tile(level, (n_copies, 1)))
        self.kept += kept
        self.moves += 1
        self.strength = np.clip(
            self.strength + STEP / self.moves**0.5 * (kept / n_copies - AGREE), LEAST, MOST
        )
        self.trace.append(self.strength.copy())

    def ask(self, strengths: Floats) -> Floats:
        """Count the copies (n,) at log-strengths (c, n) that keep the label.

        Records that are labelled wrongly are not asked.
        """
        kept = np.zeros(len(self.z))
        # The same draws for all records: what differs between them is then not the noise
        draws = self.rng.standard_normal((len(strengths), 2, self.z.shape[1]))

        def perturb() -> Iterator[Block]:
            for level, pair in zip(strengths, draws, strict=True):
                for rows in split_rows(np.flatnonzero(self.right), self.z.shape[1]):
                    strength = np.exp(level[rows])
                    yield rows, perturb_records(self.oracle.domain, self.z[rows], strength, pair)

        # Copies do not depend on each other's answers
        for rows, same in self.oracle.keeps_each(perturb()):
            kept[rows] += same
        self.spent += len(strengths)
        return kept


def perturb_records(
    domain: Domain, z: Floats, strength: Floats, draws: tuple[Floats, Floats]
) -> Floats:
    """Perturb the records `z` (n, f) with noise of `strength` (n,).

    It is made of two normal draws (f,), the same for all records.
    """
    from scipy.special import ndtr

    normal, other = draws
    copies = domain.inside(z + strength[:, None] * (domain.scale * normal))
    # A bit or a category cannot move a little: it changes as a whole, with a probability
    places = np.flatnonzero(domain.discrete)
    if len(places):
        u, v = ndtr(normal[places]), ndtr(other[places])
        hit = u < np.minimum(CHANCE * strength, 0.5)[:, None]
        drawn = np.array(
            [
                domain.levels[j][int(x * len(domain.levels[j]))]
                for j, x in zip(places, v, strict=True)
            ]
        )
        # A bit flips: the sum of both values, less the one it has, is the other
        two = domain.bit_sums[places]
        now = z[:, places]
        # What is missing stays missing
        hit &= ~np.isnan(now)
        copies[:, places] = np.where(hit, np.where(np.isnan(two), drawn, two - now), now)
    return copies


def measure_augmentation(
    target: Target, records: Records, spec: SignalSpec, progress: Progress | None = None
) -> MeasuredSignal:
    """Measure the logit of the share of changed image copies that keep the label, (n, stages, 1).

    Copies are shifted, mirrored and rotated.

    Raises:
        InputError: The budget is less than one query.
        UnmetNeedError: The records are no images.
        TargetError: The model fails.
    """
    domain, z = encode_in_domain(records.x)
    if not domain.is_image:
        raise UnmetNeedError(
            "Expected images (n, ..., height, width) to augment, got records of shape "
            f"{domain.shape}. Use the attack noise."
        )
    # The unchanged record takes one query too
    kinds = list_transforms()
    budget = min(read_query_budget(spec, len(kinds) + 1), len(kinds) + 1)
    oracle = build_oracle(target, domain, records, "augmentation")
    right = ask_first_labels(oracle, z) == records.y
    kept = np.zeros(len(z))
    done = 0

    def transform(start: int, stop: int) -> Iterator[Block]:
        for kind in kinds[start:stop]:
            for rows in split_rows(np.flatnonzero(right), z.shape[1]):
                moved = transform_images(z[rows].reshape(-1, *domain.shape), *kind)
                yield rows, domain.inside(moved.reshape(len(rows), -1))

    def advance(until: int) -> Floats:
        nonlocal done
        for rows, same in oracle.keeps_each(transform(done, until - 1)):
            kept[rows] += same
        done = until - 1
        # Half a pseudo-copy keeps the logit finite
        share = (kept + 0.5) / (done + 1)
        return (
            np.where(right, np.log(share / (1 - share)), WRONG)
            if done
            else np.where(right, 0.0, WRONG)
        )

    return measure_in_stages(spec, plan_stages(budget, 8), advance, oracle, right, progress)


def list_transforms() -> list[tuple[int, int, bool, float]]:
    """List the transformations of images.

    Each is (pixels right, pixels down, mirrored, degrees of rotation). They are mild, since strong
    ones say less about the record than about the model.
    """
    shifts: list[tuple[int, int, bool, float]] = [
        (dx, dy, False, 0.0) for dx, dy in ((1, 0), (-1, 0), (0, 1), (0, -1))
    ]
    slants: list[tuple[int, int, bool, float]] = [
        (dx, dy, False, 0.0) for dx, dy in ((1, 1), (-1, -1), (1, -1), (-1, 1))
    ]
    return [*shifts, (0, 0, False, 5.0), (0, 0, False, -5.0), (0, 0, True, 0.0), *slants]


def transform_images(images: Floats, dx: int, dy: int, mirrored: bool, degrees: float) -> Floats:
    """Mirror, shift and rotate images (n, ..., height, width); edges are repeated.

    >>> transform_images(np.arange(4.0).reshape(1, 2, 2), 0, 0, True, 0.0)[0].tolist()
    [[1.0, 0.0], [3.0, 2.0]]
    """
    from memberscope.signals.views import reorder_channels, shift_with_edges

    upright = reorder_channels(images)
    found = upright[..., ::-1] if mirrored else upright
    if dx or dy:
        found = shift_with_edges(found, dx, dy)
    if degrees:
        from scipy.ndimage import rotate

        found = rotate(found, degrees, axes=(-1, -2), reshape=False, order=1, mode="nearest")
    return np.ascontiguousarray(
        found if upright is images else reorder_channels(found, back=True), dtype=np.float64
    )
