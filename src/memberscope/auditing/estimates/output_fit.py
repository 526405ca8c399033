"""Describe how right a model with real outputs, or several labels, is on both sides."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from memberscope.signals import measure_output_quality
from memberscope.types import Bools, Floats, Ints, Signal


def describe_output_fit(
    signal: Signal,
    outputs: Floats,
    truth: NDArray[Any],
    member: Bools,
    confidence: float,
    unit: Ints | None = None,
) -> list[str]:
    """Describe in a sentence how right outputs (n, d) are about members and about others.

    Limits are normal ones over records, or over units `unit` (n,) where these are given.

    >>> y = np.array([0.0, 2.0, 0.0, 2.0])
    >>> member = np.array([True, True, False, False])
    >>> describe_output_fit("prediction", y[:, None], y, member, 0.95)[0].split(" of ")[0]
    'The model explains 100% (100 to 100)'
    """
    # What a released table shows is said of its rows, when it is read
    if signal == "proximity":
        return []
    quality = measure_output_quality(signal, outputs, truth)
    parts = []
    for side in (member, ~member):
        value, error = _average_by_unit(quality[side], None if unit is None else unit[side])
        reach = float(ndtri((1 + confidence) / 2)) * error
        parts.append(
            f"{100 * value:.3g}% ({100 * (value - reach):.3g} to {100 * (value + reach):.3g})"
        )
    if signal == "label_probabilities":
        return [
            f"The model is right about {parts[0]} of its members' labels and {parts[1]} of the "
            "others'."
        ]
    return [
        f"The model explains {parts[0]} of the variance of its members' true values and {parts[1]} "
        "of the others'."
    ]


def _average_by_unit(values: Floats, unit: Ints | None) -> tuple[float, float]:
    """Average values (n,), with the standard error over units, or over records without any."""
    mean = float(values.mean())
    residuals: Floats = (values - mean) / len(values)
    if unit is not None:
        residuals = np.bincount(np.unique(unit, return_inverse=True)[1], residuals).astype(float)
    n = len(residuals)
    return mean, float(np.sqrt((residuals**2).sum() * n / max(n - 1, 1)))
