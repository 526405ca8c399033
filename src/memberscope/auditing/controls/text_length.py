"""Warn of attacks whose scores follow the length of a text.

Among non-members nothing can be learned about membership, so a score that orders them by length is
a detector of length. Where members and non-members differ in length it would find members that no
model was trained on, and at one length it wastes what it could see.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from scipy.special import ndtri

from memberscope.types import Bools, Floats, Ints

LIMIT = 0.5  # rank correlation beyond which length explains a quarter of the order or more
CONFIDENCE = 0.99  # of each interval
FEWEST = 20  # non-members, or units of them, below which nothing is said


def find_length_detectors(
    scores: Mapping[str, Floats],
    lengths: Ints,
    member: Bools,
    *,
    unit: Ints | None = None,
    limit: float = LIMIT,
) -> list[str]:
    """Find attacks whose scores (n,) surely follow the `lengths` (n,) of texts, as warnings.

    An attack is named if the rank correlation among the non-members lies beyond `limit`, its whole
    interval of 99% included. Records of one `unit` (n,) count as one observation.

    >>> lengths = np.arange(100)
    >>> found = find_length_detectors({"zlib": lengths * 2.0}, lengths, lengths < 50)
    >>> found[0][:74]
    'The scores of zlib follow the length of the text: their rank correlation w'
    """
    warnings = []
    for name, values in scores.items():
        used = ~member & np.isfinite(values)
        n = int(used.sum()) if unit is None else len(np.unique(unit[used]))
        if n < FEWEST:
            continue
        value = correlate_ranks(np.asarray(values[used]), lengths[used])
        low, high = limit_rank_correlation(value, n)
        if max(low, -high) > limit:
            warnings.append(
                f"The scores of {name} follow the length of the text: their rank correlation with "
                f"it among non-members is {value:.2f} ({low:.2f} to {high:.2f}). Read its estimates "
                "by length, and give non-members of the members' lengths."
            )
    return warnings


def correlate_ranks(first: Floats, second: Floats | Ints) -> float:
    """Give Spearman's rank correlation of two sequences (n,); 0 if all of one are tied.

    >>> round(correlate_ranks(np.array([1.0, 2.0, 3.0]), np.array([1, 9, 4])), 3)
    0.5
    """
    from scipy.stats import rankdata

    a, b = rankdata(first), rankdata(second)
    a, b = a - a.mean(), b - b.mean()
    spread = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / spread if spread > 0 else 0.0


def limit_rank_correlation(
    value: float, n: int, confidence: float = CONFIDENCE
) -> tuple[float, float]:
    """Limit a rank correlation of `n` pairs, with the variance of Bonett and Wright [1].

    References:
        [1] D. Bonett, T. Wright, "Sample size requirements for estimating Pearson, Kendall and
            Spearman correlations", Psychometrika 65, 2000.

    >>> [round(limit, 2) for limit in limit_rank_correlation(0.6, 100)]
    [0.39, 0.75]
    """
    middle = np.arctanh(np.clip(value, -1 + 1e-9, 1 - 1e-9))
    reach = -float(ndtri((1 - confidence) / 2)) * np.sqrt((1 + value**2 / 2) / max(n - 3, 1))
    return float(np.tanh(middle - reach)), float(np.tanh(middle + reach))
