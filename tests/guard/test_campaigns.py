"""Which alarms make one campaign, and the document of a replay."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memberscope.errors import InputError
from memberscope.guard.alerting.membership_digest import DIGEST
from memberscope.guard.detectors.alarm import Alarm
from memberscope.guard.replay.campaigns import (
    DO,
    GAP,
    LOOKS,
    ORDER,
    Calibration,
    Day,
    Replay,
    Threshold,
    group_campaigns,
)
from memberscope.guard.replay.campaigns_page import (
    build_campaigns_schema,
    read_replay,
    render_campaigns_page,
    write_replay,
)

ROOT = Path(__file__).resolve().parents[2]
COUNTS = {"start": 0.0, "end": 86400.0, "n_queries": 1000, "n_clients": 20, "n_client_days": 20}


def alarm(
    time=0.0, detector="probing", scope="client", subject="0a", clients=None, queries=40
) -> Alarm:
    return Alarm(
        time,
        detector,
        scope,
        subject,
        12.0,
        10.0,
        queries,
        (subject,) if clients is None else clients,
    )


def whole() -> Replay:
    return Replay.of(
        "access.log",
        (alarm(), alarm(60.0, "volume", "family", "17", ("0a", "0b"))),
        days=(Day(0.0, 900, 2), Day(86400.0, 100, 0)),
        thresholds=(Threshold("probing", "client", 10.0, 0.0002), Threshold("volume", "pool", 9.0)),
        calibration=Calibration(
            0.001,
            0.0005,
            0.002,
            0.95,
            12000,
            "Thresholds on one half of the days, rates on the other.",
        ),
        skipped=2,
        **COUNTS,
    )


def test_alarms_that_share_a_client_or_a_subject_are_one_campaign_however_far_apart_its_ends():
    chain = [
        alarm(0.0, subject="0a"),
        alarm(GAP, "boundary", "family", "17", ("0a", "0b")),
        alarm(2 * GAP, "volume", "family", "17", ("0c",)),
        alarm(3 * GAP, "coverage", subject="0c"),
    ]
    [found] = group_campaigns(reversed(chain))
    assert found.clients == ("0a", "0b", "0c") and found.scopes == ("client", "family")
    assert found.detectors == ("boundary", "probing", "coverage", "volume")
    assert (found.first, found.last, found.n_alarms) == (0.0, 3 * GAP, 4)


def test_what_shares_nothing_or_comes_later_is_another_campaign():
    apart = [alarm(0.0, subject="0a"), alarm(1.0, subject="0b"), alarm(GAP + 0.5, subject="0a")]
    assert [found.clients for found in group_campaigns(apart)] == [("0a",), ("0b",), ("0a",)]


def test_a_family_and_a_pool_of_the_same_name_are_not_the_same():
    found = group_campaigns(
        [
            alarm(0.0, scope="family", subject="1", clients=("0a",)),
            alarm(0.0, scope="pool", subject="1", clients=("0b",)),
        ]
    )
    assert len(found) == 2


@pytest.mark.parametrize(("detector", "subject"), [("membership", DIGEST), ("volume", "all")])
def test_an_alarm_that_names_many_joins_campaigns_without_making_one_of_several(detector, subject):
    loose = alarm(10.0, detector, "pool", subject, ("0a", "0b", "0c"))
    two = group_campaigns([alarm(0.0, subject="0a"), alarm(5.0, subject="0b"), loose])
    assert [(found.clients, found.n_alarms) for found in two] == [(("0a",), 2), (("0b",), 2)]
    assert all(detector in found.detectors and "pool" in found.scopes for found in two)
    [alone] = group_campaigns([loose, alarm(20.0, detector, "pool", subject, ("0d",))])
    assert alone.clients == ("0a", "0b", "0c", "0d")
    late = group_campaigns(
        [alarm(0.0, subject="0a"), alarm(GAP + 1, detector, "pool", subject, ("0a",))]
    )
    assert len(late) == 2


def test_queries_are_not_counted_twice_by_scopes_or_repeated_alarms():
    repeated = [alarm(0.0, queries=40), alarm(10.0, queries=90), alarm(20.0, "volume", queries=95)]
    family = alarm(5.0, "probing", "family", "17", ("0a", "0b"), queries=100)
    other = alarm(6.0, subject="0b", queries=30)
    [found] = group_campaigns([*repeated, family, other])
    assert found.queries == 95 + 30


times = st.floats(0.0, 5 * GAP)
names = st.sampled_from(["0a", "0b", "0c", "0d", "0e"])
some = st.builds(
    lambda time, detector, scope, subject, clients: alarm(
        time, detector, scope, subject, (subject,) if scope == "client" else tuple(clients)
    ),
    times,
    st.sampled_from(ORDER[1:]),
    st.sampled_from(["client", "family"]),
    names,
    st.lists(names, min_size=1, max_size=3, unique=True),
)


def slowly(alarms: list[Alarm]) -> set[frozenset[int]]:
    """Groups by repeatedly joining any two that hold alarms which share a key within the gap of each other, nothing between."""
    groups = [{i} for i in range(len(alarms))]

    def linked(one: int, two: int) -> bool:
        a, b = alarms[one], alarms[two]
        keys = [{(x.scope, x.subject), *(("client", c) for c in x.clients)} for x in (a, b)]
        return bool(keys[0] & keys[1]) and abs(a.time - b.time) <= GAP

    changed = True
    while changed:
        changed = False
        for i in range(len(groups)):
            for j in range(i + 1, len(groups)):
                if any(linked(one, two) for one in groups[i] for two in groups[j]):
                    groups[i] |= groups.pop(j)
                    changed = True
                    break
            if changed:
                break
    return {frozenset(group) for group in groups}


@given(st.lists(some, max_size=12), st.randoms(use_true_random=False))
@settings(max_examples=60)
def test_campaigns_are_those_of_a_slow_reference_in_any_order(alarms, random):
    expected = sorted(
        (min(alarms[i].time for i in group), max(alarms[i].time for i in group), len(group))
        for group in slowly(alarms)
    )
    shuffled = list(alarms)
    random.shuffle(shuffled)
    found = group_campaigns(shuffled)
    assert sorted((one.first, one.last, one.n_alarms) for one in found) == expected
    assert found == group_campaigns(alarms)


def test_each_detector_has_a_sentence_and_an_advice():
    assert set(LOOKS) == set(DO) == set(ORDER)
    [found] = group_campaigns([alarm(), alarm(1.0, "boundary"), alarm(2.0, "volume")])
    assert found.looks_like.startswith("Queries of one client walk along the boundary")
    assert (
        found.looks_like.endswith("; probing and volume stood out as well.")
        and found.what_to_do == DO["boundary"]
    )


def test_a_replay_takes_no_single_membership_alarm():
    with pytest.raises(ValueError, match="Expected digests of membership alarms, got single ones"):
        Replay.of("access.log", (alarm(detector="membership"),), **COUNTS)


def test_verdicts():
    assert whole().verdict() == "1 campaign, by 2 of 20 clients, in 1,000 queries"
    assert (
        Replay.of("l", (), **COUNTS).verdict() == "No campaign among 20 clients and 1,000 queries"
    )


def test_a_replay_fits_its_schema_and_is_read_back(tmp_path):
    stored = json.loads((ROOT / "schema" / "campaigns.schema.json").read_text())
    assert stored == json.loads(json.dumps(build_campaigns_schema())), "run `make schema`"
    write_replay(whole(), tmp_path)
    document = json.loads((tmp_path / "replay.json").read_text())
    jsonschema.Draft202012Validator(stored).validate(document)
    assert read_replay(tmp_path) == whole()
    document["alarms"][0]["detector"] = "whim"
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft202012Validator(stored).validate(document)


def test_files_that_name_clients_are_their_owners_alone(tmp_path):
    write_replay(whole(), tmp_path)
    assert [
        stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("replay.json", "campaigns.html")
    ] == [0o600, 0o600]


def test_a_broken_document_is_one_sentence(tmp_path):
    (tmp_path / "replay.json").write_text('{"format":"memberscope-campaigns/1"')
    with pytest.raises(
        InputError,
        match=r"^Expected a replay.json in .*, got: .* Run memberscope guard replay again\.$",
    ):
        read_replay(tmp_path)


def test_numbers_without_bound_are_written_and_read(tmp_path):
    endless = Alarm(0.0, "volume", "client", "0a", float("inf"), 10.0, 4, ("0a",))
    write_replay(Replay.of("access.log", (endless,), **COUNTS), tmp_path)
    assert read_replay(tmp_path).alarms[0].statistic == 1e300


def test_the_page_says_what_was_not_measured():
    page = render_campaigns_page(Replay.of("access.log", (), **COUNTS))
    assert "not calibrated" in page and "how many alarms are false is unknown" in page
    assert (
        "Nothing seen does not mean that nothing happened" in page
        and "One or two ordinary queries a record" in page
    )
    told = render_campaigns_page(whole())
    assert (
        "not calibrated" not in told
        and "1 in 1,000 of its days" in told
        and "0.1% (0.05% to 0.2%, 95% interval" in told
    )
    assert (
        "about 0.02 false alarms are to be expected" in told
        and "not measured" in told
        and "what they would have shown" in told
    )
