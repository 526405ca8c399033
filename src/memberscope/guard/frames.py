"""Messages between a serving process and its monitor's: a length and a pickle, over a private pair of sockets that no one else holds."""

from __future__ import annotations

import pickle
from asyncio import StreamReader
from dataclasses import dataclass
from typing import IO, Any

from memberscope.guard.policy import GuardPolicy
from memberscope.guard.waiting import Piece

SIZE = 8  # bytes of a length


@dataclass(frozen=True)
class Begin:
    """What the monitor's process works by; `key` is the id of the secret that clients are known by."""

    policy: GuardPolicy
    key: str
    log_level: int


@dataclass(frozen=True)
class Look:
    """Queries to look at, perhaps none; `follow` is the policy that was read since."""

    taken: tuple[Piece, ...] = ()
    follow: GuardPolicy | None = None


@dataclass(frozen=True)
class Done:
    """What was found since the last answer: calls of the methods in `CALLS`, each with what it is given."""

    calls: tuple[tuple[str, tuple[Any, ...]], ...] = ()


CALLS = ("alarm", "alert_lost", "dropped", "fault", "watched", "stand")


def packed(message: Begin | Look | Done) -> bytes:
    """A message as it is sent.

    >>> import io
    >>> received(io.BytesIO(packed(Done((("dropped", (3,)),)))))
    Done(calls=(('dropped', (3,)),))
    """
    data = pickle.dumps(message, protocol=5)
    return len(data).to_bytes(SIZE, "big") + data


def received(stream: IO[bytes]) -> Any:
    """The next message of a stream; None where it has ended."""
    head = stream.read(SIZE)
    size = int.from_bytes(head, "big")
    data = stream.read(size) if len(head) == SIZE else b""
    return pickle.loads(data) if data and len(data) == size else None


async def awaited(stream: StreamReader) -> Any:
    """The next message of a stream.

    Raises:
        asyncio.IncompleteReadError: It has ended.
    """
    size = int.from_bytes(await stream.readexactly(SIZE), "big")
    return pickle.loads(await stream.readexactly(size))
