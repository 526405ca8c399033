"""A policy made ready to serve: one value, so that a reload replaces all of it at once."""

from __future__ import annotations

import asyncio
import hashlib
import ipaddress
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from memberscope.defences import restriction
from memberscope.errors import InputError
from memberscope.guard.exchange import Exchange, coarser
from memberscope.guard.identifying import Client, Identify, identifier, meant
from memberscope.guard.naming import Names
from memberscope.guard.policy import Allowed, GuardPolicy, Rate, read_policy
from memberscope.guard.refused import Refused
from memberscope.guard.state import Bucket
from memberscope.targets.batches import Batch
from memberscope.types import OutputDefence

BUSY = "Expected fewer requests at once. Send it again a little later."
Fit = Callable[[str], OutputDefence]


@dataclass(frozen=True, eq=False)
class Group:
    """A class of clients: what it is allowed, and the defence of its answers; None lets them pass as they are."""

    name: str
    allowed: Allowed
    defence: OutputDefence | None
    who: tuple[str, ...] = ()
    coarse: OutputDefence | None = None

    @property
    def unlimited(self) -> bool:
        """Whether it has no budget."""
        return self.allowed.per_client is None and self.allowed.per_record is None


class Slots:
    """Room for so many requests at once, and for so many that wait."""

    def __init__(self, n: int, queue: int) -> None:
        """Open `n` places."""
        self._room, self._queue, self._waiting = asyncio.Semaphore(n), queue, 0

    def check(self) -> None:
        """Refuse (503) what would wait in a full queue."""
        if self._room.locked() and self._waiting >= self._queue:
            raise Refused(503, BUSY, (("retry-after", "1"),))

    @asynccontextmanager
    async def one(self, seconds: float) -> AsyncIterator[None]:
        """A place, waited for so long.

        Raises:
            Refused: There is none (503).
        """
        self.check()
        self._waiting += 1
        try:
            async with asyncio.timeout(seconds):
                await self._room.acquire()
        except TimeoutError:
            raise Refused(503, BUSY, (("retry-after", "1"),)) from None
        finally:
            self._waiting -= 1
        try:
            yield
        finally:
            self._room.release()


@dataclass(frozen=True, eq=False)
class Rules:
    """What is in force."""

    policy: GuardPolicy
    exchange: Exchange
    groups: tuple[Group, ...]
    default: Group
    identify: Identify
    slots: Slots
    digest: str

    @property
    def responds(self) -> bool:
        """Whether an alarm may change what a client gets."""
        respond = self.policy.respond
        return any(word != "alert" for word in (respond.volume, respond.probing, respond.boundary, respond.coverage))

    def group(self, client: Client) -> Group:
        """The first class that the client belongs to."""
        for group in self.groups:
            if any(meant(who, client) for who in group.who):
                return group
        return self.default

    def buckets(self, group: Group, client: str, batch: Batch, names: Names) -> list[Bucket]:
        """What the budgets count for this query; `client` is its keyed hash."""
        found, n = [], len(batch)
        if self.policy.guard.total is not None:
            found.append(Bucket("total", self.policy.guard.total, n))
        if group.allowed.per_client is not None:
            found.append(Bucket(f"client:{group.name}:{client}", group.allowed.per_client, n))
        if group.allowed.per_record is not None:
            found += per_record(group.allowed.per_record, client, names.records(batch))
        return found


def per_record(rate: Rate, client: str, records: list[str]) -> list[Bucket]:
    """One bucket for each different record."""
    times: dict[str, int] = {}
    for record in records:
        times[record] = times.get(record, 0) + 1
    return [Bucket(f"record:{client}:{record}", rate, n) for record, n in times.items()]


def rules_of(policy: GuardPolicy, *, identify: Identify | None = None, fit: Fit = restriction) -> Rules:
    """The policy made ready; `fit` gives the defence of a name, fitted where that is needed.

    Raises:
        InputError: A defence cannot be made, a network cannot be read, or what identifies clients is not usable.

    >>> from memberscope.guard.policy import policy_of
    >>> rules_of(policy_of({"serving": {"n_classes": 3}, "default": {"restrict": "top:1"}})).default.defence
    TopK(k=1)
    """
    coarse = restriction(policy.respond.coarsen)

    def group(name: str, allowed: Allowed, who: tuple[str, ...] = ()) -> Group:
        defence = None if allowed.restrict == "none" else fit(allowed.restrict)
        return Group(name, allowed, defence, who, coarser(defence, coarse))

    for entry in policy.clients:
        for who in entry.who:
            check_network(who)
    return Rules(
        policy,
        Exchange.of(policy.serving),
        tuple(group(entry.name, entry, entry.who) for entry in policy.clients),
        group("default", policy.default),
        identify or identifier(policy),
        Slots(policy.limits.concurrency, policy.limits.queue),
        hashlib.sha256(policy.model_dump_json(exclude={"home"}).encode()).hexdigest(),
    )


def check_network(who: str) -> None:
    """Refuse a network that cannot be read: it would hold for nobody."""
    kind, _, subject = who.partition(":")
    if kind == "network":
        try:
            ipaddress.ip_network(subject)
        except ValueError as error:
            raise InputError(
                f"Expected a network such as network:10.0.0.0/8 in who, got {who!r}: {error}. Repair it."
            ) from None


def policy_from(source: GuardPolicy | str | Path) -> GuardPolicy:
    """A policy, read where it is a file's name."""
    return source if isinstance(source, GuardPolicy) else read_policy(source)
