"""Admit a request before it is read, and settle what it costs its sender.

While a request is unread, it and its bytes are held against its sender's allowance of refusals.
What is held is given back when the request was read, and where the guard itself is at fault; a
request that is refused because of its sender keeps its charge. So well-formed requests cost
nothing, and bodies that are refused become dear to send, however fast they are answered.

Whoever proves nothing but a network counts by client and by a wider network, so that the many
addresses of one subscriber are no fresh allowances. Who is proven counts alone: strangers behind
the same address take nothing from it.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from memberscope.guard.admission.allowance import RefusalAllowance
from memberscope.guard.admission.shares import SOON, FairPlaces, Load
from memberscope.guard.admission.time_limits import TimeLimits
from memberscope.guard.identity.client_identity import Client
from memberscope.guard.identity.forwarded import Address
from memberscope.guard.policy.tables import GuardLimits
from memberscope.guard.refused import Problem, RequestRefused
from memberscope.guard.state.token_buckets import format_retry_after

NETWORK_SCALE = 4  # allowances of one client that a whole network has
BITS = {4: 24, 6: 48}  # of the wider network: what one subscriber or company usually has
REMEMBERED = 8192  # addresses whose wider network is
SPENT = 65_536  # clients of whom is remembered that their budget is spent
BELIEVED = 5.0  # seconds for which a shared budget that was spent is not looked at again


class Admission:
    """Shares of the places, allowances of refusals, and who has no budget left.

    >>> admission = Admission(GuardLimits(), clock=lambda: 0.0)
    >>> visit = admission.enter(Client("network", "192.0.2.7/32", False), "00ff", 100)
    >>> visit.refuse()
    >>> visit.leave()
    """

    def __init__(self, limits: GuardLimits, clock: Callable[[], float] = time.monotonic) -> None:
        """Open the places."""
        self.limits, self.clock = limits, clock
        self.places = FairPlaces(limits.concurrency, limits.queue)
        self.answers = TimeLimits(limits.answer_timeout)
        self._loads: dict[str, Load] = {}
        self._client = self.places.find_share(limits.client_share)
        self._network = self.places.find_share(limits.network_share)
        self._wide: dict[str, str] = {}
        rates = limits.refused, limits.refused_bytes
        self._allowances = RefusalAllowance(*rates), RefusalAllowance(*rates, NETWORK_SCALE)
        # When a budget has a record again, when it is full, and until when that is believed
        self._spent: dict[str, tuple[float, float, float]] = {}
        # One long body is parsed at a time
        self._parsing = FairPlaces(1, limits.concurrency + limits.queue)

    @property
    def has_spent(self) -> bool:
        """Whether some budget is known to be spent."""
        return bool(self._spent)

    def enter(self, client: Client, key: str, size: int) -> Visit:
        """Admit a request of `size` bytes, as far as that is known, by the client named `key`.

        Raises:
            RequestRefused: The client has too many requests under way, or had too many refused.
        """
        load = self._loads.get(key) or Load(key, *self._client)
        loads: tuple[Load, ...] = (load,)
        if not client.proven and client.address is not None:
            wide = self._wide.get(client.subject) or self._find_network(client)
            loads = load, self._loads.get(wide) or Load(wide, *self._network)
        visit = Visit(self, loads)
        visit.hold(size)
        for load in loads:
            load.visits += 1
            self._loads[load.key] = load
        return visit

    def _find_network(self, client: Client) -> str:
        """Find the wide network of a client, remembered by the name that it counts by."""
        if len(self._wide) >= REMEMBERED:
            self._wide.clear()
        assert client.address is not None
        found = self._wide[client.subject] = find_wide_network(client.address)
        return found

    def leave(self, loads: tuple[Load, ...]) -> None:
        """Forget those who have nothing under way any more."""
        for load in loads:
            load.visits -= 1
            if not load.visits:
                del self._loads[load.key]

    def check_allowances(self, loads: tuple[Load, ...], size: int) -> None:
        """Refuse (429) where one more request, or so many more bytes, are beyond an allowance."""
        for load, allowance in zip(loads, self._allowances, strict=False):
            # Who owes nothing and has nothing unread needs no look at the clock
            if not load.size and load.key not in allowance.owed:
                continue
            wait = allowance.find_wait(load.key, load.size, size, self.clock())
            if wait > 0:
                raise _build_wait_refusal("too-many-refusals", wait)

    def charge(self, loads: tuple[Load, ...], n: float, size: float) -> None:
        """Charge `n` refused requests, or a part of one, and `size` bytes."""
        now = self.clock()
        for load, allowance in zip(loads, self._allowances, strict=False):
            allowance.charge(load.key, n, size, now)

    def enter_parsing(self, visit: Visit) -> Turn:
        """Give a turn of parsing a long body, to be entered; clients take turns."""
        load = Load(visit.loads[0].key, *self._parsing.find_share(1.0))
        return Turn(self._parsing, (load,), self.limits)

    def check_spent(self, key: str) -> None:
        """Refuse (429) a client whose budget is known to hold not one record."""
        noted = self._spent.get(key)
        if noted is None:
            return
        now = self.clock()
        wait = noted[0] - now
        if wait > 0 and now < noted[2]:
            raise _build_wait_refusal("budget-exhausted", wait)
        del self._spent[key]

    def find_full_after(self, key: str) -> float | None:
        """Find the seconds until a client's spent budget is full; None where none is known."""
        noted = self._spent.get(key)
        return None if noted is None else max(0.0, noted[1] - self.clock())

    def note_spent(
        self, key: str, seconds: float, full_after: float, *, is_shared: bool = False
    ) -> None:
        """Remember that a client's budget holds nothing for so long, and when it is full.

        Where it `is_shared` with other processes one of them may give back to it, of which nobody
        hears here. So it is looked at again after `BELIEVED` seconds.
        """
        if seconds <= 0:
            return
        if len(self._spent) >= SPENT:
            del self._spent[next(iter(self._spent))]
        now = self.clock()
        believed = min(seconds, BELIEVED) if is_shared else seconds
        self._spent[key] = now + seconds, now + full_after, now + believed

    def forget_spent(self, *keys: str) -> None:
        """Look again at budgets that got something back, and may have been found spent meanwhile."""
        for key in keys:
            self._spent.pop(key, None)


