"""LiRA, the likelihood-ratio attack.

It tests whether a confidence is one of models trained with the record or without it.

The logit-scaled confidence of a record is close to normal over models, so two normals fitted to the
reference models trained with and without it give the likelihood ratio of Neyman and Pearson.
Several views average their log-ratios.

References:
    [1] N. Carlini, S. Chien, M. Nasr, S. Song, A. Terzis, F. Tramer, "Membership Inference Attacks
        From First Principles", IEEE S&P 2022, arXiv:2112.03570.
    [2] Y. Du et al., "Cascading and Proxy Membership Inference Attacks", NDSS 2026: other members in
        the place of the record (`ProxyLiRA`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from memberscope.attacks._inputs import require_needs
from memberscope.attacks._reference_stats import (
    Moments,
    access_of,
    compute_medians,
    compute_moments,
    keep_hidden_scores,
    read_target_values,
    tasks_of,
)
from memberscope.errors import UnmetNeedError
from memberscope.types import Evidence, Floats, Ints, Needs, OneNumber, SignalSpec

MANY = 64  # models from which a variance for each record beats a pooled one [1, section VI-C]
# Smallest variance, as a share of the pooled one: a few models that agree exactly do not make an
# attack certain
FLOOR = 1e-6


@dataclass(frozen=True)
class LiRA:
    """Likelihood ratio of the normals fitted with and without the record.

    Offline it is the excess over the normal fitted without it.

    `mode` is `online` (references trained with the record too) or `offline` (only without it).
    `variance` is pooled over records (`fixed`), a record's own (`per_example`), or `auto`: fixed
    below 64 models. Offline, `sides` is `one` for the paper's one-sided test, ranked by its
    z-score, or `two` for the log-density that published code uses. `centre` is the models' mean, or
    their median as in the paper's code. `signal` is the number compared: the logit-scaled
    confidence, or one that a label-only search or the gradients give on the same scale.

    >>> rng = np.random.default_rng(0)
    >>> inside = np.arange(8)[:, None] % 2 == np.zeros(3, dtype=int)
    >>> refs = rng.normal(size=(8, 3)) + 4 * inside
    >>> hidden = np.full(3, -1, dtype=np.int8)
    >>> evidence = Evidence("logit_confidence", np.array([4.0, 0, 2])[:, None, None], np.zeros(3, dtype=int), hidden,
    ...                     references=refs[:, :, None, None], inside=inside)
    >>> scores = LiRA().score(evidence, rng)
    >>> bool(scores[0] > scores[2] > scores[1])
    True
    """

    mode: Literal["online", "offline"] = "online"
    variance: Literal["auto", "fixed", "per_example"] = "auto"
    sides: Literal["one", "two"] = "one"
    centre: Literal["mean", "median"] = "mean"
    signal: OneNumber = "logit_confidence"
    version: ClassVar[int] = 1

    @property
    def name(self) -> str:
        """`lira` or `lira_offline`, with what differs from the default."""
        parts = ["lira"] + (["offline"] if self.mode == "offline" else [])
        parts += [self.signal] if self.signal != "logit_confidence" else []
        parts += [self.variance] if self.variance != "auto" else []
        parts += ["two_sided"] if self.sides == "two" else []
        parts += ["median"] if self.centre == "median" else []
        return "_".join(parts)

    @property
    def log_ratio(self) -> bool:
        """True online, where models trained with the record are modelled too."""
        return self.mode == "online"

    @property
    def needs(self) -> Needs:
        """Two reference models on each side that is modelled, so that a variance can be estimated."""
        # One model has no variance
        least = (2, 2) if self.mode == "online" else (0, 2)
        return Needs(
            access_of(self.signal),
            (self.signal,),
            SignalSpec(self.signal),
            references=least,
            tasks=tasks_of(self.signal),
        )

    def score(self, evidence: Evidence, rng: np.random.Generator) -> Floats:
        """Give the mean log-ratio over views, or the mean z-score, as (n,); NaN where not hidden.

        Raises:
            UnmetNeedError: Reference models are missing or too few.
        """
        require_needs(self, evidence)
        with_it, without = compute_moments(evidence)
        # The moments are needed in both cases, for the variance
        centres = (
            (with_it.mean, without.mean) if self.centre == "mean" else compute_medians(evidence)
        )
        value = read_target_values(evidence)
        # Both modes model the models without the record
        out = self.spread(without, evidence.n_references)
        if self.mode == "online":
            ratio = _normal_log_density(
                value, centres[0], self.spread(with_it, evidence.n_references)
            )
            scores = ratio - _normal_log_density(value, centres[1], out)
        # Members lie above what models without them give, so that only this side counts
        elif self.sides == "one":
            scores = (value - centres[1]) / np.sqrt(out)
        else:
            scores = -_normal_log_density(value, centres[1], out)
        return keep_hidden_scores(scores.mean(axis=1), evidence.hidden)

    def spread(self, side: Moments, n_models: int) -> Floats:
        """Choose the variance (n, views) of each record, or the pooled one (1, views)."""
        pooled = side.pooled[None, :]
        # Where all models agree on every record there is no variance to estimate; any value ranks
        # the records alike
        pooled = np.where(pooled > 0, pooled, 1.0)
        # Few models give poor variances of single records, and these would decide the ranks
        if self.variance == "fixed" or (self.variance == "auto" and n_models < MANY):
            return pooled
        return np.maximum(side.variance, FLOOR * pooled)


def _normal_log_density(value: Floats, mean: Floats, variance: Floats) -> Floats:
    """Compute the log-density of a normal distribution.

    >>> round(float(_normal_log_density(np.array([1.0]), np.array([0.0]), np.array([1.0]))[0]), 8)
    -1.41893853
    """
    density: Floats = -0.5 * (np.log(2 * np.pi * variance) + (value - mean) ** 2 / variance)
    return density


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
        ratio = _normal_log_density(value, mean, np.maximum(variance, floor))
        ratio = ratio - _normal_log_density(value, without.mean, spread)
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
