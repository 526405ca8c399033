"""Campaigns of membership inference against a simulated deployment.

Made of the queries that this project's own attacks send.

`python benchmarks/guard_campaigns.py location30|adult|fashion|cifar10` prints what each contains.
The label-only attacks run on the real target behind a recorder; each repetition takes the recorded
queries of other records. A record counts as decided once its last query is answered: until then the
adversary lacks some of what the attack needs.
"""

from __future__ import annotations

import sys
import time as clock
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from guard_traffic import DAY, DEPLOYMENTS, START, Deployment, Stream, customers, hours
from memberscope.errors import UnmetNeedError
from memberscope.signals import measure_signal
from memberscope.signals.label_oracle import ask_top_labels
from memberscope.types import Floats, Records, SignalSpec

RECORDED = {
    "location30": 300,
    "adult": 300,
    "fashion": 200,
    "cifar10": 100,
}  # records that the label-only attacks were run on
SPECS = {
    "noise": SignalSpec("noise"),
    "augmentation": SignalSpec("augmentation"),
    "boundary": SignalSpec("boundary"),
    "hopskipjump": SignalSpec("boundary", parameters=(("hopskipjump", 1.0), ("queries", 256.0))),
}
DAYS_LONG = (
    "control: ordinary newcomers",
    "sweep, 100 identities",
    "slow-and-low",
    "knows the detectors",
)  # a day or more
CANDIDATES, PROBED, IDENTITIES, A_DAY, MEDIAN = 1000, 40, 100, 20, 8


class Recorder:
    """A target that keeps every query and whose it was.

    It is told so because it declares itself to keep account.
    """

    query_budget: int | None = None
    told: Callable[[int], None] | None = None
    rows_a_query = 4096

    def __init__(self, served: Deployment, attacked: np.ndarray) -> None:
        """Record what is asked of the deployment's target about the rows `attacked` (n,)."""
        inner = served.target
        self.attacked, self.served, self.access, self.signal = (
            attacked,
            served,
            inner.access,
            inner.signal,
        )
        self.n_classes, self.digest, self.n_parameters = inner.n_classes, None, None
        self.rows: list[np.ndarray] = []
        self.owners: list[np.ndarray] = []

    def query(self, x: Any, owners: list[str]) -> Floats:
        """The target's outputs (n, k)."""
        answer = self.served.target.query(x)
        owner = np.array([int(owner.rpartition(":")[2]) for owner in owners])
        row = self.attacked[owner]
        moved = (x != self.served.x[row]).reshape(len(x), -1).any(axis=1)
        row[moved] = self.served.add(
            x[moved], ask_top_labels(Answered(answer, self.signal), x)[moved]
        )
        self.rows.append(row)
        self.owners.append(owner)
        return answer


@dataclass(frozen=True)
class Answered:
    """A target whose answers are there already."""

    answer: Floats
    signal: str

    def query(self, x: Any) -> Floats:
        """The outputs."""
        return self.answer


@dataclass(frozen=True, eq=False)
class Recording:
    """Queries in the order in which the attack sent them.

    `row` (q,) in the pool, `owner` (q,) a place among the attacked records.
    """

    row: np.ndarray
    owner: np.ndarray

    def of(self, records: np.ndarray) -> Recording:
        """Those about some of the records."""
        own = np.isin(self.owner, records)
        return Recording(self.row[own], self.owner[own])

    def one_by_one(self) -> Recording:
        """All queries about a record before those about the next, as most tools send them."""
        order = np.argsort(self.owner, kind="stable")
        return Recording(self.row[order], self.owner[order])


@dataclass(frozen=True, eq=False)
class Campaign:
    """A campaign's stream, its records decided by each query (n,).

    And how many records it is after.
    """

    name: str
    stream: Stream
    decided: np.ndarray
    n_records: int


