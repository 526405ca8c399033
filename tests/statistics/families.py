"""Score families whose ROC is known exactly: Gaussian shifts, smooth or rounded to a grid so that scores tie."""

from __future__ import annotations

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
    """Whether `hits` of `runs` intervals holding the truth is consistent with `nominal`: one-sided binomial test at 0.1%."""
    return hits >= binom.ppf(0.001, runs, nominal)
