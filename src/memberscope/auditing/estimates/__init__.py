"""From scores to estimates: rates with intervals, diagnostics, epsilon.

And records by themselves.
"""

from memberscope.auditing.estimates.estimates import build_whole_part

__all__ = ["build_whole_part"]
