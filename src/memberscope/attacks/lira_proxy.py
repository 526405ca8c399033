"""LiRA whose models of a member are made from other records of its class.

An adversary who cannot train on the record itself still knows the members of its own reference
models. What these look like stands in for the record, had it been trained on.

References:
    [1] Y. Du et al., "Cascading and Proxy Membership Inference Attacks", NDSS 2026.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from memberscope.attacks._inputs import require_needs
from memberscope.attacks._reference_stats import (
    Moments,
    access_of,
    compute_moments,
    keep_hidden_scores,
    read_target_values,
    tasks_of,
)
from memberscope.errors import UnmetNeedError
from memberscope.types import Evidence, Floats, Ints, Needs, OneNumber, SignalSpec

FLOOR = 1e-6  # smallest variance, as a share of the spread over all values


@dataclass(frozen=True)
class ProxyLiRA:
    """Likelihood ratio of members of the record's class and of models without the record.

    The first normal is fitted to other records of the class under reference models that were
    trained on them; the second has the record's own mean over models without it, and a variance
    pooled over records. No model that was trained on the record is looked at.

    >>> rng = np.random.default_rng(0)
    >>> inside = np.arange(8)[:, None] % 2 == np.arange(6) % 2
    >>> refs = rng.normal(size=(8, 6)) + 4 * inside
    >>> evidence = Evidence("logit_confidence", np.array([4.0, 0, 4, 0, 2, 0])[:, None, None],
    ...                     np.zeros(6, dtype=int), np.full(6, -1, dtype=np.int8),
    ...                     references=refs[:, :, None, None], inside=inside)
    >>> scores = ProxyLiRA().score(evidence, rng)
    >>> bool(scores[0] > scores[4] > scores[1])
    True
    """

    signal: OneNumber = "logit_confidence"
    version: ClassVar[int] = 1

    @property
    def name(self) -> str:
        """`lira_offline_proxy`, with a signal other than the logit-scaled confidence."""
        return "lira_offline_proxy" + (
            f"_{self.signal}" if self.signal != "logit_confidence" else ""
        )

    @property
    def needs(self) -> Needs:
        """Two reference models without each record."""
        # What they were trained on instead is checked when scoring
        return Needs(
            access_of(self.signal),
            (self.signal,),
            SignalSpec(self.signal),
            references=(0, 2),
            tasks=tasks_of(self.signal),
        )

    def score(self, evidence: Evidence, rng: np.random.Generator) -> Floats:
        """Give the mean log-ratio over views, as (n,); NaN where not hidden.

        Raises:
            UnmetNeedError: Reference models are missing or too few, or were trained on none of the
                records.
        """
        require_needs(self, evidence)
        with_it, without = compute_moments(evidence)
        if not with_it.count.any():
            raise UnmetNeedError(
                f"Expected reference models trained on some of the records for the attack "
                f"{self.name}, got none. Train them on half of the records each."
            )
        # Only classes have other records that are alike; other tasks are one class
        labels = evidence.labels if evidence.labels.ndim == 1 else np.zeros(len(evidence), int)
        mean, variance = describe_other_members(with_it, labels)
        value = read_target_values(evidence)
        floor = FLOOR * value.var(axis=0) + np.finfo(np.float64).tiny
        spread = np.maximum(without.squares.sum(axis=0) / _count_freedom(without), floor)
        ratio = _log_density(value, mean, np.maximum(variance, floor)) - _log_density(
            value, without.mean, spread
        )
        return keep_hidden_scores(ratio.mean(axis=1), evidence.hidden)


def describe_other_members(side: Moments, labels: Ints) -> tuple[Floats, Floats]:
    """Describe the values of the other records of each record's class, where models learned them.

    Gives mean and variance (n, views). A record without others in its class gets those of all
    others.

    >>> side = Moments(np.ones((3, 1)), np.array([[1.0], [3.0], [8.0]]), np.zeros((3, 1)))
    >>> describe_other_members(side, np.zeros(3, dtype=int))[0].ravel().tolist()
    [5.5, 4.5, 2.0]
    """
    # About their common mean, since large squares would lose digits
    mean = np.where(side.count > 0, side.mean, 0.0)
    centre = (side.count * mean).sum(axis=0) / side.count.sum()
    shifted = np.where(side.count > 0, mean - centre, 0.0)
    views = mean.shape[1]
    sums = np.concatenate(
        [side.count, side.count * shifted, side.squares + side.count * shifted**2], axis=1
    )
    codes = np.unique(labels, return_inverse=True)[1]
    of_class = np.zeros((codes.max() + 1, sums.shape[1]))
    np.add.at(of_class, codes, sums)
    others = of_class[codes] - sums
    lonely = others[:, 0] < 2
    others[lonely] = sums.sum(axis=0) - sums[lonely]
    count = np.maximum(others[:, :1], 1.0)
    found = others[:, 1 : 1 + views] / count
    variance = np.maximum(others[:, 1 + views :] / count - found**2, 0.0)
    return found + centre, variance


def _count_freedom(side: Moments) -> float:
    """Count the degrees of freedom that are left after a mean for each record."""
    return float(np.maximum(side.count - 1, 0).sum()) or 1.0


def _log_density(value: Floats, mean: Floats, variance: Floats) -> Floats:
    """Compute the log-density (n, views) of normals, without their common constant."""
    found: Floats = -0.5 * (np.log(variance) + (value - mean) ** 2 / variance)
    return found
