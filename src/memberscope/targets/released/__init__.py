"""A released table, such as synthetic records: no model is asked, only the table is looked at."""

from memberscope.targets.released.encoding import MixedEncoding, fit_encoding
from memberscope.targets.released.files import read_released
from memberscope.targets.released.nearness import (
    find_closest_distances,
    mark_copies,
    measure_nearness,
)
from memberscope.targets.released.target import ReleasedTable, read_table_columns

__all__ = [
    "MixedEncoding",
    "ReleasedTable",
    "find_closest_distances",
    "fit_encoding",
    "mark_copies",
    "measure_nearness",
    "read_released",
    "read_table_columns",
]
