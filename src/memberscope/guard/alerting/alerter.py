"""Send alarms to the log of alerts, a webhook and the metrics, from one thread."""

from __future__ import annotations

import math
import os
import queue
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from memberscope.errors import InputError
from memberscope.guard.alerting.membership_digest import DIGEST, Digest
from memberscope.guard.alerting.webhook import Patience, Webhook
from memberscope.guard.detectors.alarm import Alarm
from memberscope.guard.logs.daily_jsonl import DAY, DailyJsonl, format_alert_line
from memberscope.guard.policy.config import GuardPolicy
from memberscope.guard.policy.tables import Alerts

FORMAT = "memberscope-alert/1"
# Alarms that may wait for the thread; those beyond are lost, and counted
WAITING = 10_000
TURN, HOUR = 0.25, 3600.0  # seconds: between looks at the clock, and between looks for old files


class Tally(Protocol):
    """Interface of what counts alerts, such as `Metrics`."""

    def alarm(self, alarm: Alarm) -> None:
        """Count an alarm that was told."""
        ...

    def alert_lost(self, where: str) -> None:
        """Count an alert that could not be told: `queue`, `log` or `webhook`."""
        ...


class Alerter:
    """Send alarms to the log, the webhook and `tally`.

    Those of `membership` go only in digests, at fixed times.

    `tell` neither waits nor raises. What cannot be told is counted. A digest that is not yet due
    when the guard closes is not told.

    Raises:
        InputError: The webhook is no address, or the environment lacks its secret.

    >>> alerter = Alerter(Alerts())
    >>> alerter.tell(Alarm(0.0, "probing", "family", "17", 12.5, 10.0, 40, ("0a",)))
    >>> alerter.close()
    """

    def __init__(
        self,
        alerts: Alerts,
        *,
        home: Path = Path("."),
        retention_days: float = 30.0,
        clock: Callable[[], float] = time.time,
        tally: Tally | None = None,
        patience: Patience | None = None,
    ) -> None:
        self.clock, self.tally = clock, tally
        self.log = (
            None if alerts.log is None else DailyJsonl(home / alerts.log, retention_days, "told")
        )
        self.webhook = None
        if alerts.webhook is not None:
            secret = _read_webhook_secret(alerts)
            self.webhook = Webhook(
                alerts.webhook, secret, clock, lost=lambda: self._lost("webhook"), patience=patience
            )
        self.digest = Digest(alerts, retention_days * DAY)
        self.tidied = -math.inf
        self.alarms: queue.Queue[Alarm | None] = queue.Queue(WAITING)
        self.thread = threading.Thread(target=self._work, name="memberscope-alerts", daemon=True)
        self.thread.start()

    def tell(self, alarm: Alarm) -> None:
        """Hand over an alarm; where too many wait it is lost, and counted."""
        try:
            self.alarms.put_nowait(alarm)
        except queue.Full:
            self._lost("queue")

    def close(self, seconds: float = 5.0) -> None:
        """Tell what waits, for about so long at most, and stop."""
        try:
            # None ends the thread, behind all that still waits
            self.alarms.put(None, timeout=seconds)
            self.thread.join(seconds)
        except queue.Full:
            pass
        if self.webhook is not None:
            self.webhook.close(seconds)

    def _work(self) -> None:
        while True:
            try:
                alarm = self.alarms.get(timeout=TURN)
                if alarm is None:
                    return
            except queue.Empty:
                alarm = None
            try:
                self._turn(alarm)
            except Exception:  # a thread that ends would tell nothing any more
                self._lost("log")

    def _turn(self, alarm: Alarm | None) -> None:
        now = self.clock()
        due = self.digest.due(now)
        if due is not None:
            # Not the moment at which an alarm woke this thread, which would tell of a hit
            self._out(due, due.time)
        # A single hit is never told
        if alarm is not None and alarm.detector == "membership":
            self.digest.add(alarm, now)
        elif alarm is not None:
            self._out(alarm, now)
        if self.log is not None and now // HOUR != self.tidied:
            self.tidied = now // HOUR
            self.log.tidy(now)

    def _out(self, alarm: Alarm, now: float) -> None:
        document = build_alert_document(alarm, now)
        if self.tally is not None:
            self.tally.alarm(alarm)
        if self.webhook is not None:
            self.webhook.send(format_alert_line(document).encode("ascii"))
        if self.log is not None:
            self.log.write([format_alert_line(document)], float(document["told"]))

    def _lost(self, where: str) -> None:
        if self.tally is not None:
            self.tally.alert_lost(where)


def _read_webhook_secret(alerts: Alerts) -> bytes | None:
    """Read the secret that signs deliveries; None where the policy names none.

    Raises:
        InputError: The environment lacks it.
    """
    if alerts.webhook_secret_env is None:
        return None
    found = os.environ.get(alerts.webhook_secret_env, "")
    if not found:
        raise InputError(
            "Expected the webhook's secret in the environment variable that "
            "alerts.webhook_secret_env names, got none. Set it."
        )
    return found.encode()


def build_alert_document(alarm: Alarm, told: float) -> dict[str, Any]:
    """Build the JSON document of an alert sent at `told`; non-finite numbers become null.

    `text` is what chat services show.

    >>> build_alert_document(Alarm(0.0, "probing", "family", "17", 12.5, 10.0, 40, ("0a",)), 60.0)["at"]
    '1970-01-01T00:00:00Z'
    """
    return {
        "format": FORMAT,
        "time": _replace_non_finite(alarm.time),
        "at": f"{datetime.fromtimestamp(alarm.time, UTC):%Y-%m-%dT%H:%M:%SZ}",
        "told": told,
        "detector": alarm.detector,
        "scope": alarm.scope,
        "subject": alarm.subject,
        "statistic": _replace_non_finite(alarm.statistic),
        "threshold": _replace_non_finite(alarm.threshold),
        "queries": alarm.queries,
        "clients": list(alarm.clients),
        "text": "memberscope: " + _describe_alarm(alarm),
    }


def _replace_non_finite(value: float) -> float | None:
    """Replace a number that JSON does not have by None."""
    return float(value) if math.isfinite(value) else None


def _describe_alarm(alarm: Alarm) -> str:
    """Describe an alarm in words; a digest gives rounded numbers only."""
    if alarm.detector == "membership" and alarm.subject == DIGEST:
        return (
            f"a digest of membership alarms: at least {alarm.statistic:.0f} hits on fingerprints "
            "of the training set "
            f"by {len(alarm.clients)} clients over their usual rate"
        )
    return alarm.sentence()


def build_alerter(
    policy: GuardPolicy, tally: Tally | None = None, clock: Callable[[], float] = time.time
) -> Alerter:
    """Build the alerter of a policy.

    Raises:
        InputError: The webhook is no address, or the environment lacks its secret.
    """
    days = policy.monitor.retention_days
    return Alerter(
        policy.alerts, home=Path(policy.home), retention_days=days, clock=clock, tally=tally
    )
