"""Check whether the model's classes stand in the order of the labels.

A wrong order makes every attack read the wrong column.
"""

from __future__ import annotations

import numpy as np

from memberscope.errors import InputError
from memberscope.types import Ints

MOST = 2_000  # classes beyond which the order is not looked at
# Standard deviations by which another order has to be right more often, on records that it was not
# chosen on
SURE = 5.0
LEAST = 0.3  # Cohen's kappa that the other order has to reach


def require_order(predicted: Ints, labels: Ints, n_classes: int) -> None:
    """Refuse top classes (n,) that fit the labels (n,) better in another order of the classes.

    The other order is chosen on half of the records and judged on the others, so that a model that
    is merely bad passes. Records that were mislabelled on purpose, by a rule, look like another
    order: a plan says so with `assume_class_order`.

    Raises:
        InputError: Another order is right more often than chance allows.

    >>> labels = np.arange(200) % 2
    >>> require_order(labels, labels, 2)
    >>> require_order(1 - labels, labels, 2)
    Traceback (most recent call last):
    memberscope.errors.InputError: Expected the model's classes in the order of the labels, got a
    model ...
    """
    # One class has no other order, and beyond `MOST` classes none is looked for
    if (
        not 2 <= n_classes <= MOST
        or len(labels) < 2
        or predicted.min() < 0
        or predicted.max() >= n_classes
    ):
        return
    # The best of many orders always fits the records that it was chosen on better
    chosen_on, rest = np.array_split(np.random.default_rng(0).permutation(len(labels)), 2)
    columns, truth = predicted[rest], labels[rest]
    order = _undo_unsupported_cycles(
        _find_better_order(predicted[chosen_on], labels[chosen_on], n_classes), columns, truth
    )
    plain, moved = columns == truth, order[columns] == truth
    # Only records on which the two orders disagree tell which is right (McNemar's test)
    gained, lost = int((moved & ~plain).sum()), int((plain & ~moved).sum())
    if gained - lost <= SURE * (gained + lost) ** 0.5:
        return
    if (
        _kappa(order[columns], truth, n_classes) < LEAST
    ):  # both sides merely favour some class, each its own
        return
    shown = ", ".join(str(c) for c in order[:10]) + (", …" if n_classes > 10 else "")
    raise InputError(
        "Expected the model's classes in the order of the labels, got a model that is right about "
        f"{plain.mean():.0%} of records, "
        f"and about {moved.mean():.0%} if its classes were {shown}. Give the classes in the "
        "model's own order, or add "
        f"--assume-class-order if these labels are meant to be wrong."
    )


def _find_better_order(predicted: Ints, labels: Ints, n_classes: int) -> Ints:
    """Find the class (k,) that each column would have to be for most agreement.

    >>> _find_better_order(np.array([0, 1, 2]), np.array([1, 2, 0]), 3).tolist()
    [1, 2, 0]
    """
    from scipy.optimize import linear_sum_assignment

    # How often each column is predicted for each label; the best order is an assignment
    together = np.bincount(predicted * n_classes + labels, minlength=n_classes**2).reshape(
        n_classes, n_classes
    )
    found: Ints = linear_sum_assignment(together, maximize=True)[1]
    return found


def _undo_unsupported_cycles(order: Ints, predicted: Ints, labels: Ints) -> Ints:
    """Undo those cycles of `order` (k,) in which some class gains nothing.

    It gains nothing where a model never predicts it, for example.

    >>> _undo_unsupported_cycles(np.array([1, 0, 3, 2]), np.array([0, 1, 2, 2]), np.array([1, 0, 3, 3])).tolist()
    [1, 0, 2, 3]
    """
    found, n = order.copy(), len(order)
    gain = np.bincount(predicted[labels == order[predicted]], minlength=n) - np.bincount(
        predicted[labels == predicted], minlength=n
    )
    seen = np.zeros(n, dtype=bool)
    # Follow each cycle once; a class that stays in place is no cycle
    for start in np.flatnonzero(order != np.arange(n)):
        cycle, at = [], int(start)
        while not seen[at]:
            seen[at] = True
            cycle.append(at)
            at = int(order[at])
        if cycle and gain[cycle].min() <= 0:
            found[cycle] = cycle
    return found


def _kappa(predicted: Ints, labels: Ints, n_classes: int) -> float:
    """Compute Cohen's kappa: agreement beyond what the shares of classes would give by chance.

    >>> _kappa(np.array([0, 0, 1, 1]), np.array([0, 0, 1, 0]), 2)
    0.5
    """
    a, b = (np.bincount(side, minlength=n_classes) / len(labels) for side in (predicted, labels))
    chance = float(a @ b)
    # Where both sides have one class only, they agree and chance explains everything
    return 1.0 if chance == 1 else float(((predicted == labels).mean() - chance) / (1 - chance))
