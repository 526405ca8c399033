"""Encode what a monitor's process answers: calls for the serving process, checked one by one.

The answer is JSON with the types below and nothing else. Whoever has taken over the monitor can
make the serving process count, and put in force responses that the policy has for its detectors;
it cannot make it run or read anything.
"""

from __future__ import annotations

from asyncio import StreamReader
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import orjson
from pydantic import Field, TypeAdapter, ValidationError

from memberscope.guard.counters import Faulty
from memberscope.guard.detectors.alarm import Alarm, Scope
from memberscope.guard.monitor.frames import FRAME, MessageError, build_frame_head, check_frame_head
from memberscope.guard.policy.tables import Detector, Response
from memberscope.guard.state.interface import ActiveResponse

MOST_CALLS = 1000  # of one answer; further ones come with the next
LONGEST_ANSWER = 2**20  # bytes
LONGEST_SENTENCE = 2000  # characters of why a monitor cannot begin

Count = Annotated[int, Field(ge=0, le=10**9)]
Seconds = Annotated[float, Field(ge=0.0, le=1e12, allow_inf_nan=False)]
ClientHash = Annotated[str, Field(pattern=r"^[0-9a-f]{1,16}$")]
Subject = Annotated[str, Field(pattern=r"^[0-9a-z_-]{1,40}$")]
Call = (
    tuple[Literal["begun"]]
    | tuple[Literal["refused"], Annotated[str, Field(max_length=LONGEST_SENTENCE)]]
    | tuple[Literal["alarm"], Detector | Literal["unreadable"], Scope, Subject]
    | tuple[Literal["alert_lost"], Literal["queue", "log", "webhook"]]
    | tuple[Literal["dropped", "unreadable"], Count]
    | tuple[Literal["fault"], Faulty]
    | tuple[Literal["watched"], Count, Seconds]
    | tuple[Literal["stand"], ClientHash, Response, Detector, Seconds]
)
_CALLS: TypeAdapter[list[Call]] = TypeAdapter(Annotated[list[Call], Field(max_length=MOST_CALLS)])


@dataclass(frozen=True)
class Done:
    """Calls to make since the last answer: names of methods with their arguments."""

    calls: tuple[tuple[str, tuple[Any, ...]], ...] = ()


def encode_done(done: Done) -> bytes:
    """Encode an answer.

    >>> decode_done(encode_done(Done((("dropped", (3,)),)))[FRAME.size :])
    Done(calls=(('dropped', (3,)),))
    """
    data = orjson.dumps([_flatten_call(name, given) for name, given in done.calls])
    return build_frame_head(len(data), 0) + data


def _flatten_call(name: str, given: tuple[Any, ...]) -> list[Any]:
    """Flatten a call to plain values; of an alarm, what is counted."""
    if name == "alarm":
        (alarm,) = given
        return [name, alarm.detector, alarm.scope, alarm.subject]
    if name == "stand":
        client, standing, seconds = given
        return [name, client, standing.response, standing.detector, seconds]
    return [name, *given]


def decode_done(data: bytes) -> Done:
    """Decode an answer.

    Raises:
        MessageError: It is not of the types above.
    """
    try:
        calls = _CALLS.validate_json(data, strict=True)
    except ValidationError as error:
        # The kind of the first error alone: the text may be anybody's
        raise MessageError(str(error.errors(include_input=False)[0]["type"])) from None
    return Done(tuple(_build_call(call) for call in calls))


def _build_call(call: tuple[Any, ...]) -> tuple[str, tuple[Any, ...]]:
    """Build the arguments of a call that was checked."""
    name, *given = call
    if name == "alarm":
        detector, scope, subject = given
        return name, (Alarm(0.0, detector, scope, subject, 0.0, 0.0, 0, ()),)
    if name == "stand":
        client, response, detector, seconds = given
        return name, (client, ActiveResponse(response, detector), seconds)
    return name, tuple(given)


async def read_done(stream: StreamReader) -> Done:
    """Read the next answer of a monitor.

    Raises:
        asyncio.IncompleteReadError: It has ended.
        MessageError: It is none, or too long.
    """
    size, beside = check_frame_head(await stream.readexactly(FRAME.size), LONGEST_ANSWER)
    if beside:
        raise MessageError("bytes beside an answer")
    return decode_done(await stream.readexactly(size))
