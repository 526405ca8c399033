"""Read folders of reference models' signals that other tools wrote."""

from memberscope.targets.stored.layouts.choice import find_layout, read_layout

__all__ = ["find_layout", "read_layout"]
