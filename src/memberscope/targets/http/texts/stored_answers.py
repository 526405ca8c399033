"""Write what a server said about a record's tokens as bytes for the ledger, and read it back."""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from memberscope.wire import TokenAnswer

# Number of tokens, and whether it is known of each if it was the most probable one
HEADER = struct.Struct("<I?")


@dataclass(frozen=True, eq=False)
class StoredAnswer:
    """Log-probabilities (t,) of tokens, and whether each was the most probable one if known."""

    log_probability: NDArray[np.float32]
    is_top: NDArray[np.bool_] | None


def pack_token_answer(answer: TokenAnswer) -> bytes:
    """Pack the scored tokens of one answer.

    >>> packed = pack_token_answer(TokenAnswer((5, 6), (-1.5,), (True,)))
    >>> stored = unpack_token_answer(packed + bytes(3))
    >>> stored.log_probability.tolist(), stored.is_top.tolist()
    ([-1.5], [True])
    """
    values = np.asarray(answer.log_probability, "<f4")
    tops = np.asarray(answer.is_top or (), np.bool_)
    return HEADER.pack(len(values), answer.is_top is not None) + values.tobytes() + tops.tobytes()


def unpack_token_answer(packed: bytes) -> StoredAnswer:
    """Unpack an answer; the bytes after it are ignored."""
    count, knows = HEADER.unpack_from(packed)
    values = np.frombuffer(packed, "<f4", count, HEADER.size)
    tops = np.frombuffer(packed, np.bool_, count, HEADER.size + 4 * count) if knows else None
    return StoredAnswer(values.astype(np.float32), tops)


def join_stored_answers(parts: list[StoredAnswer]) -> StoredAnswer:
    """Join the answers about the tokens of one record, in their order."""
    tops = [part.is_top for part in parts if part.is_top is not None]
    return StoredAnswer(
        np.concatenate([part.log_probability for part in parts]),
        # What is unknown of one token is unknown of the record
        np.concatenate(tops) if len(tops) == len(parts) else None,
    )


def pack_texts(texts: list[str]) -> bytes:
    """Pack texts, so that zeros after them do no harm.

    >>> unpack_texts(pack_texts(["a", "é"]) + bytes(2))
    ['a', 'é']
    """
    return json.dumps(texts).encode()


def unpack_texts(packed: bytes) -> list[str]:
    """Unpack texts."""
    return list(json.loads(packed.rstrip(b"\0")))
