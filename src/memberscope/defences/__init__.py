"""Defences, one a file: what is done to a recipe, and what to a model's outputs before anybody sees them.

An audit wraps a target in the same object that stands in front of the served model: what was measured is what is served.
"""

from memberscope.defences.answering import Answering
from memberscope.defences.chain import Chain, restriction
from memberscope.defences.distillation import Distillation
from memberscope.defences.dpsgd import DPSGD
from memberscope.defences.estimator import OwnParameters, Setting
from memberscope.defences.hamp import HampOutput
from memberscope.defences.labelonly import LabelOnly
from memberscope.defences.memguard import MemGuard
from memberscope.defences.names import Defended, defended, sweep
from memberscope.defences.noise import OutputNoise
from memberscope.defences.regularise import L2, Augment, Dropout, Mixup, Smooth, StopEarly
from memberscope.defences.relaxloss import HampTraining, Relax
from memberscope.defences.rounding import Rounding, tops_of
from memberscope.defences.selena import Selena
from memberscope.defences.temperature import Temperature
from memberscope.defences.topk import TopK
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
