"""Signals: what is observed about each record under a model, paid for once, checked and cached here."""

from memberscope.signals.measure import Measured, budgeted, is_measured, measure
from memberscope.signals.outputs import Observed, collect, validate_labels, validate_outputs
from memberscope.signals.reduce import Wanted, reduced, seen_at, softmax
from memberscope.signals.store import Store, digest_array, digest_records, disk_errors, write_bytes
from memberscope.signals.views import check_view, view

__all__ = [
    "Measured",
    "Observed",
    "Store",
    "Wanted",
    "budgeted",
    "check_view",
    "collect",
    "digest_array",
    "digest_records",
    "disk_errors",
    "is_measured",
    "measure",
    "reduced",
    "seen_at",
    "softmax",
    "validate_labels",
    "validate_outputs",
    "view",
    "write_bytes",
]
