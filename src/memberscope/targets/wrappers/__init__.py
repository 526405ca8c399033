"""Wrap targets in other targets: an output defence, or a count of queries."""

from memberscope.targets.wrappers.query_budget import find_metered_target

__all__ = ["find_metered_target"]
