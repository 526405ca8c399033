"""Forecast an audit: what it would do, cost and see, before anything is asked."""

from memberscope.auditing.forecast.dry_run import forecast_audit, measure_training_seconds
from memberscope.auditing.forecast.settle_effort import LONGER
from memberscope.auditing.forecast.time_model import Seconds, time_target

__all__ = ["LONGER", "Seconds", "forecast_audit", "measure_training_seconds", "time_target"]
