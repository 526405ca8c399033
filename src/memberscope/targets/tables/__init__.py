"""Records in files: how a table is read, what its columns are, and which of them the model gets."""

from memberscope.frames.column_kinds import read_kinds
from memberscope.targets.tables.files import read_table
from memberscope.targets.tables.fitted_kinds import find_fitted_columns, is_text_model
from memberscope.targets.tables.records import TableLayout, Tables, build_pair, read_pair, read_tables

__all__ = [
    "TableLayout",
    "Tables",
    "find_fitted_columns",
    "is_text_model",
    "build_pair",
    "read_kinds",
    "read_pair",
    "read_table",
    "read_tables",
]
