"""The answer to one question about a collection of records, and the controls that it rests on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

SetQuestion = Literal["used", "not_used", "share", "list", "near"]
# What a statement says once its controls have passed
SetDecision = Literal["YES", "NO", "NOT_SHOWN", "ESTIMATED", "WITHHELD", "NOT_RUN"]


@dataclass(frozen=True)
class SetControl:
    """One thing that must hold for an answer to mean what it says.

    `passed` is null where it could not be checked, and `why` is a sentence either way. `p_value` is
    that of a control which is itself a test.

    >>> SetControl("held_out", True, "The held-out records do not differ among themselves.", 0.6).passed
    True
    """

    name: str
    passed: bool | None
    why: str
    p_value: float | None = None


@dataclass(frozen=True)
class SetAnswer:
    """The answer to one question about the suspect collection.

    `value` with its limits `low` and `high` is in the unit of the question: for `used` the
    difference of mean scores in standard deviations of a unit, for `not_used` and `share` the share
    of the collection, for `list` the number of units named, for `near` the number of records near
    which something was trained on. What a question does not give is null.

    `power` has pairs of a number of units and the probability that the test would have shown use
    with so many on either side. `statement` is the sentence to sign; it is right only under
    `assumption`. `withheld` says why there is no statement about use, and is null where there is
    one. `n_units` counts the units of the suspect collection, null where each record is its own.

    >>> answer = SetAnswer("share", 0.5, 0.45, 0.55, None, (), "ESTIMATED", "Half was used.",
    ...     "The held-out records are like the suspect ones.", None, 100, 100, None, "duci")
    >>> answer.decision, answer.withheld
    ('ESTIMATED', None)
    """

    question: SetQuestion
    value: float | None
    low: float | None
    high: float | None
    p_value: float | None
    power: tuple[tuple[int, float], ...]
    decision: SetDecision
    statement: str
    assumption: str
    withheld: str | None
    n_suspect: int
    n_held_out: int
    n_units: int | None
    method: str
    controls: tuple[SetControl, ...] = ()
