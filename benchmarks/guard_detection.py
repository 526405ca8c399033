"""Detection of membership inference by the guard's monitor on simulated traffic.

Beside PRADA and Blacklight.

`python benchmarks/guard_detection.py location30|adult|fashion|cifar10` tunes the detectors on one
benign stream to one false alarm in 1,000 client-days over all of them together, counts false alarms
on another stream of other clients, and lets each campaign begin at several moments of that other
stream. The rivals see the same queries, with their published thresholds and with thresholds that
gave one false alarm in 1,000 client-days on the first stream. `alone` leaves the rivals out,
`rivals` leaves ours out; `headroom` prints instead how near each statistic came to its threshold on
the other stream, and who brought it there.
"""

from __future__ import annotations

import pickle
import sys
import time as clock
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np

import guard_campaigns
import guard_rivals as rivals
from guard_campaigns import Arena, Campaign, arena, campaigns
from guard_traffic import DAY, DEPLOYMENTS, START, Stream, benign, kind_of, merged
from memberscope.errors import UnmetNeedError
from memberscope.guard.calibration.thresholds import Tuned, tune_detectors
from memberscope.guard.detectors.alarm import Alarm
from memberscope.guard.detectors.monitor import STREAMS, Monitor
from memberscope.guard.hashing.secret_key import Secret
from memberscope.guard.sketching.fingerprints import Fingerprints
from memberscope.guard.sketching.observations import Observations
from memberscope.guard.sketching.sketcher import Sketcher
from memberscope.statistics import clopper_pearson
from memberscope.wire.batch import Batch

RATE, ORDINARY, BLOCK = 1e-3, 5000, 2048
SECRET = Secret("bench", bytes(range(32)))
MOMENTS = (8.4, 9.5, 10.6, 11.45)  # days after which campaigns of some hours begin
DAWNS = (8.0, 9.0, 10.0)  # and those of a day or more
PUBLISHED: dict[str, float | None] = {
    "PRADA": 1 - rivals.DELTA, "PRADA, no repeats": None, "Blacklight": rivals.SHARED, "Blacklight, no repeats": None,
}  # fmt: skip
REPEATED, LONG = 20, 5  # repetitions of both


@dataclass(eq=False)
class Bench:
    """A deployment's pool as the guard and the rivals see it, the two benign streams.

    And the campaigns by name.
    """

    field: Arena
    streams: tuple[Stream, Stream]
    campaigns: dict[str, list[Campaign]]
    skipped: dict[str, str]
    sketches: tuple[np.ndarray, np.ndarray, np.ndarray] = field(init=False)

    def __post_init__(self) -> None:
        served = self.field.served
        self.labels = served.labels()
        pool = served.pool()
        ordinary = served.x[~served.member][:ORDINARY]
        self.sketcher = Sketcher.fit(served.kind, Batch(ordinary), SECRET)  # type: ignore[arg-type]
        parts = [self.sketcher.sketch(Batch(pool[i : i + 8192])) for i in range(0, len(pool), 8192)]
        self.sketches = tuple(np.concatenate(columns) for columns in zip(*parts, strict=True))  # type: ignore[assignment]
        hashes = self.sketches[0][: served.n]
        self.fingerprints = Fingerprints.of(
            hashes[served.member], np.zeros(0, dtype=np.uint64), SECRET.id
        )
        self.same = np.unique(self.sketches[0], return_index=True, return_inverse=True)
        self.scaled = unit(pool, served.kind)

    def observed(self, stream: Stream) -> Observations:
        """What the guard remembers of a stream."""
        names = np.array([SECRET.client(name) for name in stream.names.tolist()], dtype=np.uint64)
        record, point, bins = (column[stream.row] for column in self.sketches)
        return Observations(
            stream.time, names[stream.client], record, point, bins, self.labels[stream.row]
        )

    def rows(self, stream: Stream) -> np.ndarray:
        """The stream's rows (n,), equal inputs by one of them."""
        _, first, where = self.same
        return first[where[stream.row]]


def unit(pool: np.ndarray, kind: str) -> np.ndarray:
    """Inputs in [0, 1] as both rivals expect them, tables by each column's range."""
    if kind == "image":
        return pool
    low, high = pool.min(axis=0), pool.max(axis=0)
    return ((pool - low) / np.where(high > low, high - low, 1)).astype(np.float32)


