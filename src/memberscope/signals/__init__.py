"""Signals: what is observed about each record under a model, paid for once, checked and cached here."""

from memberscope.signals.outputs import Observed, collect, validate_labels, validate_outputs
from memberscope.signals.store import Store, digest_array, digest_records, write_bytes

__all__ = [
    "Observed",
    "Store",
    "collect",
    "digest_array",
    "digest_records",
    "validate_labels",
    "validate_outputs",
    "write_bytes",
]
