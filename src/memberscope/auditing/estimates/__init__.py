"""Rank the attacks and turn scores into estimates: rates with intervals, epsilon, single records."""

from memberscope.auditing.estimates.attack_part import build_whole_part

__all__ = ["build_whole_part"]
