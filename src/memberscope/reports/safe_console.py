"""Keep text of a result from controlling the terminal that shows it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console, ConsoleOptions, ConsoleRenderable, RenderableType, RenderHook
from rich.segment import Segment

from memberscope._text import escape_controls


@contextmanager
def escape_console_text(console: Console) -> Iterator[None]:
    """Escape control characters in all that `console` prints, tables included.

    Colours and cursor moves of rich itself are no text and stay.
    """
    console.push_render_hook(_EscapeHook())
    try:
        yield
    finally:
        console.pop_render_hook()


class _EscapeHook(RenderHook):
    """Put what escapes text around each thing that is printed."""

    def process_renderables(self, renderables: list[ConsoleRenderable]) -> list[ConsoleRenderable]:
        return [_Escaped(part) for part in renderables]


class _Escaped:
    """Render something with its control characters escaped."""

    def __init__(self, inner: RenderableType) -> None:
        self.inner = inner

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Segment]:
        for segment in console.render(self.inner, options):
            yield (
                segment if segment.control else segment._replace(text=escape_controls(segment.text))
            )
