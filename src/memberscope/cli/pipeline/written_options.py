"""The options of commands that write a result in other formats."""

from __future__ import annotations

from typing import Any

from memberscope.cli.options.choices import FORMATS
from memberscope.cli.options.rows import add_option


def add_write_option(purpose: str) -> Any:
    """Add --write, which may be given several times; its help begins with the purpose."""
    return add_option(
        f"{purpose}; its suffix says the format: .sarif, .xml (JUnit), .md, .card.md, .cdx.json or "
        ".pdf.",
        default=None,
        is_repeated=True,
    )


def add_format_option() -> Any:
    """Add --format, for a file whose suffix does not say its format."""
    return add_option(
        "The format of the one --write, where its suffix does not say it.",
        default=None,
        choices=FORMATS,
        value="format",
    )
