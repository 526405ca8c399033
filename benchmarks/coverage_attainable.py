"""What coverage can be had where `coverage_areas.py` prints more than .975.

Three tables: the AUC's interval where few records are misplaced, beside logit-DeLong alone and the
limit halfway between the two, for members spread half, as much and twice as much as non-members;
the exact coverage of a test of J = 0 at 2.5%, which discreteness decides; and the coverage of
separations by Welch's degrees of freedom.

    python benchmarks/coverage_attainable.py --runs 1000
"""

from __future__ import annotations

import argparse

import numpy as np
from scipy.special import gammaln, ndtri, stdtrit

from coverage_areas import LOPSIDED, MODELS
from memberscope.statistics.curves.auc import estimate_auc


def auc_coverage(n1: int, n0: int, auc: float, spread: float, runs: int) -> list[float]:
    """Shares of runs in which logit-DeLong, the middle and today's limits hold the AUC of N(s.

    Spread) against N(0, 1).
    """
    rng = np.random.default_rng([n1, n0, int(auc * 1000), int(spread * 2)])
    shift, member = float(ndtri(auc)) * (1 + spread**2) ** 0.5, np.arange(n1 + n0) < n1
    hits = np.zeros(3)
    for _ in range(runs):
        estimate = estimate_auc(
            np.concatenate([shift + spread * rng.standard_normal(n1), rng.standard_normal(n0)]),
            member,
        )
        now = estimate.limits(0.95)
        own = (now.low, now.high) if estimate.is_degenerate else estimate._logit_limits(0.95)
        middle = ((own[0] + now.low) / 2, (own[1] + now.high) / 2) if estimate.is_uncertain else own
        hits += [low <= auc <= high for low, high in (own, middle, (now.low, now.high))]
    return list(hits / runs)


def exceedance(n1: int, n0: int, gain: float) -> float:
    """Probability that the best advantage of `n1` against `n0` records without ties reaches `gain` if J = 0, by counting paths.

    For sides of one size n it is C(2n, n + k) / C(2n, n) at k = n gain (Gnedenko, Korolyuk 1951).

    >>> round(exceedance(3, 3, 2 / 3), 3)  # C(6, 5) / C(6, 3)
    0.3
    """
    if n1 == n0:
        k = int(np.ceil(gain * n1 - 1e-9))
        return float(np.exp(2 * gammaln(n1 + 1) - gammaln(n1 + k + 1) - gammaln(n1 - k + 1)))
    ways = np.ones(n0 + 1)
    for i in range(
        n1 + 1
    ):  # i members and j non-members above the threshold; the gain is i / n1 - j / n0
        allowed = i / n1 - np.arange(n0 + 1) / n0 < gain - 1e-12
        ways = np.cumsum(np.where(allowed, ways if i else np.eye(1, n0 + 1)[0], 0.0)) * allowed
    if ways[-1] == 0:
        return 1.0
    return float(
        1 - np.exp(np.log(ways[-1]) - gammaln(n1 + n0 + 1) + gammaln(n1 + 1) + gammaln(n0 + 1))
    )


def attainable_coverage(n1: int, n0: int) -> float:
    """Coverage of the sharpest test of J = 0 by the best advantage that errs at most 2.5%.

    Advantages come in steps.
    """
    steps = np.unique(
        np.round(
            [i / n1 - j / n0 for i in range(n1 + 1) for j in range(0, n0 + 1, max(1, n0 // 2000))],
            9,
        )
    )
    low, high = 0, len(steps) - 1
    while low < high:
        middle = (low + high) // 2
        low, high = (
            (low, middle) if exceedance(n1, n0, steps[middle]) <= 0.025 else (middle + 1, high)
        )
    return 1 - exceedance(n1, n0, steps[low])


def welch_coverage(counts: tuple[int, int], spread: float, runs: int) -> float:
    """Share of runs in which Welch's interval holds a difference of 0 between two groups of models."""
    rng = np.random.default_rng([*counts, int(spread)])
    one, two = (
        rng.standard_normal((runs, counts[0])) * spread,
        rng.standard_normal((runs, counts[1])),
    )
    parts = np.array([one.var(axis=1, ddof=1) / counts[0], two.var(axis=1, ddof=1) / counts[1]])
    freedom = parts.sum(axis=0) ** 2 / (
        parts[0] ** 2 / (counts[0] - 1) + parts[1] ** 2 / (counts[1] - 1)
    )
    reach = stdtrit(freedom, 0.975) * parts.sum(axis=0) ** 0.5
    return float(np.mean(np.abs(one.mean(axis=1) - two.mean(axis=1)) <= reach))


def main() -> None:
    """Print the three tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=1000)
    given = parser.parse_args()
    spreads = (0.5, 1.0, 2.0)
    print("| AUC | sd of members | logit-DeLong | halfway | today |\n|" + " --- |" * 5)
    cells = [(*cell, spread) for cell in LOPSIDED for spread in spreads]
    for n1, n0, auc, spread in cells:
        own, middle, now = auc_coverage(n1, n0, auc, spread, given.runs)
        print(f"| {auc:g}, {n1}/{n0} | {spread:g} | {own:.3f} | {middle:.3f} | {now:.3f} |")
    print("\n| J = 0 | exact coverage of the sharpest test |\n| --- | --- |")
    for n1, n0 in ((100, 100), (1000, 1000), (100, 2000)):
        print(f"| {n1}/{n0} | {attainable_coverage(n1, n0):.4f} |")
    print("\n| models | spreads | Welch |\n| --- | --- | --- |")
    for counts in MODELS:
        for spread in (1.0, 2.0, 3.0):
            print(
                f"| {counts} | {spread:g} | {welch_coverage(counts, spread, 20 * given.runs):.3f} |"
            )


if __name__ == "__main__":
    main()
