"""Rewrite a stream of server-sent events, event by event, as its bytes come."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson

from memberscope.errors import TargetError

MARK = b"\xef\xbb\xbf"  # that a stream may begin with
DONE = b"[DONE]"


class EventStream:
    r"""Rewrite the JSON of each event; nothing else of the stream passes.

    Comments keep a connection alive and become empty ones. Fields other than `data` are dropped. An
    event of more than `most` bytes is refused.

    >>> stream = EventStream(lambda document: {"n": document["n"] + 1})
    >>> stream.feed(b'data: {"n"'), stream.feed(b': 1}\r\n\r\ndata: [DONE]\n\n')
    (b'', b'data: {"n":2}\n\ndata: [DONE]\n\n')
    """

    def __init__(self, rewrite: Callable[[Any], object], most: int = 2**20) -> None:
        """Begin a stream whose documents `rewrite` writes anew."""
        self._rewrite, self._most = rewrite, most
        self._rest = b""
        self._data: list[bytes] = []
        self._size = 0
        self._begun = False

    def feed(self, part: bytes) -> bytes:
        """Take the next bytes, and give those of the events that they complete.

        Raises:
            TargetError: An event is too long, or is not what `rewrite` reads.
        """
        text = self._rest + part
        if not self._begun and len(text) >= len(MARK):
            self._begun, text = True, text.removeprefix(MARK)
        # A carriage return at the end may be half of a line's end
        held = b"\r" if text.endswith(b"\r") else b""
        text = text[: len(text) - len(held)]
        *lines, rest = text.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        self._rest = rest + held
        found = b"".join(map(self._take_line, lines))
        if self._size + len(self._rest) > self._most:
            raise TargetError(
                f"Expected events of at most {self._most} bytes from the server, got a longer one. "
                "Check the server."
            )
        return found

    def _take_line(self, line: bytes) -> bytes:
        """Take one line; an empty one ends an event."""
        if line.startswith(b":"):
            return b":\n\n" if not self._data else b""
        if line:
            name, _, value = line.partition(b":")
            if name == b"data":
                self._data.append(value.removeprefix(b" "))
                self._size += len(value)
            return b""
        data, self._data, self._size = b"\n".join(self._data), [], 0
        if not data:
            return b""
        return b"data: %b\n\n" % (DONE if data.strip() == DONE else self._write(data))

    def _write(self, data: bytes) -> bytes:
        """Write the document of one event anew."""
        try:
            document = orjson.loads(data)
        except ValueError:
            raise TargetError(
                f"Expected JSON in each event of the server, got {len(data)} bytes that are none. "
                "Check the server."
            ) from None
        return orjson.dumps(self._rewrite(document))
