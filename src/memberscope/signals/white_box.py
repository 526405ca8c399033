"""Measure what only white-box access shows of a record.

It is how a record's loss would change the weights, and the activations inside. No query is counted,
since whoever holds the parameters needs none. The same function measures the audited model and
every reference model.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from memberscope.errors import MemberscopeError, TargetError, UnmetNeedError
from memberscope.signals.collect import validate_labels
from memberscope.signals.measured import Measure, MeasuredSignal, Progress, build_single_stage
from memberscope.types import Differentiable, Floats, Records, SignalSpec, Target


def _measure_white_box(
    target: Target, records: Records, spec: SignalSpec, progress: Progress | None = None
) -> MeasuredSignal:
    """Measure the signal `spec` (n, 1, d) of the records from inside the target.

    `gradient_norm` (d = 1) is minus the logarithm of the norm of the gradient of cross-entropy in
    the trained parameters. `gradient_layers` is that, the log-probability of the true class, its
    logit, the same norm of each layer that holds parameters, these again for an error of unit size
    at the outputs, and with a parameter `activations` the activations too, each of that width.
    `activations` is the log-probabilities of all classes and the inputs of the layers, the last
    layer's first, each of at most `width` (64) columns. `influence` (d = 4) is minus the logarithm
    of g'H⁻¹g, then the loss, ‖H⁻¹g‖² and (H⁻¹g)'(H⁻¹G): H is the Gauss-Newton matrix of mean
    cross-entropy at `records` (512) of the records given, drawn with a fixed seed, plus `damping`
    (0.2), and G the mean gradient over all records given. Who of them is a member is not used.

    Raises:
        UnmetNeedError: The target does not show its gradients.
        TargetError: It fails, or what it gives is not finite or of the wrong length.

    >>> from sklearn.linear_model import LogisticRegression
    >>> from memberscope.targets import wrap
    >>> target = wrap(LogisticRegression().fit([[0.0], [1.0]], [0, 1]))
    >>> records = Records(np.array([[0.0], [3.0]]), np.array([0, 0]), np.array(["a", "b"]))
    >>> values = _measure_white_box(target, records, SignalSpec("gradient_norm")).final
    >>> bool(values[0, 0] > values[1, 0])
    True
    """
    # Told before anything is computed, as most targets do not show their gradients
    if not isinstance(target, Differentiable):
        raise UnmetNeedError(
            f"Expected a model that shows its gradients, got {type(target).__name__}. "
            "Give a torch module, a logistic regression or a perceptron of scikit-learn, or audit "
            "at a weaker access."
        )
    validate_labels(records.y, target.n_classes)
    values = _query_inside(target, records, spec)
    if values.ndim != 2 or len(values) != len(records):
        raise TargetError(
            f"Expected {len(records)} rows of {spec.name}, got shape {values.shape}. Return one "
            "row for each record."
        )
    odd = ~np.isfinite(values).all(axis=1)
    if odd.any():
        raise TargetError(
            f"Expected a finite {spec.name} of each record, got none for "
            f"{str(records.ids[int(np.argmax(odd))])!r} ({int(odd.sum())} of {len(records)} "
            "records). Look at the model's outputs for it."
        )
    if progress:
        progress(len(records), len(records))
    return build_single_stage(values)


def _query_inside(target: Any, records: Records, spec: SignalSpec) -> Floats:
    """Query the target for the signal, as float64.

    Raises:
        TargetError: It fails.
    """
    try:
        return np.asarray(target.inside(records.x, records.y, spec), dtype=np.float64)
    except MemberscopeError:
        raise
    except Exception as error:
        first = (str(error).splitlines() or [""])[0]
        raise TargetError(
            f"Expected {spec.name} of the records, got {type(error).__name__}: {first}. Call "
            "target.inside yourself to see why."
        ) from error


MEASURES: dict[str, Measure] = dict.fromkeys(
    ("gradient_norm", "gradient_layers", "activations", "influence"), _measure_white_box
)
