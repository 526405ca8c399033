"""Read labels as 0-based classes: what people hold them in, and what they call them.

Where something was read into them, a note says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memberscope.errors import InputError
from memberscope.frames import as_numpy, mark_missing
from memberscope.targets import refuse_continuous_labels
from memberscope.types import Floats, Ints
from memberscope.wire import simplify_class_name

SAMPLE = 1000  # records by which most features are told apart from the label


def _flatten_labels(y: Any) -> NDArray[Any]:
    """Give labels (n,) of an array, a tensor, a list or a column, (n,) or (n, 1).

    Raises:
        InputError: There are several a record, or a record has none.

    >>> _flatten_labels([[0], [1]]).tolist()
    [0, 1]
    """
    values = as_numpy(y)
    if values.ndim == 0 or values.size != len(values):
        raise InputError(
            f"Expected labels as one class a record, got shape {values.shape}. Give one column; of "
            "one-hot rows y.argmax(axis=1)."
        )
    values = values.reshape(-1)
    missing = mark_missing(values)
    if missing.any():
        first = int(np.argmax(missing))
        raise InputError(
            f"Expected a label of each record, got none of {int(missing.sum())} records, first "
            f"number {first}. Leave them out."
        )
    return values


def read_whole_labels(y: Any) -> Ints:
    """Read labels as integers (n,): whole numbers, truth values, or either written as text.

    Raises:
        InputError: They are not whole numbers in one dimension.

    >>> read_whole_labels([0.0, 1.0]).tolist(), read_whole_labels(["0", "1"]).tolist()
    ([0, 1], [0, 1])
    """
    # Text is read as numbers first, since files often hold numbers so
    values = _flatten_labels(y)
    if values.dtype.kind in "OUST":
        values = _parse_words(values)
    if values.dtype.kind in "iu":
        return values.astype(np.int64)
    # Floats are taken only where each is a whole number
    if (
        values.dtype.kind in "bf"
        and np.isfinite(values.astype(float)).all()
        and (values == np.floor(values)).all()
    ):
        return values.astype(np.int64)
    # Many different values are rather a quantity to predict, of which it is said by name
    refuse_continuous_labels(values)
    raise InputError(
        f"Expected 0-based class numbers as labels, got {values[:1].tolist()} of type "
        f"{values.dtype}. Encode them."
    )


def read_named_labels(y: Any, classes: tuple[str, ...]) -> Ints:
    """Read labels `y` (n,) as positions (n,) in the model's `classes`.

    Raises:
        InputError: Some label is none of them.

    >>> read_named_labels(["b", "a"], ("a", "b")).tolist(), read_named_labels([1.0, 0.0], ("0", "1")).tolist()
    ([1, 0], [1, 0])
    """
    position = {name: k for k, name in enumerate(classes)}
    words, inverse = _spell_labels(y, classes)
    strange = [word for word in words if word not in position]
    if strange:
        shown = ", ".join(classes[:6]) + (", …" if len(classes) > 6 else "")
        raise InputError(
            f"Expected labels among the model's classes {shown}, got {strange[0]!r}. Check y."
        )
    return np.array([position[word] for word in words], dtype=np.int64)[inverse]


def has_position_labels(members: Any, non_members: Any, classes: tuple[str, ...]) -> bool:
    """Tell whether both sides' labels are positions in the model's differently named `classes`.

    One answer for both sides, so that a class which one side lacks cannot be read in two ways.
    Where some class is called 0, labels are names, and an unknown one is refused.

    >>> pair = lambda *labels: (np.zeros((len(labels), 1)), np.array(labels))
    >>> has_position_labels(pair(0, 1), pair(1, 2), ("1", "2", "3")), has_position_labels(pair(1, 2), pair(2, 3), ("1", "2", "3"))
    (True, False)
    """
    labels = [
        side[1] for side in (members, non_members) if isinstance(side, tuple) and len(side) == 2
    ]
    # Labels that are all names of classes are names, whatever else they might be
    if "0" in classes or all(
        word in classes for y in labels for word in _spell_labels(y, classes)[0]
    ):
        return False
    return all(_parse_words(_flatten_labels(y)).dtype.kind in "biuf" for y in labels)


def count_from_zero(
    y: Ints, n_classes: int, names: Sequence[str] | None
) -> tuple[Ints, Sequence[str] | None, tuple[str, ...]]:
    """Count labels `y` (n,) from 0 that are counted from 1, and say so.

    This is done where the model has as many classes as they count.

    Gives the labels, the names of the classes without that of a class 0 that does not exist, and
    what to say.

    >>> count_from_zero(np.array([1, 2, 3]), 3, None)[0].tolist(), count_from_zero(np.array([1, 2]), 3, None)[0].tolist()
    ([0, 1, 2], [1, 2])
    """
    # Class 1 must be the least and the last class must occur, or labels may merely lack class 0
    if len(y) == 0 or y.min() != 1 or y.max() != n_classes:
        return y, names, ()
    names = names[1:] if names is not None and len(names) == n_classes + 1 else names
    note = f"The labels are 1 to {n_classes} and the model has {n_classes} classes: they were read as its classes in order, from 1."
    return y - 1, names, (note,)


def find_label_copies(features: Floats | None, y: Ints, names: Sequence[str]) -> tuple[str, ...]:
    """Say which features (n, f) hold the label of every record.

    `names` are those of the features, if they have some.

    >>> find_label_copies(np.array([[5.0, 1.0], [7.0, 2.0], [5.0, 3.0]]), np.array([0, 1, 0]), ["code", "age"])[0][:48]
    'The feature code tells the label of every record'
    """
    if features is None or len(y) < 2:
        return ()
    # Most features are told apart by the first records, which spares a look at all
    some = slice(0, SAMPLE)
    found = [
        j
        for j in range(features.shape[1])
        if _is_label_copy(features[some, j], y[some]) and _is_label_copy(features[:, j], y)
    ]
    if not found:
        return ()
    called = str(names[found[0]]) if len(names) == features.shape[1] else f"number {found[0]}"
    more = f" ({len(found) - 1} more do)" if len(found) > 1 else ""
    return (
        f"The feature {called} tells the label of every record{more}. If it is a copy of the "
        "label, what the model does with it says "
        f"little of what it learned: leave it out.",
    )


def _is_label_copy(column: Floats, y: Ints) -> bool:
    """Tell whether a column (n,) and the labels determine each other, value by value."""
    values, codes = np.unique(column, return_inverse=True)
    classes, labels = np.unique(y, return_inverse=True)
    # Another number of values cannot go one to one
    if len(values) != len(classes):
        return False
    # One to one means that as many pairs as classes occur
    return len(np.unique(codes * len(classes) + labels)) == len(classes)


def _parse_words(values: NDArray[Any]) -> NDArray[Any]:
    """Parse labels that are whole numbers or truth values in words; leave others."""
    if values.dtype.kind not in "OUST":
        return values
    words = [simplify_class_name(str(value).strip()) for value in values.tolist()]
    try:
        # Words that are no numbers, or numbers too large for a class, stay as they are
        return np.array([int(word) for word in words], dtype=np.int64)
    except (ValueError, OverflowError):
        return values


def _spell_labels(y: Any, classes: tuple[str, ...]) -> tuple[list[str], Ints]:
    """Spell the different labels of `y` (n,) as the model's classes write them.

    Which of them (n,) each record has is given, too.
    """
    values = _flatten_labels(y)
    plain = {simplify_class_name(name): name for name in classes}
    found, inverse = np.unique(
        values.astype(np.str_) if values.dtype.kind == "O" else values, return_inverse=True
    )
    words = []
    for value in found:
        # A float of a whole number is written as the model would write the integer
        word = (
            str(int(value))
            if values.dtype.kind == "f" and np.isfinite(value) and value == int(value)
            else str(value)
        )
        raw = str(value)
        # Exact spellings first; a simplified one must not take the place of another class
        words.append(
            word
            if word in classes
            else raw
            if raw in classes
            else plain.get(simplify_class_name(raw), raw)
        )
    return words, inverse
