"""Tell which models' answers an output defence can restrict."""

from __future__ import annotations

from memberscope.errors import InputError
from memberscope.outputs.chain import flatten_chain
from memberscope.outputs.predictions import (
    Bins,
    Clipping,
    Decimals,
    Digits,
    Edges,
    Intervals,
    LabelsOnly,
)
from memberscope.types import OutputDefence, Task

NUMBERS: tuple[Task, ...] = ("regression", "forecast")
# By what each is made for; all others restrict the probabilities of classes
TASKS: dict[type, tuple[Task, ...]] = {
    Decimals: (*NUMBERS, "multilabel"),
    **dict.fromkeys((Digits, Intervals, Bins, Edges, Clipping), NUMBERS),
    LabelsOnly: ("multilabel",),
}
EXAMPLES: dict[Task, str] = {
    "regression": "decimals:0, digits:2, interval:5, bins:20:0:100, edges:0:10:100 or clip:0:100",
    "multilabel": "decimals:2 or labels:0.5",
}
EXAMPLES["forecast"] = EXAMPLES["regression"]


def can_restrict(defence: OutputDefence, task: Task) -> bool:
    """Tell whether each part of a defence restricts answers of models of this task.

    >>> can_restrict(Decimals(1), "forecast"), can_restrict(LabelsOnly(), "regression")
    (True, False)
    """
    return all(
        task in TASKS.get(type(part), ("classification",)) for part in flatten_chain(defence)
    )


def check_restriction(defence: OutputDefence, task: Task) -> None:
    """Refuse a defence that restricts answers of another kind.

    Raises:
        InputError: It does.

    >>> check_restriction(Decimals(1), "regression")
    """
    if can_restrict(defence, task):
        return
    if task not in EXAMPLES:
        raise InputError(
            f"Expected no restriction of numbers on a model of {task}, got {defence.name}. Give "
            "top:1, round:2 or label for classes, or none."
        )
    raise InputError(
        f"Expected a restriction for {task}, got {defence.name}. Give {EXAMPLES[task]}, or several "
        "joined by +."
    )
