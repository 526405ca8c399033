"""Count requests, alarms and the monitor's work as Prometheus metrics.

They have a registry of their own, with labels from closed sets that no client can add to.

One process exposes its own numbers. Several workers of one server answer for one another as
prometheus-client has it: the folder in the environment variable PROMETHEUS_MULTIPROC_DIR, set
before the first import of prometheus_client and empty at the start, holds all workers' numbers, and
each exposes their sums. Whoever ends a worker calls `forget_worker`. `guard run --workers` does
both.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from http import HTTPStatus
from pathlib import Path
from typing import Any, get_args

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from memberscope.guard.alerting.membership_digest import DIGEST
from memberscope.guard.detectors.alarm import Alarm, Scope
from memberscope.guard.policy.tables import Detector

PREFIX, FOLDER = "memberscope_guard", "PROMETHEUS_MULTIPROC_DIR"
CONTENT_TYPE = CONTENT_TYPE_LATEST
KINDS = ("query", "passed", "refused")
BUDGETS = ("budget", "client_budget", "record_budget", "total_budget")
REASONS = (
    *BUDGETS,
    "blocked",
    "busy",
    "credential",
    "form",
    "guesses",
    "identity",
    "record",
    "refusals",
    "route",
    "share",
    "size",
    "slow",
    "step_up",
    "unreadable",
    "upstream",
)
FAULTS = ("identity", "state", "upstream", "answer", "defence", "watch", "internal")
LOST = ("queue", "log", "webhook")
ENDED = ("idle", "share")
STATUSES = tuple(str(int(status)) for status in HTTPStatus)
OTHER = "other"
BUCKETS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0)


class Metrics:
    """Counts of requests, refusals, faults, reloads, alarms and the monitor's work.

    Every method is quick and raises nothing. A label that is none of the known ones counts as
    `other`.

    >>> metrics = Metrics()
    >>> metrics.refused("budget")
    >>> metrics.refused("whatever a client says")
    >>> [line for line in metrics.exposition().decode().splitlines() if line.endswith("} 1.0")]
    ['memberscope_guard_refused_total{reason="budget"} 1.0',
    'memberscope_guard_refused_total{reason="other"} 1.0']
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = self._counter("requests_total", "Requests answered.", "kind", "status")
        self._seconds = Histogram(
            f"{PREFIX}_request_seconds",
            "Seconds from a request's head to its answer's end.",
            ("kind",),
            buckets=BUCKETS,
            registry=self.registry,
        )
        self._refused = self._counter("refused_total", "Queries refused.", "reason")
        self._faults = self._counter(
            "faults_total", "Failures of something that protection needs.", "which"
        )
        self._exposed = self._counter(
            "exposed_total", "Answers passed as they were after a fault, as on_fault = open asks."
        )
        self._would = self._counter(
            "would_total", "Requests that enforcing would have answered with this status.", "status"
        )
        self._in_flight = self._gauge("in_flight", "Queries under way.", "livesum")
        self._left_out = self._gauge(
            "replicas_left_out", "Upstream addresses that get no requests.", "livemax"
        )
        self._parsed = self._counter(
            "bodies_parsed_total", "Queries whose body was unfolded and parsed, or tried to be."
        )
        self._refunded = self._counter(
            "refunds_total",
            "Queries that got their records back: unanswered, by no fault of theirs.",
        )
        self._ended = self._counter(
            "connections_ended_total", "Connections ended for their client's share.", "why"
        )
        self._reloads = self._counter("policy_reloads_total", "Policies read.", "outcome")
        self._good = self._gauge(
            "policy_last_reload_good", "1 if the policy read last is in force, else 0.", "livemin"
        )
        self._since = self._gauge(
            "policy_since_seconds",
            "When the policy in force was read, in seconds since 1970.",
            "livemin",
        )
        self._policy = self._gauge(
            "policy_in_force", "1 for the policy in force, by its digest.", "livemax", "digest"
        )
        self._alarms = self._counter(
            "alarms_total", "Alarms told; of membership, digests.", "detector", "scope"
        )
        self._lost = self._counter("alerts_lost_total", "Alerts that could not be told.", "where")
        self._queue = self._gauge("monitor_queue", "Queries that wait for the monitor.", "livesum")
        self._dropped = self._counter(
            "monitor_dropped_total", "Queries that the monitor never saw."
        )
        self._unreadable = self._counter(
            "unreadable_total", "Records answered without a sketch, as it cannot read them."
        )
        self._clients = self._gauge(
            "monitor_clients", "Clients whose state the monitor holds.", "livemax"
        )
        self._lag = self._gauge(
            "monitor_lag_seconds", "Seconds from a query to the monitor's look at it.", "livemax"
        )
        self._places = self._gauge(
            "budget_places_used",
            "Share in use of the places for records' budgets, in the fullest table.",
            "livemax",
        )
        self._unplaced = self._counter(
            "budget_unplaced_total", "Queries refused as a new record's budget found no place."
        )
        # For each model's prefix: the digest of the policy in force, the share of places in use
        # and the queries refused for want of one
        self._digests: dict[str, str] = {}
        self._used: dict[str, float] = {}
        self._unplaced_before: dict[str, int] = {}
        # Labelled metrics by kind and status, as looking them up takes longer than counting
        self._children: dict[tuple[str, int], tuple[Any, Any]] = {}
        self._begin()

    def request(self, kind: str, status: int, seconds: float) -> None:
        """Count a request of `kind` (query, passed, refused) with its status and seconds."""
        found = self._children.get((kind, status))
        if found is None:
            name, code = _restrict_label(kind, KINDS), _restrict_label(str(status), STATUSES)
            found = self._requests.labels(name, code), self._seconds.labels(name)
            # Only known labels are kept, so that no client can make the table grow
            if name == kind and code != OTHER:
                self._children[kind, status] = found
        found[0].inc()
        found[1].observe(seconds)

    def refused(self, reason: str) -> None:
        """Count a refused query."""
        self._refused.labels(_restrict_label(reason, REASONS)).inc()

    def fault(self, which: str) -> None:
        """Count a failure of something that protection needs, such as `state` or `upstream`."""
        self._faults.labels(_restrict_label(which, FAULTS)).inc()

    def exposed(self) -> None:
        """Count an answer that passed as it was after a fault."""
        self._exposed.inc()

    def would(self, status: int) -> None:
        """Count, in observe mode, that enforcing would have answered with `status`."""
        self._would.labels(_restrict_label(str(status), STATUSES)).inc()

    def in_flight(self, change: int) -> None:
        """Add to the number of queries in flight: 1 at the start, -1 at the end."""
        self._in_flight.inc(change)

    def left_out(self, n: int) -> None:
        """Set the number of upstream addresses that get no requests, as they do not answer."""
        self._left_out.set(n)

    def parsed(self) -> None:
        """Count a query whose body was unfolded and parsed, or where that was tried."""
        self._parsed.inc()

    def refunded(self) -> None:
        """Count a query that took from budgets, was not answered, and got its records back."""
        self._refunded.inc()

    def connection_ended(self, why: str) -> None:
        """Count a connection that was ended for its client's share, `idle` or not."""
        self._ended.labels(_restrict_label(why, ENDED)).inc()

    def reload(self, good: bool) -> None:
        """Record whether a policy was read again; a broken one leaves the old one in force."""
        self._reloads.labels("good" if good else "bad").inc()
        self._good.set(int(good))

    def policy(self, digest: str, since: float, prefix: str = "") -> None:
        """Record the digest of the policy in force and since when, in seconds since 1970.

        Several models have a policy each, told by the prefix of their paths.
        """
        # Enough to tell policies apart
        digest, old = digest[:16], self._digests.get(prefix)
        self._digests[prefix] = digest
        if old is not None and old not in self._digests.values():
            self._policy.labels(old).set(0)
            # Across processes prometheus-client cannot remove a label, so that it stays at 0
            if FOLDER not in os.environ:
                self._policy.remove(old)
        self._policy.labels(digest).set(1)
        self._since.set(since)

    def alarm(self, alarm: Alarm) -> None:
        """Count an alarm; one of membership counts only as a digest.

        No scrape shows a single hit.
        """
        if alarm.detector != "membership" or alarm.subject == DIGEST:
            self._alarms.labels(alarm.detector, alarm.scope).inc()

    def alert_lost(self, where: str) -> None:
        """Count an alert that could not be sent, by `queue`, `log` or `webhook`."""
        self._lost.labels(_restrict_label(where, LOST)).inc()

    def waiting(self, n: int) -> None:
        """Set the number of queries that wait for the monitor."""
        self._queue.set(n)

    def dropped(self, n: int) -> None:
        """Count `n` queries for which the monitor had no room."""
        self._dropped.inc(n)

    def unreadable(self, n: int) -> None:
        """Count `n` records that the sketch could not read."""
        self._unreadable.inc(n)

    def watched(self, clients: int, lag: float) -> None:
        """Set the number of clients that the monitor knows, and its `lag` in seconds."""
        self._clients.set(clients)
        self._lag.set(lag)

    def late(self, seconds: float) -> None:
        """Set the age of the oldest query that waits for the monitor."""
        self._lag.set(seconds)

    def budgets(self, used: float, unplaced: int, prefix: str = "") -> None:
        """Set how full the tables of records' budgets are; refusals are counted from the start.

        Of several models, told by the prefix of their paths, the fullest table is shown.
        """
        self._used[prefix] = used
        self._places.set(max(self._used.values()))
        self._unplaced.inc(max(0, unplaced - self._unplaced_before.get(prefix, 0)))
        self._unplaced_before[prefix] = unplaced

    def exposition(self) -> bytes:
        """Give all metrics in Prometheus' text format.

        They are those of this process or, where a folder is shared, of all workers.
        """
        folder = os.environ.get(FOLDER)
        return generate_latest(self.registry if folder is None else SharedNumbers(folder))

    def _counter(self, name: str, words: str, *labels: str) -> Counter:
        return Counter(f"{PREFIX}_{name}", words, labels, registry=self.registry)

    def _gauge(self, name: str, words: str, mode: Any, *labels: str) -> Gauge:
        return Gauge(
            f"{PREFIX}_{name}", words, labels, registry=self.registry, multiprocess_mode=mode
        )

    def _begin(self) -> None:
        """Start at 0 every counter that an alert rule looks at.

        Prometheus would not see the first count as an increase otherwise.
        """
        for reason in (*REASONS, OTHER):
            self._refused.labels(reason)
        for which in (*FAULTS, OTHER):
            self._faults.labels(which)
        for where in LOST:
            self._lost.labels(where)
        for why in ENDED:
            self._ended.labels(why)
        for outcome in ("good", "bad"):
            self._reloads.labels(outcome)
        for detector in get_args(Detector):
            # Membership is counted in digests alone, whose scope is the pool
            for scope in get_args(Scope) if detector != "membership" else ("pool",):
                self._alarms.labels(detector, scope)
        self._alarms.labels("unreadable", "client")
        self._good.set(1)


