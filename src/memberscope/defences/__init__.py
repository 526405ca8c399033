"""Training defences, one family in a file: functions from a recipe to a recipe."""

from memberscope.defences.behind_outputs import BehindOutputs
from memberscope.defences.distillation import Distillation
from memberscope.defences.dpsgd import DPSGD
from memberscope.defences.estimator_parameter import EstimatorParameter, Setting
from memberscope.defences.regularization import (
    L2,
    Augment,
    Dropout,
    EarlyStopping,
    LabelSmoothing,
    Mixup,
)
from memberscope.defences.relaxloss import HAMP, RelaxLoss
from memberscope.defences.selena import Selena
from memberscope.defences.spec import Defended, expand_sweep, parse_defence

__all__ = [
    "BehindOutputs",
    "Augment",
    "DPSGD",
    "Defended",
    "Distillation",
    "Dropout",
    "HAMP",
    "L2",
    "Mixup",
    "EstimatorParameter",
    "RelaxLoss",
    "Selena",
    "Setting",
    "LabelSmoothing",
    "EarlyStopping",
    "parse_defence",
    "expand_sweep",
]
