"""Format numbers as every report writes them."""

from __future__ import annotations


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
