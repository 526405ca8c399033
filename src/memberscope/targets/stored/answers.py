"""Find which columns of a signals table are the model's answers.

They are numbered, named by class, one array, or a loss.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memberscope.errors import InputError
from memberscope.targets.stored.labels import Answers, list_names
from memberscope.targets.tables.columns import convert_to_numbers
from memberscope.types import Floats, Signal

Columns = Mapping[str, NDArray[Any]]
KINDS: dict[str, Signal] = {"p": "probabilities", "z": "logits", "loss": "loss"}
# Beginnings of names that mean the same as p and z
WORDS = {"p": r"p|probs?|probas?|probability|probabilities", "z": r"z|logits?"}
# Names of a lone column whose meaning stays open; only used to give advice
ONE = r"scores?|y_score|y_prob|y_proba|probs?|probas?|probability|confidence|conf|y_pred|pred|prediction|output|logits?"
LARGEST = 1 + 1e-6  # of a probability, rounding included


def is_answer(name: str) -> bool:
    """Check by its name whether a column is one of the model's answers.

    >>> is_answer("p12"), is_answer("loss"), is_answer("person")
    (True, True, False)
    """
    return re.fullmatch(r"loss|[pz]\d*", name) is not None


def find_answers(columns: Columns, labels: NDArray[Any] | None, path: str | Path) -> Answers:
    """Find the answers (n, k) among the `columns` and what they are.

    `labels` (n,) may name the columns of the classes.

    Raises:
        InputError: No kind of answer is there, or several are, or their meaning is open.
    """
    found = {prefix: names for prefix in ("p", "z") if (names := _numbered_names(columns, prefix))}
    if "loss" in columns:
        found["loss"] = ["loss"]
    if not found:
        return _named_answers(columns, labels, path)
    # Several kinds may contradict each other, and which one to audit is the user's choice
    if len(found) != 1:
        raise InputError(
            f"Expected either p0, p1, … or z0, z1, … or loss in {path}, got {' and '.join(found)}. "
            "Keep one kind."
        )
    prefix, names = next(iter(found.items()))
    values, first = _stack_columns(columns, names, prefix, path), _first_number(names, path)
    # A loss is one number, of no class
    if prefix == "loss":
        return Answers("loss", values, ("loss",))
    # A lone column is of one class of two
    if values.shape[1] == 1:
        return _read_second_class(values, names[0], first, prefix, path)
    _refuse_percentages(values, prefix, path)
    return Answers(KINDS[prefix], values, tuple(names), first=first)


def _numbered_names(columns: Columns, prefix: str) -> list[str]:
    """List the columns of a prefix in the order of their numbers.

    They are p0, p1, …, or prob_0, prob_1, …, or the one array p.
    """
    # The plain names first, then what other tools write
    for pattern in (rf"{prefix}(\d+)", rf"(?:{WORDS[prefix]})[_ .-]?(\d+)"):
        numbered = {name: re.fullmatch(pattern, name, re.IGNORECASE) for name in columns}
        # By number, since p10 sorts before p2 as a word
        found = sorted((int(match[1]), name) for name, match in numbered.items() if match)
        if found:
            return [name for _, name in found]
    return [prefix] if prefix in columns else []


def _first_number(names: list[str], path: str | Path) -> int:
    """Find the number of the first class, 0 or 1.

    Raises:
        InputError: Numbers have gaps, or start elsewhere.
    """
    numbers = [int(match[0]) for name in names if (match := re.search(r"\d+$", name))]
    if not numbers:
        return 0
    # A gap would shift the classes after it
    if numbers[0] not in (0, 1) or numbers != list(range(numbers[0], numbers[0] + len(numbers))):
        prefix = re.sub(r"\d+$", "", names[0])
        raise InputError(
            f"Expected {prefix}0, {prefix}1, … without gaps in {path}, got "
            f"{list_names(dict.fromkeys(names))}. Rename the columns."
        )
    return numbers[0]


def _stack_columns(columns: Columns, names: list[str], prefix: str, path: str | Path) -> Floats:
    """Stack the values (n, k) of these columns.

    Raises:
        InputError: They are not numbers, or neither one array nor one column for each class.
    """
    parts = [convert_to_numbers(columns[name], name, path) for name in names]
    if (
        len({part.ndim for part in parts}) > 1
        or parts[0].ndim > 2
        or (parts[0].ndim == 2 and len(parts) > 1)
    ):
        shapes = ", ".join(str(part.shape) for part in parts[:4])
        raise InputError(
            f"Expected {prefix} as one array (n, k) or a column a class in {path}, got {shapes}. "
            "Reshape it."
        )
    return (parts[0] if parts[0].ndim == 2 else np.column_stack(parts)).astype(np.float64)


def _read_second_class(
    values: Floats, name: str, first: int, prefix: str, path: str | Path
) -> Answers:
    """Read answers about two classes from the single column p1 or z1.

    Raises:
        InputError: The column's number does not say which class it is of, or it holds no
            probabilities.
    """
    word = "probability" if prefix == "p" else "logit"
    if first != 1:
        raise InputError(
            f"Expected at least two classes in {path}, got the one column {name}, which may be of "
            f"either class. Name it {prefix}1 if it is the {word} of class 1 of two, or give a "
            "column for each class."
        )
    if prefix == "z":
        note = f"Read the lone column {name} as the logit of class 1 of two."
        # The logit of one class against the other, which then has 0
        return Answers("logits", np.hstack([np.zeros_like(values), values]), (name,), note=note)
    # With room for rounding
    outside = np.flatnonzero((values < -1e-6) | (values > LARGEST))
    if len(outside):
        raise InputError(
            f"Expected probabilities between 0 and 1 in the column {name} of {path}, got "
            f"{values[outside[0], 0]:g} in row {outside[0] + 1}. Divide percentages by 100, or "
            "name the column z1 if it holds logits."
        )
    note = f"Read the lone column {name} as the probability of class 1 of two; that of class 0 is 1 - {name}."
    return Answers("probabilities", np.hstack([1 - values, values]), (name,), note=note)


def _named_answers(columns: Columns, labels: NDArray[Any] | None, path: str | Path) -> Answers:
    """Read answers from columns that are called after the classes.

    Such columns are prob_cat and prob_dog, or cat and dog where labels are these words.

    Raises:
        InputError: There are none.
    """
    words = (
        set()
        if labels is None or labels.ndim != 1
        else {str(word) for word in np.unique(labels.astype(np.str_))}
    )
    for prefix, pattern in WORDS.items():
        matches = {
            name: re.fullmatch(rf"(?:{pattern})[_ .:-](.+)", name, re.IGNORECASE)
            for name in columns
        }
        classes = {name: match[1] for name, match in matches.items() if match}
        # Two columns of one class, in different spellings, are not taken
        if len(classes) >= 2 and len(set(classes.values())) == len(classes):
            return _order_by_class(columns, classes, prefix, path)
        if len(classes) == 1 and len(words) == 2 and set(classes.values()) <= words:
            return _lone_class(columns, classes, words, prefix, path)
    # Columns called exactly as the labels, all of them
    same = {name: name for name in columns if name in words}
    if len(same) == len(words) >= 2:
        return _order_by_class(columns, same, "p", path)
    raise InputError(_no_answers(columns, path))


def _order_by_class(
    columns: Columns, classes: Mapping[str, str], prefix: str, path: str | Path
) -> Answers:
    """Read answers whose columns name the `classes`, in the table's order."""
    values = _stack_columns(columns, list(classes), prefix, path)
    _refuse_percentages(values, prefix, path)
    return Answers(KINDS[prefix], values, tuple(classes), classes=tuple(classes.values()))


