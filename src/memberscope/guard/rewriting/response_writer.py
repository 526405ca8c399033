"""Write answers anew: the declared output as the defence leaves it, and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from memberscope.errors import TargetError
from memberscope.types import Floats
from memberscope.wire import DeclaredOutputs, parse_outputs, read_list, read_tensor_array

FEW = 256  # scores of an answer
NUMPY = orjson.OPT_SERIALIZE_NUMPY
NAMED = ("model_name", "model_version", "id")
MOST = 65_536  # classes that an answer may imply where none were declared
LONGEST = 200  # characters of a name or an id in an answer


def read_answer_outputs(answers: Any, declared: DeclaredOutputs, n: int) -> Floats:
    """Read the outputs (n, k), or labels (n, 1), from `answers` about n records.

    Raises:
        TargetError: They are about another number of records, or not what was declared.

    >>> read_answer_outputs([[0.25, 0.75]], DeclaredOutputs(), 1).tolist()
    [[0.25, 0.75]]
    """
    if not isinstance(answers, list | np.ndarray) or len(answers) != n:
        raise TargetError(
            f"Expected {n} answers from the server, got another number. Correct answer under "
            "[serving] in the policy."
        )
    if declared.n_classes is None and declared.level != "numbers":
        declared = _declare_n_classes(declared, _count_answer_classes(answers, declared))
    return parse_outputs(answers, declared)


@lru_cache(maxsize=8)
def _declare_n_classes(declared: DeclaredOutputs, n: int) -> DeclaredOutputs:
    """Declare the outputs with the number of classes."""
    return replace(declared, n=n)


def _count_answer_classes(answers: Any, declared: DeclaredOutputs) -> int:
    """Count the classes of the first answer; for labels, as many as the highest needs."""
    first = answers[0]
    if declared.level == "labels":
        most = float(np.max(np.asarray(answers, dtype=np.float64)))
        # Written so that NaN is refused too
        if not most < MOST:
            raise TargetError(
                f"Expected labels below {MOST}, got {most:g}. Declare n_classes in [serving]."
            )
        return max(2, int(most) + 1)
    return max(2, len(first) if isinstance(first, list | dict | np.ndarray) else 2)


def _decode_class_labels(
    outputs: Floats, declared: DeclaredOutputs
) -> list[str] | NDArray[np.int64]:
    """Give the labels (n,): the classes' names, or their numbers where they have none."""
    codes = outputs[:, 0].astype(np.int64)
    return (
        codes if declared.classes is None else [declared.classes[code] for code in codes.tolist()]
    )


Pairs = list[list[tuple[int, float]]]


def list_visible_classes(outputs: Floats) -> Pairs | None:
    """List the visible classes of each record with their scores, the likeliest first.

    The result is None where nothing is hidden.

    >>> list_visible_classes(np.array([[0.2, np.nan, 0.7]])), list_visible_classes(np.array([[0.3, 0.7]]))
    ([[(2, 0.7), (0, 0.2)]], None)
    """
    found: Pairs
    # For few scores a loop is faster than numpy
    if outputs.size <= FEW:
        found = [
            [(column, value) for column, value in enumerate(row) if value == value]
            for row in outputs.tolist()
        ]
        if sum(map(len, found)) == outputs.size:
            return None
    else:
        shown = ~np.isnan(outputs)
        if shown.all():
            return None
        rows, columns = np.nonzero(shown)
        found = [[] for _ in outputs]
        for row, column, value in zip(
            rows.tolist(), columns.tolist(), outputs[shown].tolist(), strict=True
        ):
            found[row].append((column, value))
    for pairs in found:
        # Sorting is stable: of equal scores the first class stays first
        pairs.sort(key=lambda pair: -pair[1])
    return found


def write_plain_answers(
    outputs: Floats, told: Pairs | None, signal: str, declared: DeclaredOutputs
) -> Any:
    """Write each record's answer: a label, a list, or an object where classes are hidden.

    >>> write_plain_answers(np.array([[0.9, np.nan]]), [[(0, 0.9)]], "probabilities", DeclaredOutputs(names=("b", "a")))
    [{'b': 0.9}]
    """
    if signal == "labels":
        return _decode_class_labels(outputs, declared)
    if told is not None:
        names = declared.classes
        return [
            {names[column] if names else str(column): value for column, value in pairs}
            for pairs in told
        ]
    return _restore_class_order(outputs, declared)


