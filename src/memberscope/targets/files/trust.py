"""Declare what is trusted of a model file, and report how it was loaded."""

from __future__ import annotations

from dataclasses import dataclass

from memberscope.types import Target


@dataclass(frozen=True)
class LoadedTarget:
    """Target, and what a reader of the result must know about how it was loaded."""

    target: Target
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class TrustSettings:
    """What the user declared safe: code in files, and names of types inside skops files."""

    code: bool = False
    types: tuple[str, ...] = ()