def blocks(observed: Observations, size: int = BLOCK) -> Iterator[Observations]:
    """The queries block by block."""
    for start in range(0, len(observed), size):
        yield observed.take(slice(start, start + size))


def prepared(name: str) -> Bench:
    """Everything that is asked, with the real model's answers."""
    field_ = arena(DEPLOYMENTS[name]())
    streams = benign(field_.served, 1), benign(field_.served, 2)
    found: dict[str, list[Campaign]] = {}
    skipped: dict[str, str] = {}
    for place, (key, make) in enumerate(campaigns().items()):
        long = key in guard_campaigns.DAYS_LONG
        try:
            found[key] = [
                make(
                    field_,
                    np.random.default_rng((place, i)),
                    float((DAWNS if long else MOMENTS)[i % (3 if long else 4)]),
                )
                for i in range(LONG if long else REPEATED)
            ]
        except UnmetNeedError as error:
            skipped[key] = str(error)
    return Bench(field_, streams, found, skipped)


def share(k: int, n: int) -> str:
    """A share in percent with its 95% limits."""
    low, high = clopper_pearson(k, n)
    return f"{100 * k / n:.0f} [{100 * low:.0f}, {100 * high:.0f}]"


def rate(k: int, n: int) -> str:
    """Events in 1,000 client-days with 95% limits."""
    low, high = clopper_pearson(min(k, n), n)
    return f"{1000 * k / n:.2f} [{1000 * low:.2f}, {1000 * high:.2f}]"


def quiet(bench: Bench, tuned: Tuned) -> dict[float, bytes]:
    """Print the false alarms on the second stream.

    The monitor's state at each moment at which a campaign begins.
    """
    stream, monitor = bench.streams[1], Monitor(tuned.settings, bench.fingerprints)
    observed, alarms, kept = bench.observed(stream), [], {}
    cuts = {
        moment: int(np.searchsorted(stream.time, START + DAY * moment))
        for moment in (*MOMENTS, *DAWNS)
    }
    last = 0
    started = clock.process_time()
    for moment, cut in sorted([*cuts.items(), (np.inf, len(stream))], key=lambda pair: pair[1]):
        for part in blocks(observed.take(slice(last, cut))):
            alarms += monitor.observe(part)
        kept[moment], last = pickle.dumps(monitor), cut
    seconds = clock.process_time() - started
    days = stream.client_days()
    print(f"Tuned on {tuned.queries} queries and {tuned.client_days} client-days to one false alarm in 1,000; its own check on the "
          f"last quarter: {tuned.alarms} in {tuned.days} client-days.")  # fmt: skip
    print(f"False alarms on {len(stream)} queries of other clients: {len(alarms)} in {days} client-days, in 1,000: "
          f"{rate(len(alarms), days)}. {1e6 * seconds / len(stream):.0f} microseconds a query.")  # fmt: skip
    print(
        "By stream: "
        + (", ".join(f"{key} {n}" for key, n in Counter(map(said, alarms)).most_common()) or "none")
        + "."
    )
    names = {f"{SECRET.client(name):016x}": kind_of(name) for name in stream.names.tolist()}
    whose = Counter(names[alarm.clients[0]] for alarm in alarms if alarm.scope == "client")
    print(
        "Clients' alarms by kind of client: "
        + (", ".join(f"{key} {n}" for key, n in whose.most_common()) or "none")
        + "."
    )
    return kept


def headroom(bench: Bench, tuned: Tuned) -> None:
    """Print the highest statistics of the second stream's client-days beside the thresholds.

    Without the first week.
    """
    stream, peaks = bench.streams[1], {key: dict[tuple[str, float], float]() for key in STREAMS}

    def peak(key: str, subject: str, time: float, value: float) -> None:
        day = (time - START) // DAY
        if day >= 7 and value > peaks[key].get((subject, day), 0.0):
            peaks[key][subject, day] = value

    monitor = Monitor(replace(tuned.settings, thresholds={}), bench.fingerprints, peak=peak)
    for part in blocks(bench.observed(stream)):
        monitor.observe(part)
    names = {f"{SECRET.client(name):016x}": kind_of(name) for name in stream.names.tolist()}
    print(
        "\n| stream | threshold | highest | second | fifth | twentieth | whose are the five |\n"
        + "|---" * 7
        + "|"
    )
    for key, found in peaks.items():
        ordered = sorted(found.items(), key=lambda pair: -pair[1])
        ranks = [f"{ordered[k][1]:.1f}" if k < len(ordered) else "–" for k in (0, 1, 4, 19)]
        whose = Counter(names.get(subject, "–") for (subject, _), _ in ordered[:5])
        limit = tuned.settings.thresholds[key]
        print(
            f"| {key} | {limit:.1f} | {' | '.join(ranks)} | "
            f"{', '.join(f'{kind} {n}' for kind, n in whose.items())} |"
        )


