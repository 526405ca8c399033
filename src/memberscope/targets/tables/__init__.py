"""Read records in files: the table, its columns, and which of them the model gets."""

from memberscope.targets.tables.columns import Columns, read_unit_names
from memberscope.targets.tables.files import TEXT, find_suffix, read_table
from memberscope.targets.tables.fitted_kinds import find_fitted_columns, is_text_model
from memberscope.targets.tables.identifiers import IdLike, find_id_like_columns
from memberscope.targets.tables.read_columns import read_columns
from memberscope.targets.tables.records import (
    TableLayout,
    Tables,
    build_model_inputs,
    build_pair,
    is_numeric_column,
    read_pair,
    read_tables,
    spell_column,
)
from memberscope.targets.tables.stack_as_fitted import stack_as_fitted
from memberscope.targets.tables.text import read_words
from memberscope.targets.tables.true_values import split_column_names

__all__ = [
    "Columns",
    "IdLike",
    "TEXT",
    "TableLayout",
    "Tables",
    "build_model_inputs",
    "build_pair",
    "find_fitted_columns",
    "find_id_like_columns",
    "find_suffix",
    "is_numeric_column",
    "is_text_model",
    "read_columns",
    "read_pair",
    "read_table",
    "read_tables",
    "read_unit_names",
    "read_words",
    "spell_column",
    "split_column_names",
    "stack_as_fitted",
]
