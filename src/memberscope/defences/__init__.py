"""Defences, one a file: what is done to a recipe, and what to a model's outputs before anybody sees them.

An audit wraps a target in the same object that stands in front of the served model: what was measured is what is served.
"""

from memberscope.defences.behind_outputs import BehindOutputs
from memberscope.defences.distillation import Distillation
from memberscope.defences.dpsgd import DPSGD
from memberscope.defences.estimator_parameter import EstimatorParameter, Setting
from memberscope.defences.regularization import L2, Augment, Dropout, EarlyStopping, LabelSmoothing, Mixup
from memberscope.defences.relaxloss import HAMP, RelaxLoss
from memberscope.defences.selena import Selena
from memberscope.defences.spec import Defended, expand_sweep, parse_defence
from memberscope.outputs.chain import Chain, parse_restriction
from memberscope.outputs.hamp_output import HampOutput
from memberscope.outputs.label_only import LabelOnly
from memberscope.outputs.memguard import MemGuard
from memberscope.outputs.noise import OutputNoise
from memberscope.outputs.rounding import Rounding, pick_top_classes
from memberscope.outputs.temperature import Temperature
from memberscope.outputs.top_k import TopK
from memberscope.types import OutputDefence

OUTPUT_DEFENCES: tuple[OutputDefence, ...] = (TopK(1), TopK(3), Rounding(2), Temperature(2.0), OutputNoise(0.5), LabelOnly())

__all__ = [
    "BehindOutputs",
    "Augment",
    "Chain",
    "DPSGD",
    "Defended",
    "Distillation",
    "Dropout",
    "HampOutput",
    "HAMP",
    "L2",
    "LabelOnly",
    "MemGuard",
    "Mixup",
    "OUTPUT_DEFENCES",
    "OutputNoise",
    "EstimatorParameter",
    "RelaxLoss",
    "Rounding",
    "Selena",
    "Setting",
    "LabelSmoothing",
    "EarlyStopping",
    "Temperature",
    "TopK",
    "parse_defence",
    "parse_restriction",
    "expand_sweep",
    "pick_top_classes",
]