def _restore_class_order(outputs: Floats, declared: DeclaredOutputs) -> Floats:
    """Order the outputs (n, k) as the server orders its classes."""
    return np.ascontiguousarray(
        outputs if declared.straight or not declared.n_classes else outputs[:, declared.back]
    )


def find_single_shape(answers: Any, declared: DeclaredOutputs) -> tuple[int, ...] | None:
    """Find the shape of one record's answer, () or (1,), where it is one score for two classes.

    >>> find_single_shape([0.2, 0.7], DeclaredOutputs(n=2)), find_single_shape([[0.2]], DeclaredOutputs(n=2))
    ((), (1,))
    >>> find_single_shape([[0.2, 0.8]], DeclaredOutputs(n=2)) is None
    True
    """
    if declared.level in ("labels", "numbers") or not len(answers):
        return None
    first = answers[0]
    if isinstance(first, int | float | np.number):
        return ()
    numbers = isinstance(first, list | np.ndarray) and len(first) == 1
    return (1,) if numbers and isinstance(first[0], int | float | np.number) else None


def write_single_scores(
    outputs: Floats, declared: DeclaredOutputs, shape: tuple[int, ...], *, tensor: bool = False
) -> dict[str, object]:
    """Write one score a record (n, *shape), of the second of two classes in the server's order.

    >>> write_single_scores(np.array([[0.2, 0.8]]), DeclaredOutputs(n=2), (1,))["data"].tolist()
    [[0.8]]
    """
    found = np.ascontiguousarray(_restore_class_order(outputs, declared)[:, 1])
    whole = (len(outputs), *shape)
    return {"shape": list(whole), "data": found if tensor else found.reshape(whole)}


def write_tensor_answer(
    name: str, outputs: Floats, told: Pairs | None, signal: str, declared: DeclaredOutputs
) -> dict[str, object]:
    """Write the output tensor: FP64 (n, k), labels (n, 1), or BYTES (n, shown).

    BYTES elements, `score:place[:name]`, are written where classes are hidden, as in the protocol's
    classification extension; places are those of the server's order.

    >>> write_tensor_answer("p", np.array([[0.9, np.nan]]), [[(0, 0.9)]], "probabilities", DeclaredOutputs(n=2))
    {'name': 'p', 'shape': [1, 1], 'datatype': 'BYTES', 'data': ['0.9:0']}
    """
    if signal == "labels":
        found = _decode_class_labels(outputs, declared)
        kind = "INT64" if declared.classes is None else "BYTES"
        return {"name": name, "shape": [len(outputs), 1], "datatype": kind, "data": found}
    if told is not None:
        # The shortest text that reads back as the same number, so that nothing is lost or added
        order, names = declared.order, declared.classes
        data = [
            f"{value!r}:{order[column] if order else column}"
            + (f":{names[column]}" if names else "")
            for pairs in told
            for column, value in pairs
        ]
        return {
            "name": name,
            "shape": [len(told), len(data) // len(told)],
            "datatype": "BYTES",
            "data": data,
        }
    return {
        "name": name,
        "shape": list(outputs.shape),
        "datatype": "FP64",
        "data": _restore_class_order(outputs, declared).ravel(),
    }


def read_v2_tensors(
    document: Any, answer: str | None, also: Sequence[str]
) -> tuple[str, NDArray[Any], list[dict[str, object]]]:
    """Read the declared output's name and values, and the outputs that pass beside it.

    Raises:
        TargetError: There is no such output, or there are two.
    """
    entries = [entry for entry in read_list(document, "outputs") if isinstance(entry, dict)]
    wanted = [
        entry
        for entry in entries
        if (entry.get("name") == answer if answer else entry.get("name") not in also)
    ]
    # With several outputs the wrong one might be defended and the right one pass
    if len(wanted) != 1 or not isinstance(wanted[0].get("name"), str):
        raise TargetError(
            f"Expected one output {answer or 'that is not named in also'}, got {len(wanted)}. Set "
            "answer in the policy."
        )
    # Parameters of an output are dropped: they may hold anything
    beside = [
        {key: entry[key] for key in ("name", "shape", "datatype", "data") if key in entry}
        for entry in entries
        if entry.get("name") in also and entry is not wanted[0]
    ]
    return wanted[0]["name"], read_tensor_array(wanted[0]), beside


def copy_answer_metadata(document: Any) -> dict[str, str]:
    """Copy what an answer of the Open Inference Protocol says of itself."""
    return {key: document[key][:LONGEST] for key in NAMED if isinstance(document.get(key), str)}