@dataclass(eq=False)
class Arena:
    """A deployment with recordings of the attacks on `attacked` (n,), half members.

    Made once each.
    """

    served: Deployment
    attacked: np.ndarray
    recordings: dict[str, Recording] = field(default_factory=dict)

    def recorded(self, attack: str) -> Recording:
        """The queries of an attack on all attacked records.

        Raises:
            UnmetNeedError: It does not apply to such records.
        """
        if attack not in self.recordings:
            recorder, served = Recorder(self.served, self.attacked), self.served
            ids = np.arange(len(self.attacked)).astype(np.str_)
            x, y = served.x[self.attacked], served.y[self.attacked]
            measure_signal(recorder, Records(x, y, ids), SPECS[attack])  # type: ignore[arg-type]
            self.recordings[attack] = Recording(
                np.concatenate(recorder.rows), np.concatenate(recorder.owners)
            )
        return self.recordings[attack]


def arena(served: Deployment) -> Arena:
    """The deployment with its attacked records chosen."""
    return Arena(served, candidates(served, np.random.default_rng(5), RECORDED[served.name], 0.5))


def candidates(served: Deployment, rng: np.random.Generator, n: int, share: float) -> np.ndarray:
    """`n` different records of which a share are members, in random order."""
    inside, outside = np.flatnonzero(served.member), np.flatnonzero(~served.member)
    n_inside = round(share * n)
    return rng.permutation(
        np.concatenate(
            [rng.choice(inside, n_inside, False), rng.choice(outside, n - n_inside, False)]
        )
    )


def made(name: str, asked: Recording, time: np.ndarray, client: np.ndarray) -> Campaign:
    """A campaign of queries that are sent at times (q,), in days since the start.

    Which never fall; owner -1 is a decoy.
    """
    last = np.zeros(len(time), dtype=np.int64)
    owners, back = np.unique(asked.owner[::-1], return_index=True)
    last[len(time) - 1 - back[owners >= 0]] = 1
    names = np.array([f"{name}-{i}" for i in range(int(client.max()) + 1)])
    return Campaign(
        name,
        Stream(START + DAY * time, client, asked.row, names),
        np.cumsum(last),
        int((owners >= 0).sum()),
    )


def steady(rng: np.random.Generator, n: int, first: float, a_second: float) -> np.ndarray:
    """Times (n,) in days, from `first` on, at a rate."""
    return first + np.cumsum(rng.exponential(1 / a_second, n)) / DAY


