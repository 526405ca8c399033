"""Assemble a running guard: state, monitor, counters, names."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Protocol

from memberscope.guard.alerting.prometheus import Metrics
from memberscope.guard.asgi.compiled_policy import hash_guard_policy
from memberscope.guard.counters import Counters, Uncounted
from memberscope.guard.hashing.pseudonyms import KeyedHasher, Names
from memberscope.guard.hashing.secret_key import Secret, read_secrets
from memberscope.guard.logs.operational_log import log_event
from memberscope.guard.monitor.artifacts import (
    find_monitor_secret,
    has_monitor,
    load_monitor_artifacts,
)
from memberscope.guard.monitor.child_process import ChildMonitor
from memberscope.guard.monitor.engine import MonitorEngine
from memberscope.guard.monitor.in_process import LocalMonitor, SharedMonitor, SketchQueue
from memberscope.guard.policy.config import GuardPolicy
from memberscope.guard.query_event import QueryEvent, Watch
from memberscope.guard.sketching.observations import read_line
from memberscope.guard.state.budget_folder import BudgetFolder
from memberscope.guard.state.in_memory import MemoryState
from memberscope.guard.state.interface import State
from memberscope.guard.state.key_uses import FileKeyUses, KeyUses, RedisKeyUses
from memberscope.guard.state.local_fallback import LocalAfterFault
from memberscope.guard.state.older_keys import OlderKeys
from memberscope.guard.state.redis_store import RedisState
from memberscope.guard.state.stream_lease import Consumer

DAY = 86400.0


async def _do_nothing() -> None:
    """Start or stop nothing."""


@dataclass(frozen=True, eq=False)
class GuardAssembly:
    """Parts of a running guard, with what to start, to stop, and to tell of a new policy."""

    state: State
    names: Names
    watch: Watch | None = None
    counters: Counters = field(default_factory=Uncounted)
    metrics: Callable[[], bytes] = bytes
    start: Callable[[], Awaitable[None]] = _do_nothing
    stop: Callable[[], Awaitable[None]] = _do_nothing
    follow: Callable[[GuardPolicy], None] = lambda policy: None


def build_state(policy: GuardPolicy, counters: Counters) -> State:
    """Build the store of budgets and responses: Redis if the policy names one, else memory.

    Raises:
        InputError: The folder of budgets is not usable, or another process uses it.

    >>> from memberscope.guard.policy.config import parse_guard_policy
    >>> type(build_state(parse_guard_policy({"serving": {"n_classes": 3}}), Uncounted())).__name__
    'MemoryState'
    """

    def lost(line: str) -> None:
        if isinstance(counters, Metrics):
            counters.dropped(len(read_line(line)))

    folder = policy.state.folder
    # What cannot be shared nobody judges
    local = MemoryState(
        policy.monitor.clients,
        publish=lost,
        record_bytes=policy.state.record_megabytes * 2**20,
        folder=None if folder is None else BudgetFolder(policy.path(folder)),
    )
    if policy.state.redis is None:
        limits = (policy.default, *policy.clients)
        # A disk without room is told at the start
        for rate in {entry.per_record for entry in limits if entry.per_record is not None}:
            if folder is not None:
                local.reserve(rate.seconds)
        _warn_of_forgotten_budgets(policy)
        return local
    shared = RedisState(policy.state.redis, policy.state.prefix, policy.state.timeout)
    # With Redis away such a policy refuses: budgets kept locally would let too much through
    if policy.guard.on_fault == "closed":
        return shared
    return LocalAfterFault(shared, local, lambda error: counters.fault("state"))


def _warn_of_forgotten_budgets(policy: GuardPolicy) -> None:
    """Log that budgets of a day or more begin anew at each start, where nothing keeps them."""
    limits = (policy.default, *policy.clients)
    rates = [rate for entry in limits for rate in (entry.per_client, entry.per_record)]
    longest = max((rate.seconds for rate in (*rates, policy.guard.total) if rate), default=0.0)
    if policy.state.folder is None and longest >= DAY:
        log_event(
            logging.WARNING,
            "budgets_not_kept",
            why="[state] names no folder, so that budgets of a day or more begin anew at each start",
        )


class Watching(Protocol):
    """Interface of a monitor, in whatever process."""

    def watch(self, seen: QueryEvent) -> None:
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


def assemble_guard(
    policy: GuardPolicy, secret: bytes, metrics: Metrics | None = None, *, apart: bool = False
) -> GuardAssembly:
    """Assemble one worker; all workers share `secret`, which is the monitor's if there is one.

    With `apart`, a monitor that no other worker shares gets a process of its own. Several models of
    one process share their `metrics`.

    Raises:
        InputError: What [monitor] or [alerts] names is not usable.
    """
    metrics = Metrics() if metrics is None else metrics
    state = build_state(policy, metrics)
    key, secrets = policy.monitor.key, list[Secret]()
    if key is not None:
        secrets = read_secrets(policy.path(key))
        secret = secrets[-1].key
    elif policy.state.folder is not None and isinstance(state, MemoryState):
        # Budgets that are kept must find the same client and record again
        secret = state.secret
    elif policy.state.redis is not None:
        log_event(
            logging.WARNING,
            "no_key",
            why="[monitor] names no key, so that budgets in Redis begin anew at each start",
        )
    names = KeyedHasher(secret)
    older = OlderKeys(names, secrets, _build_key_uses(policy) if secrets else None)

    def told(new: GuardPolicy) -> None:
        # A policy with longer budgets than before needs older keys
        older.follow(new)
        metrics.policy(hash_guard_policy(new), time.time(), new.serving.prefix)

    def expose_budgets() -> bytes:
        if isinstance(state, MemoryState):
            found = state.saturation()
            metrics.budgets(found.used, found.unplaced, policy.serving.prefix)
        return metrics.exposition()

    told(policy)
    watching = _build_monitor(policy, metrics, state, apart=apart)

    def follow(new: GuardPolicy) -> None:
        told(new)
        if watching is not None:
            watching.follow(new)

    async def start() -> None:
        await older.start()
        if watching is not None:
            await watching.start()

    async def stop() -> None:
        if watching is not None:
            await watching.stop()
        await older.stop()

    def exposition() -> bytes:
        # A scrape shows what waits as of now, also where the monitor takes nothing
        if watching is not None:
            watching.tell()
        return expose_budgets()

    watch = None if watching is None else watching.watch
    return GuardAssembly(state, names, watch, metrics, exposition, start, stop, follow)


def _build_key_uses(policy: GuardPolicy) -> KeyUses | None:
    """Build what keeps the last uses of keys: it lies where budgets outlive a restart, if they do."""
    kept = policy.state
    if kept.redis is not None:
        return RedisKeyUses(kept.redis, kept.prefix, kept.timeout)
    return None if kept.folder is None else FileKeyUses(policy.path(kept.folder) / "keys.json")


def assemble_serving_guard(
    policy: GuardPolicy, secret: bytes, metrics: Metrics | None = None
) -> GuardAssembly:
    """Assemble a process that only serves: its monitor runs in another process.

    Raises:
        InputError: What [monitor] names is not usable; what its own process finds so, is told when
            it starts.
    """
    return assemble_guard(policy, secret, metrics, apart=True)


def _build_monitor(
    policy: GuardPolicy, metrics: Metrics, state: State, *, apart: bool
) -> Watching | None:
    """Build the monitor that the policy names, if any.

    Raises:
        InputError: What it works with is not usable.
    """
    if not has_monitor(policy):
        log_event(logging.WARNING, "not_watching", why="[monitor] names no sketch")
        return None
    if policy.monitor.tuned is None:
        log_event(
            logging.WARNING, "not_tuned", why="[monitor] names no tuned, so that nothing alarms"
        )
    # Workers that share a Redis share one monitor, so that no process of its own is started
    apart = apart or policy.monitor.socket is not None
    if apart and policy.state.redis is None and policy.monitor.key is not None:
        return ChildMonitor(policy, find_monitor_secret(policy).id, metrics, state)
    equipment = load_monitor_artifacts(policy)
    sketched, judge = (
        SketchQueue(equipment, metrics),
        MonitorEngine(policy, equipment, metrics, state),
    )
    if policy.state.redis is None:
        return LocalMonitor(sketched, judge)
    return SharedMonitor(
        sketched,
        judge,
        Consumer(policy.state.redis, policy.state.prefix, policy.state.timeout),
        state,
    )
