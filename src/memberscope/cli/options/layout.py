"""The layout of tables that the options describe."""

from __future__ import annotations

from typing import TYPE_CHECKING

from memberscope.cli.options.table import LABEL, Options

if TYPE_CHECKING:
    from memberscope.targets import TableLayout
    from memberscope.types import Target


def build_table_layout(options: Options, target: Target | None) -> TableLayout:
    """Say which columns of the user's tables are what, by the options and the model if any."""
    from memberscope.facts import read_target_facts
    from memberscope.frames import list_target_columns, read_kinds
    from memberscope.targets import TableLayout
    from memberscope.targets.tables import find_fitted_columns, is_text_model

    fitted = () if target is None else list_target_columns(target)
    known = {} if target is None else find_fitted_columns(target)
    estimator = None if target is None else read_target_facts(target).estimator
    return TableLayout(
        options.label or LABEL,
        options.id,
        options.groups or (),
        options.drop or (),
        fitted,
        options.features or (),
        options.unit,
        {**known, **read_kinds(options.types or ())},
        takes_text=not fitted and is_text_model(estimator),
    )