def said(alarm: Alarm) -> str:
    """The stream of an alarm."""
    return f"{alarm.detector}.{alarm.scope}"


def caught(bench: Bench, campaign: Campaign, state: bytes, first: float) -> tuple[int | None, str]:
    """The queries that a campaign had sent when an alarm first named one of its clients.

    And the alarm's stream.
    """
    monitor: Monitor = pickle.loads(state)
    a, b = np.searchsorted(bench.streams[1].time, (START + first * DAY, campaign.stream.time[-1]))
    background = bench.streams[1]
    background = Stream(
        background.time[a:b], background.client[a:b], background.row[a:b], background.names
    )
    own = {f"{SECRET.client(name):016x}" for name in campaign.stream.names.tolist()}
    for part in blocks(bench.observed(merged([background, campaign.stream])), 256):
        for alarm in monitor.observe(part):
            if own.intersection(alarm.clients):
                return int(np.searchsorted(campaign.stream.time, alarm.time, side="right")), said(
                    alarm
                )
    return None, ""


@dataclass(eq=False)
class Rivals:
    """Both rivals on the benign streams.

    Client-days, and the statistic of each that alarms when it is high enough.
    """

    bench: Bench
    prints: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        bench = self.bench
        first = bench.same[1]
        self.prints = np.zeros((len(bench.scaled), rivals.TOP), dtype=np.uint64)
        self.prints[first] = rivals.fingerprints(bench.scaled[first])
        a, b = np.searchsorted(bench.streams[1].time, (START, START + DAY * min(DAWNS)))
        self.index = rivals.Index(self.prints, bench.rows(bench.streams[1])[a:b])
        benign = [self.statistics(stream) for stream in bench.streams]
        self.limits: dict[str, tuple[float, str]] = {}
        for name, published in PUBLISHED.items():
            peaks = [
                daily_peaks(stream, found[name])
                for stream, found in zip(bench.streams, benign, strict=True)
            ]
            ordered = np.sort(peaks[0])[::-1]
            again = float(ordered[int(RATE * len(ordered))])  # alarms are beyond it
            ours = again if again < most(name) else np.inf
            choices = {
                "": None if published is None else float(np.nextafter(published, -np.inf)),
                " at our rate": ours,
            }
            for key, limit in choices.items():
                if limit is not None:
                    k = int((peaks[1] > limit).sum())
                    self.limits[name + key] = (
                        limit,
                        rate(k, len(peaks[1])) if np.isfinite(limit) else "impossible",
                    )

    def statistics(
        self, stream: Stream, index: rivals.Index | None = None
    ) -> dict[str, np.ndarray]:
        """One minus W, and shared hashes, for each query (n,).

        Each with and without repeats of a query.
        """
        bench, row = self.bench, self.bench.rows(stream)
        again = np.ones(len(row), dtype=bool)
        again[np.unique(np.stack([stream.client, row]), axis=1, return_index=True)[1]] = False
        once = np.full(len(row), -np.inf)
        once[~again] = 1 - rivals.prada_stream(
            bench.scaled, stream.client[~again], row[~again], bench.labels[row[~again]]
        )
        values = (
            1 - rivals.prada_stream(bench.scaled, stream.client, row, bench.labels[row]),
            once,
        )
        return dict(
            zip(PUBLISHED, (*values, *rivals.blacklight(self.prints, row, index)), strict=True)
        )

    def caught(self, campaign: Campaign) -> dict[str, int | None]:
        """The queries until each alarms, under each threshold."""
        found = self.statistics(campaign.stream, self.index)
        return {
            key: first(found[key.removesuffix(" at our rate")] > limit)
            for key, (limit, _) in self.limits.items()
        }


def most(name: str) -> float:
    """The highest value that a rival's statistic can have: no threshold lies beyond."""
    return 1.0 if name.startswith("PRADA") else rivals.TOP


