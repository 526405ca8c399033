"""Find the scores in whatever a model returns.

A tensor, a tuple, a mapping, or an object with fields.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memberscope.errors import InputError
from memberscope.frames import as_numpy
from memberscope.types import Floats

# The names and positions that lead to the scores; none where they are the answer itself
Place = tuple[str | int, ...]

# Fields that hold one score for each class, the most reliable first; other fields that may hold them
# count only where their width fits.
SCORES = (
    "logits",
    "logit",
    "scores",
    "log_probs",
    "log_probabilities",
    "probs",
    "probabilities",
    "prob",
    "proba",
)
# Names that mean the answer as a whole, after those of scores
ANSWERS = (
    "output",
    "outputs",
    "out",
    "y_hat",
    "y_pred",
    "pred",
    "preds",
    "prediction",
    "predictions",
)
DEPTH = 4  # levels of nested containers that are searched


def find_scores(answer: Any, n: int, n_classes: int | None = None, *, deep: bool = False) -> Place:
    """Find the place of the scores (n, k) in the answer of a model to `n` records.

    Fields called logits, scores or probabilities go first. Among other tensors the one is taken
    whose width fits the `n_classes`. With `deep` the numbers of a record may have several
    dimensions, as in a forecast of several series.

    Raises:
        InputError: No tensor has a row for each record, or several have that cannot be told apart.

    >>> find_scores({"loss": np.zeros(()), "logits": np.zeros((5, 3)), "hidden": np.zeros((5, 8))}, 5)
    ('logits',)
    >>> find_scores((np.zeros((5, 8)), np.zeros((5, 3))), 5, n_classes=3)
    (1,)
    """
    every = dict(_iterate_leaves(answer, n, ()))
    found = {place: leaf for place, leaf in every.items() if _count_row_values(leaf, n, deep)}
    if not found:
        raise InputError(
            f"Expected a tensor with a row of scores for each of {n} records, got "
            f"{_describe_tensors(every, answer)}. Return one score for each class of each record."
        )
    # Never the first of several: a wrong tensor would give a wrong audit without an error
    chosen = _choose_places(found, n, n_classes, deep)
    if len(chosen) == 1:
        return chosen[0]
    raise InputError(
        "Expected one tensor of scores in the model's answer, got "
        f"{_describe_tensors({p: found[p] for p in chosen}, answer)}. Return the scores alone, or "
        "a dict with the key 'logits'."
    )


def pick_scores(answer: Any, place: Place) -> Any:
    """Take the part at `place` of an answer.

    Raises:
        InputError: It has no such part, as the answers have different forms.

    >>> pick_scores({"logits": [1.0, 2.0]}, ("logits", 1))
    2.0
    """
    for step in place:
        try:
            answer = (
                answer[step]
                if isinstance(step, int) or isinstance(answer, Mapping)
                else getattr(answer, step)
            )
        except (KeyError, IndexError, AttributeError, TypeError) as error:
            raise InputError(
                f"Expected {'.'.join(map(str, place))} in each answer of the model, got an answer "
                "without it. Return all answers in one form."
            ) from error
    return answer


def as_rows(values: Any, n: int) -> NDArray[Any]:
    """Reshape scores of `n` records to (n, k) as a numpy array, dropping dimensions of one.

    Raises:
        InputError: They do not have one row for each record.

    >>> as_rows(np.zeros((5, 3, 1)), 5).shape, as_rows(np.zeros(3), 1).shape, as_rows(0.5, 1).shape
    ((5, 3), (1, 3), (1, 1))
    """
    array = as_numpy(values)
    if n == 1 and (
        array.ndim == 0 or len(array) != 1
    ):  # the model dropped the dimension of the records
        array = array[None]
    if _count_row_values(array, n) is None:
        raise InputError(
            f"Expected one row of scores for each of {n} records, got an output of shape "
            f"{tuple(array.shape)}. Return one score for each class of each record."
        )
    return array.reshape(n, -1)


def _iterate_leaves(answer: Any, n: int, place: Place) -> Iterator[tuple[Place, Any]]:
    """Yield every tensor and array in an answer, and every list of `n` numbers, with its place."""
    # Tensors of any library, without importing it
    if hasattr(answer, "shape") and hasattr(answer, "dtype"):
        yield place, answer
    elif _is_nested_numbers(answer, n):
        yield place, np.asarray(answer, dtype=np.float64)
    elif len(place) < DEPTH:
        for step, part in _list_container_parts(answer):
            yield from _iterate_leaves(part, n, (*place, step))


def _is_nested_numbers(answer: Any, n: int) -> bool:
    """Check whether an answer is a plain list of `n` numbers or of `n` lists of numbers."""
    if not isinstance(answer, list) or len(answer) != n:
        return False
    rows = [row if isinstance(row, list) else [row] for row in answer]
    return len({len(row) for row in rows}) == 1 and all(
        isinstance(value, int | float) for row in rows for value in row
    )


def _list_container_parts(answer: Any) -> list[tuple[str | int, Any]]:
    """List what a container holds, by name or position."""
    if isinstance(answer, Mapping):
        return [(str(key), part) for key, part in answer.items()]
    if isinstance(answer, tuple) and hasattr(answer, "_fields"):
        # Named tuples before plain ones, since their names say what is in them
        return list(zip(answer._fields, answer, strict=True))
    if isinstance(answer, list | tuple):
        return list(enumerate(answer))
    if is_dataclass(answer) and not isinstance(answer, type):
        return [(entry.name, getattr(answer, entry.name)) for entry in fields(answer)]
    return [
        (name, part)
        for name, part in getattr(answer, "__dict__", {}).items()
        if not name.startswith("_")
    ]


def _count_row_values(leaf: Any, n: int, deep: bool = False) -> int | None:
    """Count the numbers in each row of a tensor with one row for each of `n` records.

    Give None for any other tensor; one of several dimensions counts only if `deep`.
    """
    shape = tuple(leaf.shape)
    if not shape or shape[0] != n or "complex" in str(leaf.dtype) or "str" in str(leaf.dtype):
        return None
    # Dimensions of one do not matter
    inner = [size for size in shape[1:] if size != 1]
    return None if (len(inner) > 1 and not deep) or 0 in inner else math.prod(inner)


def _choose_places(
    found: dict[Place, Any], n: int, n_classes: int | None, deep: bool
) -> list[Place]:
    """Choose the places that may hold the scores: one, or several that cannot be told apart."""
    places = list(found)
    # The most reliable name that occurs
    named = next((hit for name in SCORES if (hit := _filter_by_name(places, name))), None)
    # Only where no name says which tensor it is
    if named is None and n_classes is not None:
        # Whole numbers are decisions, and less telling than scores
        real = [place for place in places if not _is_whole(found[place])] or places
        exact = [
            place
            for place in real
            if _is_fitting_width(_count_row_values(found[place], n, deep), n_classes)
        ]
        wider = [
            place for place in real if (_count_row_values(found[place], n, deep) or 0) >= n_classes
        ]
        # A tensor may be wider than the classes that occur among the records
        places = exact or wider or real
    places = named or next(
        (hit for name in ANSWERS if (hit := _filter_by_name(places, name))), places
    )
    # Auxiliary heads, as in Inception, have the right width too
    main = [
        place for place in places if not any("aux" in str(step).lower() for step in place)
    ] or places
    return main if len(main) == 1 or deep else _first_of_same(main, found, n)


def _filter_by_name(places: list[Place], name: str) -> list[Place]:
    """Keep the places with a step of this name."""
    return [place for place in places if any(str(step).lower() == name for step in place)]


def _is_fitting_width(width: int | None, n_classes: int) -> bool:
    """Check whether a width is one column for each class, or the one column of two classes."""
    return width == n_classes or (width == 1 and n_classes == 2)


def _is_whole(leaf: Any) -> bool:
    """Check whether a tensor's type is of whole numbers."""
    return "int" in str(leaf.dtype) or "bool" in str(leaf.dtype)


