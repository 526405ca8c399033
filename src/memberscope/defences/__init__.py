"""Defences: what is done to a model's outputs before anybody sees them, one a file.

An audit wraps a target in the same object that stands in front of the served model: what was measured is what is served.
"""

from memberscope.defences.chain import Chain, restriction
from memberscope.defences.hamp import HampOutput
from memberscope.defences.labelonly import LabelOnly
from memberscope.defences.memguard import MemGuard
from memberscope.defences.noise import OutputNoise
from memberscope.defences.rounding import Rounding, tops_of
from memberscope.defences.temperature import Temperature
from memberscope.defences.topk import TopK
from memberscope.types import OutputDefence

OUTPUT_DEFENCES: tuple[OutputDefence, ...] = (TopK(1), TopK(3), Rounding(2), Temperature(2.0), OutputNoise(0.5), LabelOnly())

__all__ = [
    "OUTPUT_DEFENCES",
    "Chain",
    "HampOutput",
    "LabelOnly",
    "MemGuard",
    "OutputNoise",
    "Rounding",
    "Temperature",
    "TopK",
    "restriction",
    "tops_of",
]
