"""Restrict a model's outputs: output defences, one a file.

An audit wraps a target in the same object that stands in front of the served model: what was
measured is what is served.
"""

from memberscope.outputs.chain import (
    KINDS,
    Chain,
    flatten_chain,
    join_parts,
    parse_restriction,
)
from memberscope.outputs.fitted_file import (
    fit_parts,
    has_fittable_part,
    load_fitted,
    name_fitted_file,
    save_fitted,
    with_fitted,
)
from memberscope.outputs.hamp_output import HampOutput
from memberscope.outputs.inversion import (
    INVERTED,
    AnyRecovery,
    InversionAttempt,
    Recovery,
    find_recovery,
    is_inverted,
    try_inversion,
)
from memberscope.outputs.keyed_parts import (
    derive_part_keys,
    list_randomised_parts,
    with_noise_key,
    without_noise_keys,
)
from memberscope.outputs.label_only import LabelOnly
from memberscope.outputs.memguard import MemGuard
from memberscope.outputs.noise import OutputNoise
from memberscope.outputs.noise_keys import derive_noise_key
from memberscope.outputs.ordering import (
    LABEL,
    NONE,
    build_restrictiveness_key,
    can_derive_answers,
    shorten_defence_name,
)
from memberscope.outputs.predictions import (
    Bins,
    Clipping,
    Decimals,
    Digits,
    Edges,
    Intervals,
    LabelsOnly,
    choose_edges,
)
from memberscope.outputs.rounding import Rounding, pick_top_classes
from memberscope.outputs.task_fit import can_restrict, check_restriction
from memberscope.outputs.temperature import Temperature
from memberscope.outputs.top_k import TopK
from memberscope.types import OutputDefence

# Noise comes without a key: whoever applies it adds one
OUTPUT_DEFENCES: tuple[OutputDefence, ...] = (
    TopK(1),
    TopK(3),
    Rounding(2),
    Temperature(2.0),
    OutputNoise(0.5),
    LabelOnly(),
)

# One of each kind for models that predict numbers, or several labels a record
NUMBER_DEFENCES: tuple[OutputDefence, ...] = (
    Decimals(0),
    Digits(2),
    Intervals(5.0),
    Bins(20, 0.0, 100.0),
    Edges((0.0, 10.0, 100.0)),
    Clipping(0.0, 100.0),
    LabelsOnly(),
)

__all__ = [
    "NUMBER_DEFENCES",
    "OUTPUT_DEFENCES",
    "AnyRecovery",
    "Bins",
    "Chain",
    "Clipping",
    "Decimals",
    "Digits",
    "Edges",
    "HampOutput",
    "INVERTED",
    "Intervals",
    "InversionAttempt",
    "KINDS",
    "LABEL",
    "LabelOnly",
    "LabelsOnly",
    "MemGuard",
    "NONE",
    "OutputNoise",
    "Recovery",
    "Rounding",
    "Temperature",
    "TopK",
    "build_restrictiveness_key",
    "can_derive_answers",
    "can_restrict",
    "check_restriction",
    "choose_edges",
    "derive_noise_key",
    "derive_part_keys",
    "find_recovery",
    "fit_parts",
    "flatten_chain",
    "has_fittable_part",
    "is_inverted",
    "join_parts",
    "list_randomised_parts",
    "load_fitted",
    "name_fitted_file",
    "parse_restriction",
    "pick_top_classes",
    "save_fitted",
    "shorten_defence_name",
    "try_inversion",
    "with_fitted",
    "with_noise_key",
    "without_noise_keys",
]
