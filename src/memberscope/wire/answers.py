"""Parse a server's answers into outputs (n, k) in the audit's order of classes, and back."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np

from memberscope.errors import InputError, TargetError
from memberscope.types import Floats, Ints
from memberscope.wire.json_path import describe_json

Level = Literal["labels", "probabilities", "logits"]
# Of models without classes an answer is numbers: predicted ones, or one for each of several labels
Content = Level | Literal["numbers"]
# Keys of an object that servers give a class's name by
NAMES = ("label", "class", "name")
# `score:place` or `score:place:name`, of bounded length
CLASSIFIED = re.compile(r"([-+0-9.e]{1,40}):(\d{1,9})(?::(.+))?", re.DOTALL)
# Keys of an object that servers give a class's score by
VALUES = ("score", "probability", "prob", "confidence", "value", "logit")


@dataclass(frozen=True)
class DeclaredOutputs:
    """Declaration of the answers.

    It has their `level`, and the classes by `names`, in the server's order, or by their number `n`.

    With `top_k` the server tells only so many classes of a record; the others are hidden, which is
    NaN here. Where answers are `numbers`, `n` counts these, and `names` are those of labels.

    >>> DeclaredOutputs(names=("b", "a")).classes, DeclaredOutputs(names=("1", "0")).classes
    (('b', 'a'), ('0', '1'))
    """

    level: Content = "probabilities"
    names: tuple[str, ...] | None = None
    n: int | None = None
    top_k: int | None = None

    def __post_init__(self) -> None:
        if self.level not in ("labels", "probabilities", "logits", "numbers"):
            raise InputError(
                f"Expected outputs labels, probabilities or logits, got {self.level!r}. Say what "
                "one answer holds."
            )
        if self.names is not None and (
            len(set(self.names)) < len(self.names) or len(self.names) < 2
        ):
            raise InputError(
                f"Expected at least two different classes, got {', '.join(self.names)}. Name "
                "each class once with --classes."
            )
        if self.names is not None and self.n not in (None, len(self.names)):
            raise InputError(
                f"Expected {len(self.names)} classes as named, got n_classes {self.n}. Leave out "
                "--n-classes."
            )
        if self.n is not None and self.n < (1 if self.level == "numbers" else 2):
            raise InputError(
                f"Expected at least two classes, got {self.n}. Give --n-classes 2 or more."
            )
        if self.top_k is not None and (self.top_k < 1 or self.level != "probabilities"):
            raise InputError(
                f"Expected --top-k of at least 1 with probabilities, got {self.top_k} of "
                f"{self.level}. Leave it out."
            )

    @property
    def n_classes(self) -> int | None:
        """Number of classes, or None if it was not declared."""
        return len(self.names) if self.names is not None else self.n

    @cached_property
    def order(self) -> list[int]:
        """Place of each class of the audit in the server's answer.

        Classes are sorted where all names are whole numbers, else they are in the server's order.

        Records whose labels are numbers mean these numbers, and where the classes have words,
        places in the server's order.
        """
        names = self.names or tuple(map(str, range(self.n or 0)))
        places = range(len(names))
        return (
            sorted(places, key=lambda k: int(names[k]))
            if all(name.isdigit() for name in names)
            else list(places)
        )

    @cached_property
    def columns(self) -> Ints:
        """Array (k,) of `order`."""
        return np.array(self.order, dtype=np.int64)

    @cached_property
    def straight(self) -> bool:
        """Whether the server's order of classes is the audit's."""
        return self.order == list(range(len(self.order)))

    @cached_property
    def back(self) -> Ints:
        """Place of each class of the server's answer in the audit's order (k,)."""
        return np.asarray(np.argsort(self.columns), dtype=np.int64)

    @cached_property
    def classes(self) -> tuple[str, ...] | None:
        """Names of the classes in the audit's order, or None if they have none."""
        return None if self.names is None else tuple(self.names[k] for k in self.order)

    @cached_property
    def places(self) -> dict[str, int]:
        """Audit's column of each class, by its name and by its place in the server's order.

        Names also count as programs write them, and places only where no name is a number itself.
        """
        names = self.classes or tuple(str(k) for k in range(self.n or 0))
        found = {name: k for k, name in enumerate(names)}
        # Where two names become one, none is simplified: either would be a guess
        short = {simplify_class_name(name): k for name, k in found.items()}
        found = (found | short) if len(short) == len(found) else found
        # A number could then be a name or a place
        if self.names is None or any(name.isdigit() for name in found):
            return found
        return found | {
            str(k): column for column, k in enumerate(self.order) if str(k) not in found
        }


