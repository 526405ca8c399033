"""How exactly probabilities are written: decimals, half precision, or eight bits; and what their sums may then miss."""

from __future__ import annotations

import numpy as np

from memberscope.types import Floats

EXACT = 1e-3  # what sums may miss in any case
DECIMALS = (1, 2, 3, 4, 5, 6)
LEVELS = (255, 256)  # steps from 0 to 1 of answers quantised to eight bits


def sum_tolerance(outputs: Floats) -> float:
    """Find how far sums of probabilities (n, k) may be from one: what rounding each of them can do, at least 1e-3.

    The step is read off the values: the decimals that all of them have, steps of 1/255, float16 or bfloat16.

    >>> sum_tolerance(np.array([[0.3, 0.3, 0.3], [0.1, 0.6, 0.2]])), sum_tolerance(np.array([[0.25, 0.25, 0.4]]))
    (0.15, 0.015)
    """
    k = outputs.shape[1]
    for step in (*(10.0**-decimals for decimals in DECIMALS), *(1.0 / levels for levels in LEVELS)):
        if (np.abs(outputs / step - np.round(outputs / step)) * step < min(1e-7, step / 20)).all():
            return max(EXACT, float(round(0.5 * step * k, 9)))
    single = outputs.astype(np.float32)
    if not (np.abs(single - outputs) <= 1e-7 * np.abs(outputs)).all():
        return EXACT
    if (np.ascontiguousarray(single).view(np.uint32) & 0xFFFF == 0).all():  # bfloat16 has eight bits
        return 2.0**-7
    with np.errstate(over="ignore"):
        half = single.astype(np.float16).astype(np.float32) == single
    return max(EXACT, 2.0**-10 + k * 2.0**-24) if half.all() else EXACT
