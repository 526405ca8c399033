"""Give each address and each network a share of the connections; idle ones give way first.

A connection that is beyond its address's share takes the place of the address's own oldest idle
one, or is refused. Where all are in use, the address with the most idle connections loses one. So
no address can keep others out by holding connections open. Listed proxies, whose connections are
those of many clients, and Unix sockets have no share.
"""

from __future__ import annotations

from collections.abc import Callable
from math import ceil

from memberscope.guard.admission.admit import find_wide_network
from memberscope.guard.counters import Counters
from memberscope.guard.identity.forwarded import ForwardedAddresses, parse_address
from memberscope.guard.policy.config import GuardPolicy

SPARE = 1000  # connections beyond the requests that may be served and wait
IDLE_PART = 0.5  # of a share of the connections, what may be idle


class Holding:
    """Connections of one address or network: how many, and the idle ones, oldest first."""

    __slots__ = ("idle", "key", "most", "n")

    def __init__(self, key: str, most: int) -> None:
        """Hold none."""
        self.key, self.most, self.n = key, most, 0
        self.idle: dict[Seat, None] = {}


class Seat:
    """One connection among those of its address and network; `end` closes it."""

    __slots__ = ("_room", "end", "holdings")

    def __init__(
        self, room: ConnectionRoom, holdings: tuple[Holding, ...], end: Callable[[], None]
    ) -> None:
        """Take the seat."""
        self._room, self.holdings, self.end = room, holdings, end

    def occupy(self) -> None:
        """Begin a request."""
        for holding in self.holdings:
            holding.idle.pop(self, None)

    def rest(self) -> None:
        """Wait for the next request, perhaps in place of an idle connection of the same address."""
        for holding in self.holdings:
            holding.idle[self] = None
        for holding in self.holdings:
            if len(holding.idle) > ceil(IDLE_PART * holding.most):
                self._room.end_oldest(holding)

    def leave(self) -> None:
        """Give the seat back; once is enough."""
        self._room.remove(self)


class ConnectionRoom:
    """Room for the connections of a server under a policy.

    >>> from memberscope.guard.counters import Uncounted
    >>> from memberscope.guard.policy.config import parse_guard_policy
    >>> room = ConnectionRoom(parse_guard_policy({"serving": {"n_classes": 3}}), Uncounted(), most=8)
    >>> [room.enter("192.0.2.7", lambda: None) is not None for _ in range(3)], room.n
    ([True, True, True], 2)
    """

    def __init__(self, policy: GuardPolicy, counters: Counters, most: int | None = None) -> None:
        """Let nobody in yet."""
        limits = policy.limits
        self.most = limits.concurrency + limits.queue + SPARE if most is None else most
        self.n = 0
        self._shares = limits.client_share, limits.network_share
        self._origins, self._counters = ForwardedAddresses(policy.identity), counters
        self._holdings: dict[str, Holding] = {}

    def enter(self, peer: str | None, end: Callable[[], None]) -> Seat | None:
        """Give a connection from `peer` a seat, or None where its address has no share left.

        The seat is idle until `occupy`.
        """
        seat = Seat(self, self._find_holdings(peer), end)
        for holding in seat.holdings:
            if holding.n >= holding.most and not self.end_oldest(holding):
                self._counters.connection_ended("share")
                return None
        if self.n >= self.most and self._holdings:
            self.end_oldest(max(self._holdings.values(), key=lambda holding: len(holding.idle)))
        if seat.holdings:
            self.n += 1
        for holding in seat.holdings:
            self._holdings.setdefault(holding.key, holding).n += 1
        seat.rest()
        return seat

    def end_oldest(self, holding: Holding) -> bool:
        """End the oldest idle connection of an address, and tell whether there was one."""
        oldest = next(iter(holding.idle), None)
        if oldest is None:
            return False
        # Counted as gone at once: the transport tells later that it has closed
        self.remove(oldest)
        oldest.end()
        self._counters.connection_ended("idle")
        return True

    def remove(self, seat: Seat) -> None:
        """Forget a connection, and who has none left."""
        seat.occupy()
        for holding in seat.holdings:
            holding.n -= 1
            if not holding.n:
                del self._holdings[holding.key]
        self.n -= bool(seat.holdings)
        seat.holdings = ()

    def _find_holdings(self, peer: str | None) -> tuple[Holding, ...]:
        address = None if peer is None else parse_address(peer.encode(errors="replace"))
        if address is None or self._origins.trusts(address):
            return ()
        keys = self._origins.prefix(address), f"network {find_wide_network(address)}"
        return tuple(
            self._holdings.get(key) or Holding(key, ceil(share * self.most))
            for key, share in zip(keys, self._shares, strict=True)
        )
