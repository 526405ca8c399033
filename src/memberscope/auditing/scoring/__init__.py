"""Run the attacks of the plan on the evidence, cross-fitted where they learn."""

from memberscope.auditing.scoring.crossfit import pool_scores

__all__ = ["pool_scores"]
