"""Restrict predicted numbers, or which labels of several apply."""

from memberscope.outputs.predictions.intervals import (
    Bins,
    Clipping,
    Edges,
    Intervals,
    choose_edges,
)
from memberscope.outputs.predictions.labels_only import LabelsOnly
from memberscope.outputs.predictions.rounding import Decimals, Digits

__all__ = [
    "Bins",
    "Clipping",
    "Decimals",
    "Digits",
    "Edges",
    "Intervals",
    "LabelsOnly",
    "choose_edges",
]
