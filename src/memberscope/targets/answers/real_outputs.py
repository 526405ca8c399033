"""Read the answers of models that predict numbers, or several labels a record."""

from __future__ import annotations

from typing import Any

import numpy as np

from memberscope.errors import InputError
from memberscope.types import OUTPUT_TASKS, Floats, Signal, Task


def find_task_signal(task: Task) -> Signal:
    """Give what the answers of a model of this task are called.

    >>> find_task_signal("forecast"), find_task_signal("multilabel")
    ('prediction', 'label_probabilities')
    """
    return "label_probabilities" if task == "multilabel" else "prediction"


def parse_task(word: str | None) -> Task | None:
    """Check the user's word for what a model predicts; None if nothing was given.

    Raises:
        InputError: It is an unknown word.

    >>> parse_task("regression"), parse_task(None)
    ('regression', None)
    """
    known = ("classification", *OUTPUT_TASKS)
    if word is not None and word not in known:
        raise InputError(
            f"Expected task {', '.join(known)}, got {word!r}. Say which of these the model does."
        )
    return word


def arrange_outputs(values: Any, n: int, n_outputs: int | None = None, *, name: str) -> Floats:
    """Arrange the answers to `n` records as (n, d), whatever dimensions follow the first.

    One number a record may come as (n,), and the answer to a single record without its dimension.
    `n_outputs` is the number of outputs, if it is known; `name` is the model's, for messages.

    Raises:
        InputError: They are not numbers, not one row for each record, or of another width.

    >>> arrange_outputs([1, 2], 2, name="f").tolist(), arrange_outputs(3.0, 1, name="f").tolist()
    ([[1.0], [2.0]], [[3.0]])
    >>> arrange_outputs(np.zeros((5, 2, 3)), 5, name="f").shape
    (5, 6)
    """
    array = np.asarray(values)
    try:
        array = array.astype(np.float64) if array.dtype.kind not in "c" else array
    except (TypeError, ValueError) as error:
        raise InputError(
            f"Expected numbers as the answer of {name}, got values of type {array.dtype} ({error})."
            " Return an array (n, d) of real numbers."
        ) from error
    # The model dropped the dimension of the records
    if n == 1 and (array.ndim == 0 or len(array) != 1):
        array = array[None]
    if array.dtype.kind == "c" or array.ndim == 0 or len(array) != n or not array.size:
        raise InputError(
            f"Expected one row of real numbers for each of {n} records, got an answer of shape "
            f"{tuple(array.shape)} and type {array.dtype} from {name}. Return (n,) or (n, d)."
        )
    rows: Floats = array.reshape(n, -1)
    if n_outputs is not None and rows.shape[1] != n_outputs:
        raise InputError(
            f"Expected {n_outputs} outputs for each record from {name}, got {rows.shape[1]}. "
            "Return all answers in one form, or correct the number of outputs."
        )
    return rows
