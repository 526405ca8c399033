"""Encode what a serving process asks of its monitor: data with a schema, never code.

A message is JSON, and beside it the raw bytes of arrays and answers, which are not copied. They go
over a pair of sockets, or a socket that `memberscope guard monitor` listens at.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import IO, Any

import numpy as np
import orjson
from pydantic import ValidationError

from memberscope.guard.monitor.frames import FRAME, MessageError, build_frame_head, check_frame_head
from memberscope.guard.monitor.packed_arrays import Buffer, PackedArrays, unpack_array
from memberscope.guard.monitor.query_queue import Asked, Piece
from memberscope.guard.policy.config import GuardPolicy
from memberscope.guard.policy.tables import ServingConfig
from memberscope.wire import Batch

LONG = 2048  # bytes of a part that is sent by itself; shorter ones are joined
LONGEST_QUESTION = 2**30  # bytes: more than the queue may hold


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


def encode_question(message: Begin | Look) -> list[Buffer]:
    """Encode a message in parts, none of them empty.

    asyncio's own transport may keep an empty part for ever.
    """
    packed = PackedArrays()
    if isinstance(message, Begin):
        document: dict[str, object] = {
            "begin": _dump_monitor_policy(message.policy),
            "key": message.key,
            "log_level": message.log_level,
        }
    else:
        servings: dict[str, int] = {}
        document = {
            "look": [_encode_piece(piece, packed, servings) for piece in message.taken],
            "follow": None if message.follow is None else _dump_monitor_policy(message.follow),
            "servings": list(servings),
        }
    sizes = [memoryview(part).nbytes for part in packed.parts]
    data = _encode_head(document | {"sizes": sizes})
    return _join_short_parts([build_frame_head(len(data), sum(sizes)), data, *packed.parts])


def _dump_monitor_policy(policy: GuardPolicy) -> dict[str, object]:
    """Dump what the monitor needs of a policy: neither credentials nor the address of Redis."""
    kept = {"serving", "monitor", "respond", "alerts", "home"}
    return policy.model_dump(mode="json", include=kept)


def _encode_head(document: dict[str, object]) -> bytes:
    """Encode as JSON; Python's own encoder takes lone surrogates in names, and is slower."""
    try:
        return orjson.dumps(document)
    except TypeError:
        return json.dumps(document).encode()


def _encode_piece(piece: Piece, packed: PackedArrays, servings: dict[str, int]) -> dict[str, Any]:
    """Encode a batch of queries; ways to read answers are listed once in `servings`."""
    asked = []
    for one in piece.asked:
        place = None
        if one.answer and one.serving is not None:
            place = servings.setdefault(_dump_serving(one.serving), len(servings))
            packed.add_bytes(one.answer)
        asked.append([one.at, one.key, one.group, one.status, one.records, place])
    batch = piece.batch
    return {
        "asked": asked,
        "labels": packed.add(piece.labels),
        "array": None if batch.columns is not None else packed.add(batch.array),
        "columns": None
        if batch.columns is None
        else [[name, packed.add(column)] for name, column in batch.columns.items()],
    }


@lru_cache(maxsize=8)
def _dump_serving(serving: ServingConfig) -> str:
    """Dump the way to read answers, one for each policy."""
    return serving.model_dump_json()


def _join_short_parts(parts: list[Buffer]) -> list[Buffer]:
    """Join short parts, as each that is sent by itself costs more than copying it."""
    found: list[Buffer] = []
    short: list[Buffer] = []
    for part in parts:
        if memoryview(part).nbytes < LONG:
            short.append(part)
            continue
        if short:
            found.append(b"".join(short))
            short = []
        found.append(part)
    joined = b"".join(short)
    return [*found, joined] if joined else found


def read_question(stream: IO[bytes]) -> Begin | Look | None:
    """Read the next message of a stream; None at its end.

    Raises:
        MessageError: It is none.
    """
    head = stream.read(FRAME.size)
    # The other end has gone, perhaps in the midst of a message
    if len(head) < FRAME.size:
        return None
    size, beside = check_frame_head(head, LONGEST_QUESTION)
    data = stream.read(size)
    if len(data) < size:
        return None
    try:
        document = json.loads(data)
        sizes = document["sizes"]
        if any(type(each) is not int or each < 0 for each in sizes) or sum(sizes) != beside:
            raise ValueError("sizes")
        parts = []
        for each in sizes:
            parts.append(bytearray(stream.read(each)))
            if len(parts[-1]) < each:
                return None
        return _decode_question(document, iter(parts))
    except (ValueError, TypeError, KeyError, StopIteration, ValidationError, RecursionError):
        raise MessageError("a message of another schema") from None


def _decode_question(document: dict[str, Any], parts: Iterator[bytearray]) -> Begin | Look:
    """Decode a message from its JSON and the bytes beside it."""
    if "begin" in document:
        policy = GuardPolicy.model_validate(document["begin"])
        return Begin(policy, str(document["key"]), int(document["log_level"]))
    servings = [_load_serving(str(text)) for text in document["servings"]]
    taken = tuple(_decode_piece(piece, parts, servings) for piece in document["look"])
    follow = document["follow"]
    return Look(taken, None if follow is None else GuardPolicy.model_validate(follow))


@lru_cache(maxsize=8)
def _load_serving(text: str) -> ServingConfig:
    """Load the way to read answers, one for each policy."""
    return ServingConfig.model_validate_json(text)


def _decode_piece(
    document: dict[str, Any], parts: Iterator[bytearray], servings: list[ServingConfig]
) -> Piece:
    """Decode a batch of queries.

    Raises:
        ValueError: Their records are not as many as they say.
    """
    asked = []
    for at, key, group, status, records, place in document["asked"]:
        answer = b"" if place is None else next(parts)
        serving = None if place is None else servings[place]
        asked.append(
            Asked(float(at), str(key), str(group), int(status), int(records), answer, serving)
        )
    labels = unpack_array(document["labels"], parts).astype(np.int64, copy=False)
    if document["columns"] is None:
        batch = Batch(unpack_array(document["array"], parts))
    else:
        batch = Batch(
            columns={str(name): unpack_array(each, parts) for name, each in document["columns"]}
        )
    if not len(labels) == len(batch) == sum(one.records for one in asked):
        raise ValueError("as many records as labels")
    return Piece(asked, batch, labels)
