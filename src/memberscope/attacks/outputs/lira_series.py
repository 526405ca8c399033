"""LiRA on several errors of a forecast at once.

The error of a forecast is split into that of its trend and that of the rest, which are at right
angles, so that the two share nothing by construction; their joint normal has a correlation, shrunk
towards none. Other errors (mean squared, absolute, percentage) can be added or take their place,
but say again what these two say. Each is compared as a root, in the unit of the series.

References:
    [1] N. Johansson, T. Olsson, D. Nilsson, J. Östman, F. Hoseini, "Privacy Risks in Time Series
        Forecasting: User- and Record-Level Membership Inference", 2025, arXiv:2509.04169 (LiRA on
        several signals of a forecast).
    [2] O. Ledoit, M. Wolf, "A well-conditioned estimator for large-dimensional covariance
        matrices", Journal of Multivariate Analysis 88, 2004.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Literal

import numpy as np

from memberscope.attacks.outputs._blocks import Convert
from memberscope.attacks.outputs._correlation import Side
from memberscope.attacks.outputs._normal_ratio import OutputLiRA
from memberscope.errors import InputError
from memberscope.types import Bools, Evidence, Floats, Task

SeriesError = Literal["mse", "mae", "smape", "trend", "seasonality"]
SERIES_ERRORS: tuple[SeriesError, ...] = ("mse", "mae", "smape", "trend", "seasonality")
# The two that add up to the squared error
SPLIT: tuple[SeriesError, ...] = ("trend", "seasonality")
CUBIC = 4  # coefficients of the polynomial that is the trend [1]


@dataclass(frozen=True)
class LiRASeries(OutputLiRA):
    """Likelihood ratio of the joint normals of a forecast's errors with and without the window.

    `errors` are that of the trend (a polynomial over the horizon, at most cubic) and that of the
    rest, which holds the seasons; a horizon of one step has the squared error alone. The mean
    squared, absolute and symmetric percentage error (`mse`, `mae`, `smape`) are the others. Offline the score is how far they lie
    below their means under the models without the window, in standard deviations.

    >>> rng = np.random.default_rng(0)
    >>> inside = np.arange(8)[:, None] % 2 == np.zeros(2, dtype=int)
    >>> refs = rng.normal(size=(8, 2, 1, 6)) * np.where(inside, 0.2, 1.0)[:, :, None, None]
    >>> target = rng.normal(size=(2, 1, 6)) * np.array([0.2, 1.0])[:, None, None]
    >>> evidence = Evidence("prediction", target, np.zeros((2, 6)), np.full(2, -1, dtype=np.int8), refs, inside)
    >>> scores = LiRASeries().score(evidence, rng)
    >>> bool(scores[0] > 0 > scores[1])
    True
    """

    errors: tuple[SeriesError, ...] = SPLIT
    _base: ClassVar[str] = "lira_series"
    _tasks: ClassVar[tuple[Task, ...] | None] = ("forecast",)

    def __post_init__(self) -> None:
        """Refuse errors that are none.

        Raises:
            InputError: There are none, or one is unknown.
        """
        if not self.errors or not set(self.errors) <= set(SERIES_ERRORS):
            raise InputError(
                f"Expected errors of a forecast among {', '.join(SERIES_ERRORS)}, got "
                f"{', '.join(self.errors) or 'none'}. Name at least one of them."
            )

    def _name_others(self) -> list[str]:
        return [*self.errors] if self.errors != SPLIT else []

    def _build_converter(self, evidence: Evidence) -> Convert:
        horizon = evidence.target.shape[2]
        # One step has no course
        errors = self.errors if horizon > 1 else _leave_out_course(self.errors)
        return partial(_take_roots, errors, _build_trend_basis(horizon))

    def _score_offline(self, out: Side, value: Floats, truth: Floats, hidden: Bools) -> Floats:
        below: Floats = ((out.mean - value) / out.deviation).mean(axis=1)
        return below


def measure_series_errors(
    errors: tuple[SeriesError, ...], basis: Floats, outputs: Floats, truth: Floats
) -> Floats:
    """Measure the errors (..., b, e) of forecasts (..., b, d) of true courses (b, d).

    `basis` (d, c) spans the trends. Trend and seasonality are shares of the mean squared error.

    >>> outputs, truth = np.array([[1.0, 1.0, 2.0, 0.0]]), np.ones((1, 4))
    >>> measure_series_errors(SERIES_ERRORS, np.full((4, 1), 0.5), outputs, truth).round(4).tolist()
    [[0.5, 0.5, 0.3333, 0.0, 0.5]]
    """
    residual = outputs - truth
    size = np.abs(residual)
    squared = (residual * residual).mean(axis=-1)
    trend = ((residual @ basis) ** 2).sum(axis=-1) / residual.shape[-1]
    found = {
        "mse": squared,
        "mae": size.mean(axis=-1),
        # Two zeros agree
        "smape": (size / np.maximum(np.abs(outputs) + np.abs(truth), 1e-30)).mean(axis=-1),
        "trend": trend,
        # Rounding may leave it slightly below zero
        "seasonality": np.maximum(squared - trend, 0.0),
    }
    return np.stack([found[name] for name in errors], axis=-1)


def _leave_out_course(errors: tuple[SeriesError, ...]) -> tuple[SeriesError, ...]:
    """Leave out what one step cannot show; the squared error where nothing else is left."""
    return tuple(one for one in errors if one not in ("trend", "seasonality")) or ("mse",)


def _take_roots(
    errors: tuple[SeriesError, ...], basis: Floats, outputs: Floats, truth: Floats
) -> Floats:
    """Take the roots (..., b, e) of the errors of forecasts, whose spread then varies less."""
    return np.sqrt(measure_series_errors(errors, basis, outputs, truth))


def _build_trend_basis(horizon: int) -> Floats:
    """Build an orthonormal basis (d, c) of polynomials over the horizon, at most cubic.

    Half of the steps at least are left to the rest.

    >>> _build_trend_basis(4).shape, _build_trend_basis(24).shape
    ((4, 2), (24, 4))
    """
    steps = np.linspace(-1.0, 1.0, horizon)
    powers = np.vander(steps, min(CUBIC, max(horizon // 2, 1)), increasing=True)
    return np.asarray(np.linalg.qr(powers)[0], dtype=np.float64)
