"""Follow paths in JSON documents, such as `outputs.0.scores` or `predictions[*].probs`."""

from __future__ import annotations

import re
from typing import Any

from memberscope.errors import InputError, TargetError

Step = str | int
# A name, with a point before it unless it is the first, or brackets: *, a number or a quoted name
STEP = re.compile(r"\.?([^.\[\]]+)|\[(\*|\d+|'[^']*'|\"[^\"]*\")\]")


def parse_path(path: str) -> tuple[Step, ...]:
    """Parse a path: names, whole numbers for places in a list, `*` for each entry of one.

    A path without steps leads to the document itself.

    Raises:
        InputError: The path cannot be read.

    >>> parse_path("outputs.0.scores"), parse_path("predictions[*].probs")
    (('outputs', 0, 'scores'), ('predictions', '*', 'probs'))
    """
    steps: list[Step] = []
    # As JSONPath writes the document itself
    text, at = path.removeprefix("$").removeprefix("."), 0
    while at < len(text):
        found = STEP.match(text, at)
        if found is None:
            raise InputError(
                f"Expected a path such as predictions[*].probs, got {path!r}. Correct --answer, or "
                "answer under [serving] in a guard's policy."
            )
        word = found[1] or found[2]
        steps.append(int(word) if word.isdigit() else word.strip("'\""))
        at = found.end()
    return tuple(steps)


def pick_value(document: Any, steps: tuple[Step, ...]) -> Any:
    """Pick the value at the end of the path in `document`.

    Raises:
        TargetError: There is nothing; the sentence says how far the path led.

    >>> pick_value({"predictions": [{"p": 1}, {"p": 2}]}, ("predictions", "*", "p"))
    [1, 2]
    """
    for place, step in enumerate(steps):
        if step == "*" and isinstance(document, list):
            return [pick_value(entry, steps[place + 1 :]) for entry in document]
        if isinstance(step, int) and isinstance(document, list) and step < len(document):
            document = document[step]
        # A key of an object may be a number in the path
        elif isinstance(document, dict) and str(step) in document:
            document = document[str(step)]
        else:
            raise TargetError(
                f"Expected {step!r} in the answer as --answer says, got {describe_json(document)}. "
                "Look at one answer and correct --answer."
            )
    return document


def build_document(steps: tuple[Step, ...], value: Any) -> Any:
    """Build the smallest document in which `pick_value` finds `value`.

    >>> build_document(("predictions", "*", "p"), [1, 2])
    {'predictions': [{'p': 1}, {'p': 2}]}
    """
    if not steps:
        return value
    step, rest = steps[0], steps[1:]
    if step == "*":
        return [build_document(rest, entry) for entry in value]
    if isinstance(step, int):
        # The places before it are never read
        return [None] * step + [build_document(rest, value)]
    return {step: build_document(rest, value)}


def merge_documents(first: Any, second: Any) -> Any:
    """Merge two documents made by `build_document`; where both have a value, the first one's stays.

    >>> merge_documents({"rows": [{"p": 1}]}, {"rows": [{"q": 2}], "version": "a"})
    {'rows': [{'p': 1, 'q': 2}], 'version': 'a'}
    """
    if isinstance(first, dict) and isinstance(second, dict):
        return {
            key: merge_documents(first.get(key), second.get(key)) for key in {**first, **second}
        }
    if isinstance(first, list) and isinstance(second, list):
        both = [merge_documents(*pair) for pair in zip(first, second, strict=False)]
        return both + first[len(both) :] + second[len(both) :]
    # None stands at a place that build_document only counts, or where one has no value
    return second if first is None else first


def describe_json(value: Any) -> str:
    """Describe a JSON value in a few words, without its content.

    >>> describe_json({"a": 1, "b": 2}), describe_json([1, 2]), describe_json(None)
    ('an object with a, b', 'a list of 2', 'null')
    """
    if isinstance(value, dict):
        return (
            f"an object with {', '.join(list(map(str, value))[:6])}" if value else "an empty object"
        )
    if isinstance(value, list):
        return f"a list of {len(value)}"
    return "null" if value is None else f"a {type(value).__name__}"
