"""What a running guard is put together from, besides its policy."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from memberscope.guard.counters import Counters, Uncounted
from memberscope.guard.equipment import equipment_of
from memberscope.guard.fallback import LocalAfterFault
from memberscope.guard.judge import Judge
from memberscope.guard.keys import read_secret
from memberscope.guard.lease import Consumer
from memberscope.guard.live import Alone, Sketched, Together
from memberscope.guard.log import say
from memberscope.guard.memory import MemoryState
from memberscope.guard.metrics import Metrics
from memberscope.guard.middleware import Watch
from memberscope.guard.naming import Keyed, Names
from memberscope.guard.observations import read_line
from memberscope.guard.policy import GuardPolicy
from memberscope.guard.redis_state import RedisState
from memberscope.guard.rules import digest_of
from memberscope.guard.state import State


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

    >>> from memberscope.guard.policy import policy_of
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


def parts_of(policy: GuardPolicy, secret: bytes) -> Parts:
    """The parts of one worker; all workers have the same `secret`, which is the monitor's where there is one.

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
    equipment = equipment_of(policy)
    if equipment is None:
        say(logging.WARNING, "not_watching", why="[monitor] names no sketch")
        return Parts(state, Keyed(secret), counters=metrics, metrics=metrics.exposition, follow=told)
    if equipment.tuned is None:
        say(logging.WARNING, "not_tuned", why="[monitor] names no tuned, so that nothing alarms")
    sketched, judge = Sketched(equipment, metrics), Judge(policy, equipment, metrics, state)
    worker: Alone | Together = Alone(sketched, judge)
    if policy.state.redis is not None:
        worker = Together(sketched, judge, Consumer(policy.state.redis, policy.state.prefix, policy.state.timeout), state)

    def follow(new: GuardPolicy) -> None:
        told(new)
        judge.follow(new)

    return Parts(state, Keyed(secret), sketched.watch, metrics, metrics.exposition, worker.start, worker.stop, follow)
