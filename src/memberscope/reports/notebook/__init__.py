"""What a result shows in Python: a card for notebooks, tables, charts, progress."""

from memberscope.reports.notebook.card import describe_result, render_card
from memberscope.reports.notebook.plots import Plots, build_plots
from memberscope.reports.notebook.progress import name_stage, open_progress, show_progress
from memberscope.reports.notebook.saved import load, save_result
from memberscope.reports.notebook.tables import (
    RocPoints,
    build_estimate_frame,
    build_record_frame,
    build_roc_points,
    build_score_frame,
)

__all__ = [
    "Plots",
    "RocPoints",
    "build_estimate_frame",
    "build_plots",
    "build_record_frame",
    "build_roc_points",
    "build_score_frame",
    "describe_result",
    "load",
    "open_progress",
    "render_card",
    "save_result",
    "name_stage",
    "show_progress",
]
