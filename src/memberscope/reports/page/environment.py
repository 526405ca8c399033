"""Set up the templates that pages and cards are rendered from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from memberscope._html import keep_options_whole, read_template
from memberscope._text import format_number, format_percentage
from memberscope.auditing.documents import format_level
from memberscope.reports import select as lookup

if TYPE_CHECKING:
    from jinja2 import Environment


def build_environment() -> Environment:
    """Build the environment in which templates of results are rendered."""
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    # Escaping is on: titles, groups and ids come from users
    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        loader=FunctionLoader(read_template),
    )
    environment.filters |= {
        "percent": format_percentage,
        "interval": lookup.format_interval,
        "options": keep_options_whole,
    }
    environment.globals |= {
        "select": lookup.select_estimates,
        "leaks": lookup.list_detectable_leaks,
        "first": lookup.find_estimate,
        "number": format_number,
        "percent": format_percentage,
        "level_word": format_level,
    }
    return environment
