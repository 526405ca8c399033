"""The formats that other programs read: SARIF, JUnit, Markdown, model card, CycloneDX and PDF."""

from memberscope.reports.formats.junit import render_junit, write_junit
from memberscope.reports.formats.written import (
    find_format,
    list_formats,
    refuse_mistaken_files,
    render_format,
    write_format,
    write_formats,
)

__all__ = [
    "find_format",
    "list_formats",
    "refuse_mistaken_files",
    "render_format",
    "render_junit",
    "write_format",
    "write_formats",
    "write_junit",
]
