"""Likelihood ratio of two normals, of models trained with each record and without it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from memberscope.attacks._inputs import require_needs
from memberscope.attacks._reference_stats import Moments, keep_hidden_scores
from memberscope.attacks.lira import LiRA
from memberscope.attacks.outputs._blocks import (
    Convert,
    build_output_needs,
    compute_output_moments,
    iterate_output_blocks,
    read_outputs,
)
from memberscope.attacks.outputs._correlation import Side, estimate_roots
from memberscope.types import Bools, Evidence, Floats, Needs, Signal, Task

Mode = Literal["online", "offline"]
Variance = Literal["auto", "fixed", "per_example"]
Covariance = Literal["shrunk", "diagonal"]


@dataclass(frozen=True)
class OutputLiRA(ABC):
    """LiRA on numbers that follow from a model's answers: what its kinds have in common.

    Online the score is the likelihood ratio of the normals fitted with and without the record.
    Offline it is what a kind makes of those fitted without it. `variance` is pooled over records
    (`fixed`), a record's own (`per_example`), or `auto`: fixed below 64 models. `covariance` is
    `shrunk`, or left out (`diagonal`).
    """

    mode: Mode = "online"
    variance: Variance = "auto"
    covariance: Covariance = "shrunk"
    version: ClassVar[int] = 1
    _base: ClassVar[str] = ""
    _signal: ClassVar[Signal] = "prediction"
    _tasks: ClassVar[tuple[Task, ...] | None] = None
    _usual_covariance: ClassVar[Covariance] = "shrunk"

    @property
    def name(self) -> str:
        """Name of the attack, with `_offline` and with what differs from the default."""
        parts = [self._base] + (["offline"] if self.mode == "offline" else [])
        parts += [self.variance] if self.variance != "auto" else []
        parts += self._name_others()
        parts += [self.covariance] if self.covariance != self._usual_covariance else []
        return "_".join(parts)

    @property
    def log_ratio(self) -> bool:
        """True online, where models trained with the record are modelled too."""
        return self.mode == "online"

    @property
    def needs(self) -> Needs:
        """Two reference models on each side that is modelled, so that a variance can be estimated."""
        least = (2, 2) if self.mode == "online" else (0, 2)
        return build_output_needs(self._signal, least, tasks=self._tasks)

    def score(self, evidence: Evidence, rng: np.random.Generator) -> Floats:
        """Give the log-ratio, or offline what stands for it, as (n,); NaN where not hidden.

        Raises:
            UnmetNeedError: Reference models are missing or too few.
        """
        require_needs(self, evidence)
        convert = self._build_converter(evidence)
        outputs, truth = read_outputs(evidence)
        value = convert(outputs, truth)
        sides = model_sides(evidence, convert, value.shape[1], self.variance, self.covariance)
        if self.mode == "online":
            scores = sides[0].compute_log_density(value) - sides[1].compute_log_density(value)
        else:
            scores = self._score_offline(sides[1], value, truth, evidence.hidden)
        return keep_hidden_scores(scores, evidence.hidden)

    def _name_others(self) -> list[str]:
        """Name further options that differ from the default."""
        return []

    @abstractmethod
    def _build_converter(self, evidence: Evidence) -> Convert:
        """Build what gives the numbers compared (..., b, s)."""

    @abstractmethod
    def _score_offline(self, out: Side, value: Floats, truth: Floats, hidden: Bools) -> Floats:
        """Score `value` (n, s) of the target by the models without each record, as (n,)."""


def model_sides(
    evidence: Evidence, convert: Convert, width: int, variance: Variance, covariance: Covariance
) -> tuple[Side, Side]:
    """Model the numbers that `convert` gives under the models with each record, and without it."""
    moments = compute_output_moments(evidence, convert, width)
    n_models = evidence.n_references
    deviations = (
        _find_deviation(moments[0], variance, n_models),
        _find_deviation(moments[1], variance, n_models),
    )
    roots = (np.eye(width), np.eye(width))
    if covariance == "shrunk":
        roots = estimate_roots(iterate_output_blocks(evidence, convert), moments, deviations)
    return (
        Side(moments[0].mean, deviations[0], roots[0]),
        Side(moments[1].mean, deviations[1], roots[1]),
    )


def _find_deviation(side: Moments, variance: Variance, n_models: int) -> Floats:
    """Find the standard deviation (n, d) of each record's numbers, or the pooled one (1, d)."""
    # Where no model was trained with any record, that side has no spread
    if not side.count.any():
        return np.ones((1, side.mean.shape[1]))
    return np.sqrt(LiRA(variance=variance).spread(side, n_models))
