"""Signals: what is observed about each record under a model.

All queries are made, checked and cached here, once.
"""

from memberscope.signals.collect import (
    PROBE,
    Observed,
    collect_outputs,
    validate_labels,
    validate_outputs,
    validate_truth,
)
from memberscope.signals.feature_domain import encode_in_domain
from memberscope.signals.label_oracle import ask_top_labels
from memberscope.signals.measure import measure_signal
from memberscope.signals.measured import (
    MeasuredSignal,
    build_single_stage,
    is_measured,
    with_query_budget,
)
from memberscope.signals.reduce import (
    SignalRequest,
    arrange_labels,
    measure_output_quality,
    reduce_outputs,
    restrict_to_access,
)
from memberscope.signals.store import Store, digest_records
from memberscope.signals.texts import (
    COPIED,
    SAMPLES,
    RestrictedTextTarget,
    check_tokens,
    collect_generation_answers,
    collect_token_answers,
    collect_tokens,
    compute_losses,
    explain_missing_part,
    hide_vocabulary,
)
from memberscope.signals.views import check_view, transform_view

__all__ = [
    "COPIED",
    "MeasuredSignal",
    "Observed",
    "PROBE",
    "RestrictedTextTarget",
    "SAMPLES",
    "SignalRequest",
    "Store",
    "arrange_labels",
    "ask_top_labels",
    "build_single_stage",
    "check_tokens",
    "check_view",
    "collect_generation_answers",
    "collect_outputs",
    "collect_token_answers",
    "collect_tokens",
    "compute_losses",
    "digest_records",
    "encode_in_domain",
    "explain_missing_part",
    "hide_vocabulary",
    "is_measured",
    "measure_output_quality",
    "measure_signal",
    "reduce_outputs",
    "restrict_to_access",
    "transform_view",
    "validate_labels",
    "validate_outputs",
    "validate_truth",
    "with_query_budget",
]
