"""Targets: the audited model behind one method, `query`; the only rooms that know a framework."""

from memberscope.targets.function import FunctionTarget
from memberscope.targets.loading import Loaded, Trust, load_target
from memberscope.targets.restricted import RestrictedTarget
from memberscope.targets.sklearn import SklearnTarget
from memberscope.targets.stored import StoredSignals, StoredTarget, read_signals
from memberscope.targets.tables import Layout, read_pair
from memberscope.targets.torch import TorchTarget
from memberscope.targets.wrap import class_names_of, fitted_columns_of, wrap

__all__ = [
    "FunctionTarget",
    "Layout",
    "Loaded",
    "RestrictedTarget",
    "SklearnTarget",
    "StoredSignals",
    "StoredTarget",
    "TorchTarget",
    "Trust",
    "class_names_of",
    "fitted_columns_of",
    "load_target",
    "read_pair",
    "read_signals",
    "wrap",
]