def first(where: np.ndarray) -> int | None:
    """One more than the first place at which a mask holds."""
    return int(where.argmax()) + 1 if where.any() else None


def daily_peaks(stream: Stream, values: np.ndarray) -> np.ndarray:
    """The highest value of each client-day."""
    _, where = np.unique(stream.client * 100_000 + stream.days(), return_inverse=True)
    found = np.full(where.max() + 1, -np.inf)
    np.maximum.at(found, where, values)
    return found


def quartiles(values: list[int]) -> str:
    """Median and quartiles."""
    low, middle, high = np.quantile(values, (0.25, 0.5, 0.75)) if values else (np.nan,) * 3
    return f"{middle:.0f} ({low:.0f}–{high:.0f})" if values else "–"


def detected(bench: Bench, states: dict[float, bytes]) -> None:
    """Print how each campaign was detected by our detectors."""
    print(
        f"\nEach campaign begins {REPEATED} times, {LONG} times if it lasts a day or more; all "
        "records count as decided where it was"
    )
    print("not detected.")
    print(
        "\n| campaign | queries; records | detected, % | queries until | records decided before | "
        "first by |\n" + "|---" * 6 + "|"
    )
    for name, repetitions in bench.campaigns.items():
        moments = DAWNS if name in guard_campaigns.DAYS_LONG else MOMENTS
        found = [
            caught(bench, campaign, states[moments[i % len(moments)]], moments[i % len(moments)])
            for i, campaign in enumerate(repetitions)
        ]
        when = [queries for queries, _ in found if queries is not None]
        decided = [
            int(c.decided[q - 1]) if q is not None and q else c.n_records
            for c, (q, _) in zip(repetitions, found, strict=True)
        ]
        by = Counter(stream for _, stream in found if stream)
        size = f"{np.mean([len(c.stream) for c in repetitions]):.0f}; {repetitions[0].n_records}"
        print(
            f"| {name} | {size} | {share(len(when), len(found))} | {quartiles(when)} | "
            f"{quartiles(decided)} | "
            f"{', '.join(f'{key} {n}' for key, n in by.most_common())} |",
            flush=True,
        )
    for name, why in bench.skipped.items():
        print(f"| {name} | not applicable: {why.split('.')[0]} |")


def beside(bench: Bench) -> None:
    """Print the rivals' false alarms and detections."""
    both = Rivals(bench)
    print("\n| rival | threshold | client-days with a false alarm, in 1,000 |\n|---|---|---|")
    for key, (limit, false) in both.limits.items():
        shown = (
            "none"
            if not np.isfinite(limit)
            else f"W < {1 - limit:.4f}"
            if key[0] == "P"
            else f"{np.floor(limit) + 1:.0f} of 50 or more"
        )
        print(f"| {key} | {shown} | {false} |")
    print(
        "\n| campaign | " + " | ".join(both.limits) + " |\n" + "|---" * (1 + len(both.limits)) + "|"
    )
    for name, repetitions in bench.campaigns.items():
        found = [both.caught(campaign) for campaign in repetitions]
        cells = []
        for key in both.limits:
            when = [result[key] for result in found if result[key] is not None]
            cells.append(f"{share(len(when), len(found))}; {quartiles(when)}")  # type: ignore[arg-type]
        print(f"| {name} | " + " | ".join(cells) + " |", flush=True)


def main(arguments: list[str]) -> None:
    started = clock.perf_counter()
    bench = prepared(arguments[0])
    served = bench.field.served
    print(f"**{served.name}**: {served.member.sum()} members of {served.n} records, {served.size} inputs in all, "
          f"{clock.perf_counter() - started:.0f} s to prepare.")  # fmt: skip
    if "rivals" not in arguments:
        tuned = tune_detectors(
            list(blocks(bench.observed(bench.streams[0]))),
            bench.fingerprints,
            radius=bench.sketcher.radius,
            rate=RATE,
        )
        print(
            "Thresholds: "
            f"{', '.join(f'{key} {value:.1f}' for key, value in tuned.settings.thresholds.items())}.",
            flush=True,
        )
        if "headroom" in arguments:
            return headroom(bench, tuned)
        detected(bench, quiet(bench, tuned))
    if "alone" not in arguments:
        beside(bench)
    print(
        f"\n{clock.perf_counter() - started:.0f} s in all, {clock.process_time():.0f} s of a "
        "processor."
    )


if __name__ == "__main__":
    main(sys.argv[1:])
