"""Alerts: a log that nothing can inject lines into, a webhook that is in nobody's way.

And digests that hide single hits.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import stat
import threading
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memberscope.errors import InputError
from memberscope.guard.alerting.alerter import Alerter, build_alert_document, build_alerter
from memberscope.guard.alerting.membership_digest import DIGEST, Digest, replace_by_digests
from memberscope.guard.alerting.webhook import DELIVERY, SIGNATURE, Patience, Webhook
from memberscope.guard.detectors.alarm import Alarm
from memberscope.guard.logs.daily_jsonl import DAY, DailyJsonl, format_alert_line
from memberscope.guard.policy.config import parse_guard_policy
from memberscope.guard.policy.tables import Alerts

QUICK = Patience(timeout=0.5, tries=3, pause=0.01, waiting=4)
LIMIT = 20.0  # seconds that a test waits at most for what must come


def alarm(
    detector="probing", subject="0a", scope="client", time=100.0, clients=None, hits=0
) -> Alarm:
    return Alarm(
        time,
        detector,
        scope,
        subject,
        12.0,
        10.0,
        40,
        (subject,) if clients is None else clients,
        hits,
    )


def write(log: DailyJsonl, document: dict) -> None:
    """Write an alert as the alerter does."""
    log.write([format_alert_line(document)], document["told"])


def until(condition) -> None:
    end = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < end, "what must come did not come"
        time.sleep(0.01)


class Clock:
    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


class Tally:
    def __init__(self) -> None:
        self.told: list[Alarm] = []
        self.lost: list[str] = []

    def alarm(self, alarm: Alarm) -> None:
        self.told.append(alarm)

    def alert_lost(self, where: str) -> None:
        self.lost.append(where)


class Receiver:
    """A webhook's other end; `answers` are the statuses of the first requests (then 204).

    `hold` keeps every answer back.
    """

    def __init__(self, answers=(), location=None, hold=None) -> None:
        self.got: list[tuple[str, dict[str, str], bytes]] = []
        answers = list(answers)
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.got.append((self.path, dict(self.headers.items()), body))
                if hold is not None:
                    hold.wait(LIMIT)
                self.send_response(answers.pop(0) if answers else 204)
                if location:
                    self.send_header("Location", location)
                self.send_header("Content-Length", "0")
                self.end_headers()

            do_GET = do_POST

            def log_message(self, *words) -> None:
                pass

            def handle(self) -> None:
                with suppress(OSError):  # who asked did not wait for the answer
                    super().handle()

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(
            target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        ).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}/hook"


@pytest.fixture
def receivers():
    made: list[Receiver] = []

    def make(*args, **kwargs) -> Receiver:
        made.append(Receiver(*args, **kwargs))
        return made[-1]

    yield make
    for receiver in made:
        receiver.server.shutdown()
        receiver.server.server_close()


def closed_port() -> int:
    server = ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    port = server.server_port
    server.server_close()
    return port


# the log


@given(st.lists(st.text(), min_size=1, max_size=4), st.text())
@settings(max_examples=200)
def test_whatever_a_subject_holds_an_alert_is_one_line_of_printable_ascii(clients, subject):
    text = format_alert_line(
        build_alert_document(alarm(subject=subject, clients=tuple(clients)), 0.0)
    )
    assert text.isascii() and text.isprintable()
    assert json.loads(text)["clients"] == clients and json.loads(text)["subject"] == subject


def test_forged_lines_stay_inside_their_alert(tmp_path):
    forged = '0a"}\n{"format":"memberscope-alert/1","detector":"forged"}\r\x1b[2J\x00\x7f\x85\u2028'
    alerter = Alerter(Alerts(log="alerts.jsonl"), home=tmp_path)
    alerter.tell(alarm(subject=forged))
    alerter.tell(alarm("coverage"))
    alerter.close()
    lines = (tmp_path / "alerts.jsonl").read_bytes().splitlines()
    assert [json.loads(line)["detector"] for line in lines] == ["probing", "coverage"]
    assert json.loads(lines[0])["subject"] == forged


def test_the_log_is_its_owners_alone_even_if_it_was_not(tmp_path):
    path = tmp_path / "below" / "alerts.jsonl"
    write(DailyJsonl(path, 30, "told"), {"told": 0.0})
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.chmod(0o644)
    write(DailyJsonl(path, 30, "told"), {"told": 1.0})
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.read_text().count("\n") == 2


def test_a_new_day_a_new_file_and_old_ones_leave(tmp_path):
    log = DailyJsonl(tmp_path / "alerts.jsonl", 2, "told")
    for day in (100, 101, 102, 103):
        write(log, {"told": day * DAY + 60, "day": day})
    other = tmp_path / "alerts.jsonl.notes"
    other.write_text("kept")
    log.tidy(103 * DAY + 60)
    days = sorted(
        json.loads(file.read_text())["day"]
        for file in tmp_path.glob("alerts.jsonl*")
        if file != other
    )
    assert days == [101, 102, 103], "day 100 ended more than two days ago, day 101 did not"
    log.tidy(110 * DAY)
    assert [file.name for file in tmp_path.iterdir()] == ["alerts.jsonl.notes"], (
        "an idle guard forgets as well"
    )


def test_a_file_system_without_links_has_a_file_a_day_too(tmp_path, monkeypatch):
    def link(*names):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", link)
    log = DailyJsonl(tmp_path / "alerts.jsonl", 30, "told")
    for day in (100, 100, 101):
        write(log, {"told": day * DAY, "day": day})
    assert sorted(file.read_text().count("\n") for file in tmp_path.iterdir()) == [1, 2]


def test_two_writers_lose_no_line_over_midnight(tmp_path):
    path = tmp_path / "alerts.jsonl"

    def work(name: int) -> None:
        log = DailyJsonl(path, 30, "told")
        for turn in range(150):
            write(log, {"told": turn // 50 * DAY + turn, "writer": name, "turn": turn})

    threads = [threading.Thread(target=work, args=(name,)) for name in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    lines = [
        json.loads(line) for file in tmp_path.iterdir() for line in file.read_text().splitlines()
    ]
    assert sorted((line["writer"], line["turn"]) for line in lines) == [
        (n, t) for n in range(2) for t in range(150)
    ]


def test_a_log_that_cannot_be_written_is_counted_and_the_next_alert_is_told(tmp_path):
    tally = Tally()
    (tmp_path / "alerts.jsonl").mkdir()
    alerter = Alerter(Alerts(log="alerts.jsonl"), home=tmp_path, tally=tally)
    alerter.tell(alarm())
    until(lambda: tally.lost)
    (tmp_path / "alerts.jsonl").rmdir()
    alerter.tell(alarm("coverage"))
    alerter.close()
    assert set(tally.lost) == {"log"}
    assert [
        json.loads(line)["detector"]
        for line in (tmp_path / "alerts.jsonl").read_text().splitlines()
    ] == ["coverage"]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_disk_is_counted():
    tally = Tally()
    alerter = Alerter(Alerts(log="/dev/full"), tally=tally)
    alerter.tell(alarm())
    alerter.close()
    assert tally.lost == ["log"]


def test_an_unusable_alarm_does_not_end_the_alerts():
    tally = Tally()
    alerter = Alerter(Alerts(), tally=tally)
    alerter.tell(alarm(time=float("nan")))
    alerter.tell(alarm("coverage"))
    alerter.close()
    assert tally.lost == ["log"] and [found.detector for found in tally.told] == ["coverage"]


def test_a_statistic_without_bound_is_null():
    found = build_alert_document(
        Alarm(0.0, "volume", "client", "0a", float("inf"), 10.0, 4, ()), 0.0
    )
    assert found["statistic"] is None and found["threshold"] == 10.0


# the webhook


def test_a_webhook_gets_the_alert_signed(receivers, monkeypatch):
    receiver = receivers()
    monkeypatch.setenv("HOOK_SECRET", "a secret")
    alerts = Alerts(webhook=receiver.url, webhook_secret_env="HOOK_SECRET")
    alerter = Alerter(alerts, clock=Clock(1234.5), patience=QUICK)
    alerter.tell(alarm())
    until(lambda: receiver.got)
    alerter.close()
    [(path, headers, body)] = receiver.got
    assert (
        path == "/hook"
        and json.loads(body)["detector"] == "probing"
        and json.loads(body)["told"] == 1234.5
    )
    assert headers["Content-Type"] == "application/json"
    expected = hmac.new(b"a secret", b"1234." + body, hashlib.sha256).hexdigest()
    assert headers[SIGNATURE] == f"t=1234,v1={expected}"


def test_without_a_secret_nothing_pretends_to_be_signed(receivers):
    receiver = receivers()
    hook = Webhook(receiver.url, None, Clock(0.0), patience=QUICK)
    hook.send(b"{}")
    until(lambda: receiver.got)
    hook.close(5.0)
    assert SIGNATURE not in receiver.got[0][1]


def test_what_fails_is_tried_again_under_the_same_delivery(receivers):
    receiver, lost = receivers([503, 429]), []
    hook = Webhook(receiver.url, None, Clock(0.0), patience=QUICK, lost=lambda: lost.append(1))
    hook.send(b'{"a":1}')
    until(lambda: len(receiver.got) == 3)
    hook.close(5.0)
    assert len({headers[DELIVERY] for _, headers, _ in receiver.got}) == 1 and {
        body for *_, body in receiver.got
    } == {b'{"a":1}'}
    assert lost == []


@pytest.mark.parametrize(("status", "tries"), [(400, 1), (404, 1), (500, 3), (429, 3)])
def test_a_refusal_is_final_and_a_failure_is_given_up_after_its_tries(receivers, status, tries):
    receiver, lost = receivers([status] * 9), []
    hook = Webhook(receiver.url, None, Clock(0.0), patience=QUICK, lost=lambda: lost.append(1))
    hook.send(b"{}")
    until(lambda: lost)
    hook.close(5.0)
    assert len(receiver.got) == tries and lost == [1]


def test_a_redirect_is_not_followed(receivers):
    elsewhere, lost = receivers(), []
    receiver = receivers([307] * 9, location=elsewhere.url)
    hook = Webhook(receiver.url, None, Clock(0.0), patience=QUICK, lost=lambda: lost.append(1))
    hook.send(b"{}")
    until(lambda: lost)
    hook.close(5.0)
    assert len(receiver.got) == 1 and elsewhere.got == []


def test_a_dead_receiver_loses_alerts_and_nothing_else(tmp_path):
    tally = Tally()
    alerts = Alerts(log="alerts.jsonl", webhook=f"http://127.0.0.1:{closed_port()}/hook")
    alerter = Alerter(alerts, home=tmp_path, tally=tally, patience=QUICK)
    for _ in range(3):
        alerter.tell(alarm())
    until(lambda: tally.lost.count("webhook") == 3)
    alerter.close()
    assert len((tmp_path / "alerts.jsonl").read_text().splitlines()) == len(tally.told) == 3


def test_a_receiver_that_holds_its_answer_keeps_nobody_waiting(receivers, tmp_path):
    hold, tally = threading.Event(), Tally()
    receiver = receivers(hold=hold)
    alerts = Alerts(log="alerts.jsonl", webhook=receiver.url)
    alerter = Alerter(
        alerts, home=tmp_path, tally=tally, patience=Patience(timeout=LIMIT, tries=1, waiting=4)
    )
    for _ in range(50):
        alerter.tell(alarm())
    until(lambda: len(tally.told) == 50)
    assert len(receiver.got) <= 1, "the first answer is still held"
    assert tally.lost.count("webhook") in (45, 46), (
        "one is under way, four wait, no room for the others"
    )
    hold.set()
    alerter.close()


def test_a_slow_answer_is_a_failure_after_the_time_out(receivers):
    hold, lost = threading.Event(), []
    receiver = receivers(hold=hold)
    hook = Webhook(
        receiver.url, None, Clock(0.0), patience=Patience(0.1, 2, 0.01), lost=lambda: lost.append(1)
    )
    hook.send(b"{}")
    until(lambda: lost)
    hold.set()
    hook.close(5.0)
    assert len(receiver.got) == 2


def test_closing_does_not_wait_for_the_next_try(receivers):
    receiver, lost = receivers([503] * 9), []
    hook = Webhook(
        receiver.url,
        None,
        Clock(0.0),
        patience=Patience(5.0, 5, 3600.0),
        lost=lambda: lost.append(1),
    )
    hook.send(b"{}")
    until(lambda: receiver.got)
    hook.close(LIMIT)
    assert not hook.thread.is_alive() and lost == [1]


def test_mistakes_in_the_policy_are_told_before_anything_starts(monkeypatch):
    monkeypatch.delenv("HOOK_SECRET", raising=False)
    with pytest.raises(
        InputError,
        match="Expected the webhook's secret in the environment variable that",
    ):
        Alerter(Alerts(webhook="https://example.org/", webhook_secret_env="HOOK_SECRET"))
    with pytest.raises(InputError, match="Expected a webhook that begins with") as told:
        Alerter(Alerts(webhook="example.org/token-in-the-path"))
    assert "token" not in str(told.value), "an address can be a secret"


# the digest


def everything(tmp_path, receivers, alarms, clock, minutes=60.0):
    """What anybody can see of alarms, told one by one, before, at and after the next digest."""
    receiver, tally = receivers(), Tally()
    alerts = Alerts(
        log="alerts.jsonl", webhook=receiver.url, digest_minutes=minutes, digest_least=5
    )
    alerter = Alerter(alerts, home=tmp_path, clock=clock, tally=tally, patience=QUICK)
    for found in alarms:
        alerter.tell(found)
    until(lambda: alerter.alarms.empty())
    alerter.tell(alarm("coverage"))  # a mark: what was told before it has been worked on
    until(lambda: len(tally.told) == 1)
    clock.now += 60.0 * minutes
    alerter.tell(alarm("volume"))
    until(lambda: "volume" in [found.detector for found in tally.told])
    alerter.close()
    lines = [json.loads(line) for line in (tmp_path / "alerts.jsonl").read_text().splitlines()]
    hooks = [json.loads(body) for _, _, body in receiver.got]
    return tally.told, lines, hooks


def test_one_hit_never_shows_anywhere(tmp_path, receivers):
    one = alarm("membership", "0c", hits=1)
    told, lines, hooks = everything(tmp_path, receivers, [one], Clock(100.0))
    assert [found.detector for found in told] == ["coverage", "volume"]
    assert (
        [line["detector"] for line in lines]
        == [hook["detector"] for hook in hooks]
        == ["coverage", "volume"]
    )
    assert not any("0c" in file.read_text() for file in tmp_path.iterdir())


def test_enough_hits_are_told_together_at_the_digests_time_and_only_then(tmp_path, receivers):
    many = [alarm("membership", f"0{n}", time=100.0 + n, hits=2) for n in range(4)]
    told, lines, hooks = everything(tmp_path, receivers, many, Clock(100.0))
    assert [found.detector for found in told] == ["coverage", "membership", "volume"]
    assert (
        [line["detector"] for line in lines]
        == [hook["detector"] for hook in hooks]
        == [found.detector for found in told]
    )
    digest = lines[1]
    assert (digest["time"], digest["subject"], digest["statistic"], digest["queries"]) == (
        3600.0,
        DIGEST,
        5.0,
        100,
    )
    assert digest["clients"] == ["00", "01", "02", "03"] and digest["told"] == 3600.0


def test_closing_tells_no_digest_before_its_time(tmp_path):
    tally = Tally()
    alerter = Alerter(Alerts(log="alerts.jsonl"), home=tmp_path, clock=Clock(100.0), tally=tally)
    alerter.tell(alarm("membership", hits=50))
    alerter.close()
    assert tally.told == [] and not (tmp_path / "alerts.jsonl").exists()


def told_of(alarms, ends=4 * 3600.0):
    """Digests by a clock that ticks once a second."""
    digest, found, waiting = (
        Digest(Alerts(digest_minutes=60, digest_least=5)),
        [],
        sorted(alarms, key=lambda one: one.time),
    )
    for now in range(0, int(ends), 7):
        told = digest.due(float(now))
        found += [] if told is None else [told]
        while waiting and waiting[0].time <= now:
            digest.add(waiting.pop(0), float(now))
    return found


moments = st.lists(st.floats(1.0, 3500.0), min_size=1, max_size=8)


@given(moments, moments.filter(lambda found: len(found) > 0))
@settings(max_examples=40)
def test_a_digest_depends_on_no_moment_within_its_hour(first, second):
    n = min(len(first), len(second))

    def at(times):
        return told_of(
            [
                alarm("membership", f"0{i}", time=time, hits=3)
                for i, time in enumerate(sorted(times)[:n])
            ]
        )

    assert at(first) == at(second)
    assert len(at(first)) == (1 if 3 * n >= 5 else 0)


def test_a_single_hit_more_changes_no_digest_that_is_told_anyway():
    def hits(n):
        return told_of([alarm("membership", time=50.0, hits=n)])

    assert hits(5) == hits(6) == hits(9) != hits(10)
    assert hits(4) == []


def test_a_few_hits_wait_for_more_but_not_for_ever():
    alerts = Alerts(digest_minutes=60, digest_least=5)
    for later, told in ((7200.0, True), (40 * DAY, False)):
        digest = Digest(alerts, kept=30 * DAY)
        digest.add(alarm("membership", "0a", time=10.0, hits=4), 10.0)
        assert digest.due(3600.0) is None
        digest.due(later)
        digest.add(alarm("membership", "0b", time=later + 1, hits=4), later + 1)
        found = digest.due(later + 3601)
        assert (found is not None) == told


def test_a_hit_behind_a_clients_and_the_pools_alarm_counts_once():
    both = [alarm("membership", "0a", hits=3), alarm("membership", "all", scope="pool", hits=3)]
    assert told_of(both) == []


def test_a_clock_that_steps_back_brings_no_digest_forward():
    digest = Digest(Alerts(digest_minutes=60, digest_least=5))
    digest.add(alarm("membership", time=9000.0, hits=9), 9000.0)
    assert digest.due(100.0) is None and digest.due(3599.0) is None
    assert digest.due(3600.0) is not None


def test_a_replay_tells_the_digests_that_a_live_guard_tells():
    alarms = [
        alarm("membership", f"{n % 7:02x}", time=137.0 * n**1.5 + 3.5, hits=1 + n % 3)
        for n in range(40)
    ]
    alerts = Alerts(digest_minutes=60, digest_least=5)
    live = told_of(alarms, ends=137.0 * 40**1.5 + 7200)
    assert replace_by_digests(alarms, alerts) == tuple(live) and len(live) > 3
    mixed = replace_by_digests([*alarms, alarm("volume", time=5000.0)], alerts)
    assert [found for found in mixed if found.detector == "membership"] == live and len(
        mixed
    ) == len(live) + 1


def test_a_policys_alerter_keeps_its_log_beside_the_policy(tmp_path):
    policy = parse_guard_policy(
        {"serving": {"n_classes": 3}, "alerts": {"log": "alerts.jsonl"}, "home": str(tmp_path)}
    )
    alerter = build_alerter(policy, clock=Clock(5.0))
    alerter.tell(alarm())
    alerter.close()
    assert json.loads((tmp_path / "alerts.jsonl").read_text())["told"] == 5.0
