"""Read the words of the report in plain English."""

from __future__ import annotations

import tomllib
from functools import cache
from importlib.resources import files

from memberscope.types import Task


@cache
def read_glossary(task: Task = "classification") -> list[dict[str, str]]:
    """Read the entries of the glossary for a task, each with its term and text.

    >>> read_glossary()[0]["term"]
    'membership inference'
    """
    text = (files("memberscope.reports") / "glossary.toml").read_text(encoding="utf-8")
    entries: list[dict[str, str]] = tomllib.loads(text)["entry"]
    # Without a task an entry holds for all
    return [entry for entry in entries if entry.get("task", task) == task]
