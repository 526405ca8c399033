"""Give the version of this tool, and the record of it in documents."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import Literal

from pydantic import BaseModel, ConfigDict


class Tool(BaseModel):
    """Name and version of the program that wrote a result."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    name: Literal["memberscope"] = "memberscope"
    version: str


def get_tool_version() -> str:
    """Give the version of this package."""
    try:
        return version("memberscope")
    except PackageNotFoundError:
        return "unknown"
