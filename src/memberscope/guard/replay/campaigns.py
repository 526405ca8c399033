"""Group alarms into campaigns and summarise a replayed log."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

from pydantic import BaseModel, ConfigDict, field_validator

from memberscope._version import Tool
from memberscope.guard.alerting.membership_digest import DIGEST
from memberscope.guard.detectors.alarm import POOLS, Alarm, Scope
from memberscope.guard.policy.tables import Detector

FORMAT = "memberscope-campaigns/1"
GAP = 6 * 3600.0  # seconds without an alarm after which another campaign begins
HIGHEST = 1e300  # what a statistic without bound is written as
ORDER: tuple[Detector, ...] = (
    "membership",
    "boundary",
    "probing",
    "coverage",
    "volume",
)  # from what says most to what says least
LOOKS: dict[Detector, str] = {
    "membership": "ask about records of the training set more often than other clients do, as somebody does who tests who is in it",
    "boundary": "walk along the boundary between two classes, as a label-only search such as HopSkipJump does",
    "probing": "ask about near-copies of the same records again and again, as label-only attacks by noise or augmentation do",
    "coverage": "go through the inputs by a list, a grid or one class at a time, as a sweep does or somebody who copies the model",
    "volume": "ask far more, more broadly or in other bursts than before and than their like",
}
DO: dict[Detector, str] = {
    "membership": "Find out who these clients are. Restrict the outputs of their whole class of clients at a planned time: an answer "
    "that changed for them after a hit would tell them who is a member.",
    "boundary": "Throttle or block them (respond.boundary) and lower per_client. Labels alone are all that this search needs, so that "
    "coarser outputs do not stop it, and each step is another record for per_record.",
    "probing": "Throttle or block them (respond.probing) and lower per_client. Each copy is another record for per_record; coarser "
    "outputs do not stop attacks that use labels alone.",
    "coverage": "Ask them what they do. A batch job belongs into a class of clients of its own with a budget that fits it; for all "
    "others lower per_client.",
    "volume": "Ask them what changed. If they merely grew, calibrate anew on their traffic with memberscope guard tune; else lower "
    "per_client.",
}
INVISIBLE = (
    "One or two ordinary queries a record. An attacker with confidences or logits needs no more to "
    "score a record, and such queries "
    "look like anybody's: no published detector sees them. Only how many they are, the order they "
    "come in, and hits on fingerprints "
    "of the training set can tell.",
    "Whoever stays below the thresholds: an attacker who knows them, goes slowly or uses many "
    "identities loses time but not the "
    "answers. Budgets limit what that yields, detectors do not.",
    "Queries that did not pass this guard, and copies of the model that are asked elsewhere.",
    "What the answers already gave away: an alarm comes after the queries that caused it.",
)


@dataclass(frozen=True)
class Campaign:
    """Alarms that belong together.

    Fields name the clients, the time from first to last (seconds since 1970), the queries, and what
    it looks like.
    """

    detectors: tuple[Detector, ...]
    scopes: tuple[Scope, ...]
    clients: tuple[str, ...]
    first: float
    last: float
    n_alarms: int
    queries: int
    looks_like: str
    what_to_do: str


@dataclass(frozen=True)
class Threshold:
    """Threshold of a detector's statistic, with its false-alarm rate.

    The rate is the share of benign client-days on which it is passed (None: not measured).
    """

    detector: Detector
    scope: Scope
    threshold: float
    rate: float | None = None


@dataclass(frozen=True)
class Calibration:
    """False alarms a benign client-day over all detectors, with limits.

    Fields say on how many client-days, and how the rate was found.
    """

    rate: float
    low: float
    high: float
    confidence: float
    n_client_days: int
    how: str


@dataclass(frozen=True)
class Day:
    """Queries and alarms of one day that begins at `start` (seconds since 1970)."""

    start: float
    queries: int
    alarms: int


class Replay(BaseModel):
    """Result of a replayed log: counts, alarms, campaigns.

    Alarms of `membership` are digests (`only_digests`), as a live guard would have sent them.

    >>> alarm = Alarm(60.0, "probing", "client", "0a", 12.0, 10.0, 40, ("0a",))
    >>> Replay.of("access.log", (alarm,), start=0.0, end=120.0, n_queries=500, n_clients=9, n_client_days=9).verdict()
    '1 campaign, by 1 of 9 clients, in 500 queries'
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal["memberscope-campaigns/1"] = "memberscope-campaigns/1"
    tool: Tool | None = None
    log: str
    start: float
    end: float
    n_queries: int
    n_clients: int
    n_client_days: float
    skipped: int = 0  # lines that were no observations
    thresholds: tuple[Threshold, ...] = ()
    calibration: Calibration | None = None
    alarms: tuple[Alarm, ...]
    campaigns: tuple[Campaign, ...]
    days: tuple[Day, ...] = ()
    what_is_invisible: tuple[str, ...] = INVISIBLE

    @field_validator("alarms")
    @classmethod
    def _told(cls, value: tuple[Alarm, ...]) -> tuple[Alarm, ...]:
        # A single alarm would tell the reader of a replay about a single record
        if any(alarm.detector == "membership" and alarm.subject != DIGEST for alarm in value):
            raise ValueError(
                "Expected digests of membership alarms, got single ones. Pass the alarms through "
                "only_digests."
            )
        # JSON has no infinity
        return tuple(
            replace(a, statistic=_cap_infinite(a.statistic), threshold=_cap_infinite(a.threshold))
            for a in value
        )

    @classmethod
    def of(cls, log: str, alarms: Sequence[Alarm], **counts: object) -> Replay:
        """Build a replay with the campaigns of its alarms; `counts` are the other fields."""
        return cls.model_validate(
            {"log": log, "alarms": tuple(alarms), "campaigns": group_campaigns(alarms), **counts}
        )

    def verdict(self) -> str:
        """Summarise the replay in one sentence."""
        if not self.campaigns:
            return f"No campaign among {format_count_with_noun(self.n_clients, 'client')} and {format_count_with_noun(self.n_queries, 'query', 'queries')}"
        clients = {client for campaign in self.campaigns for client in campaign.clients}
        return (
            f"{format_count_with_noun(len(self.campaigns), 'campaign')}, by {len(clients):,} of "
            f"{format_count_with_noun(self.n_clients, 'client')}, "
            f"in {format_count_with_noun(self.n_queries, 'query', 'queries')}"
        )


