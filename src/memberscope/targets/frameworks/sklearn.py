"""Wrap scikit-learn estimators and pipelines, or anything with their interface.

The interface is `predict_proba`, `decision_function` or `predict`.
"""

from __future__ import annotations

import copy
import hashlib
from typing import Any

import numpy as np

from memberscope.errors import InputError
from memberscope.frames import list_estimator_columns, take_fitted_order
from memberscope.targets.answers.decisions import has_own_decision_rule
from memberscope.targets.answers.one_vs_all import NOTE, divide_by_sums, is_one_vs_all
from memberscope.targets.code_digest import hash_source_code, list_defining_modules
from memberscope.targets.tasks import refuse_unfitted, refuse_unsupported
from memberscope.targets.white_box.sklearn import SklearnInside, has_known_gradient
from memberscope.types import Access, Floats, Ints, Signal


class SklearnTarget:
    """A fitted classifier; its columns are the classes in sorted order.

    Labels are therefore positions in `classes`. `predict_proba` is used if there is one; labels
    alone are those of `predict`, where it may decide otherwise than the top class. Otherwise
    `decision_function` gives logits, one column for each class, a binary one as (0, d); otherwise
    `predict` gives labels alone. Decisions between pairs of classes are not logits: a support
    vector machine is queried for one column for each class instead.

    >>> from sklearn.linear_model import LogisticRegression
    >>> model = LogisticRegression().fit([[0.0], [1.0]], ["no", "yes"])
    >>> target = SklearnTarget(model)
    >>> target.classes, target.signal, target.query(np.array([[0.0], [1.0]])).shape
    (('no', 'yes'), 'probabilities', (2, 2))
    """

    def __init__(self, estimator: Any, *, digest: str | None = None) -> None:
        """Wrap a fitted `estimator`; `digest` is that of the file it came from, if any.

        Raises:
            InputError: It is not fitted, or it is not a classifier.
        """
        # Another task first: its message says more than that classes_ are missing
        refuse_unsupported(estimator)
        refuse_unfitted(estimator)
        classes = np.asarray(estimator.classes_)
        self.estimator = estimator
        self._digest = digest
        self._fitted = list_estimator_columns(estimator)
        # Labels of the records are sorted too, whatever the order of the estimator's columns
        self._order = np.argsort(classes, kind="stable")
        self.classes = tuple(str(name) for name in classes[self._order])
        self._sorted = classes[self._order]
        # A copy may be asked in place of the estimator, which stays as the user made it
        self._asked = _replace_pairwise_decision(estimator)
        self.access, self.signal = _find_richest_answer(self._asked)
        # Columns of pairs are no scores of classes: only labels are left
        if self.signal == "logits" and len(classes) > 2 and _has_pairwise_columns(self._asked):
            self.access, self.signal = Access.LABEL, "labels"
        self._divides = (
            self.signal == "probabilities" and len(classes) > 2 and is_one_vs_all(estimator)
        )
        self.notes: tuple[str, ...] = (NOTE,) if self._divides else ()
        # predict may decide otherwise than by the largest score, for example by a threshold
        if self.signal != "labels" and has_own_decision_rule(estimator):
            self.predict = self._predict
        # Gradients are computed in the estimator's own order of columns
        if (np.diff(self._order) > 0).all() and has_known_gradient(estimator):
            self.inside = SklearnInside(estimator)

    access: Access
    inside: SklearnInside
    signal: Signal

    @property
    def n_classes(self) -> int:
        """Number of classes."""
        return len(self.classes)

    @property
    def digest(self) -> str | None:
        """Hash of the file, or of the class, its parameters and everything fitted.

        It is None if it cannot be hashed. The file goes first: trees hold padding, which differs
        each time they are read. The user's own code counts too.
        """
        return hash_estimator(self.estimator, self._digest)

    @property
    def n_parameters(self) -> int | None:
        """Number of coefficients, or of nodes of all trees; None for other estimators."""
        return count_fitted_numbers(self.estimator)

    def query(self, x: Any) -> Floats:
        """Give the outputs (n, k), or labels (n, 1) as positions in `classes`.

        Columns of a frame are found by the names of the fit.
        """
        # By name: scikit-learn itself only warns of, or refuses, another order
        x = take_fitted_order(x, self._fitted)
        if self.signal == "labels":
            return self._predict(x).astype(np.float64)[:, None]
        declared = self.signal == "logits" and not hasattr(self._asked, "decision_function")
        method = (
            "predict_proba" if self.signal == "probabilities" or declared else "decision_function"
        )
        values = np.asarray(getattr(self._asked, method)(x), dtype=np.float64)
        # A binary decision_function gives one number, for the second class
        if values.ndim == 1:
            values = np.column_stack([np.zeros(len(values)), values])
        if self._divides:
            values = divide_by_sums(values)
        # Another width is refused later, with the names of the records
        return values[:, self._order] if values.shape[1] == self.n_classes else values

    def _predict(self, x: Any) -> Ints:
        """Give the class (n,) that the estimator's own `predict` gives, as a position in `classes`.

        Raises:
            InputError: It gives something else than a class.
        """
        predicted = np.asarray(self._asked.predict(x))
        predicted = predicted.reshape(len(predicted), -1)
        if predicted.shape[1] != 1 or not np.isin(predicted[:, 0], self._sorted).all():
            odd = predicted[:1].tolist()
            raise InputError(
                f"Expected predict of {type(self.estimator).__name__} to give one of its classes a "
                f"record, got {odd}. Change predict, or wrap the model in a function that returns "
                "probabilities."
            )
        return np.searchsorted(self._sorted, predicted[:, 0]).astype(np.int64)


