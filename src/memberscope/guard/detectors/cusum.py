"""Update the cumulative sum (CUSUM) that all detectors share.

It sums log likelihood ratios against a client's own usual rate, and forgets.
"""

from __future__ import annotations

from math import log

FORGET = 0.99  # share of a sum that is left after a query: what counts are the last hundred or so
EDGE = 1e-4  # smallest rate that is expected of anything


def update_cusum(total: float, happened: bool, usual: float, campaign: float) -> float:
    """Update the sum, never below 0, after an event of rate `usual`, or `campaign` in a campaign.

    >>> update_cusum(0.0, True, 0.1, 0.5) > 1.6, update_cusum(0.5, False, 0.1, 0.5)
    (True, 0.0)
    """
    gain = log(campaign / usual) if happened else log((1 - campaign) / (1 - usual))
    return max(0.0, FORGET * total + gain)


def estimate_usual_rate(population: float, events: float, asked: float, strength: float) -> float:
    """Estimate a client's usual rate from the population's (for `strength` queries) and its own.

    >>> estimate_usual_rate(0.1, 0.0, 0.0, 50.0), estimate_usual_rate(0.1, 500.0, 1000.0, 50.0) > 0.47
    (0.1, True)
    """
    return min(max((strength * population + events) / (strength + asked), EDGE), 1 - EDGE)
