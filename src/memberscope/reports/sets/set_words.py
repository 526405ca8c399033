"""Words for the answers about a collection, on a page and in a terminal."""

from __future__ import annotations

import re

from memberscope._text import format_percentage
from memberscope.auditing import SetAnswer, SetResult

_ASKED = {
    "used": "Was the collection used?",
    "share": "How much of it was used?",
    "list": "Can any of it be named as used?",
    "near": "Was anything near it used?",
}


def describe_sides(found: SetResult) -> str:
    """Describe the collection and what it is compared with."""
    units = f" ({found.n_suspect_units} units)" if found.n_suspect_units else ""
    others = f" ({found.n_held_out_units} units)" if found.n_held_out_units else ""
    return (
        f"a collection of {found.n_suspect} records{units}, compared with {found.n_held_out} "
        f"held-out records{others}"
    )


def write_question(answer: SetAnswer, margin: float) -> str:
    """Write what was asked; `margin` is the share that counts as not used.

    >>> answer = SetAnswer("not_used", None, None, None, None, (), "NO", "", "", None, 9, 9, None, "")
    >>> write_question(answer, 0.1)
    'Was 10% or more of it used?'
    """
    return _ASKED.get(answer.question, f"Was {format_percentage(margin)} or more of it used?")


def write_decision(answer: SetAnswer) -> str:
    """Write the decision as a reader sees it, such as `NOT SHOWN`."""
    return answer.decision.replace("_", " ")


def describe_power(answer: SetAnswer) -> str:
    """Describe the power at each number of units.

    >>> describe_power(SetAnswer("used", 0.6, 0.5, 0.7, 0.001, ((10, 0.36), (400, 1.0)), "YES", "", "",
    ...     None, 400, 400, None, ""))
    'Probability of showing use at a difference as large, by records a side: 10: 36%, 400: 100%.'
    """
    parts = ", ".join(f"{n}: {format_percentage(share)}" for n, share in answer.power)
    return (
        f"Probability of showing use at a difference as large, by {name_counted(answer)} a side: "
        f"{parts}."
    )


def name_counted(answer: SetAnswer) -> str:
    """Name what an answer counts: `records`, or `units` where records come in units."""
    return "records" if answer.n_units is None else "units"


def list_assumptions(found: SetResult) -> list[str]:
    """List the sentences that the answers assume; several answers share some."""
    every = " ".join(entry.assumption for entry in found.answers)
    return [sentence for sentence in dict.fromkeys(re.split(r"(?<=\.) ", every)) if sentence]
