"""Attacks on models that predict numbers, courses of numbers, or several labels a record."""

from memberscope.attacks.outputs.error_quantile import ErrorQuantile
from memberscope.attacks.outputs.errors import PredictionError
from memberscope.attacks.outputs.labels import LabelGap, LabelLoss
from memberscope.attacks.outputs.lira_labels import LiRALabels, RobustLiRALabels
from memberscope.attacks.outputs.lira_prediction import LiRAPrediction
from memberscope.attacks.outputs.lira_prediction_robust import RobustLiRAPrediction
from memberscope.attacks.outputs.lira_series import LiRASeries
from memberscope.attacks.outputs.rmia_labels import RMIALabels
from memberscope.attacks.outputs.rmia_prediction import RMIAPrediction

__all__ = [
    "ErrorQuantile",
    "LabelGap",
    "LabelLoss",
    "LiRALabels",
    "LiRAPrediction",
    "LiRASeries",
    "PredictionError",
    "RMIALabels",
    "RMIAPrediction",
    "RobustLiRALabels",
    "RobustLiRAPrediction",
]
