"""Wrap estimators of scikit-learn that predict numbers, or several labels a record.

Regressors are asked by `predict`. Multi-label classifiers are asked by `predict_proba`, else by
`decision_function`, else by `predict`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.special import expit

from memberscope.errors import InputError
from memberscope.frames import count_rows, list_estimator_columns, take_fitted_order
from memberscope.targets.answers.real_outputs import arrange_outputs, find_task_signal
from memberscope.targets.frameworks.sklearn import count_fitted_numbers, hash_estimator
from memberscope.targets.tasks import choose_task, refuse_unfitted_model
from memberscope.types import Access, Floats, Signal, Task

MARGINS = (
    "The model gives a margin for each label; the logistic function of it stands for its "
    "probability, which leaves the order of records unchanged."
)
DECISIONS = "The model decides on each label and gives no probabilities; they are read as 0 and 1."


class SklearnOutputsTarget:
    """A fitted regressor, pipeline or multi-label classifier, also of several outputs.

    Its answers are numbers (n, d) in the units of the true ones, or the probabilities (n, k) of
    the labels, which need not sum to one.

    >>> from sklearn.linear_model import LinearRegression
    >>> model = LinearRegression().fit([[0.0], [1.0]], [1.0, 3.0])
    >>> target = SklearnOutputsTarget(model)
    >>> target.task, target.signal, target.query(np.array([[2.0]])).round(6).tolist()
    ('regression', 'prediction', [[5.0]])
    """

    def __init__(
        self, estimator: Any, *, task: Task | None = None, digest: str | None = None
    ) -> None:
        """Wrap a fitted `estimator`; `digest` is that of the file it came from, if any.

        Raises:
            InputError: It is not fitted, or its task is another.
        """
        self.task: Task = choose_task(estimator, task)
        refuse_unfitted_model(estimator)
        self.estimator = estimator
        self.signal: Signal = find_task_signal(self.task)
        self.access = Access.PREDICTION
        self.notes: tuple[str, ...] = ()
        self.known_classes: int | None = None
        self._digest = digest
        self._fitted = list_estimator_columns(estimator)
        self._method = "predict"
        if self.task == "multilabel":
            _refuse_other_labels(estimator)
            self._method = _find_richest_method(estimator)
            note = {"decision_function": MARGINS, "predict": DECISIONS}.get(self._method)
            self.notes = () if note is None else (note,)

    @property
    def n_classes(self) -> int:
        """Number of outputs, or of labels.

        Raises:
            InputError: Nothing was queried yet.
        """
        if self.known_classes is None:
            raise InputError(
                "Expected the number of outputs, got none before the first query. Query the target "
                "for one record."
            )
        return self.known_classes

    @property
    def digest(self) -> str | None:
        """Hash of the file, or of the class, its parameters and everything fitted."""
        return hash_estimator(self.estimator, self._digest, f"{self.task}:{self._method}")

    @property
    def n_parameters(self) -> int | None:
        """Number of coefficients, or of nodes of all trees; None for other estimators."""
        return count_fitted_numbers(self.estimator)

    def query(self, x: Any) -> Floats:
        """Give the outputs (n, d) for the records `x`; columns of a frame are found by name.

        Raises:
            InputError: The answers are not numbers, or not one row for each record.
        """
        x = take_fitted_order(x, self._fitted)
        answer = getattr(self.estimator, self._method)(x)
        name = f"{self._method} of {type(self.estimator).__name__}"
        if self.task == "multilabel":
            answer = _read_labels(self.estimator, self._method, answer)
        outputs = arrange_outputs(answer, count_rows(x), self.known_classes, name=name)
        self.known_classes = outputs.shape[1]
        return outputs


def _find_richest_method(estimator: Any) -> str:
    """Find the method of a multi-label classifier that says most.

    Raises:
        InputError: It has none.
    """
    for method in ("predict_proba", "decision_function", "predict"):
        # Some have a method that is only there if the models inside have it
        if hasattr(estimator, method):
            return method
    raise InputError(
        "Expected a multi-label classifier with predict_proba, decision_function or predict, got "
        f"{type(estimator).__name__}. Wrap it in a function that returns probabilities (n, k)."
    )


def _refuse_other_labels(estimator: Any) -> None:
    """Refuse labels that are not 0 and 1.

    Raises:
        InputError: Some are not.
    """
    classes = getattr(estimator, "classes_", None)
    # One list of classes for each label; some estimators number the labels instead
    for k, known in enumerate(classes if isinstance(classes, list) else []):
        if not set(np.asarray(known).tolist()) <= {0, 1}:
            raise InputError(
                f"Expected labels 0 and 1 of a multi-label model, got {np.asarray(known).tolist()} "
                f"for label {k}. Train it on 0 and 1, or wrap it in a function that returns "
                "probabilities (n, k)."
            )


def _read_labels(estimator: Any, method: str, answer: Any) -> Floats:
    """Read the probabilities (n, k) of labels from what a multi-label classifier answers."""
    if isinstance(answer, list):
        classes = list(getattr(estimator, "classes_", [None] * len(answer)))
        return np.column_stack(
            [_read_one_label(part, known) for part, known in zip(answer, classes, strict=True)]
        )
    # A sparse matrix, as fits on sparse labels give it
    dense = answer.toarray() if hasattr(answer, "toarray") else answer
    values = np.asarray(dense, dtype=np.float64)
    # A binary classifier is the model of a single label
    if method == "predict_proba" and _is_single_label(estimator):
        return values[:, 1:]
    return np.asarray(expit(values), np.float64) if method == "decision_function" else values


def _is_single_label(estimator: Any) -> bool:
    """Check whether a classifier knows two classes of one label, and not two labels."""
    return choose_task(estimator) == "classification"


def _read_one_label(part: Any, classes: Any) -> Floats:
    """Read the probability (n,) of 1 from the probabilities (n, 2) of the classes 0 and 1.

    A label that never varied in training has one class.
    """
    values = np.asarray(part, dtype=np.float64).reshape(len(part), -1)
    known = [0, 1] if classes is None else np.asarray(classes).tolist()
    return values[:, known.index(1)] if 1 in known else np.zeros(len(values))
