"""Answers about a collection for readers: files, and the terminal."""

from memberscope.reports.sets.set_files import (
    read_set_result,
    save_set_result,
    set_result_schema,
)
from memberscope.reports.sets.set_terminal import print_set_result

__all__ = ["print_set_result", "read_set_result", "save_set_result", "set_result_schema"]
