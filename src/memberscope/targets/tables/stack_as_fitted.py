"""Join records of both sides as the model was fitted with them.

Order of columns, categories and names.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from memberscope.errors import InputError
from memberscope.facts import read_target_facts
from memberscope.frames import (
    SIDES,
    ColumnSpec,
    count_rows,
    find_column_spec,
    is_frame,
    list_estimator_columns,
    name_columns,
    pick_columns,
    place_fitted,
    refuse_repeated_names,
    slice_rows,
    stack_sides,
    take_first_column,
)
from memberscope.types import Target


def stack_as_fitted(target: Target, first: Any, second: Any) -> Any:
    """Put the records of both sides one after the other.

    Their columns are in the order that the model was fitted with.

    Raises:
        InputError: A side lacks a column, has one more, or holds it in another way.
    """
    # Stacked first, since the two sides must agree before either fits the model
    whole = stack_sides(first, second)
    estimator = read_target_facts(target).estimator
    # Only models of tables know names of columns
    if estimator is None or not is_frame(whole):
        return whole
    whole = _as_taken(target, whole)
    names, fitted = name_columns(whole), list_estimator_columns(estimator)
    # Two records are enough to see whether the model takes them
    if len(set(names)) < len(names) and not _can_answer(target, slice_rows(whole, 0, 2)):
        refuse_repeated_names(names)
    if len(names) == 1 and not fitted and not _can_answer(target, slice_rows(whole, 0, 2)):
        texts = take_first_column(whole)
        return texts if _can_answer(target, slice_rows(texts, 0, 2)) else whole
    if not fitted or len(set(names)) < len(names):
        return whole
    places, missing, more = place_fitted(names, fitted)
    if not missing and not more:
        return whole if places == sorted(places) else pick_columns(whole, places)
    # It finds the columns that it needs by name, or reads them by position
    if _can_answer(target, slice_rows(whole, 0, 2)):
        return whole
    got = f"no {missing[0]!r}" if missing else f"{more[0]!r} too"
    raise InputError(
        f"Expected the columns that the model was fitted with ({', '.join(fitted[:8])}), got {got} "
        f"in the {SIDES[0]} and the {SIDES[1]}. {'Add it to' if missing else 'Leave it out of'} "
        "both."
    )


def _as_taken(target: Target, whole: Any) -> Any:
    """Convert a frame to what the model takes.

    A pyarrow table becomes pandas, words and categories become the categories of the fit. Nothing
    is changed for a model that answers about the unchanged frame.
    """
    from memberscope.targets.tables.fitted_kinds import find_fitted_columns

    wanted = {
        name: want for name, want in find_fitted_columns(target).items() if want.kind == "category"
    }
    is_arrow = hasattr(whole, "rename_columns")
    if not (is_arrow or (wanted and hasattr(whole, "iloc"))) or _can_answer(
        target, slice_rows(whole, 0, 2)
    ):
        return whole
    try:
        held = whole.to_pandas() if is_arrow else whole
    except ImportError:
        return whole
    categorised = _with_categories(held, wanted)
    return next((x for x in (held, categorised) if _can_answer(target, slice_rows(x, 0, 2))), whole)


def _with_categories(frame: Any, wanted: Mapping[str, ColumnSpec]) -> Any:
    """Give the columns of a pandas frame the categories that the model was fitted with."""
    from memberscope.targets.tables.wanted import convert_column

    changed = {}
    for name in frame.columns:
        want = find_column_spec(wanted, str(name))
        if want is not None:
            changed[name] = convert_column(frame[name], want, str(name), Path()).set_axis(
                frame.index
            )
    return frame.assign(**changed) if all(isinstance(name, str) for name in changed) else frame


def _can_answer(target: Target, x: Any) -> bool:
    """Check whether the model gives one answer for each of the records `x`."""
    try:
        return len(target.query(x)) == count_rows(x)
    except Exception:  # every library has its own errors for columns that it does not know
        return False
