"""Targets: the audited model behind one method, `query`; the only rooms that know a framework."""

from memberscope.targets.boosters import BoosterTarget
from memberscope.targets.endpoint import Endpoint
from memberscope.targets.fitted import fitted_columns_of
from memberscope.targets.function import FunctionTarget
from memberscope.targets.http import HttpTarget
from memberscope.targets.huggingface import HuggingFaceTarget
from memberscope.targets.keras import KerasTarget
from memberscope.targets.kinds import Outputs
from memberscope.targets.loading import load_target
from memberscope.targets.onnx import OnnxTarget
from memberscope.targets.restricted import RestrictedTarget
from memberscope.targets.sklearn import SklearnTarget
from memberscope.targets.stored import StoredSignals, StoredTarget, read_signals
from memberscope.targets.tables import Layout, pair_of, read_pair, read_tables
from memberscope.targets.torch import TorchTarget
from memberscope.targets.trust import Loaded, Trust
from memberscope.targets.wrap import class_names_of, counted, wrap

__all__ = [
    "BoosterTarget",
    "Endpoint",
    "FunctionTarget",
    "HttpTarget",
    "HuggingFaceTarget",
    "KerasTarget",
    "Layout",
    "Loaded",
    "OnnxTarget",
    "Outputs",
    "RestrictedTarget",
    "SklearnTarget",
    "StoredSignals",
    "StoredTarget",
    "TorchTarget",
    "Trust",
    "class_names_of",
    "counted",
    "fitted_columns_of",
    "load_target",
    "pair_of",
    "read_pair",
    "read_signals",
    "read_tables",
    "wrap",
]
