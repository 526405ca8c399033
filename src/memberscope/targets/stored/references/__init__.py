"""Read what reference models that others trained answered about the records of a target."""

from memberscope.targets.stored.references.arrays import SignalArrays, read_signal_arrays
from memberscope.targets.stored.references.folder import read_signal_source
from memberscope.targets.stored.references.outputs import (
    ReferenceOutputs,
    StoredNumber,
    describe_dependent_design,
    refuse_other_records,
)

__all__ = [
    "ReferenceOutputs",
    "SignalArrays",
    "StoredNumber",
    "describe_dependent_design",
    "read_signal_arrays",
    "read_signal_source",
    "refuse_other_records",
]
