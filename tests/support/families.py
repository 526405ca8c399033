"""Score families whose ROC is known exactly.

Gaussian shifts, smooth or rounded, jumps, blocks of ties, clusters.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr, ndtri
from scipy.stats import binom


@dataclass(frozen=True)
class Gaussian:
    """Non-members N(0, 1), members N(shift, 1); `steps` points a unit if rounded, 0 if smooth."""

    shift: float
    steps: int = 0

    def draw(self, n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        scores = np.concatenate([rng.standard_normal(n) + self.shift, rng.standard_normal(n)])
        if self.steps:
            scores = np.round(scores * self.steps) / self.steps
        return scores, np.arange(2 * n) < n

    def grid(self) -> np.ndarray:
        reach = int((10 + abs(self.shift)) * self.steps)
        return np.arange(-reach, reach + 1) / self.steps

    def rates_at(self, threshold: float) -> tuple[float, float]:
        """True TPR and FPR of "score >= threshold"; the threshold is a grid point if rounded."""
        cut = threshold - (0.5 / self.steps if self.steps else 0)
        return float(ndtr(self.shift - cut)), float(ndtr(-cut))

    def threshold(self, fpr: float) -> float:
        """The most lenient threshold whose FPR does not exceed `fpr`."""
        if not self.steps:
            return float(-ndtri(fpr))
        grid = self.grid()
        return float(grid[np.array([self.rates_at(t)[1] for t in grid]) <= fpr + 1e-12][0])

    def auc(self) -> float:
        if not self.steps:
            return float(ndtr(self.shift / 2**0.5))
        grid = self.grid()
        half = 0.5 / self.steps
        outside = ndtr(grid + half) - ndtr(grid - half)
        above = ndtr(self.shift - grid - half)
        tie = ndtr(self.shift - grid + half) - above
        return float(np.sum(outside * (above + tie / 2)))


def shift_for(tpr: float, fpr: float) -> float:
    """The shift whose TPR at `fpr` is `tpr`; far below chance for 0."""
    return -6.0 if tpr == 0 else float(ndtri(tpr) - ndtri(fpr))


def covers(hits: int, runs: int, nominal: float = 0.95) -> bool:
    """Whether `hits` of `runs` intervals holding the truth is consistent with `nominal`.

    One-sided binomial test at 0.1%.
    """
    return hits >= binom.ppf(0.001, runs, nominal)


Draw = Callable[[int, np.random.Generator], tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class Cell:
    """One row of a coverage table.

    Scores of `n` records a side at `fpr`, where the best rule finds `truth`.
    """

    name: str
    n: int
    fpr: float
    truth: float
    draw: Draw  # (n, rng) -> scores of n members, scores of n non-members
    folds: int = 1
    sizes: str = ""  # of clusters: "20x10", or "50x10 geometric"
    icc: float = 0.0

    def sample(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """Scores and membership (2 n,), members first, and units where records come in clusters."""
        if self.sizes:
            return self.clustered(rng)
        scores = np.concatenate(self.draw(self.n, rng))
        return scores, np.arange(2 * self.n) < self.n, None

    def clustered(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        number, mean = (int(part) for part in self.sizes.split()[0].split("x"))
        rows = (
            rng.geometric(1 / mean, 2 * number)
            if "geometric" in self.sizes
            else np.full(2 * number, mean)
        )
        unit = np.repeat(np.arange(2 * number), rows)
        member = unit < number
        noise = self.icc**0.5 * rng.standard_normal(2 * number)[unit] + (
            1 - self.icc
        ) ** 0.5 * rng.standard_normal(len(unit))
        return noise + (ndtri(self.truth) - ndtri(self.fpr)) * member, member, unit


def gaussian_cell(n: int, fpr: float, tpr: float, *, folds: int = 1) -> Cell:
    name = "clean" if tpr == fpr else f"Gaussian, TPR {tpr:g}"
    shift = float(ndtri(tpr) - ndtri(fpr))
    return Cell(
        name,
        n,
        fpr,
        tpr,
        lambda n, rng: (rng.standard_normal(n) + shift, rng.standard_normal(n)),
        folds,
    )


def on_top_cell(n: int, fpr: float, share: float = 0.05) -> Cell:
    """A share of the members above everybody, the others like non-members."""

    def draw(n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        return np.where(rng.random(n) < share, 2.0, rng.random(n)), rng.random(n)

    return Cell(f"{100 * share:g}% of members on top", n, fpr, share + (1 - share) * fpr, draw)


def jump_cell(n: int, fpr: float, share: float, at: float = 1.0) -> Cell:
    """A share of the members at the place of non-members of rate `at` times `fpr`.

    The others below.
    """

    def draw(n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        place = 1 - at * fpr
        return np.where(rng.random(n) < share, place, place * rng.random(n)), rng.random(n)

    name = f"jump to {share:g} just before f" if at == 1 else f"jump to {share:g} at {at:g} f"
    return Cell(name, n, fpr, share / max(at, 1.0), draw)


def rounded_cell(n: int, fpr: float, shift: float, steps: int) -> Cell:
    """Gaussian scores rounded to a grid.

    The truth is linear between the corners of its curve, which is concave.
    """
    family = Gaussian(shift, steps)
    corners = [family.rates_at(cut) for cut in family.grid()[::-1]]
    truth = float(np.interp(fpr, [rates[1] for rates in corners], [rates[0] for rates in corners]))

    def draw(n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        scores, member = family.draw(n, rng)
        return scores[member], scores[~member]

    return Cell(f"ties: shift {shift:g}, {steps} points a unit", n, fpr, truth, draw)


def block_cell(n: int, fpr: float, tpr: float, top: float) -> Cell:
    """A share `tpr` of the members and `top` of the non-members share the top score.

    The others lie alike below.
    """

    def draw(n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        return tuple(np.where(rng.random(n) < share, 2.0, rng.random(n)) for share in (tpr, top))

    return Cell(
        f"{100 * tpr:g}% of members, {100 * top:g}% of non-members on top",
        n,
        fpr,
        tpr * fpr / top,
        draw,
    )


def cluster_cell(sizes: str, icc: float, fpr: float, shift: float = 1.0) -> Cell:
    number, mean = (int(part) for part in sizes.split()[0].split("x"))
    truth = float(ndtr(ndtri(fpr) + shift))
    return Cell(
        f"clusters {sizes}, ICC {icc:g}",
        number * mean,
        fpr,
        truth,
        lambda n, rng: ((), ()),
        sizes=sizes,
        icc=icc,
    )


def coverage_cells() -> list[Cell]:
    """All rows of the coverage table of TPR at a rate."""
    sizes = ((300, 0.05), (1000, 0.01), (2000, 0.01), (5000, 0.001))
    cells = [gaussian_cell(n, fpr, tpr) for n, fpr in sizes for tpr in (fpr, 0.1, 0.5)]
    cells += [on_top_cell(n, fpr) for n, fpr in sizes]
    cells += [jump_cell(n, fpr, share) for n, fpr in sizes for share in (0.1, 0.4, 0.9)]
    cells += [jump_cell(n, fpr, 0.5, 1.02) for n, fpr in sizes]
    cells += [rounded_cell(n, fpr, 1.0, steps) for n, fpr in sizes for steps in (2, 8)]
    cells += [
        block_cell(n, fpr, 0.6, 0.02) for n, fpr in ((1000, 0.01), (2000, 0.01), (5000, 0.001))
    ]
    cells += [
        gaussian_cell(n, fpr, tpr, folds=5)
        for n, fpr in ((500, 0.01), (2000, 0.01))
        for tpr in (fpr, 0.1, 0.5)
    ]
    clusters = (
        ("20x10", 0.3, 0.1),
        ("50x10 geometric", 0.9, 0.1),
        ("200x10 geometric", 0.9, 0.05),
        ("200x10", 0.9, 0.01),
    )
    return cells + [cluster_cell(*entry) for entry in clusters]


def quantiles(n1: int, n0: int, shift: float) -> tuple[np.ndarray, np.ndarray]:
    """Members at normal quantiles plus `shift`, non-members at normal quantiles."""
    sides = [ndtri((np.arange(n) + 0.5) / n) for n in (n1, n0)]
    return np.concatenate([sides[0] + shift, sides[1]]), np.arange(n1 + n0) < n1


def people(
    n: int, rows: int, correlation: float, shift: float, rng: np.random.Generator
) -> tuple[np.ndarray, ...]:
    """Scores, membership and units of `n` people a side with `rows` records each."""
    unit = np.arange(2 * n * rows) // rows
    own, noise = rng.standard_normal(2 * n)[unit], rng.standard_normal(len(unit))
    return (
        correlation**0.5 * own + (1 - correlation) ** 0.5 * noise + shift * (unit < n),
        unit < n,
        unit,
    )
