"""Defences, one a file: what is done to a recipe, and what to a model's outputs before anybody sees them.

An audit wraps a target in the same object that stands in front of the served model: what was measured is what is served.
"""

from memberscope.defences.behind_outputs import Answering
from memberscope.defences.distillation import Distillation
from memberscope.defences.dpsgd import DPSGD
from memberscope.defences.estimator_parameter import OwnParameters, Setting
from memberscope.defences.regularization import L2, Augment, Dropout, Mixup, Smooth, StopEarly
from memberscope.defences.relaxloss import HampTraining, Relax
from memberscope.defences.selena import Selena
from memberscope.defences.spec import Defended, defended, sweep
from memberscope.outputs.chain import Chain, restriction
from memberscope.outputs.hamp_output import HampOutput
from memberscope.outputs.label_only import LabelOnly
from memberscope.outputs.memguard import MemGuard
from memberscope.outputs.noise import OutputNoise
from memberscope.outputs.rounding import Rounding, tops_of
from memberscope.outputs.temperature import Temperature
from memberscope.outputs.top_k import TopK
from memberscope.types import OutputDefence

OUTPUT_DEFENCES: tuple[OutputDefence, ...] = (TopK(1), TopK(3), Rounding(2), Temperature(2.0), OutputNoise(0.5), LabelOnly())

__all__ = [
    "Answering",
    "Augment",
    "Chain",
    "DPSGD",
    "Defended",
    "Distillation",
    "Dropout",
    "HampOutput",
    "HampTraining",
    "L2",
    "LabelOnly",
    "MemGuard",
    "Mixup",
    "OUTPUT_DEFENCES",
    "OutputNoise",
    "OwnParameters",
    "Relax",
    "Rounding",
    "Selena",
    "Setting",
    "Smooth",
    "StopEarly",
    "Temperature",
    "TopK",
    "defended",
    "restriction",
    "sweep",
    "tops_of",
]
