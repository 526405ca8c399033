"""Bound the epsilon of differential privacy from below.

The scores are those of one run with canaries, or of many runs.
"""

from memberscope.statistics.epsilon.one_run_canaries import Form

__all__ = ["Form"]
