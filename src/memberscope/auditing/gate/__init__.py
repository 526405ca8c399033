"""The gate of releases: waivers of failed claims, and the baseline that no release may exceed."""

from memberscope.auditing.gate.baseline import BaselineOutcome, judge_against_baseline
from memberscope.auditing.gate.outcome import (
    BASELINE,
    GateOutcome,
    WaivedFinding,
    conclude_gate,
    show_gate,
)
from memberscope.auditing.gate.waivers import Waiver, parse_date, read_waivers

__all__ = [
    "BASELINE",
    "BaselineOutcome",
    "GateOutcome",
    "WaivedFinding",
    "Waiver",
    "conclude_gate",
    "judge_against_baseline",
    "parse_date",
    "read_waivers",
    "show_gate",
]
