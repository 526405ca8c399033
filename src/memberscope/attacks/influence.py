"""Attacks on influence: estimate what the weights would have been without the record.

The estimate is of second order.

Self-influence g'H⁻¹g estimates how much the record's own loss would rise if it were left out of
training [1, 2]. The inverse-Hessian attack [3] derives from training by gradient descent near a
minimum which weights are likelier with the record than without.

References:
    [1] P. W. Koh, P. Liang, "Understanding Black-box Predictions via Influence Functions", ICML
        2017, arXiv:1703.04730.
    [2] G. Cohen, R. Giryes, "Membership Inference Attack Using Self Influence Functions", WACV
        2024, arXiv:2205.13680.
    [3] A. Suri, X. Zhang, D. Evans, "Do Parameters Reveal More than Loss for Membership
Inference?", 2024, arXiv:2406.11544.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from memberscope.attacks._inputs import read_first_view, require_needs
from memberscope.attacks._reference_stats import keep_hidden_scores
from memberscope.types import Access, Evidence, Floats, Needs, SignalSpec


@dataclass(frozen=True)
class SelfInfluence:
    """Minus the logarithm of g'H⁻¹g, which is small for records that the weights already fit.

    [2] calls a member what falls between two learned bounds and is classified correctly; here one
        direction is fixed beforehand.

    >>> evidence = Evidence("influence", np.array([[2.0, 0.1, 0, 0], [-1.0, 2.0, 0, 0]])[:, None], np.zeros(2, dtype=int),
    ...                     np.full(2, -1, dtype=np.int8))
    >>> SelfInfluence().score(evidence, np.random.default_rng(0)).tolist()
    [2.0, -1.0]
    """

    version: ClassVar[int] = 1

    @property
    def name(self) -> str:
        """`self_influence`."""
        return "self_influence"

    @property
    def needs(self) -> Needs:
        """The model's parameters."""
        return _build_influence_needs()

    def score(self, evidence: Evidence, rng: np.random.Generator) -> Floats:
        """Give minus the log self-influence, as (n,); NaN where not hidden.

        Raises:
            UnmetNeedError: The evidence lacks the signal.
        """
        require_needs(self, evidence)
        # The first column is minus the logarithm already
        return keep_hidden_scores(read_first_view(evidence)[:, 0], evidence.hidden)


@dataclass(frozen=True)
class IHA:
    """The inverse-Hessian attack: loss / (1 + momentum) - (‖H⁻¹g‖² / n + 2 (H⁻¹G)'(H⁻¹g)) / rate.

    `rate` and `momentum` are those of the training, as in [3]; `records` is n, the number of
    training records, or None for half of the records in the evidence. In [3] G is the mean gradient
    of the *other* training records, and their code leaves the record out of it where it was in: that
    uses the very membership bit that the attack is to find. Here G is the mean over all records
    given, members or not, and the same for every record; with it the score approximates theirs, is
    weaker, and uses nothing that an attacker does not know. H is the Gauss-Newton matrix in the
    place of the Hessian: the same for logistic regression, and positive definite everywhere. Weight
    decay is taken as zero.

    >>> evidence = Evidence("influence", np.array([[0, 0.1, 0.0, 0.0], [0, 0.1, 1.0, 0.5]])[:, None], np.zeros(2, dtype=int),
    ...                     np.full(2, -1, dtype=np.int8))
    >>> np.round(IHA(rate=0.1, momentum=0.0, records=10).score(evidence, np.random.default_rng(0)), 6).tolist()
    [0.1, -10.9]
    """

    rate: float = 0.01
    momentum: float = 0.9
    records: int | None = None
    version: ClassVar[int] = 1

    @property
    def name(self) -> str:
        """`iha`, with what differs from the default."""
        parts = [f"rate{self.rate:g}"] if self.rate != 0.01 else []
        parts += [f"momentum{self.momentum:g}"] if self.momentum != 0.9 else []
        parts += [f"n{self.records}"] if self.records is not None else []
        return "_".join(["iha", *parts])

    @property
    def needs(self) -> Needs:
        """The model's parameters."""
        return _build_influence_needs()

    def score(self, evidence: Evidence, rng: np.random.Generator) -> Floats:
        """Give the log-likelihood ratio up to a factor, as (n,); NaN where not hidden.

        Raises:
            UnmetNeedError: The evidence lacks the signal.
        """
        require_needs(self, evidence)
        # The columns that `solve_influences` gives; the first belongs to the other attack
        _, loss, square, cross = read_first_view(evidence)[:, :4].T
        # Audits hold members and non-members in about equal parts
        n = self.records or max(1, len(evidence) // 2)
        # The formula of [3], up to a factor that does not change the ranks
        scores = loss / (1 + self.momentum) - (square / n + 2 * cross) / self.rate
        return keep_hidden_scores(scores, evidence.hidden)


def _build_influence_needs() -> Needs:
    """Declare what both attacks read; one measurement serves both."""
    return Needs(Access.WHITE_BOX, ("influence",), SignalSpec("influence"))
