"""What Prometheus reads: every event counted once, labels that nobody can add to.

And sums over workers.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from memberscope.guard.alerting.alerter import Alerter
from memberscope.guard.alerting.membership_digest import DIGEST
from memberscope.guard.alerting.prometheus import KINDS, PREFIX, Metrics
from memberscope.guard.detectors.alarm import Alarm
from memberscope.guard.policy.tables import Alerts


def samples(exposed: bytes) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Every sample that is exposed, by its name without the prefix and its labels."""
    return {
        (sample.name.removeprefix(f"{PREFIX}_"), tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(exposed.decode())
        for sample in family.samples
        if not sample.name.endswith("_created")
    }


def value(metrics: Metrics, name: str, **labels: str) -> float:
    return samples(metrics.exposition())[name, tuple(sorted(labels.items()))]


def alarm(detector="probing", scope="client", subject="0a") -> Alarm:
    return Alarm(5.0, detector, scope, subject, 11.0, 10.0, 30, (subject,))


def test_each_event_is_counted_where_it_belongs():
    metrics = Metrics()
    metrics.request("query", 200, 0.003)
    metrics.request("query", 200, 0.3)
    metrics.request("refused", 429, 0.0)
    metrics.refused("budget")
    metrics.fault("state")
    metrics.exposed()
    metrics.would(429)
    metrics.in_flight(1)
    metrics.in_flight(1)
    metrics.in_flight(-1)
    metrics.alarm(alarm())
    metrics.alert_lost("webhook")
    metrics.waiting(7)
    metrics.dropped(3)
    metrics.unreadable(4)
    metrics.watched(12, 0.5)
    metrics.budgets(0.25, 5)
    metrics.budgets(0.5, 7)
    assert value(metrics, "budget_places_used") == 0.5
    assert value(metrics, "budget_unplaced_total") == 7
    assert value(metrics, "requests_total", kind="query", status="200") == 2
    assert value(metrics, "requests_total", kind="refused", status="429") == 1
    assert value(metrics, "request_seconds_bucket", kind="query", le="0.005") == 1
    assert value(metrics, "request_seconds_sum", kind="query") == pytest.approx(0.303)
    assert (
        value(metrics, "refused_total", reason="budget") == 1
        and value(metrics, "refused_total", reason="busy") == 0
    )
    assert (
        value(metrics, "faults_total", which="state") == 1
        and value(metrics, "faults_total", which="upstream") == 0
    )
    assert value(metrics, "exposed_total") == 1 and value(metrics, "would_total", status="429") == 1
    assert value(metrics, "in_flight") == 1
    assert value(metrics, "alarms_total", detector="probing", scope="client") == 1
    assert value(metrics, "alerts_lost_total", where="webhook") == 1
    assert (value(metrics, "monitor_queue"), value(metrics, "monitor_dropped_total")) == (7, 3)
    assert value(metrics, "unreadable_total") == 4
    assert (value(metrics, "monitor_clients"), value(metrics, "monitor_lag_seconds")) == (12, 0.5)


def test_a_broken_reload_shows_until_a_good_one():
    metrics = Metrics()
    assert value(metrics, "policy_last_reload_good") == 1
    metrics.reload(False)
    assert (
        value(metrics, "policy_last_reload_good") == 0
        and value(metrics, "policy_reloads_total", outcome="bad") == 1
    )
    metrics.reload(True)
    assert (
        value(metrics, "policy_last_reload_good") == 1
        and value(metrics, "policy_reloads_total", outcome="good") == 1
    )


def test_only_the_policy_in_force_is_named():
    metrics = Metrics()
    metrics.policy("0123456789abcdef" * 4, 1000.0)
    metrics.policy("f" * 64, 2000.0)
    found = {
        labels: n
        for (name, labels), n in samples(metrics.exposition()).items()
        if name == "policy_in_force"
    }
    assert found == {(("digest", "f" * 16),): 1.0}
    assert value(metrics, "policy_since_seconds") == 2000.0


@given(st.lists(st.tuples(st.text(), st.integers(0, 10**6)), min_size=1, max_size=30))
@settings(max_examples=20)
def test_nothing_that_a_client_or_a_server_sends_adds_a_label(events):
    metrics = Metrics()
    usual = {key for key in samples(metrics.exposition())}
    for text, status in events:
        metrics.request(text, status, 0.1)
        metrics.refused(text)
        metrics.fault(text)
        metrics.would(status)
        metrics.alert_lost(text)
    words = {
        label
        for key in set(samples(metrics.exposition())) - usual
        for label in key[1]
        if label[0] != "le"
    }
    assert {text for name, text in words if name != "status"} <= {*KINDS, "other"}
    assert all(
        text == "other" or 100 <= int(text) < 600 for name, text in words if name == "status"
    )


def test_a_membership_alarm_counts_only_as_a_digest():
    metrics = Metrics()
    before = samples(metrics.exposition())
    for scope in ("client", "family", "pool"):
        metrics.alarm(alarm("membership", scope))
    assert samples(metrics.exposition()) == before, "a single hit's alarm leaves no trace"
    metrics.alarm(alarm("membership", "pool", DIGEST))
    assert value(metrics, "alarms_total", detector="membership", scope="pool") == 1


def test_the_alerter_counts_the_digest_once():
    metrics, now = Metrics(), [100.0]
    alerter = Alerter(
        Alerts(digest_minutes=60, digest_least=5), clock=lambda: now[0], tally=metrics
    )
    told = threading.Event()
    for n in range(3):
        alerter.tell(Alarm(100.0, "membership", "client", f"0{n}", 7.0, 6.0, 9, (f"0{n}",), hits=3))
    while not alerter.alarms.empty():
        told.wait(0.01)
    assert value(metrics, "alarms_total", detector="membership", scope="pool") == 0
    now[0] = 3600.0
    alerter.tell(alarm())
    alerter.close()
    assert value(metrics, "alarms_total", detector="membership", scope="pool") == 1


def test_two_guards_in_one_process_do_not_mix():
    one, other = Metrics(), Metrics()
    one.refused("budget")
    assert value(other, "refused_total", reason="budget") == 0


def test_counts_from_many_threads_add_up():
    metrics = Metrics()

    def work() -> None:
        for _ in range(500):
            metrics.request("query", 200, 0.01)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert value(metrics, "requests_total", kind="query", status="200") == 2000


WORKER = """
import os
import prometheus_client
from memberscope.guard.alerting.prometheus import Metrics, forget_worker
prometheus_client.Counter("another_servers_own", "Not the guard's.").inc()
metrics = Metrics()
metrics.refused("budget")
metrics.in_flight(1)
metrics.policy("a" * 64, 1000.0)
if os.environ.get("ENDS"):
    forget_worker(os.getpid())
print(metrics.exposition().decode())
"""


def test_workers_expose_the_sums_of_all_and_nothing_else(tmp_path):
    def exposed(**extra: str) -> dict:
        found = subprocess.run(
            [sys.executable, "-W", "error", "-c", WORKER],
            env={**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path), **extra},
            capture_output=True,
            text=True,
            check=True,
        )
        return samples(found.stdout.encode())

    exposed(ENDS="1")
    found = exposed()
    assert found["refused_total", (("reason", "budget"),)] == 2
    assert found["in_flight", ()] == 1, "a worker that ended has nothing under way"
    assert found["policy_in_force", (("digest", "a" * 16),)] == 1
    assert not any(name.startswith("another") for name, _ in found)
