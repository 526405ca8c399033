"""Defences side by side: the sweep, and what each buys and costs."""

from memberscope.auditing.defend.default_sweep import (
    MOST_CANARIES,
    choose_default_canaries,
    choose_default_defences,
)
from memberscope.auditing.defend.frontier import FORMAT, Frontier, FrontierRow
from memberscope.auditing.defend.shares import name_quality
from memberscope.auditing.defend.sweep import (
    SEARCHED,
    SweepOptions,
    list_sweep_attacks,
    sweep_defences,
)

__all__ = [
    "FORMAT",
    "Frontier",
    "FrontierRow",
    "MOST_CANARIES",
    "SEARCHED",
    "SweepOptions",
    "choose_default_canaries",
    "choose_default_defences",
    "list_sweep_attacks",
    "name_quality",
    "sweep_defences",
]