class SharedNumbers:
    """Collect what all workers counted in a folder, without metrics of other servers there."""

    def __init__(self, folder: str) -> None:
        self.folder = folder

    def collect(self) -> Iterable[Any]:
        """Collect the guard's own metrics."""
        found = MultiProcessCollector(CollectorRegistry(), path=self.folder).collect()  # type: ignore[no-untyped-call]
        return [metric for metric in found if metric.name.startswith(PREFIX)]


def _restrict_label(word: str, words: tuple[str, ...]) -> str:
    """Give the word if it is one of `words`, else `other`.

    >>> _restrict_label("busy", REASONS), _restrict_label("x" * 4000, REASONS)
    ('busy', 'other')
    """
    return word if word in words else OTHER


def forget_worker(pid: int) -> None:
    """Drop the gauges of an ended worker; its counters stay.

    For a single process there is nothing to do.
    """
    if FOLDER in os.environ:
        mark_process_dead(pid)  # type: ignore[no-untyped-call]


def leave_folder() -> None:
    """Remove what this worker counted, once its first process has gone.

    The folder goes too, unless another process that counts in it lives.

    A process that died and was not waited for counts as alive, and its file stays.
    """
    folder = Path(os.environ[FOLDER])
    for file in folder.glob(f"*_{os.getpid()}.db"):
        file.unlink(missing_ok=True)
    # The number of the process is the last part of a file's name
    others = [*folder.glob("*_*.db")]
    if not any(_is_process_alive(int(file.stem.rpartition("_")[2])) for file in others):
        for file in others:
            file.unlink(missing_ok=True)
        with suppress(OSError):  # another was faster
            folder.rmdir()


def _is_process_alive(pid: int) -> bool:
    """Tell whether there is such a process.

    >>> _is_process_alive(os.getpid())
    True
    """
    try:
        # Signal 0 is not sent: it only asks whether it could be
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        # It is another user's, but there
        pass
    return True