def _cap_infinite(value: float) -> float:
    """Cap a number for JSON: one without bound becomes 1e300."""
    return value if math.isfinite(value) else math.copysign(HIGHEST, value)


def format_count_with_noun(n: int, one: str, more: str | None = None) -> str:
    """Format a number with its noun.

    >>> format_count_with_noun(1, "query", "queries"), format_count_with_noun(2000, "client")
    ('1 query', '2,000 clients')
    """
    return f"{n:,} {one if n == 1 else more or one + 's'}"


def group_campaigns(alarms: Iterable[Alarm], gap: float = GAP) -> tuple[Campaign, ...]:
    """Group alarms into campaigns, in order of their first alarm.

    A campaign's alarms share a client or a subject, none more than `gap` seconds after another.

    A digest and an alarm of all clients together name many who have nothing to do with one another.
    They join every campaign of a client they name without making one of several, and make one of
    their own where there is none.

    >>> one = Alarm(0.0, "probing", "client", "0a", 12.0, 10.0, 40, ("0a",))
    >>> other = Alarm(60.0, "boundary", "family", "17", 12.0, 10.0, 70, ("0a", "0b"))
    >>> [(found.detectors, found.clients, found.queries) for found in group_campaigns([one, other])]
    [(('boundary', 'probing'), ('0a', '0b'), 70)]
    """
    # Ties by detector, scope and subject, so that equal alarms give equal campaigns in any order
    ordered = sorted(
        alarms, key=lambda alarm: (alarm.time, alarm.detector, alarm.scope, alarm.subject)
    )
    # First the alarms whose clients belong together
    close = _group_by_keys([alarm for alarm in ordered if not _is_loose(alarm)], gap)
    places = _index_client_times(close)
    joined: list[list[Alarm]] = [[] for _ in close]
    alone: list[Alarm] = []
    # Then those that name clients who may have nothing to do with one another
    for alarm in (alarm for alarm in ordered if _is_loose(alarm)):
        near = {
            n
            for client in alarm.clients
            for time, n in places.get(client, ())
            if abs(alarm.time - time) <= gap
        }
        for number in near:
            joined[number].append(alarm)
        if not near:
            alone.append(alarm)
    found = [_build_campaign(group, more) for group, more in zip(close, joined, strict=True)]
    found += [_build_campaign(group, []) for group in _group_by_keys(alone, gap)]
    return tuple(sorted(found, key=lambda campaign: (campaign.first, campaign.clients)))


