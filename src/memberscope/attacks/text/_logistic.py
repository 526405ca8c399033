"""Fit a logistic regression of membership on features of texts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from memberscope.types import Bools, Floats

# Standard deviations beyond which a feature says no more: single texts would steer the fit
FARTHEST = 5.0


@dataclass(frozen=True, eq=False)
class MembershipLogistic:
    """Weights (d,) of standardised features, with the `centre` and `scale` (d,) of the fit."""

    centre: Floats
    scale: Floats
    weights: Floats
    intercept: float

    def compute_log_odds(self, features: Floats) -> Floats:
        """Compute the log-odds of membership (n,) of records with `features` (n, d)."""
        odds: Floats = _standardise(features, self.centre, self.scale) @ self.weights
        return odds + self.intercept


def fit_membership_logistic(features: Floats, inside: Bools) -> MembershipLogistic:
    """Fit to `features` (r, d) of members, where `inside` (r,), and others.

    Both sides weigh the same however many they are. The fit draws nothing at random.

    >>> rng = np.random.default_rng(0)
    >>> inside = np.arange(200) % 2 == 0
    >>> fitted = fit_membership_logistic(rng.normal(size=(200, 3)) + 2 * inside[:, None], inside)
    >>> bool((fitted.weights > 0).all())
    True
    """
    from sklearn.linear_model import LogisticRegression

    centre, spread = features.mean(axis=0), features.std(axis=0)
    # A feature that does not vary, but for rounding, tells nothing
    scale = np.where(spread > 1e-9 * (1.0 + np.abs(centre)), spread, np.inf)
    # Newton's method converges to the last digits, so that the order of records does not matter
    model = LogisticRegression(solver="newton-cholesky", class_weight="balanced", tol=1e-8)
    model.fit(_standardise(features, centre, scale), inside)
    return MembershipLogistic(centre, scale, model.coef_[0], float(model.intercept_[0]))


def _standardise(features: Floats, centre: Floats, scale: Floats) -> Floats:
    """Standardise features (n, d), and cut what is farther out than `FARTHEST`."""
    return np.clip((features - centre) / scale, -FARTHEST, FARTHEST)
