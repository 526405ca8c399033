"""Interface of what all workers share: budgets, active responses, observations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from memberscope.errors import InputError
from memberscope.guard.policy.tables import RateLimit, Response


@dataclass(frozen=True)
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


@dataclass(frozen=True)
class Taken:
    """Result of taking tokens.

    Where not all were there, it has the seconds until they are, and the bucket that lacked most.

    `retry_after` is infinite where a bucket never holds so many.
    """

    allowed: bool
    retry_after: float = 0.0
    lacking: int | None = None


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

    async def take(self, buckets: Sequence[Bucket]) -> Taken:
        """Take from all buckets or from none, atomically across workers."""
        ...

    async def refund(self, buckets: Sequence[Bucket], taken: Taken) -> None:
        """Give back what was taken, as far as it has not come back by itself."""
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
