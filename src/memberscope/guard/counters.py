"""What the guard counts, and counting nothing."""

from __future__ import annotations

from typing import Literal, Protocol

Faulty = Literal["identity", "state", "upstream", "answer", "defence", "watch", "internal"]


class Counters(Protocol):
    """Where requests, refusals and faults are counted. No method may raise or wait."""

    def request(self, kind: str, status: int, seconds: float) -> None:
        """A request of this `kind` (query, passed, refused) was answered with `status`."""
        ...

    def refused(self, reason: str) -> None:
        """A query was refused."""
        ...

    def fault(self, which: Faulty) -> None:
        """Something that protection needs has failed."""
        ...

    def exposed(self) -> None:
        """An answer passed as it was after a fault, because the policy says `on_fault = "open"`."""
        ...

    def would(self, status: int) -> None:
        """In observe mode: enforcing would have answered with `status`."""
        ...

    def in_flight(self, change: int) -> None:
        """A query has begun (1) or ended (-1)."""
        ...

    def reload(self, good: bool) -> None:
        """The policy was read again."""
        ...


class Uncounted:
    """Counts nothing.

    >>> Uncounted().refused("budget")
    """

    def request(self, kind: str, status: int, seconds: float) -> None:
        """Nothing."""

    def refused(self, reason: str) -> None:
        """Nothing."""

    def fault(self, which: Faulty) -> None:
        """Nothing."""

    def exposed(self) -> None:
        """Nothing."""

    def would(self, status: int) -> None:
        """Nothing."""

    def in_flight(self, change: int) -> None:
        """Nothing."""

    def reload(self, good: bool) -> None:
        """Nothing."""
