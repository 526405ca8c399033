"""Choose round numbers for the axis of a picture."""

from __future__ import annotations

STEPS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2)


def choose_ticks(low: float, high: float) -> list[float]:
    """Choose about five round numbers in a range of shares.

    >>> choose_ticks(0.0, 1.0), choose_ticks(0.52, 0.61)
    ([0.0, 0.2, 0.4, 0.6, 0.8, 1.0], [0.52, 0.54, 0.56, 0.58, 0.6])
    """
    # The finest step that gives at most six ticks, and the widest for any range
    step = next(step for step in STEPS if (high - low) / step <= 6 or step == STEPS[-1])
    found = [round(step * number, 6) for number in range(int(low / step), int(high / step) + 2)]
    return [value for value in found if low - 1e-9 <= value <= high + 1e-9]
