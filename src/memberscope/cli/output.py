"""Print lines that may hold text of files."""

from __future__ import annotations

import io
import os
import shutil
import sys
import textwrap

import typer

from memberscope._text import escape_controls


def print_line(text: str) -> None:
    """Print to standard output; control characters are shown as escapes."""
    typer.echo(escape_controls(text))


def print_error(text: str) -> None:
    """Print to standard error after the name of the program; a terminal gets whole words a line."""
    said = f"memberscope: {escape_controls(text)}"
    if sys.stderr.isatty():
        columns = shutil.get_terminal_size().columns
        said = textwrap.fill(said, columns, break_long_words=False, break_on_hyphens=False)
    print(said, file=sys.stderr)


class _PipeFile(io.FileIO):
    """A file that takes what is written to it when nobody reads any more."""

    def write(self, data: object) -> int:
        """Write bytes; into a pipe whose reader has left, none."""
        try:
            return super().write(data)  # type: ignore[arg-type]
        except BrokenPipeError:
            # What threads and libraries write by the number of the file goes nowhere as well
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.fileno())
            os.close(nowhere)
            return super().write(data)  # type: ignore[arg-type]


def outlive_readers() -> None:
    """Go on where the reader of standard output or standard error leaves, as `head` does.

    An audit then still writes its folder, and exits by its verdict. Characters that the encoding of
    the output lacks are written as escapes.
    """
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        # Streams that a test or a notebook put there have no reader of this kind
        if stream is None or stream is not getattr(sys, f"__{name}__"):
            continue
        stream.flush()
        opened = io.TextIOWrapper(
            io.BufferedWriter(_PipeFile(stream.fileno(), "wb", closefd=False)),
            encoding=stream.encoding,
            errors="backslashreplace",
            line_buffering=stream.line_buffering,
        )
        setattr(sys, name, opened)
        # So that the interpreter flushes this one when it ends
        setattr(sys, f"__{name}__", opened)
