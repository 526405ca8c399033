"""Detector thresholds from a benign log."""
