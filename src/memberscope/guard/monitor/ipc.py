"""Encode messages between a serving process and its monitor's.

They go over a private pair of sockets that no other process holds.

A message is two lengths, a pickle, the lengths of what is long in it, and that itself, which is not
copied into the pickle.
"""

from __future__ import annotations

import pickle
from asyncio import StreamReader
from dataclasses import dataclass
from pickle import PickleBuffer
from typing import IO, Any

from memberscope.guard.monitor.query_queue import Piece
from memberscope.guard.policy.config import GuardPolicy

SIZE = 8  # bytes of a length
LONG = 2048  # bytes of what is sent beside the pickle


@dataclass(frozen=True)
class Begin:
    """First message to the monitor's process: what it needs to begin.

    `key` is the id of the secret that clients are known by.
    """

    policy: GuardPolicy
    key: str
    log_level: int


@dataclass(frozen=True)
class Look:
    """Queries to judge, perhaps none; `follow` is a policy that was read since."""

    taken: tuple[Piece, ...] = ()
    follow: GuardPolicy | None = None


@dataclass(frozen=True)
class Done:
    """Calls to make since the last answer: methods in `CALLS` with their arguments."""

    calls: tuple[tuple[str, tuple[Any, ...]], ...] = ()


# What the serving process does on the monitor's behalf, and nothing else
CALLS = ("alarm", "alert_lost", "dropped", "fault", "watched", "stand", "unreadable")


def encode_message_parts(message: Begin | Look | Done) -> list[bytes | memoryview]:
    """Encode a message in parts, none of them empty.

    asyncio's own transport may keep an empty part for ever.
    """
    beside: list[memoryview] = []

    def within(buffer: PickleBuffer) -> bool:
        raw = buffer.raw()
        # Short buffers are copied into the pickle, as a part of their own costs more
        if raw.nbytes >= LONG:
            beside.append(raw)
        return raw.nbytes < LONG

    data = pickle.dumps(message, protocol=5, buffer_callback=within)
    sizes = b"".join([_encode_length(part.nbytes) for part in beside])
    return [
        _encode_length(len(data)),
        _encode_length(len(sizes)),
        data,
        *([sizes] if beside else []),
        *beside,
    ]


def _encode_length(size: int) -> bytes:
    """Encode a length."""
    return size.to_bytes(SIZE, "big")


def _decode_lengths(data: bytes) -> list[int]:
    """Decode lengths.

    >>> _decode_lengths(_encode_length(7) + _encode_length(2**40))
    [7, 1099511627776]
    """
    return [
        int.from_bytes(data[start : start + SIZE], "big") for start in range(0, len(data), SIZE)
    ]


def encode_message(message: Begin | Look | Done) -> bytes:
    """Encode a message in one piece.

    >>> import io
    >>> read_message(io.BytesIO(encode_message(Done((("dropped", (3,)),)))))
    Done(calls=(('dropped', (3,)),))
    """
    return b"".join(encode_message_parts(message))


def read_message(stream: IO[bytes]) -> Any:
    """Read the next message of a stream; None at its end."""
    head = stream.read(2 * SIZE)
    if len(head) < 2 * SIZE:
        # The other end has gone, perhaps in the midst of a message
        return None
    size, table = _decode_lengths(head)
    data = stream.read(size + table)
    if len(data) < size + table:
        return None
    beside = []
    for each in _decode_lengths(data[size:]):
        # As arrays that were sent in the pickle, those beside it may be written to
        part = bytearray(stream.read(each))
        if len(part) < each:
            return None
        beside.append(part)
    return pickle.loads(memoryview(data)[:size], buffers=beside)


async def read_message_async(stream: StreamReader) -> Any:
    """Read the next message of a stream.

    Raises:
        asyncio.IncompleteReadError: It has ended.
    """
    size, table = _decode_lengths(await stream.readexactly(2 * SIZE))
    data = await stream.readexactly(size + table)
    beside = [bytearray(await stream.readexactly(each)) for each in _decode_lengths(data[size:])]
    return pickle.loads(memoryview(data)[:size], buffers=beside)
