"""Signals: what is observed about each record under a model, paid for once, checked and cached here."""

from memberscope._digests import digest_array
from memberscope._files import translate_disk_errors, write_bytes
from memberscope._numerics import softmax
from memberscope.signals.collect import Observed, collect_outputs, validate_labels, validate_outputs
from memberscope.signals.measure import measure_signal
from memberscope.signals.measured import MeasuredSignal, is_measured, with_query_budget
from memberscope.signals.reduce import SignalRequest, reduce_outputs, restrict_to_access
from memberscope.signals.store import Store, digest_records
from memberscope.signals.views import check_view, transform_view

__all__ = [
    "MeasuredSignal",
    "Observed",
    "Store",
    "SignalRequest",
    "with_query_budget",
    "check_view",
    "collect_outputs",
    "digest_array",
    "digest_records",
    "translate_disk_errors",
    "is_measured",
    "measure_signal",
    "reduce_outputs",
    "restrict_to_access",
    "softmax",
    "validate_labels",
    "validate_outputs",
    "transform_view",
    "write_bytes",
]
