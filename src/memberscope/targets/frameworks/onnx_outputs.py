"""Choose the output of an ONNX model that is its answer, and find out what it is.

Probabilities, logits or labels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import expit

from memberscope.errors import InputError
from memberscope.targets.answers.output_kind import (
    Outputs,
    expand_to_classes,
    infer_label_kind,
    infer_output_kind,
)
from memberscope.targets.answers.real_outputs import arrange_outputs
from memberscope.types import Floats, Task

# Types of outputs that may be scores
REAL = ("tensor(float)", "tensor(double)", "tensor(float16)")


@dataclass(frozen=True)
class OutputChoice:
    """The output to read, what it is, and its number of classes if known.

    `classes` are the class values in its order (none if the model does not name them).
    """

    name: str
    signal: Outputs
    n_classes: int | None
    classes: tuple[str, ...]


def choose_output(
    session: Any, seen: Mapping[str, Any], declared: Outputs | None, classes: tuple[str, ...]
) -> OutputChoice:
    """Choose the output of `session` that is its answer.

    `seen` are its answers to made-up records, `classes` the file's. Probabilities go before logits
    and scores before labels, unless something else is `declared`.

    Raises:
        InputError: None is of the declared kind, or several are that cannot be told apart.
    """
    offered = {entry.name: entry for entry in session.get_outputs()}
    scores = [
        name
        for name, entry in offered.items()
        # Exporters of scikit-learn give probabilities as dictionaries by class
        if entry.type in REAL or entry.type.startswith("seq(map(")
    ]
    # Labels only where they were asked for, or nothing better is there
    if declared == "labels" or not scores:
        return _find_label_output(offered, scores, declared, classes)
    if declared and len(scores) == 1:
        # A declaration overrides what the made-up records suggest
        kinds: dict[str, Outputs] = {scores[0]: declared}
    else:
        kinds = {name: _classify_output(offered[name], seen.get(name)) for name in scores}
    name, signal = _find_best_output(kinds, declared)
    # Keys of dictionaries are in the order of the scores, and so go before the file's list
    keys = _list_class_keys(seen.get(name))
    width = _count_scores(offered[name], seen.get(name))
    known = keys or (
        classes if width in (None, len(classes)) or (width == 1 and len(classes) == 2) else ()
    )
    # A single score is of two classes
    n_classes = len(known) if known else None if width is None else max(2, width)
    return OutputChoice(name, signal, n_classes, known)


def choose_real_output(
    session: Any, seen: Mapping[str, Any], declared: Outputs | None, task: Task
) -> OutputChoice:
    """Choose the output of `session` with the numbers that it predicts, or the labels' scores.

    Raises:
        InputError: There is none, or several that cannot be told apart.
    """
    offered = {entry.name: entry for entry in session.get_outputs()}
    names = [name for name, entry in offered.items() if entry.type in REAL]
    # Exporters of scikit-learn give decisions on labels beside their probabilities
    probable = [name for name in names if "prob" in name.lower()]
    if task == "multilabel" and len(probable) == 1:
        names = probable
    if not names and task == "multilabel":
        names = [name for name, entry in offered.items() if entry.type.startswith("seq(tensor(")]
    # The name that exporters give to the numbers of a regressor
    names = [name for name in names if name == "variable"] or names
    if len(names) != 1:
        kinds = ", ".join(f"{name} {entry.type}" for name, entry in offered.items())
        raise InputError(
            f"Expected one output of real numbers of the ONNX model, got {kinds}. Export the model "
            "with one."
        )
    answer = seen.get(names[0])
    rows = None if answer is None else _arrange_real_answer(answer)
    width = _count_scores(offered[names[0]], None) if rows is None else rows.shape[1]
    kind: Outputs = declared or "probabilities"
    if task == "multilabel" and declared is None and rows is not None:
        kind = infer_label_kind(rows)
    return OutputChoice(names[0], kind, width, ())


def extract_real_outputs(answer: Any, choice: OutputChoice, task: Task) -> Floats:
    """Extract the numbers (n, d) from an answer, or the probabilities (n, k) of labels."""
    rows = _arrange_real_answer(answer)
    if task == "multilabel" and choice.signal == "logits":
        return np.asarray(expit(rows), np.float64)
    return rows


def _arrange_real_answer(answer: Any) -> Floats:
    """Arrange an answer (n, ...) as (n, d); of a list for each label (n, 2), the second of each."""
    if isinstance(answer, list):
        return np.column_stack([np.asarray(part, np.float64)[:, -1] for part in answer])
    return arrange_outputs(answer, len(answer), name="the ONNX model")


def _find_best_output(
    kinds: Mapping[str, Outputs], declared: Outputs | None
) -> tuple[str, Outputs]:
    """Find the one output of the declared kind, or else of probabilities, or else of logits.

    Raises:
        InputError: Several are possible.

    >>> _find_best_output({"hidden": "logits", "p": "probabilities"}, None)
    ('p', 'probabilities')
    """
    wanted = declared or ("probabilities" if "probabilities" in kinds.values() else "logits")
    fitting = [name for name, kind in kinds.items() if kind == wanted]
    if len(fitting) != 1:
        raise InputError(
            f"Expected one output of {wanted}, got {', '.join(fitting) or 'none'} among "
            f"{', '.join(kinds)}. Declare --outputs, or export the model with one output of scores."
        )
    return fitting[0], wanted


def _find_label_output(
    offered: Mapping[str, Any], scores: list[str], declared: str | None, classes: tuple[str, ...]
) -> OutputChoice:
    """Find the output of labels.

    Raises:
        InputError: There is none, there are several, or its words have no declared order.
    """
    found = [
        name
        for name, entry in offered.items()
        if name not in scores and entry.type.startswith("tensor(")
    ]
    # The usual name decides where there are several outputs that are not scores
    found = [name for name in found if "label" in name.lower()] or found
    if len(found) != 1:
        kinds = ", ".join(f"{name} {entry.type}" for name, entry in offered.items())
        raise InputError(
            f"Expected one output of {declared or 'scores or labels'}, got {kinds}. Export the "
            "model with one."
        )
    # Words could be sorted, but the model's order may be another
    if "string" in offered[found[0]].type and not classes:
        raise InputError(
            f"Expected class numbers in the output {found[0]!r}, got words whose order the model "
            "does not declare. Export it with numbers as labels."
        )
    return OutputChoice(found[0], "labels", len(classes) or None, classes)


def _classify_output(entry: Any, seen: Any) -> Outputs:
    """Classify an output of scores by its answers `seen`, or else by its name.

    Dictionaries are probabilities.
    """
    # The model did not take the made-up records: only its names are left
    if seen is None:
        return "probabilities" if "prob" in entry.name.lower() or "map" in entry.type else "logits"
    scores = _convert_answer(seen)
    return infer_output_kind(scores.reshape(len(scores), -1), f"the output {entry.name!r}")


def _list_class_keys(seen: Any) -> tuple[str, ...]:
    """List the class values that dictionaries are keyed by, in their order."""
    return tuple(str(key) for key in seen[0]) if isinstance(seen, list) else ()


def _count_scores(entry: Any, seen: Any) -> int | None:
    """Count the scores a record, from answers `seen` or the declared shape.

    Give None if neither says it.
    """
    if seen is not None:
        return int(_convert_answer(seen)[:1].size)
    if len(entry.shape or ()) < 2:
        return None
    return entry.shape[1] if isinstance(entry.shape[1], int) else None


def _convert_answer(answer: Any) -> Floats:
    """Convert an answer to numbers (n, ...), dictionaries by the order of the first one's keys.

    >>> _convert_answer([{"no": 0.25, "yes": 0.75}]).tolist()
    [[0.25, 0.75]]
    """
    if isinstance(answer, list):
        keys = list(answer[0])
        return np.array([[row[key] for key in keys] for row in answer], dtype=np.float64)
    return np.asarray(answer, dtype=np.float64)


def extract_outputs(answer: Any, choice: OutputChoice) -> Floats:
    """Extract the outputs (n, k) from an answer, or the labels (n, 1).

    Labels are positions in the classes, -1 for a value that is none of them.
    """
    if choice.signal != "labels":
        return expand_to_classes(_convert_answer(answer), choice.signal)
    if not choice.classes:
        return expand_to_classes(answer, "labels")
    position = {name: k for k, name in enumerate(choice.classes)}
    return expand_to_classes([position.get(str(value), -1) for value in np.ravel(answer)], "labels")
