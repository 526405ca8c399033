"""Records in memory: data frames, arrays, lists and several inputs, through one entrance."""

from memberscope.frames.access import (
    choose_rows,
    count_rows,
    is_frame,
    is_sparse,
    list_values,
    name_columns,
    open_frame,
    pick_columns,
    read_frame_columns,
    refuse_repeated_names,
    rename_frame,
    slice_rows,
    take_first_column,
)
from memberscope.frames.arrow_words import ArrowWords
from memberscope.frames.column_kinds import (
    DATE,
    FALSE,
    MISSING,
    TRUE,
    ColumnSpec,
    find_column_kind,
    find_column_spec,
    mark_missing,
    read_kinds,
    type_words,
)
from memberscope.frames.column_values import as_numpy, as_words, convert_objects, is_missing, make_object_array
from memberscope.frames.datasets import read_dataset
from memberscope.frames.fitted_columns import list_estimator_columns, list_target_columns
from memberscope.frames.inputs import cast_values, find_columns, make_dense_array, reshape_values, select_columns
from memberscope.frames.several_inputs import Inputs, read_inputs
from memberscope.frames.stacking import SIDES, convert_to_array, match_records, place_fitted, stack_sides, take_fitted_order

__all__ = [
    "ArrowWords",
    "ColumnSpec",
    "DATE",
    "FALSE",
    "Inputs",
    "MISSING",
    "SIDES",
    "TRUE",
    "as_numpy",
    "as_words",
    "cast_values",
    "choose_rows",
    "convert_objects",
    "convert_to_array",
    "count_rows",
    "find_column_kind",
    "find_column_spec",
    "find_columns",
    "is_frame",
    "is_missing",
    "is_sparse",
    "list_estimator_columns",
    "list_target_columns",
    "list_values",
    "make_dense_array",
    "make_object_array",
    "mark_missing",
    "match_records",
    "name_columns",
    "open_frame",
    "pick_columns",
    "place_fitted",
    "read_dataset",
    "read_frame_columns",
    "read_inputs",
    "read_kinds",
    "refuse_repeated_names",
    "rename_frame",
    "reshape_values",
    "select_columns",
    "slice_rows",
    "stack_sides",
    "take_first_column",
    "take_fitted_order",
    "type_words",
]
