"""Format numbers as every report writes them, and text so that a terminal only shows it."""

from __future__ import annotations

import re

# Controls other than tab and line feed, marks that change the direction of writing, line and
# paragraph separators, and lone surrogates
CONTROL = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)


def escape_controls(text: str) -> str:
    r"""Write control and direction characters as escapes, so that they are seen and do nothing.

    Text of a file could otherwise clear a terminal, move its cursor or show words in another order
    (CWE-150).

    >>> escape_controls("safe\x1b[2J"), escape_controls("caf\u00e9\tx")
    ('safe\\x1b[2J', 'café\tx')
    """
    return CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def format_percentage(value: float | None) -> str:
    """Format a rate as a percentage with three digits.

    >>> format_percentage(0.01234), format_percentage(0.5), format_percentage(None)
    ('1.23%', '50%', 'not available')
    """
    return "not available" if value is None else f"{100 * value:.3g}%"


def format_number(value: float | None) -> str:
    """Format a number with three digits after the point.

    >>> format_number(0.51234), format_number(None)
    ('0.512', 'not available')
    """
    return "not available" if value is None else f"{value:.3f}"
