"""Targets: the audited model behind one method, `query`.

Only these packages, recipes and training defences know a framework.
"""

from memberscope.targets.answers.output_kind import Outputs
from memberscope.targets.files.archives import check_archive
from memberscope.targets.files.trust import LoadedTarget, TrustSettings
from memberscope.targets.frameworks.boosters import BoosterTarget
from memberscope.targets.frameworks.function import FunctionOutputsTarget, FunctionTarget
from memberscope.targets.frameworks.huggingface import HuggingFaceTarget
from memberscope.targets.frameworks.keras import KerasTarget
from memberscope.targets.frameworks.onnx import OnnxTarget
from memberscope.targets.frameworks.sklearn import SklearnTarget
from memberscope.targets.frameworks.sklearn_outputs import SklearnOutputsTarget
from memberscope.targets.http.target import HttpTarget
from memberscope.targets.http.texts.target import TextServerTarget
from memberscope.targets.loading.load import load_target
from memberscope.targets.loading.wrap import read_class_names, resolve_n_classes, wrap
from memberscope.targets.released import ReleasedTable, read_released
from memberscope.targets.stored.references import (
    ReferenceOutputs,
    StoredNumber,
    describe_dependent_design,
    refuse_other_records,
)
from memberscope.targets.stored.signals import StoredSignals, StoredTarget, read_signals
from memberscope.targets.stored.tokens import (
    StoredTokens,
    StoredTokenTarget,
    holds_token_signals,
    read_token_signals,
)
from memberscope.targets.tables import TableLayout, build_pair, read_pair, read_tables
from memberscope.targets.tables.text_records import (
    is_text_list,
    make_text_records,
    read_text_pair,
    read_text_records,
)
from memberscope.targets.tasks import refuse_continuous_labels
from memberscope.targets.texts import (
    CausalLMTarget,
    MaskedLMTarget,
    TokenFunctionTarget,
    load_causal_lm,
    load_language_model,
)
from memberscope.targets.torch_modules.target import TorchTarget
from memberscope.targets.wrappers.restricted import RestrictedTarget

__all__ = [
    "BoosterTarget",
    "CausalLMTarget",
    "FunctionOutputsTarget",
    "FunctionTarget",
    "HttpTarget",
    "HuggingFaceTarget",
    "KerasTarget",
    "LoadedTarget",
    "MaskedLMTarget",
    "OnnxTarget",
    "Outputs",
    "ReferenceOutputs",
    "ReleasedTable",
    "RestrictedTarget",
    "SklearnOutputsTarget",
    "SklearnTarget",
    "StoredNumber",
    "StoredSignals",
    "StoredTarget",
    "StoredTokenTarget",
    "StoredTokens",
    "TableLayout",
    "TextServerTarget",
    "TokenFunctionTarget",
    "TorchTarget",
    "TrustSettings",
    "build_pair",
    "check_archive",
    "describe_dependent_design",
    "holds_token_signals",
    "is_text_list",
    "load_causal_lm",
    "load_language_model",
    "load_target",
    "make_text_records",
    "read_class_names",
    "read_pair",
    "read_released",
    "read_signals",
    "read_tables",
    "read_text_pair",
    "read_text_records",
    "read_token_signals",
    "refuse_continuous_labels",
    "refuse_other_records",
    "resolve_n_classes",
    "wrap",
]