def _is_loose(alarm: Alarm) -> bool:
    """Tell whether the clients that an alarm names may have nothing to do with one another."""
    return alarm.scope == "pool" and alarm.subject not in POOLS


def _collect_alarm_keys(alarm: Alarm) -> set[tuple[str, str]]:
    """Collect the keys that an alarm can share with another one."""
    return {(alarm.scope, alarm.subject), *(("client", client) for client in alarm.clients)}


def _group_by_keys(ordered: Sequence[Alarm], gap: float) -> list[list[Alarm]]:
    """Group alarms in order of time that share keys, by union-find."""
    parent = list(range(len(ordered)))

    def root(number: int) -> int:
        while parent[number] != number:
            # Halve the path, so that later look-ups are short
            parent[number] = parent[parent[number]]
            number = parent[number]
        return number

    last: dict[tuple[str, str], int] = {}
    for number, alarm in enumerate(ordered):
        for key in _collect_alarm_keys(alarm):
            before = last.get(key)
            # After a longer pause the same client begins another campaign
            if before is not None and alarm.time - ordered[before].time <= gap:
                parent[root(number)] = root(before)
            last[key] = number
    groups: dict[int, list[Alarm]] = {}
    for number, alarm in enumerate(ordered):
        groups.setdefault(root(number), []).append(alarm)
    return list(groups.values())


def _index_client_times(groups: Sequence[Sequence[Alarm]]) -> dict[str, list[tuple[float, int]]]:
    """Index when each client was named, and by an alarm of which group."""
    found: dict[str, list[tuple[float, int]]] = {}
    for number, group in enumerate(groups):
        for alarm in group:
            for kind, name in _collect_alarm_keys(alarm):
                if kind == "client":
                    found.setdefault(name, []).append((alarm.time, number))
    return found


def _build_campaign(group: Sequence[Alarm], joined: Sequence[Alarm]) -> Campaign:
    """Build a campaign of a group of alarms and those that joined it.

    Its clients, and what it looks like, are the group's.
    """
    every = [*group, *joined]
    # What says most comes first and gives the campaign its words
    own = [name for name in ORDER if any(alarm.detector == name for alarm in group)]
    detectors = (
        *own,
        *(
            name
            for name in ORDER
            if name not in own and any(alarm.detector == name for alarm in joined)
        ),
    )
    clients = sorted(
        {name for alarm in group for kind, name in _collect_alarm_keys(alarm) if kind == "client"}
    )
    others = f"; {' and '.join(detectors[1:])} stood out as well" if detectors[1:] else ""
    who = f"{len(clients):,} clients together" if len(clients) != 1 else "Queries of one client"
    return Campaign(
        detectors,
        tuple(scope for scope in get_args(Scope) if any(alarm.scope == scope for alarm in every)),
        tuple(clients),
        min(alarm.time for alarm in every),
        max(alarm.time for alarm in every),
        len(every),
        _count_alarm_queries(group),
        f"{who} {LOOKS[detectors[0]]}{others}.",
        DO[detectors[0]],
    )


def _count_alarm_queries(group: Sequence[Alarm]) -> int:
    """Count the queries behind alarms.

    The most of each subject are added up, and the scope with the highest sum counts, as scopes
    count the same queries.
    """
    most: dict[str, dict[str, int]] = {}
    for alarm in group:
        asked = most.setdefault(alarm.scope, {})
        asked[alarm.subject] = max(asked.get(alarm.subject, 0), alarm.queries)
    # Adding up over scopes would count one query for its client, its pool and its family
    return max(sum(asked.values()) for asked in most.values())
