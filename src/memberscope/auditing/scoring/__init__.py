"""Run the attacks of the plan on the evidence, cross-fitted where they learn."""

from memberscope.auditing.scoring.crossfit import pool_scores
from memberscope.auditing.scoring.null_control import find_pseudo_members

__all__ = ["find_pseudo_members", "pool_scores"]
