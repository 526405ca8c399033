"""Defences side by side: the sweep, and what each buys and costs."""

from memberscope.auditing.defend.frontier import FORMAT, Frontier, FrontierRow
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
    "SEARCHED",
    "SweepOptions",
    "list_sweep_attacks",
    "sweep_defences",
]
