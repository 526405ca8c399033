"""Audits in registries of models and experiments: the numbers to log, and MLflow."""

from memberscope.reports.registries.logged_values import (
    list_logged_metrics,
    list_logged_params,
    list_logged_tags,
)
from memberscope.reports.registries.mlflow_log import MlflowPlace, log_to_mlflow

__all__ = [
    "MlflowPlace",
    "list_logged_metrics",
    "list_logged_params",
    "list_logged_tags",
    "log_to_mlflow",
]
