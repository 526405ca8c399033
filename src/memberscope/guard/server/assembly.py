"""What a running guard is put together from, besides its policy."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Protocol

from memberscope.guard.alerting.prometheus import Metrics
from memberscope.guard.asgi.compiled_policy import digest_of
from memberscope.guard.counters import Counters, Uncounted
from memberscope.guard.hashing.pseudonyms import Keyed, Names
from memberscope.guard.hashing.secret_key import read_secret
from memberscope.guard.logs.operational_log import say
from memberscope.guard.monitor.artifacts import equipment_of, watched
from memberscope.guard.monitor.child_process import Apart
from memberscope.guard.monitor.engine import Judge
from memberscope.guard.monitor.in_process import Alone, Sketched, Together
from memberscope.guard.policy.config import GuardPolicy
from memberscope.guard.query_event import Seen, Watch
from memberscope.guard.sketching.observations import read_line
from memberscope.guard.state.in_memory import MemoryState
from memberscope.guard.state.interface import State
from memberscope.guard.state.local_fallback import LocalAfterFault
from memberscope.guard.state.redis_store import RedisState
from memberscope.guard.state.stream_lease import Consumer


async def nothing() -> None:
    """Start or stop nothing."""


@dataclass(frozen=True, eq=False)
class Parts:
    """Where state is kept, who watches and counts, what is started before and stopped after, and what follows a reloaded policy."""

    state: State
    names: Names
    watch: Watch | None = None
    counters: Counters = field(default_factory=Uncounted)
    metrics: Callable[[], bytes] = bytes
    start: Callable[[], Awaitable[None]] = nothing
    stop: Callable[[], Awaitable[None]] = nothing
    follow: Callable[[GuardPolicy], None] = lambda policy: None


def state_of(policy: GuardPolicy, counters: Counters) -> State:
    """Where budgets and responses are kept: in Redis, if the policy names one, else in this process.

    >>> from memberscope.guard.policy.config import policy_of
    >>> type(state_of(policy_of({"serving": {"n_classes": 3}}), Uncounted())).__name__
    'MemoryState'
    """

    def lost(line: str) -> None:
        if isinstance(counters, Metrics):
            counters.dropped(len(read_line(line)))

    local = MemoryState(policy.monitor.clients, publish=lost)  # what cannot be shared nobody judges
    if policy.state.redis is None:
        return local
    shared = RedisState(policy.state.redis, policy.state.prefix, policy.state.timeout)
    if policy.guard.on_fault == "closed":
        return shared
    return LocalAfterFault(shared, local, lambda error: counters.fault("state"))


class Watching(Protocol):
    """A monitor, wherever it runs."""

    def watch(self, seen: Seen) -> None:
        """Take a query that was answered."""
        ...

    async def start(self) -> None:
        """Begin."""
        ...

    async def stop(self) -> None:
        """Look at what waits, and end."""
        ...

    def follow(self, policy: GuardPolicy) -> None:
        """Respond from now on as a policy that was read again says."""
        ...

    def tell(self) -> None:
        """Count what waits as of now."""
        ...


def parts_of(policy: GuardPolicy, secret: bytes, *, apart: bool = False) -> Parts:
    """The parts of one worker; all workers have the same `secret`, which is the monitor's where there is one.

    With `apart`, a monitor that no other worker shares gets a process of its own.

    Raises:
        InputError: What [monitor] or [alerts] names is not usable.
    """
    metrics = Metrics()
    state = state_of(policy, metrics)
    key = policy.monitor.key
    if key is not None:
        secret = read_secret(policy.path(key)).key
    elif policy.state.redis is not None:
        say(logging.WARNING, "no_key", why="[monitor] names no key, so that budgets in Redis begin anew at each start")

    def told(new: GuardPolicy) -> None:
        metrics.policy(digest_of(new), time.time())

    told(policy)
    watching = watching_of(policy, metrics, state, apart=apart)
    if watching is None:
        return Parts(state, Keyed(secret), counters=metrics, metrics=metrics.exposition, follow=told)

    def follow(new: GuardPolicy) -> None:
        told(new)
        watching.follow(new)

    def exposition() -> bytes:
        watching.tell()
        return metrics.exposition()

    return Parts(state, Keyed(secret), watching.watch, metrics, exposition, watching.start, watching.stop, follow)


def parts_served(policy: GuardPolicy, secret: bytes) -> Parts:
    """The parts of a process that does nothing but serve: its monitor runs beside it.

    Raises:
        InputError: What [monitor] names is not usable; what its own process finds so, is told when it starts.
    """
    return parts_of(policy, secret, apart=True)


def watching_of(policy: GuardPolicy, metrics: Metrics, state: State, *, apart: bool) -> Watching | None:
    """The monitor that the policy names, if it does.

    Raises:
        InputError: What it works with is not usable.
    """
    if not watched(policy):
        say(logging.WARNING, "not_watching", why="[monitor] names no sketch")
        return None
    if policy.monitor.tuned is None:
        say(logging.WARNING, "not_tuned", why="[monitor] names no tuned, so that nothing alarms")
    if apart and policy.state.redis is None and policy.monitor.key is not None:
        return Apart(policy, read_secret(policy.path(policy.monitor.key)).id, metrics, state)
    equipment = equipment_of(policy)
    sketched, judge = Sketched(equipment, metrics), Judge(policy, equipment, metrics, state)
    if policy.state.redis is None:
        return Alone(sketched, judge)
    return Together(sketched, judge, Consumer(policy.state.redis, policy.state.prefix, policy.state.timeout), state)
