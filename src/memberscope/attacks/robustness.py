"""Attacks on one measured number for each record.

It is how far the label holds when the record is changed, or the confidence of a model trained on
the target's labels.

Members that a model has fitted lie deeper inside their class than other records do, and labels
alone show how deep [1]. A target that returns labels alone can still be imitated by training on
them, and the imitation's confidence about a record reveals the target's [2].

References:
    [1] C. Choquette-Choo, F. Tramèr, N. Carlini, N. Papernot, "Label-Only Membership Inference
        Attacks", ICML 2021, arXiv:2007.14321.
    [2] Z. Li, Y. Zhang, "Membership Leakage in Label-Only Exposures", CCS 2021, arXiv:2007.15528.
    [3] J. Chen, M. Jordan, M. Wainwright, "HopSkipJumpAttack: A Query-Efficient Decision-Based
        Attack", IEEE S&P 2020, arXiv:1904.02144.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from memberscope.attacks._inputs import require_needs
from memberscope.attacks._reference_stats import read_target_values
from memberscope.types import MEASURED_AT, Evidence, Floats, Measurement, Needs, SignalSpec


@dataclass(frozen=True)
class _OneMeasurement:
    """Attack whose score is the measured number itself."""

    version: ClassVar[int] = 1
    _signal: ClassVar[Measurement] = "boundary"

    @property
    def name(self) -> str:
        """The signal's name."""
        return self._signal

    @property
    def needs(self) -> Needs:
        """The measured signal, at the access that it takes."""
        return _build_needs(self._signal)

    def score(self, evidence: Evidence, rng: np.random.Generator) -> Floats:
        """Give the measured number (n,), a mean over views; NaN where not hidden.

        Raises:
            UnmetNeedError: The evidence holds another signal.
        """
        require_needs(self, evidence)
        # Higher is likelier a member in each of these signals, so that nothing is learned
        return np.where(evidence.hidden, read_target_values(evidence).mean(axis=1), np.nan)


@dataclass(frozen=True)
class Boundary(_OneMeasurement):
    """Log-distance to the nearest change of label that a budget of queries finds [1, 2].

    `search` walks towards other records (`walk`), or follows estimated gradients along the boundary
    (`hopskipjump` [3]), which takes features that can change little by little.

    >>> values = np.array([0.4, -1.2])[:, None, None]
    >>> evidence = Evidence("boundary", values, np.zeros(2, dtype=int), np.full(2, -1, dtype=np.int8))
    >>> Boundary().score(evidence, np.random.default_rng(0)).tolist()
    [0.4, -1.2]
    """

    search: Literal["walk", "hopskipjump"] = "walk"

    @property
    def name(self) -> str:
        """`boundary`, with the search that differs from the default."""
        return "boundary" if self.search == "walk" else f"boundary_{self.search}"

    @property
    def needs(self) -> Needs:
        """Labels of some tens of changed copies for each record."""
        # The default search has no parameters, so that its measurement is shared by all its users
        return (
            _build_needs("boundary")
            if self.search == "walk"
            else _build_needs("boundary", hopskipjump=1.0)
        )


@dataclass(frozen=True)
class Noise(_OneMeasurement):
    """Log-strength of noise under which nine of ten copies keep the true label [1].

    The noise acts on numbers, bits and categories alike.

    >>> values = np.array([0.4, -1.2])[:, None, None]
    >>> evidence = Evidence("noise", values, np.zeros(2, dtype=int), np.full(2, -1, dtype=np.int8))
    >>> Noise().score(evidence, np.random.default_rng(0)).tolist()
    [0.4, -1.2]
    """

    _signal: ClassVar[Measurement] = "noise"


@dataclass(frozen=True)
class Augmentation(_OneMeasurement):
    """Logit of the share of shifted, mirrored and rotated images that keep the true label [1].

    >>> values = np.array([0.4, -1.2])[:, None, None]
    >>> evidence = Evidence("augmentation", values, np.zeros(2, dtype=int), np.full(2, -1, dtype=np.int8))
    >>> Augmentation().score(evidence, np.random.default_rng(0)).tolist()
    [0.4, -1.2]
    """

    _signal: ClassVar[Measurement] = "augmentation"


@dataclass(frozen=True)
class Transfer(_OneMeasurement):
    """Mean confidence in the true class of models trained on records that the target labelled [2].

    The confidence is logit-scaled. The target is never queried about the record itself.

    >>> values = np.array([0.4, -1.2])[:, None, None]
    >>> evidence = Evidence("transfer", values, np.zeros(2, dtype=int), np.full(2, -1, dtype=np.int8))
    >>> Transfer().score(evidence, np.random.default_rng(0)).tolist()
    [0.4, -1.2]
    """

    _signal: ClassVar[Measurement] = "transfer"


def _build_needs(signal: Measurement, **parameters: float) -> Needs:
    """Declare the measured signal, at the access that it takes.

    >>> _build_needs("boundary").access.word
    'label'
    """
    return Needs(
        MEASURED_AT[signal],
        (signal,),
        # Sorted, so that equal parameters give one signal, which is then measured once
        SignalSpec(signal, parameters=tuple(sorted(parameters.items()))),
    )