def hash_estimator(estimator: Any, digest: str | None = None, read_as: str = "") -> str | None:
    """Hash the class of an estimator, its parameters and everything fitted.

    `digest`, that of its file, stands for these where it is given; `read_as` is hashed too. It is
    None if the estimator cannot be hashed.

    >>> from sklearn.linear_model import Ridge
    >>> hash_estimator(Ridge()) == hash_estimator(Ridge()) != hash_estimator(Ridge(alpha=2))
    True
    """
    import joblib

    try:
        code = hash_source_code(list_defining_modules(estimator))
        if code is None or (digest is not None and not code and not read_as):
            return digest if code is not None else None
        fitted = digest or joblib.hash(estimator)
        return hashlib.sha256(f"{type(estimator)}:{fitted}:{code}{read_as}".encode()).hexdigest()
    # User objects that cannot be pickled: without a digest nothing is cached, which is safe
    except Exception:
        return None


def _has_pairwise_columns(estimator: Any) -> bool:
    """Check whether `decision_function` has a column for each pair of classes.

    Three classes have three pairs, so that the number of columns does not show it.
    """
    inner = (
        estimator.steps[-1][1]
        if hasattr(estimator, "steps")
        else getattr(estimator, "best_estimator_", None)
    )
    return getattr(estimator, "decision_function_shape", "ovr") == "ovo" or (
        inner is not None and _has_pairwise_columns(inner)
    )


def _replace_pairwise_decision(estimator: Any) -> Any:
    """Replace an estimator that decides between pairs by a copy with one column for each class.

    The copy is shallow; any other estimator is returned unchanged.
    """
    # Probabilities have a column for each class anyway
    if not _has_pairwise_columns(estimator) or hasattr(estimator, "predict_proba"):
        return estimator
    asked = copy.copy(estimator)
    if hasattr(estimator, "steps"):
        name, last = estimator.steps[-1]
        asked.steps = [*estimator.steps[:-1], (name, _replace_pairwise_decision(last))]
    elif hasattr(estimator, "decision_function_shape"):
        asked.decision_function_shape = "ovr"
    return asked


def _find_richest_answer(estimator: Any) -> tuple[Access, Signal]:
    """Find the richest answer that an estimator gives.

    Raises:
        InputError: It gives none.
    """
    if hasattr(estimator, "predict_proba"):
        return Access.PROBABILITIES, "probabilities"
    if hasattr(estimator, "decision_function"):
        return Access.LOGITS, "logits"
    if hasattr(estimator, "predict"):
        return Access.LABEL, "labels"
    raise InputError(
        "Expected a classifier with predict_proba, decision_function or predict, got "
        f"{type(estimator).__name__}. Wrap it in a function that returns probabilities."
    )


def count_fitted_numbers(estimator: Any) -> int | None:
    """Count the coefficients and intercepts, or tree nodes, in the last step of a pipeline.

    >>> from sklearn.linear_model import Ridge
    >>> count_fitted_numbers(Ridge().fit([[0.0], [1.0]], [0.0, 1.0]))
    2
    """
    if hasattr(estimator, "steps"):
        return count_fitted_numbers(estimator.steps[-1][1])
    # A perceptron
    if hasattr(estimator, "coefs_"):
        return sum(int(np.size(part)) for part in (*estimator.coefs_, *estimator.intercepts_))
    # A linear model
    if hasattr(estimator, "coef_"):
        return int(np.size(estimator.coef_) + np.size(estimator.intercept_))
    if hasattr(estimator, "tree_"):
        return int(estimator.tree_.node_count)
    if hasattr(estimator, "estimators_"):
        counts = [
            count_fitted_numbers(part)
            for part in np.ravel(np.asarray(estimator.estimators_, dtype=object))
        ]
        return None if None in counts else sum(count for count in counts if count is not None)
    return None
