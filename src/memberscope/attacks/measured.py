"""What attacks on one measured number share: the score is the number itself."""

from __future__ import annotations

import numpy as np

from memberscope.attacks._inputs import require_needs
from memberscope.attacks._reference_stats import read_target_values
from memberscope.types import MEASURED_AT, Attack, Evidence, Floats, Measurement, Needs, SignalSpec


def build_measured_needs(signal: Measurement, **parameters: float) -> Needs:
    """The measured signal, at the access that it takes.

    >>> build_measured_needs("boundary").access.word
    'label'
    """
    return Needs(MEASURED_AT[signal], (signal,), SignalSpec(signal, parameters=tuple(sorted(parameters.items()))))


def score_measurement(attack: Attack, evidence: Evidence) -> Floats:
    """The measured number (n,), a mean over views, NaN where a record is not hidden.

    Raises:
        UnmetNeedError: The evidence holds another signal.
    """
    require_needs(attack, evidence)
    return np.where(evidence.hidden, read_target_values(evidence).mean(axis=1), np.nan)
