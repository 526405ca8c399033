"""Read the words of the report in plain English."""

from __future__ import annotations

import tomllib
from functools import cache
from importlib.resources import files


@cache
def read_glossary() -> list[dict[str, str]]:
    """Read the entries of the glossary, each with its term and text.

    >>> read_glossary()[0]["term"]
    'membership inference'
    """
    text = (files("memberscope.reports") / "glossary.toml").read_text(encoding="utf-8")
    found: list[dict[str, str]] = tomllib.loads(text)["entry"]
    return found
