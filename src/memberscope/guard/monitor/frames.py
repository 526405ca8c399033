"""Frame messages between a serving process and its monitor's: a mark, and two lengths."""

from __future__ import annotations

import struct

# A mark, bytes of the message, bytes of what is raw beside it
FRAME = struct.Struct(">4sQQ")
MARK = b"MSM1"


class MessageError(Exception):
    """Raised for a message that is none; what it says holds nothing of the message."""


def build_frame_head(size: int, beside: int) -> bytes:
    """Build the head of a frame from the bytes of its message and of what is beside it."""
    return FRAME.pack(MARK, size, beside)


def check_frame_head(head: bytes, longest: int) -> tuple[int, int]:
    """Give the two lengths of a frame.

    Raises:
        MessageError: It is no head, or the frame is longer than `longest` bytes.

    >>> check_frame_head(build_frame_head(7, 9), 16)
    (7, 9)
    """
    mark, size, beside = FRAME.unpack(head)
    if mark != MARK:
        raise MessageError("no mark of a message")
    if size + beside > longest:
        raise MessageError("a message that is too long")
    return size, beside