def parse_outputs(answers: Any, declared: DeclaredOutputs) -> Floats:
    """Parse the `answers` to n records into outputs (n, k) or label positions (n, 1).

    Hidden classes are NaN.

    An answer is a label or its number; a list with one score a class; one score, of the second of
    two classes; or scores by name, as an object, as pairs, as objects such as {"label": …, "score":
    …}, or as the texts `score:place[:name]` of the Open Inference Protocol's classification
    extension.

    Raises:
        TargetError: They are not what was declared: another shape, a value that is no number, or a
            class that is unknown.

    >>> parse_outputs([{"b": 0.9}, {"a": 0.6, "b": 0.4}], DeclaredOutputs(names=("b", "a"), top_k=2)).tolist()
    [[0.9, nan], [0.4, 0.6]]
    >>> parse_outputs([["0.9:0:b"], ["0.6:1:a"]], DeclaredOutputs(names=("b", "a"), top_k=1)).tolist()
    [[0.9, nan], [nan, 0.6]]
    >>> parse_outputs(["b", "a"], DeclaredOutputs("labels", names=("b", "a"))).tolist()
    [[0.0], [1.0]]
    """
    # Arrays of objects hold texts or objects, which are read one by one
    listed: Any = (
        answers.tolist()
        if isinstance(answers, np.ndarray) and answers.dtype.kind == "O"
        else answers
    )
    if declared.level == "labels":
        return _parse_labels(listed, declared)
    if declared.level == "numbers":
        return _parse_numbers(listed, declared)
    # The first answer tells the form; another form later on is an error
    if len(listed) and _is_classification_answer(listed[0]):
        listed = [[_parse_class_score(text, declared) for text in answer] for answer in listed]
    if len(listed) and _has_class_names(listed[0]):
        return _parse_named_scores(listed, declared)
    return _parse_score_lists(listed, declared)


def _has_class_names(answer: Any) -> bool:
    """Tell whether one answer gives scores by the names of classes."""
    if isinstance(answer, Mapping):
        return True
    first = answer[0] if isinstance(answer, list) and answer else None
    return isinstance(first, Mapping) or (
        isinstance(first, list | tuple) and len(first) == 2 and isinstance(first[0], str)
    )


def _is_classification_answer(answer: Any) -> bool:
    """Tell whether one answer has the form of the classification extension."""
    first = answer[0] if isinstance(answer, list) and answer else None
    return isinstance(first, str) and CLASSIFIED.fullmatch(first) is not None


def _parse_class_score(text: Any, declared: DeclaredOutputs) -> tuple[str, float]:
    """Parse class and score from `score:place[:name]`.

    Places are those of the server's order.

    Raises:
        TargetError: It tells none.
    """
    found = CLASSIFIED.fullmatch(text) if isinstance(text, str) else None
    names = declared.names or tuple(map(str, range(declared.n or 0)))
    place = int(found[2]) if found else len(names)
    if found is None or (found[3] is None and place >= len(names)):
        raise TargetError(
            "Expected score:place of a declared class, got something else. Check --classes and "
            "--n-classes."
        )
    return found[3] or names[place], float(found[1])


def _parse_labels(answers: Any, declared: DeclaredOutputs) -> Floats:
    """Parse labels (n, 1) as positions among the audit's classes."""
    places, found = declared.places, []
    for answer in answers.tolist() if isinstance(answers, np.ndarray) else answers:
        # Some servers put each label into a list of its own
        value = answer[0] if isinstance(answer, list) and len(answer) == 1 else answer
        if isinstance(value, Mapping):
            value = next((value[name] for name in NAMES if name in value), value)
        if isinstance(value, list | Mapping):
            raise TargetError(
                f"Expected one label a record, got {describe_json(value)}. Declare the --outputs "
                "that it returns."
            )
        found.append(_find_class_column(value, places))
    return np.array(found, dtype=np.float64)[:, None]


def _find_class_column(value: Any, places: Mapping[str, int]) -> int:
    """Find the column of a class that an answer names.

    Raises:
        TargetError: The class is unknown.
    """
    word = str(value)
    if word not in places:
        # A program may write 1 as 1.0, or true as True
        word = simplify_class_name(word)
    if word not in places:
        shown = ", ".join(list(places)[:6])
        raise TargetError(
            f"Expected labels among {shown}, got {str(value)[:40]!r}. Name all classes with "
            "--classes."
        )
    return places[word]


def _parse_named_scores(answers: Sequence[Any], declared: DeclaredOutputs) -> Floats:
    """Read scores (n, k) from answers that name their classes, NaN where one is not told."""
    places = declared.places
    # What no answer names stays NaN, which is a hidden class
    values = np.full((len(answers), declared.n_classes or 0), np.nan)
    for row, answer in enumerate(answers):
        told = _list_class_scores(answer)
        columns = [_find_class_column(name, places) for name, _ in told]
        most = declared.top_k or declared.n_classes or 0
        # One class twice would silently lose a score
        if len(set(columns)) < len(columns) or not 1 <= len(columns) <= most:
            raise TargetError(
                f"Expected up to {most} different classes a record, got {len(columns)}. Check "
                "--top-k and --classes."
            )
        values[row, columns] = _parse_finite_numbers([value for _, value in told])
    # Missing scores would count as hidden classes that nobody declared
    if declared.top_k is None and np.isnan(values).any():
        told_of = int((~np.isnan(values)).sum(axis=1).min())
        raise TargetError(
            f"Expected a score for each of {values.shape[1]} classes, got {told_of} for some "
            f"record. Declare --top-k {told_of}."
        )
    return values


