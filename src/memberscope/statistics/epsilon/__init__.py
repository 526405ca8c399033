"""Lower bounds on the epsilon of differential privacy.

From one run with canaries or from many runs.
"""

from memberscope.statistics.epsilon.one_run_canaries import Form

__all__ = ["Form"]