class Visit:
    """One request, from its head to its answer's end, as it counts against its sender."""

    __slots__ = ("_admission", "_held", "_unread", "loads", "size")

    def __init__(self, admission: Admission, loads: tuple[Load, ...]) -> None:
        """Hold nothing yet."""
        self._admission, self.loads = admission, loads
        self._held, self._unread = 0, False
        self.size = 0  # bytes that were read or unfolded

    def hold(self, size: int, *, again: bool = False) -> None:
        """Hold a request of `size` bytes in all until it is read.

        With `again`, check it even if it is no longer than before.

        Raises:
            RequestRefused: The allowance of refusals does not have that much, or the client has too
                many requests under way that are not read.
        """
        more = max(0, size - self._held)
        if self._unread and not more and not again:
            return
        if not self._unread:
            for load in self.loads:
                if load.unread >= load.most_unread:
                    raise RequestRefused("too-many-at-once", SOON)
        self._admission.check_allowances(self.loads, more)
        for load in self.loads:
            load.size += more
            load.unread += not self._unread
        self._held, self._unread = self._held + more, True

    def release(self) -> None:
        """Give back what is held: the request was read, or the guard is at fault."""
        if self._unread:
            for load in self.loads:
                load.unread -= 1
                load.size -= self._held
            self._held, self._unread = 0, False

    def refuse(self, part: float = 1.0) -> None:
        """Charge the request for good, or a part of it."""
        self.release()
        self._admission.charge(self.loads, part, part * self.size)

    def leave(self) -> None:
        """End: nothing is under way any more."""
        self.release()
        self._admission.leave(self.loads)


class Turn:
    """Hold one place while its block runs, having waited no longer than for an answer."""

    __slots__ = ("_limits", "_loads", "_places")

    def __init__(self, places: FairPlaces, loads: tuple[Load, ...], limits: GuardLimits) -> None:
        """Take nothing yet."""
        self._places, self._loads, self._limits = places, loads, limits

    async def __aenter__(self) -> None:
        """Take a place."""
        await self._places.take(self._loads, self._limits.answer_timeout)

    async def __aexit__(self, *error: object) -> None:
        """Give it back."""
        self._places.give(self._loads)


def find_wide_network(address: Address) -> str:
    """Find the network that strangers of one subscriber or company share.

    >>> import ipaddress
    >>> find_wide_network(ipaddress.ip_address("2001:db8:1:2::3"))
    '2001:db8:1::/48'
    """
    hidden = address.max_prefixlen - BITS[address.version]
    return f"{type(address)(int(address) >> hidden << hidden)}/{BITS[address.version]}"


def _build_wait_refusal(problem: Problem, wait: float) -> RequestRefused:
    said = format_retry_after(wait)
    return RequestRefused(problem, () if said is None else (("retry-after", said),))
