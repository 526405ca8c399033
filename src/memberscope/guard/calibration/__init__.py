"""Calibrate detector thresholds on a benign log."""

from memberscope.guard.calibration.thresholds import tune_detectors
from memberscope.guard.calibration.thresholds_file import write_tuned

__all__ = ["tune_detectors", "write_tuned"]
