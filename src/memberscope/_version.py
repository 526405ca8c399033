"""The version of this tool, and what a document says about it."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import Literal

from pydantic import BaseModel, ConfigDict


class Tool(BaseModel):
    """Which program wrote the result."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    name: Literal["memberscope"] = "memberscope"
    version: str


def get_tool_version() -> str:
    """Version of this package."""
    try:
        return version("memberscope")
    except PackageNotFoundError:
        return "unknown"
