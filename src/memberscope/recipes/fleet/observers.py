"""Select by task how the models of a fleet are observed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numpy.typing import NDArray

from memberscope.recipes.fleet.observe_model import Observation, observe_signals
from memberscope.recipes.fleet.observe_outputs import observe_output_signals
from memberscope.recipes.fleet.observe_texts import observe_text_signals
from memberscope.types import OUTPUT_TASKS, Bools, Records, Target, Task

Observer = Callable[[Observation, Target, Records, Bools, Records | None], dict[str, NDArray[Any]]]


def select_observer(task: Task) -> Observer:
    """Select the function that observes models of a task.

    >>> select_observer("text").__name__, select_observer("forecast").__name__
    ('observe_text_signals', 'observe_output_signals')
    """
    if task in OUTPUT_TASKS or task == "table":
        return observe_output_signals
    return observe_text_signals if task == "text" else observe_signals