def daily(rng: np.random.Generator, n: int, first: float, a_day: int) -> np.ndarray:
    """Times (n,) in days: so many a day, in working hours."""
    return np.sort(hours(rng, int(first) + np.arange(n) // a_day, 0.0))


def sweep(
    arena: Arena,
    rng: np.random.Generator,
    first: float,
    *,
    name: str,
    share: float = 0.5,
    order: str = "",
) -> Campaign:
    """One query about each of many candidates, twice a second.

    At random, a class at a time, or sorted by a feature.
    """
    rows = candidates(arena.served, rng, CANDIDATES, share)
    if order == "class":
        rows = rows[np.argsort(arena.served.answers[0][rows], kind="stable")]
    elif order == "feature":
        flat = arena.served.x.reshape(arena.served.n, -1)
        rows = rows[np.argsort(flat[rows, int(flat[:5000].var(axis=0).argmax())], kind="stable")]
    asked = Recording(rows, np.arange(len(rows)))
    return made(
        name, asked, steady(rng, len(rows), first, 2.0), np.zeros(len(rows), dtype=np.int64)
    )


def slow(arena: Arena, rng: np.random.Generator, first: float, *, days: int = 10) -> Campaign:
    """One client, twenty candidates a day."""
    rows = candidates(arena.served, rng, A_DAY * days, 0.5)
    asked = Recording(rows, np.arange(len(rows)))
    return made(
        "slow-and-low",
        asked,
        daily(rng, len(rows), first, A_DAY),
        np.zeros(len(rows), dtype=np.int64),
    )


def spread(arena: Arena, rng: np.random.Generator, first: float) -> Campaign:
    """The sweep over a hundred new identities, within a day."""
    rows = candidates(arena.served, rng, CANDIDATES, 0.5)
    client = rng.permutation(np.arange(len(rows)) % IDENTITIES)
    return made(
        "sweep, 100 identities",
        Recording(rows, np.arange(len(rows))),
        daily(rng, len(rows), first, len(rows)),
        client,
    )


def knowing(
    arena: Arena, rng: np.random.Generator, first: float, *, days: int = 8, identities: int = 10
) -> Campaign:
    """Knows the detectors: random order, one query a record, as many about ordinary records.

    At the median client's rate.

    It has so many identities at a time, and new ones every third day.
    """
    n = MEDIAN * identities * days
    rows = candidates(arena.served, rng, n // 2, 0.5)
    decoys = rng.choice(np.flatnonzero(~arena.served.member), n - len(rows))
    order = rng.permutation(n)
    asked = Recording(
        np.append(rows, decoys)[order],
        np.append(np.arange(len(rows)), np.full(len(decoys), -1))[order],
    )
    client = np.arange(n) // (n // days) // 3 * identities + rng.integers(0, identities, n)
    return made("knows the detectors", asked, daily(rng, n, first, n // days), client)


def probing(
    arena: Arena,
    rng: np.random.Generator,
    first: float,
    *,
    name: str,
    attack: str,
    ordered: bool = True,
    identities: int = 1,
) -> Campaign:
    """A label-only attack on some records, twice a second.

    Record by record, or in the lockstep in which this project asks.
    """
    chosen = rng.choice(len(arena.attacked), PROBED, replace=False)
    asked = arena.recorded(attack).of(chosen)
    asked = asked.one_by_one() if ordered else asked
    client = rng.permutation(np.arange(len(asked.row)) % identities)
    return made(name, asked, steady(rng, len(asked.row), first, 2.0), client)


def control(arena: Arena, rng: np.random.Generator, first: float) -> Campaign:
    """No campaign: a hundred newcomers who ask ten ordinary records each within a day.

    Detections of it are chance.
    """
    rows = customers(arena.served, rng, 10 * IDENTITIES, 0.05)
    client = rng.permutation(np.arange(len(rows)) % IDENTITIES)
    name = "control: ordinary newcomers"
    return made(
        name, Recording(rows, np.arange(len(rows))), daily(rng, len(rows), first, len(rows)), client
    )


Make = Callable[[Arena, np.random.Generator, float], Campaign]


def campaigns() -> dict[str, Make]:
    """All campaigns by name: functions of an arena, a generator.

    And the day on which they begin.
    """
    found: dict[str, Make] = {
        name: partial(sweep, name=name, **more)
        for name, more in (
            ("sweep", {}), ("sweep, a tenth members", {"share": 0.1}),
            ("sweep, class at a time", {"order": "class"}), ("sweep, sorted", {"order": "feature"}),
        )
    }  # fmt: skip
    for attack in SPECS:
        found[attack] = partial(probing, name=attack, attack=attack)
        found[f"{attack}, interleaved"] = partial(
            probing, name=f"{attack}, interleaved", attack=attack, ordered=False
        )
        many = f"{attack}, 100 identities"
        found[many] = partial(probing, name=many, attack=attack, identities=IDENTITIES)
    found |= dict(zip(DAYS_LONG, (control, spread, slow, knowing), strict=True))
    return found


def main(arguments: list[str]) -> None:
    field_ = arena(DEPLOYMENTS[arguments[0]]())
    print(
        "| campaign | queries | records | queries a record | identities | days | about members, % "
        "| s |\n" + "|---" * 8 + "|"
    )
    for place, (name, make) in enumerate(campaigns().items()):
        started = clock.perf_counter()
        try:
            found = make(field_, np.random.default_rng(place), 1.4)
        except UnmetNeedError as error:
            print(f"| {name} | not applicable: {error} |")
            continue
        stream = found.stream
        seconds = clock.perf_counter() - started
        assert (np.diff(stream.time) >= 0).all() and found.decided[-1] == found.n_records
        hit = stream.row < field_.served.n
        hit[hit] = field_.served.member[stream.row[hit]]
        print(
            f"| {name} | {len(stream)} | {found.n_records} | {len(stream) / found.n_records:.1f} | "
            f"{len(stream.names)} | "
            f"{(stream.time[-1] - stream.time[0]) / DAY:.2f} | {100 * hit.mean():.1f} | "
            f"{seconds:.1f} |",
            flush=True,
        )


if __name__ == "__main__":
    main(sys.argv[1:])
