"""Find the records at risk in the log of a training run, without any reference model.

A record that is hard at first and learned by heart later has losses that lie far apart over the
epochs. The owner of the model sees this while it is trained.

References:
    [1] J. Pollock, I. Shilov, E. Dodd, Y.-A. de Montjoye, "Free Record-Level Privacy Risk
        Evaluation Through Artifact-Based Methods", 2024, arXiv:2411.05743.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from memberscope.errors import InputError
from memberscope.types import Floats, Ints

FEWEST = 4  # epochs of which quartiles say something


def measure_loss_range(losses: Any, low: float = 0.25, high: float = 0.75) -> Floats:
    """Measure the inter-quantile range (n,) of each record's loss (epochs, n) over the epochs.

    Raises:
        InputError: There are too few epochs, losses are not finite, or the quantiles are no range.

    >>> losses = np.array([[2.0, 2.0], [1.9, 0.1], [1.8, 0.1], [1.8, 0.0]])
    >>> measure_loss_range(losses).round(2).tolist()
    [0.12, 0.5]
    """
    values = np.asarray(losses, dtype=np.float64)
    if values.ndim != 2 or len(values) < FEWEST:
        raise InputError(
            f"Expected losses of shape (epochs, n) with at least {FEWEST} epochs, got shape "
            f"{values.shape}. Log each record's loss after every epoch."
        )
    if not np.isfinite(values).all():
        raise InputError(
            f"Expected finite losses, got NaN or infinity for "
            f"{int((~np.isfinite(values)).any(axis=0).sum())} of {values.shape[1]} records. Leave "
            "the diverged epochs out."
        )
    if not 0 <= low < high <= 1:
        raise InputError(
            f"Expected quantiles with 0 <= low < high <= 1, got {low} and {high}. Correct them."
        )
    upper, lower = np.quantile(values, [high, low], axis=0)
    found: Floats = upper - lower
    return found


def rank_by_loss_range(losses: Any, share: float = 0.01) -> Ints:
    """Rank the records at most risk first: the `share` with the widest range of losses.

    Gives their positions; ties stay in the order of the records.

    Raises:
        InputError: The losses are not usable, or the share is not above 0 and at most 1.

    >>> losses = np.array([[2.0, 2.0, 1.0], [1.9, 0.1, 1.0], [1.8, 0.1, 1.0], [1.8, 0.0, 1.0]])
    >>> rank_by_loss_range(losses, share=0.5).tolist()
    [1, 0]
    """
    if not 0 < share <= 1:
        raise InputError(
            f"Expected a share above 0 and at most 1, got {share}. Write 0.01 for one in a hundred."
        )
    found = measure_loss_range(losses)
    order = np.argsort(-found, kind="stable")
    return order[: int(np.ceil(share * len(found)))]
