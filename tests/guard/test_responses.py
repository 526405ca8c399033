"""From an alarm to what its clients get: never for membership, never for everybody."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memberscope.guard.detectors.alarm import Alarm
from memberscope.guard.monitor.responses import list_responses
from memberscope.guard.policy.tables import Respond
from memberscope.guard.state.interface import ActiveResponse

HARD = Respond(
    volume="block", probing="coarsen", boundary="step_up", coverage="throttle", minutes=2.0
)


def alarm(detector="probing", scope="client", subject="0a", clients=("0a",)) -> Alarm:
    return Alarm(5.0, detector, scope, subject, 11.0, 10.0, 30, clients)


@pytest.mark.parametrize(
    ("detector", "response"),
    [
        ("volume", "block"),
        ("probing", "coarsen"),
        ("boundary", "step_up"),
        ("coverage", "throttle"),
    ],
)
def test_each_detector_has_its_response_for_the_policys_minutes(detector, response):
    assert list_responses(alarm(detector), HARD) == [
        ("0a", ActiveResponse(response, detector), 120.0)
    ]


def test_a_clients_alarm_concerns_that_client_whoever_else_is_named():
    assert [client for client, _, _ in list_responses(alarm(clients=("0a", "0b")), HARD)] == ["0a"]


@pytest.mark.parametrize(("scope", "subject"), [("family", "17"), ("pool", "newcomers")])
def test_a_familys_or_a_pools_alarm_concerns_each_who_took_part_once(scope, subject):
    found = list_responses(alarm(scope=scope, subject=subject, clients=("0b", "0a", "0b")), HARD)
    assert [client for client, _, _ in found] == ["0b", "0a"]


def test_alert_is_no_response():
    assert list_responses(alarm(), Respond()) == []


hashes = st.text("0123456789abcdef", min_size=1, max_size=16)


@given(st.sampled_from(["client", "family", "pool"]), hashes, st.lists(hashes, max_size=5))
def test_membership_never_changes_an_answer(scope, subject, clients):
    assert list_responses(alarm("membership", scope, subject, tuple(clients)), HARD) == []


@given(st.sampled_from(["volume", "probing", "boundary", "coverage"]), st.lists(hashes, max_size=5))
def test_the_pool_of_everybody_never_blocks_anybody(detector, clients):
    assert list_responses(alarm(detector, "pool", "all", tuple(clients)), HARD) == []
