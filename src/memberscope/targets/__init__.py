"""Targets: the audited model behind one method, `query`; the only rooms that know a framework."""

from memberscope.frames.fitted_columns import list_target_columns
from memberscope.targets.answers.output_kind import Outputs
from memberscope.targets.files.trust import LoadedTarget, TrustSettings
from memberscope.targets.frameworks.boosters import BoosterTarget
from memberscope.targets.frameworks.function import FunctionTarget
from memberscope.targets.frameworks.huggingface import HuggingFaceTarget
from memberscope.targets.frameworks.keras import KerasTarget
from memberscope.targets.frameworks.onnx import OnnxTarget
from memberscope.targets.frameworks.sklearn import SklearnTarget
from memberscope.targets.http.target import HttpTarget
from memberscope.targets.loading.load import load_target
from memberscope.targets.loading.wrap import read_class_names, resolve_n_classes, wrap
from memberscope.targets.stored.signals import StoredSignals, StoredTarget, read_signals
from memberscope.targets.tables import TableLayout, build_pair, read_pair, read_tables
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
    "TableLayout",
    "LoadedTarget",
    "OnnxTarget",
    "Outputs",
    "RestrictedTarget",
    "SklearnTarget",
    "StoredSignals",
    "StoredTarget",
    "TorchTarget",
    "TrustSettings",
    "read_class_names",
    "resolve_n_classes",
    "list_target_columns",
    "load_target",
    "build_pair",
    "read_pair",
    "read_signals",
    "read_tables",
    "wrap",
]
