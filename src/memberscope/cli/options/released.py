"""Build the released table, its records and its generator from what the options describe."""

from __future__ import annotations

from typing import TYPE_CHECKING

from memberscope.cli.options.layout import build_table_layout
from memberscope.cli.options.table import Options
from memberscope.errors import InputError

if TYPE_CHECKING:
    from memberscope.auditing import Subject
    from memberscope.types import Recipe


def build_released_subject(options: Options) -> Subject:
    """Build the released table with the records that it was made from, and others.

    Raises:
        InputError: A model was named too, records were not, or a file cannot be read.
    """
    from memberscope.auditing import make_table_subject
    from memberscope.targets import read_released

    beside = next(
        (name for name in ("model", "url", "signals") if getattr(options, name) is not None), None
    )
    if beside is not None:
        raise InputError(
            f"Expected a released table or a model, got --released and --{beside}. Leave one out."
        )
    if not (options.members and options.non_members):
        raise InputError(
            "Expected --members and --non-members for --released, got less. Give the records that "
            "the table was made from, and others of the same kind."
        )
    target, members, non_members, notes = read_released(
        options.released or "",
        options.members,
        options.non_members,
        build_table_layout(options, None),
        options.population,
    )
    return make_table_subject(target, members, non_members, notes=notes)


def fit_recipe(recipe: Recipe, subject: Subject) -> Recipe:
    """Fit a recipe to the subject: what a generator returns becomes a table like the released one."""
    from memberscope.recipes import TableRecipe
    from memberscope.targets import ReleasedTable

    target = subject.target
    return TableRecipe(recipe, target) if isinstance(target, ReleasedTable) else recipe
