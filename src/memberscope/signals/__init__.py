"""Signals: what is observed about each record under a model, paid for once, checked and cached here."""

from memberscope._digests import digest_array
from memberscope._files import disk_errors, write_bytes
from memberscope._numerics import softmax
from memberscope.signals.collect import Observed, collect, validate_labels, validate_outputs
from memberscope.signals.measure import measure
from memberscope.signals.measured import Measured, budgeted, is_measured
from memberscope.signals.reduce import Wanted, reduced, seen_at
from memberscope.signals.store import Store, digest_records
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
