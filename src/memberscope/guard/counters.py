"""Interface of the guard's counters, and a counter that counts nothing."""

from __future__ import annotations

from typing import Literal, Protocol

Faulty = Literal["identity", "state", "upstream", "answer", "defence", "watch", "internal"]


class Counters(Protocol):
    """Interface that counts requests, refusals and faults. No method may raise or wait."""

    def request(self, kind: str, status: int, seconds: float) -> None:
        """Count a request of `kind` (query, passed, refused) answered with `status`."""
        ...

    def refused(self, reason: str) -> None:
        """Count a refused query."""
        ...

    def fault(self, which: Faulty) -> None:
        """Count a failure of something that protection needs."""
        ...

    def exposed(self) -> None:
        """Count an answer that passed as it was after a fault (`on_fault = "open"`)."""
        ...

    def would(self, status: int) -> None:
        """Count, in observe mode, that enforcing would have answered with `status`."""
        ...

    def in_flight(self, change: int) -> None:
        """Add to the queries in flight: 1 at the start, -1 at the end."""
        ...

    def parsed(self) -> None:
        """Count a query whose body was unfolded and parsed, or where that was tried."""
        ...

    def refunded(self) -> None:
        """Count a query that took from budgets, was not answered, and got its records back."""
        ...

    def connection_ended(self, why: str) -> None:
        """Count a connection that was ended for its client's share: `idle` or `share`."""
        ...

    def reload(self, good: bool) -> None:
        """Count a policy that was read again."""
        ...


class Uncounted:
    """Counters that count nothing.

    >>> Uncounted().refused("budget")
    """

    def request(self, kind: str, status: int, seconds: float) -> None:
        """Count nothing."""

    def refused(self, reason: str) -> None:
        """Count nothing."""

    def fault(self, which: Faulty) -> None:
        """Count nothing."""

    def exposed(self) -> None:
        """Count nothing."""

    def would(self, status: int) -> None:
        """Count nothing."""

    def in_flight(self, change: int) -> None:
        """Count nothing."""

    def parsed(self) -> None:
        """Count nothing."""

    def refunded(self) -> None:
        """Count nothing."""

    def connection_ended(self, why: str) -> None:
        """Count nothing."""

    def reload(self, good: bool) -> None:
        """Count nothing."""
