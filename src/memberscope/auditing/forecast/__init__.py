"""Forecast an audit: what it would do, cost and see, before anything is asked."""

from memberscope.auditing.forecast.dry_run import forecast_audit, measure_training_seconds
from memberscope.auditing.forecast.settle_effort import LONGER, NO_QUERIES, ONLY_STORED
from memberscope.auditing.forecast.text_costs import (
    ReferenceCost,
    describe_missing_references,
    describe_reference_costs,
    forecast_reference_costs,
)
from memberscope.auditing.forecast.time_model import Seconds, time_target

__all__ = [
    "LONGER",
    "NO_QUERIES",
    "ONLY_STORED",
    "ReferenceCost",
    "Seconds",
    "describe_missing_references",
    "describe_reference_costs",
    "forecast_audit",
    "forecast_reference_costs",
    "measure_training_seconds",
    "time_target",
]
