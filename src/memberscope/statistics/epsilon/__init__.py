"""Bound the epsilon of differential privacy from below.

From one run with canaries or from many runs.
"""

from memberscope.statistics.epsilon.one_run_canaries import Form

__all__ = ["Form"]
