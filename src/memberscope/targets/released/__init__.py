"""A released table, such as synthetic records: no model is asked, only the table is looked at."""

from memberscope.targets.released.encoding import MixedEncoding, fit_encoding
from memberscope.targets.released.nearness import (
    find_closest_distances,
    mark_copies,
    measure_nearness,
)

__all__ = [
    "MixedEncoding",
    "find_closest_distances",
    "fit_encoding",
    "mark_copies",
    "measure_nearness",
]
