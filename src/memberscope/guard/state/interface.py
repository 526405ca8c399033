"""Interface of what all workers share: budgets, active responses, observations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from memberscope.errors import InputError
from memberscope.guard.policy.tables import RateLimit, Response

LARGEST = 100_000  # tokens of a record's budget


# Not frozen, as some are made for each query, and frozen ones take twice as long to make
@dataclass(slots=True)
class Bucket:
    """Take `n` tokens from the bucket `key` of size `rate.n`, full again after `rate.seconds`.

    A bucket is its key and its refill time: under another refill time, the same key is another
    bucket. What stands before the key's first colon is its kind. Keys hold hashes, never what a
    client sent.

    Raises:
        InputError: n is negative.
    """

    key: str
    rate: RateLimit
    n: int

    def __post_init__(self) -> None:
        """Refuse a number of tokens below 0: they are taken, never given."""
        if self.n < 0:
            raise InputError(f"Expected tokens to take, got {self.n}. Ask for 0 or more.")

    @property
    def debt(self) -> float:
        """Seconds in which the tokens to take refill."""
        return self.n * self.rate.seconds / self.rate.n


@dataclass(slots=True)
class RecordBuckets:
    """Take tokens from a bucket for each of some records, as often as the record occurs.

    `records` are keyed hashes of 64 bits, each different; `times` says how many tokens each loses.
    The bucket of a record is that of the key `{key}:{record:x}`. `share` names the wider network
    and the network, or twice the client, at whose expense new buckets are kept: hashes too, and
    always the same for one key.

    Raises:
        InputError: The budget holds more than a hundred thousand tokens.
    """

    key: str
    rate: RateLimit
    records: Sequence[int]
    times: Sequence[int]
    share: tuple[str, str] = ("", "")

    def __post_init__(self) -> None:
        """Refuse a budget that the table of records could not count."""
        if self.rate.n > LARGEST:
            raise InputError(
                f"Expected a budget of at most {LARGEST} a record, got {self.rate.n}. Repair "
                "per_record."
            )

    def split(self) -> list[Bucket]:
        """Give each record's bucket by itself."""
        return [
            Bucket(f"{self.key}:{record:x}", self.rate, n)
            for record, n in zip(self.records, self.times, strict=True)
        ]


AnyBucket = Bucket | RecordBuckets


@dataclass(frozen=True)
class Taken:
    """Result of taking tokens.

    Where not all were there, it has the seconds until they are, and the bucket that lacked most.

    `retry_after` is infinite where a bucket never holds so many. `full_after` has the seconds until
    the first bucket is full again, as it is now, 0 where that is one of records. `at` is when it
    was, in seconds of the state's own clock.
    """

    allowed: bool
    retry_after: float = 0.0
    lacking: int | None = None
    full_after: float = 0.0
    at: float = field(default=0.0, compare=False, repr=False)


@dataclass(frozen=True)
class ActiveResponse:
    """Response in force for a client, and the detector that caused it."""

    response: Response
    detector: str


class StateError(Exception):
    """Raised where the shared state cannot be reached; the policy says whether to fail open."""


class State(Protocol):
    """Interface of what a guard keeps between requests.

    Every method may raise StateError, and ends within the policy's time-out.
    """

    async def take(self, buckets: Sequence[AnyBucket]) -> Taken:
        """Take from all buckets or from none."""
        ...

    async def refund(self, buckets: Sequence[AnyBucket], taken: Taken) -> None:
        """Give back what was taken, less what has refilled since."""
        ...

    async def standing(self, client: str) -> ActiveResponse | None:
        """Find the hardest response in force for `client`."""
        ...

    async def stand(self, client: str, standing: ActiveResponse, seconds: float) -> None:
        """Put a response in force for so long; a harder one that is in force stays."""
        ...

    async def publish(self, line: str) -> None:
        """Hand a line of the access log to the monitor."""
        ...

    async def close(self) -> None:
        """Let go of connections."""
        ...
