"""Signals of somebody's own: measured on a target that answers no more than they declare."""

from memberscope.signals.custom.limited_target import LimitedTarget, measure_custom

__all__ = ["LimitedTarget", "measure_custom"]
