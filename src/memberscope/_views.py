"""Find what shows a result without importing it.

A result is made below the room that draws it. The package registers where each view is, and the
result asks for it when it is first used.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

_HOMES: dict[str, str] = {}


def register_views(homes: Mapping[str, str]) -> None:
    """Register the module that holds each view, by the view's name; nothing is imported.

    >>> register_views({"sqrt": "math"})
    >>> load_view("sqrt")(9.0)
    3.0
    """
    _HOMES.update(homes)


def load_view(name: str) -> Any:
    """Import the module of a view and give its function of that name."""
    return getattr(import_module(_HOMES[name]), name)
