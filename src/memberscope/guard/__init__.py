"""The guard in front of a served model: it answers with what was measured, within budgets, and watches for campaigns."""

from memberscope.guard.policy import GuardPolicy, read_policy

__all__ = ["GuardPolicy", "read_policy"]