def _lone_class(
    columns: Columns, classes: Mapping[str, str], words: set[str], prefix: str, path: str | Path
) -> Answers:
    """Read answers about two classes, of which one column names one."""
    name, known = next(iter(classes.items()))
    other = next(iter(words - {known}))
    found = _read_second_class(_stack_columns(columns, [name], prefix, path), name, 1, prefix, path)
    note = f"Read the lone column {name} as of the class {known}; the other class is {other}."
    return Answers(found.signal, found.values, (name, name), classes=(other, known), note=note)


def _no_answers(columns: Columns, path: str | Path) -> str:
    """Explain that no column is an answer, and how to name one that is."""
    lone = next((name for name in columns if re.fullmatch(ONE, name, re.IGNORECASE)), None)
    start = f"Expected either p0, p1, … or z0, z1, … or loss in {path}, got "
    if lone is not None:
        return (
            f"{start}the one column {lone}, whose meaning is open. Name it p1 if it is the "
            "probability of class 1 of two, z1 if it is "
            f"that class's logit, or loss if it is lower for records that the model knows; give "
            "--task regression if it is a predicted number."
        )
    return f"{start}{list_names(columns)}. Name the columns so, or after the classes, such as p_cat and p_dog."


def _refuse_percentages(values: Floats, prefix: str, path: str | Path) -> None:
    """Refuse probabilities (n, k) that sum to 100.

    Raises:
        InputError: They do in every record.
    """
    if prefix == "p" and has_percentages(values):
        raise InputError(
            f"Expected probabilities that sum to 1 in {path}, got rows that sum to 100, which are "
            "percentages. Divide them by 100."
        )


def has_percentages(values: Floats) -> bool:
    """Check whether rows (n, k) of numbers from 0 to 100 sum to about 100 in every record.

    >>> has_percentages(np.array([[20.0, 79.9]])), has_percentages(np.array([[0.2, 0.8]]))
    (True, False)
    """
    # Percentages that were rounded miss 100 by a little for each class
    off = np.abs(values.sum(axis=1) - 100)
    within = values.min(initial=0) >= -1e-6 and values.max(initial=0) <= 100 + 1e-4
    return bool(
        within
        and values.max(initial=0) > LARGEST
        and (off <= max(1.0, 0.05 * values.shape[1])).all()
    )