def _first_of_same(places: list[Place], found: dict[Place, Any], n: int) -> list[Place]:
    """Choose the logits of two tensors where one is the probabilities of the other.

    Otherwise give all of them.
    """
    if len(places) != 2:
        return places
    first, second = (as_rows(found[place], n).astype(np.float64) for place in places)
    # The same tensor under two names
    if first.shape == second.shape and np.allclose(first, second):
        return places[:1]
    if first.shape == second.shape and _is_probabilities_of(second, first):
        return places[:1]
    if first.shape == second.shape and _is_probabilities_of(first, second):
        return places[1:]
    return places


def _is_probabilities_of(scores: Floats, logits: Floats) -> bool:
    """Check whether `scores` are the softmax or the sigmoid of `logits` (n, k), but for rounding."""
    from scipy.special import expit, softmax

    of = expit(logits) if logits.shape[1] == 1 else softmax(logits, axis=1)
    return bool(np.abs(of - scores).max() < 1e-2) and bool((scores >= 0).all())


def _describe_tensors(found: Mapping[Place, Any], answer: Any) -> str:
    """Describe the tensors of an answer in words, at most six."""
    if not found:
        return f"an answer of type {type(answer).__name__} without tensors"
    shown = [
        f"{'.'.join(map(str, place)) + ' of ' if place else 'a tensor of '}shape "
        f"{tuple(leaf.shape)}"
        for place, leaf in list(found.items())[:6]
    ]
    return ", ".join(shown) + (f" and {len(found) - 6} more" if len(found) > 6 else "")
