"""Find the predicted numbers of a signals table, or the probabilities of several labels.

True values stand beside them, in as many columns.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memberscope.errors import InputError
from memberscope.targets.answers.real_outputs import find_task_signal
from memberscope.targets.stored.labels import Answers, list_names
from memberscope.targets.tables.true_values import read_number_columns, split_column_names
from memberscope.types import OUTPUT_TASKS, Task

Columns = Mapping[str, NDArray[Any]]
# Beginnings of the names of predictions, and of true values, the usual ones first
PREDICTED = "prediction|predictions|y_pred|pred|preds|output|outputs"
PROBABLE = f"{PREDICTED}|p|prob|probs|proba|probas|probability|probabilities"
TRUE = ("y", "label", "labels", "y_true", "target", "targets", "true")


@dataclass(frozen=True, eq=False)
class RealOutputs:
    """The answers (n, d) of a model without classes, and the true values (n, d) beside them."""

    task: Task
    answers: Answers
    truth: NDArray[Any]
    columns: tuple[str, ...]


def find_real_outputs(
    columns: Columns, label: str | None, task: Task | None, path: str | Path
) -> RealOutputs | None:
    """Find predictions and true values in a table; None where it is about classes.

    Without a `task` only predictions of numbers with decimals are taken as a regression's, where
    no other answer is there. `label` names the columns of true values, with commas between.

    Raises:
        InputError: Predictions or true values of the given task are not there, or do not fit.

    >>> table = {"y": np.array([0.5, 1.5]), "prediction": np.array([0.4, 1.1])}
    >>> find_real_outputs(table, None, None, "s.csv").answers.signal
    'prediction'
    """
    if task is not None and task not in OUTPUT_TASKS:
        return None
    true = _list_true_columns(columns, label)
    predicted = _list_predictions(columns, true, PROBABLE if task == "multilabel" else PREDICTED)
    if task is None:
        if not predicted or not true or not _has_decimals(columns, true):
            return None
        task = "regression"
    if not predicted or not true:
        wanted = "prediction" if not predicted else "y"
        raise InputError(
            f"Expected the columns y and prediction in {path}, or y_0, y_1, … and prediction_0, "
            f"prediction_1, …, got {list_names(columns)}. Add {wanted!r}, or name the true values "
            "with --label."
        )
    truth = read_number_columns(dict(columns), true, path)
    values = read_number_columns(dict(columns), predicted, path, "prediction")
    truth, values = (part.reshape(len(part), -1) for part in (truth, values))
    if truth.shape[1] != values.shape[1]:
        raise InputError(
            f"Expected a prediction for each true value in {path}, got {values.shape[1]} "
            f"({list_names(dict.fromkeys(predicted))}) for {truth.shape[1]} "
            f"({list_names(dict.fromkeys(true))}). Give one column of each for each output."
        )
    answers = Answers(find_task_signal(task), values, tuple(predicted))
    return RealOutputs(task, answers, truth, (*predicted, *true))


def _list_true_columns(columns: Columns, label: str | None) -> list[str]:
    """List the columns of true values: the named ones, or those with a usual name."""
    if label is not None:
        return list(split_column_names(label, list(columns)))
    for name in TRUE:
        found = _list_numbered(columns, name)
        if found:
            return found
    return []


def _list_predictions(columns: Columns, true: list[str], words: str) -> list[str]:
    """List the columns of predictions, in the order of the true values that they are named after."""
    for word in words.split("|"):
        named = {f"{word}{mark}{name}": name for name in true for mark in ("_", ".", "-")}
        found = {named[name]: name for name in columns if name in named}
        if true and len(found) == len(true):
            return [found[name] for name in true]
        if numbered := [n for n in _list_numbered(columns, word) if n not in true]:
            return numbered
    return []


def _list_numbered(columns: Columns, word: str) -> list[str]:
    """List word_0, word_1, … by their numbers, or the one column of that name."""
    matches = {n: re.fullmatch(rf"{word}[_ .-]?(\d+)", n, re.IGNORECASE) for n in columns}
    found = sorted((int(match[1]), name) for name, match in matches.items() if match)
    return [name for _, name in found] or [n for n in columns if n.lower() == word]


def _has_decimals(columns: Columns, names: list[str]) -> bool:
    """Check whether some true value is a number with decimals, which no class is."""
    for name in names:
        try:
            values = np.asarray(columns[name]).astype(np.float64)
        except (KeyError, TypeError, ValueError):
            return False
        known = values[np.isfinite(values)]
        if (known != np.floor(known)).any():
            return True
    return False
