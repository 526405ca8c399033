"""Numbers as every report writes them."""

from __future__ import annotations


def percent(value: float | None) -> str:
    """A rate as a percentage with three digits.

    >>> percent(0.01234), percent(0.5), percent(None)
    ('1.23%', '50%', 'not available')
    """
    return "not available" if value is None else f"{100 * value:.3g}%"


def number(value: float | None) -> str:
    """A plain number with three digits after the point.

    >>> number(0.51234), number(None)
    ('0.512', 'not available')
    """
    return "not available" if value is None else f"{value:.3f}"
