"""Measure white-box signals of scikit-learn's logistic regressions and perceptrons.

They have closed forms.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import expit

from memberscope.targets.white_box.loss_gradient import (
    OutputError,
    build_layer_columns,
    clip_log_probabilities,
    compute_minus_log,
    compute_output_error,
    project_columns,
)
from memberscope.targets.white_box.self_influence import (
    COLUMNS,
    DAMPING,
    RECORDS,
    Gradients,
    factor_curvature,
    solve_influences,
)
from memberscope.types import Floats, Ints, SignalSpec

WIDTH = 64  # columns to which a hidden layer is reduced
BATCH = 1024  # records whose influences are computed together
# Activations and their derivatives, which are computed from the activation's output
ACTIVATIONS: dict[str, tuple[Callable[[Floats], Floats], Callable[[Floats], Floats]]] = {
    "identity": (np.array, np.ones_like),
    "logistic": (expit, lambda out: out * (1 - out)),
    "tanh": (np.tanh, lambda out: 1 - out**2),
    "relu": (lambda given: np.maximum(given, 0.0), lambda out: (out > 0).astype(np.float64)),
}


def has_known_gradient(estimator: Any) -> bool:
    """Check whether the gradient of the loss of `estimator` is known here.

    It is for logistic regression and perceptrons, also as the last step of a pipeline.

    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.tree import DecisionTreeClassifier
    >>> has_known_gradient(LogisticRegression().fit([[0.0], [1.0]], [0, 1])), has_known_gradient(DecisionTreeClassifier().fit([[0.0], [1.0]], [0, 1]))
    (True, False)
    """
    from sklearn.linear_model import LogisticRegression, LogisticRegressionCV
    from sklearn.neural_network import MLPClassifier

    # Steps before the last are fixed: no gradient goes through them
    last = estimator.steps[-1][1] if hasattr(estimator, "steps") else estimator
    classes = np.asarray(getattr(last, "classes_", 0))
    one_label = classes.ndim == 1 and len(classes) > 1
    # The exact type, since a subclass may compute something else
    joint = type(last) in (
        LogisticRegression,
        LogisticRegressionCV,
    ) and not _has_separate_regressions(last)
    return one_label and (
        joint or (type(last) is MLPClassifier and last.out_activation_ in ("softmax", "logistic"))
    )


def _has_separate_regressions(model: Any) -> bool:
    """Check whether each class has a regression of its own.

    Probabilities are then not a softmax.
    """
    return len(model.classes_) > 2 and (
        model.solver == "liblinear" or getattr(model, "multi_class", "auto") == "ovr"
    )


@dataclass(frozen=True, eq=False)
class SklearnInside:
    """White-box signals of a fitted classifier that `has_known_gradient` accepts.

    This is `SklearnTarget.inside`.

    >>> from sklearn.linear_model import LogisticRegression
    >>> model = LogisticRegression().fit([[0.0], [1.0]], [0, 1])
    >>> SklearnInside(model)(np.array([[0.0], [2.0]]), np.array([0, 1]), SignalSpec("gradient_norm")).shape
    (2, 1)
    """

    estimator: Any

    def __call__(self, x: Any, y: Ints, spec: SignalSpec) -> Floats:
        """Measure the signal `spec` (n, d) of the records `x` with true classes `y` (n,).

        Classes are positions in sorted order.
        """
        chosen = dict(spec.parameters)
        # One forward pass serves all signals
        *hidden, logits = self.layers(x)
        if spec.name == "activations":
            return self.activations(hidden, logits, int(chosen.get("width", WIDTH)))
        if spec.name == "influence":
            return self.influence([*hidden, logits], y, chosen)
        error, squares = self.norms([*hidden, logits], y)
        if spec.name == "gradient_norm":
            return compute_minus_log(error.log_size, squares.sum(axis=1, keepdims=True))
        width = int(chosen.get("activations", 0))
        more = [self.activations(hidden, logits, width)] if width else []
        return np.hstack([build_layer_columns(error, squares), *more])

    @property
    def last(self) -> Any:
        """The classifier itself."""
        return self.estimator.steps[-1][1] if hasattr(self.estimator, "steps") else self.estimator

    @property
    def weights(self) -> list[tuple[Floats, Floats]]:
        """Weights (in, out) and intercepts (out,) of each layer; two classes have one column."""
        if hasattr(self.last, "coefs_"):
            return list(zip(self.last.coefs_, self.last.intercepts_, strict=True))
        return [(self.last.coef_.T, np.broadcast_to(self.last.intercept_, len(self.last.coef_)))]

    @property
    def has_intercept(self) -> bool:
        """True if intercepts are fitted."""
        return bool(getattr(self.last, "fit_intercept", True))

    def layers(self, x: Any) -> list[Floats]:
        """Compute the classifier's input, each hidden layer's output, and the logits.

        Two classes have one column of logits.
        """
        if hasattr(self.estimator, "steps"):
            for _, step in self.estimator.steps[:-1]:
                x = x if step in (None, "passthrough") else step.transform(x)
        values = [np.array(x.toarray() if hasattr(x, "toarray") else x, dtype=np.float64)]
        for place, (weights, intercept) in enumerate(self.weights):
            out = values[-1] @ weights + intercept
            if place < len(self.weights) - 1:
                out = ACTIVATIONS[self.last.activation][0](out)
            values.append(out)
        return values

    def norms(self, values: list[Floats], y: Ints) -> tuple[OutputError, Floats]:
        """Compute the error at the outputs, and squared norms (n, layers) of the gradients.

        The norms are for an error of unit size.
        """
        error = compute_output_error(_expand_binary_logits(values[-1]), y, "logits")
        found = []
        for into, back in zip(
            reversed(values[:-1]), self.backward(values, error.unit), strict=True
        ):
            # An outer product: its norm is the product of norms, and an intercept adds a one
            found.append((back**2).sum(axis=1) * ((into**2).sum(axis=1) + self.has_intercept))
        return error, np.column_stack(found[::-1])

    def backward(self, values: list[Floats], unit: Floats) -> Iterator[Floats]:
        """Yield the errors (n, out) at each layer's output, the last layer's first."""
        # Two classes have one logit, that of the second
        back = unit[:, 1:] if values[-1].shape[1] == 1 else unit
        for place in reversed(range(len(self.weights))):
            yield back
            if place:
                back = (back @ self.weights[place][0].T) * ACTIVATIONS[self.last.activation][1](
                    values[place]
                )

    def activations(self, hidden: list[Floats], logits: Floats, width: int) -> Floats:
        """Collect log-probabilities (n, k), then the hidden layers, the last first.

        Each has at most `width` columns.
        """
        logs = clip_log_probabilities(_expand_binary_logits(logits), "logits")
        return np.hstack(
            # The first entry is the input, not an activation
            [logs, *(project_columns(values, width) for values in reversed(hidden[1:]))]
        )

    def influence(self, values: list[Floats], y: Ints, chosen: dict[str, float]) -> Floats:
        """Compute columns (n, 4) as `solve_influences` gives them, of the weights of all layers."""
        # Drawn with a fixed seed: the signal of a record must not differ from run to run
        some = np.sort(
            np.random.default_rng(0).permutation(len(y))[: int(chosen.get("records", RECORDS))]
        )
        rows, errors = factor_curvature(_expand_binary_logits(values[-1][some]), "logits", COLUMNS)
        curvature = self.gradients([part[some[rows]] for part in values], errors)

        def parts() -> Iterator[tuple[Gradients, OutputError]]:
            for start in range(0, len(y), BATCH):
                part = [each[start : start + BATCH] for each in values]
                error = compute_output_error(
                    _expand_binary_logits(part[-1]), y[start : start + BATCH], "logits"
                )
                yield self.gradients(part, error.unit), error

        return solve_influences(curvature, len(some), parts, chosen.get("damping", DAMPING))

    def gradients(self, values: list[Floats], unit: Floats) -> Gradients:
        """Factor the gradients of errors `unit` (n, k) at the outputs."""
        # The intercept is a weight of an input that is always one
        ones = np.ones((len(unit), int(self.has_intercept)))
        backs = list(self.backward(values, unit))[::-1]
        return Gradients(
            [(np.hstack([into, ones]), back) for into, back in zip(values, backs, strict=False)],
            np.zeros((len(unit), 0)),
        )


def _expand_binary_logits(logits: Floats) -> Floats:
    """Expand logits to (n, k); a single column is the positive class of two."""
    return np.column_stack([np.zeros(len(logits)), logits]) if logits.shape[1] == 1 else logits
