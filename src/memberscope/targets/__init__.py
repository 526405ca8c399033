"""Targets: the audited model behind one method, `query`; the only rooms that know a framework."""

from memberscope.frames.fitted_columns import fitted_columns_of
from memberscope.targets.answers.output_kind import Outputs
from memberscope.targets.files.trust import Loaded, Trust
from memberscope.targets.frameworks.boosters import BoosterTarget
from memberscope.targets.frameworks.function import FunctionTarget
from memberscope.targets.frameworks.huggingface import HuggingFaceTarget
from memberscope.targets.frameworks.keras import KerasTarget
from memberscope.targets.frameworks.onnx import OnnxTarget
from memberscope.targets.frameworks.sklearn import SklearnTarget
from memberscope.targets.http.target import HttpTarget
from memberscope.targets.loading.load import load_target
from memberscope.targets.loading.wrap import class_names_of, counted, wrap
from memberscope.targets.stored.signals import StoredSignals, StoredTarget, read_signals
from memberscope.targets.tables import Layout, pair_of, read_pair, read_tables
from memberscope.targets.torch_modules.target import TorchTarget
from memberscope.targets.wrappers.restricted import RestrictedTarget
from memberscope.wire.endpoint import Endpoint

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
