"""A path to a place in a JSON document, such as `outputs.0.scores` or `predictions[*].probs`."""

from __future__ import annotations

import re
from typing import Any

from memberscope.errors import InputError, TargetError

Step = str | int
STEP = re.compile(r"\.?([^.\[\]]+)|\[(\*|\d+|'[^']*'|\"[^\"]*\")\]")


def steps_of(path: str) -> tuple[Step, ...]:
    """The steps of a path: names, whole numbers for places in a list, `*` for each entry of one; none for the document itself.

    Raises:
        InputError: The path cannot be read.

    >>> steps_of("outputs.0.scores"), steps_of("predictions[*].probs")
    (('outputs', 0, 'scores'), ('predictions', '*', 'probs'))
    """
    steps: list[Step] = []
    text, at = path.removeprefix("$").removeprefix("."), 0
    while at < len(text):
        found = STEP.match(text, at)
        if found is None:
            raise InputError(f"Expected a path such as predictions[*].probs, got {path!r}. Repair --answer.")
        word = found[1] or found[2]
        steps.append(int(word) if word.isdigit() else word.strip("'\""))
        at = found.end()
    return tuple(steps)


def pick(document: Any, steps: tuple[Step, ...]) -> Any:
    """What stands in `document` at the end of the path.

    Raises:
        TargetError: There is nothing; the sentence says how far the path led.

    >>> pick({"predictions": [{"p": 1}, {"p": 2}]}, ("predictions", "*", "p"))
    [1, 2]
    """
    for place, step in enumerate(steps):
        if step == "*" and isinstance(document, list):
            return [pick(entry, steps[place + 1 :]) for entry in document]
        if isinstance(step, int) and isinstance(document, list) and step < len(document):
            document = document[step]
        elif isinstance(document, dict) and str(step) in document:
            document = document[str(step)]
        else:
            raise TargetError(
                f"Expected {step!r} in the answer as --answer says, got {described(document)}. Look at one answer and repair --answer."
            )
    return document


def put(steps: tuple[Step, ...], value: Any) -> Any:
    """The smallest document in which `pick` finds `value`.

    >>> put(("predictions", "*", "p"), [1, 2])
    {'predictions': [{'p': 1}, {'p': 2}]}
    """
    if not steps:
        return value
    step, rest = steps[0], steps[1:]
    if step == "*":
        return [put(rest, entry) for entry in value]
    if isinstance(step, int):
        return [None] * step + [put(rest, value)]
    return {step: put(rest, value)}


def described(value: Any) -> str:
    """A JSON value in a few words, without what it holds.

    >>> described({"a": 1, "b": 2}), described([1, 2]), described(None)
    ('an object with a, b', 'a list of 2', 'null')
    """
    if isinstance(value, dict):
        return f"an object with {', '.join(list(map(str, value))[:6])}" if value else "an empty object"
    if isinstance(value, list):
        return f"a list of {len(value)}"
    return "null" if value is None else f"a {type(value).__name__}"