def _list_class_scores(answer: Any) -> list[tuple[Any, Any]]:
    """List the classes and scores of one answer.

    Raises:
        TargetError: It is of another form than the answers before it.
    """
    if isinstance(answer, Mapping):
        return list(answer.items())
    found: list[tuple[Any, Any]] = []
    for entry in answer if isinstance(answer, list) else [answer]:
        if isinstance(entry, Mapping):
            name = next((entry[key] for key in NAMES if key in entry), None)
            value = next((entry[key] for key in VALUES if key in entry), None)
            entry = (name, value)
        if not (isinstance(entry, list | tuple) and len(entry) == 2) or entry[0] is None:
            raise TargetError(
                f"Expected scores by class, got {describe_json(answer)}. Look at one answer and "
                "correct --answer."
            )
        found.append((entry[0], entry[1]))
    return found


def _parse_score_lists(answers: Any, declared: DeclaredOutputs) -> Floats:
    """Read scores (n, k) in the audit's order from lists in the server's order."""
    values = _parse_finite_numbers(answers)
    k = declared.n_classes or 0
    if values.ndim == 1 or (values.ndim == 2 and values.shape[1] == 1):
        if k != 2:
            raise TargetError(
                f"Expected {k} scores a record, got one. Declare --outputs labels, or correct "
                "--answer."
            )
        # One score is that of the second of two classes; a logit stands beside a zero
        second = values.reshape(-1, 1)
        values = np.hstack(
            [np.zeros_like(second) if declared.level == "logits" else 1 - second, second]
        )
    if values.ndim != 2 or values.shape[1] != k:
        raise TargetError(
            f"Expected {k} scores a record, got shape {values.shape}. Check --classes and --answer."
        )
    # The server tells more than was declared, so that the audit would measure another threat
    if declared.top_k is not None and declared.top_k < k:
        raise TargetError(
            f"Expected {declared.top_k} classes a record as --top-k says, got all {k}. Leave out "
            "--top-k."
        )
    # Copied only where the order differs
    return values if declared.straight else values[:, declared.columns]


def _parse_numbers(answers: Any, declared: DeclaredOutputs) -> Floats:
    """Read predicted numbers (n, d), whatever dimensions follow the first; objects by their keys.

    Raises:
        TargetError: They are not finite numbers, or not as many as declared.
    """
    if len(answers) and _has_class_names(answers[0]) and declared.names is not None:
        return _parse_named_scores(answers, declared)
    if len(answers) and isinstance(answers[0], Mapping):
        keys = list(answers[0])
        odd = next(
            (one for one in answers if not isinstance(one, Mapping) or set(one) != set(keys)), None
        )
        if odd is not None:
            raise TargetError(
                f"Expected the numbers {', '.join(map(str, keys[:6]))} of each record, got "
                f"{describe_json(odd)}. Look at one answer and correct --answer."
            )
        answers = [[one[key] for key in keys] for one in answers]
    found = _parse_finite_numbers(answers)
    values: Floats = (
        found.reshape(len(found), -1) if found.size else found.reshape(0, declared.n or 1)
    )
    if declared.n is not None and values.shape[1] != declared.n:
        raise TargetError(
            f"Expected {declared.n} numbers a record, got {values.shape[1]}. Check --label, "
            "--n-classes and --answer."
        )
    return values


def _parse_finite_numbers(values: Any) -> Floats:
    """Parse finite numbers from a list of any depth.

    Raises:
        TargetError: It is ragged, or holds something else, or NaN or infinity.
    """
    try:
        found = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise TargetError(
            "Expected one list of numbers a record, all of one length, got something else. Correct "
            "--answer, which says where the scores are."
        ) from None
    if not np.isfinite(found).all():
        raise TargetError(
            f"Expected finite numbers, got {int((~np.isfinite(found)).sum())} that are NaN or "
            "infinite. Make the served model return finite numbers."
        )
    return found


def format_answers(outputs: Floats, declared: DeclaredOutputs) -> list[Any]:
    """Format outputs as a server's answers, so that `parse_outputs` gives them again.

    They are names, lists, or objects where classes are hidden.

    >>> format_answers(np.array([[0.9, np.nan]]), DeclaredOutputs(names=("b", "a"), top_k=1))
    [{'b': 0.9}]
    """
    names: Sequence[Any] = declared.classes or range(
        outputs.shape[1] if declared.n is None else declared.n
    )
    if declared.level == "labels":
        return [names[int(code)] for code in outputs[:, 0]]
    if declared.top_k is not None:
        return [
            {str(name): value for name, value in zip(names, row, strict=True) if value == value}
            for row in outputs.tolist()
        ]
    return outputs[:, declared.back].tolist()  # type: ignore[no-any-return]


def simplify_class_name(word: str) -> str:
    """Simplify a class's name to a form that every program writes.

    Whole numbers lose their point, truth values become numbers.

    >>> simplify_class_name("1.0"), simplify_class_name("True"), simplify_class_name("yes")
    ('1', '1', 'yes')
    """
    truth = {"true": "1", "false": "0"}.get(word.lower(), word)
    return truth[:-2] if truth.endswith(".0") else truth
