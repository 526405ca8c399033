"""The layout of tables that the options describe."""

from __future__ import annotations

from typing import TYPE_CHECKING

from memberscope.cli.options.table import LABEL, Options
from memberscope.errors import InputError

if TYPE_CHECKING:
    from memberscope.frames import WindowLayout
    from memberscope.targets import TableLayout
    from memberscope.types import Records, Target


def build_table_layout(options: Options, target: Target | None) -> TableLayout:
    """Say which columns of the user's tables are what, by the options and the model if any."""
    from memberscope.facts import read_target_facts
    from memberscope.frames import list_target_columns, read_kinds
    from memberscope.targets import TableLayout
    from memberscope.targets.tables import find_fitted_columns, is_text_model
    from memberscope.types import OUTPUT_TASKS

    fitted = () if target is None else list_target_columns(target)
    known = {} if target is None else find_fitted_columns(target)
    facts = None if target is None else read_target_facts(target)
    return TableLayout(
        options.label or LABEL,
        options.id,
        options.groups or (),
        options.drop or (),
        fitted,
        options.features or (),
        options.unit,
        {**known, **read_kinds(options.types or ())},
        takes_text=not fitted and is_text_model(None if facts is None else facts.estimator),
        real=facts is not None and facts.task in OUTPUT_TASKS,
    )


def refuse_horizon_alone(options: Options) -> None:
    """Refuse what is about windows where no windows are cut.

    Raises:
        InputError: It was given.
    """
    for name in ("time", "horizon"):
        if getattr(options, name) is not None and options.window is None:
            raise InputError(
                f"Expected --window with --{name}, got none. Say how many time steps the model "
                f"gets, or leave out --{name}."
            )


def read_windows(
    options: Options, target: Target
) -> tuple[tuple[Records, Records], tuple[str, ...]]:
    """Read series of members and of non-members, cut into windows, with notes.

    Raises:
        InputError: The target does not forecast, no column names the series, or they cannot be cut.
    """
    from memberscope.facts import read_target_facts
    from memberscope.frames import cut_series
    from memberscope.targets import TableLayout, read_tables
    from memberscope.types import OUTPUT_TASKS

    facts = read_target_facts(target)
    if facts.task not in OUTPUT_TASKS or facts.task == "multilabel":
        raise InputError(
            f"Expected a model that forecasts for --window, got one for {facts.task}. Give --task "
            "forecast, or leave out --window."
        )
    if options.unit is None:
        raise InputError(
            "Expected --unit with --window, got none. Name the column that tells the series apart."
        )
    label = options.label or ""
    read = read_tables(
        options.members or "",
        options.non_members or "",
        TableLayout(label, unit=options.unit, real=True),
    )
    flat = facts.estimator is not None or facts.booster is not None
    sides, short = [], []
    for table in read.columns:
        records, few = cut_series(table, _build_window_layout(options, list(table), flat=flat))
        sides.append(records)
        short.append(few)
    notes = read.notes
    if left := sum(one.n for one in short):
        notes += (
            f"Left out {left} of {sum(one.n_series for one in short)} series of fewer than "
            f"{short[0].least} time steps, which give no window.",
        )
    return (sides[0], sides[1]), notes


def _build_window_layout(options: Options, columns: list[str], *, flat: bool) -> WindowLayout:
    """Say how series are cut; without names, all columns that have no other role are values."""
    from memberscope.frames import WindowLayout
    from memberscope.targets.tables import split_column_names

    time = options.time or WindowLayout.time
    apart = {options.unit, time, options.id, *(options.drop or ()), *(options.groups or ())}
    values = tuple(name for name in columns if name not in apart)
    label = split_column_names(options.label, columns) if options.label else values
    return WindowLayout(
        options.unit or WindowLayout.unit,
        time,
        options.window or WindowLayout.window,
        options.horizon or WindowLayout.horizon,
        label,
        options.features or values,
        flat=flat,
    )
