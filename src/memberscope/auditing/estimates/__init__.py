"""Turn scores into estimates: rates with intervals, diagnostics, epsilon, and single records."""

from memberscope.auditing.estimates.estimates import build_whole_part

__all__ = ["build_whole_part"]
