"""Simulated traffic of a served model over real data.

Benign clients of many kinds, deterministic by seed.

`python benchmarks/guard_traffic.py location30|adult|fashion|cifar10 [seed]` prints what a stream
contains. A deployment is a model trained on its members, and a population of records that clients
ask about; each client has customers of its own, some share of whom are members by chance. All
inputs that anybody asks about lie in one pool, together with the model's real answers.
"""

from __future__ import annotations

import io
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from sklearn.ensemble import RandomForestClassifier

import data
import label_only
import label_only_real
from memberscope.signals.label_oracle import ask_top_labels
from memberscope.targets import TorchTarget, wrap
from memberscope.types import Target

DAY, START, DAYS, CLIENTS = 86400.0, 19674 * 86400.0, 28, 500  # the first day is a Monday
BASE = (2.0, 38.0)  # share of members among a client's customers: Beta, 5% on average
OWNERS = (
    16.0,
    4.0,
)  # and among those of clients who serve the very people of the training set: 80% on average
KINDS = {
    "interactive": 0.42, "heavy": 0.08, "batch": 0.10, "arms": 0.08, "what_if": 0.08, "dashboard": 0.08,
    "newcomer": 0.12, "owner": 0.04,
}  # fmt: skip
ZONES = (-6.0, 0.0, 8.0)  # hours
RETRIED, STORM = (
    0.04,
    0.02,
)  # share of queries sent again at once, and of client-days on which one is sent again and again
Asked = tuple[np.ndarray, np.ndarray]  # times in days since the start, and rows of the pool


@dataclass(eq=False)
class Deployment:
    """A served model, and the pool of all inputs that are asked.

    Its first `n` are the population, `member` (n,) says who trained it.
    """

    name: str
    kind: str
    target: Target
    x: np.ndarray
    y: np.ndarray
    member: np.ndarray
    added: list[np.ndarray] = field(default_factory=list)
    answers: list[np.ndarray] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.size = len(self.x)
        self.answers.append(ask_top_labels(self.target, self.x))

    @property
    def n(self) -> int:
        """Records of the population."""
        return len(self.x)

    def add(self, x: np.ndarray, labels: np.ndarray | None = None) -> np.ndarray:
        """Rows of the pool for further inputs.

        Whose answers are asked for unless they are known.
        """
        self.added.append(x.astype(self.x.dtype))
        self.answers.append(
            ask_top_labels(self.target, self.added[-1]) if labels is None else labels
        )
        self.size += len(x)
        return np.arange(self.size - len(x), self.size)

    def pool(self) -> np.ndarray:
        """All inputs, one after the other."""
        return np.concatenate([self.x, *self.added])

    def labels(self) -> np.ndarray:
        """The model's top class for each input of the pool."""
        return np.concatenate(self.answers)


@dataclass(frozen=True, eq=False)
class Stream:
    """n queries in order of time (n,), seconds since 1970.

    `client` (n,) is a place among `names`, `row` (n,) one in the pool.
    """

    time: np.ndarray
    client: np.ndarray
    row: np.ndarray
    names: np.ndarray

    def __len__(self) -> int:
        return len(self.time)

    def days(self) -> np.ndarray:
        """The day (n,) of each query."""
        return ((self.time - START) // DAY).astype(np.int64)

    def client_days(self) -> int:
        """Days on which a client asked at all, over all clients."""
        return len(np.unique(self.client * 100_000 + self.days()))

    def between(self, first: float, last: float) -> Stream:
        """The queries of the days from `first` up to `last`."""
        a, b = np.searchsorted(self.time, (START + first * DAY, START + last * DAY))
        return Stream(self.time[a:b], self.client[a:b], self.row[a:b], self.names)


def merged(streams: list[Stream]) -> Stream:
    """Several streams of different clients in one order of time."""
    names = np.concatenate([stream.names for stream in streams])
    offsets = np.cumsum([0, *(len(stream.names) for stream in streams[:-1])])
    time = np.concatenate([stream.time for stream in streams])
    order = np.argsort(time, kind="stable")
    client = np.concatenate(
        [stream.client + offset for stream, offset in zip(streams, offsets, strict=True)]
    )
    return Stream(
        time[order], client[order], np.concatenate([stream.row for stream in streams])[order], names
    )


def location30() -> Deployment:
    """5,010 records of 446 bits, 1,000 members, the MLP 446-512-256-128-30."""
    x, y = data.location30()
    return network("location30", "tabular", (label_only.mlp, x, y.astype(np.int64)), (1000, 50))


def adult() -> Deployment:
    """20,000 records of 14 numbers and codes, 2,000 members, a random forest of 100 trees."""
    x, y, _ = data.adult()
    rows = np.random.default_rng(0).permutation(len(y))[:20_000]
    x, y = x[rows], y[rows].astype(np.int64)
    member = np.arange(len(y)) < 2000
    forest = RandomForestClassifier(100, random_state=0).fit(x[member], y[member])
    return Deployment("adult", "tabular", wrap(forest), x, y, member)


def fashion() -> Deployment:
    """20,000 images of 28 x 28, 2,000 members, a small convolutional network."""
    x, y = data.fashion_mnist()
    rows = np.random.default_rng(0).permutation(len(y))[:20_000]
    return network("fashion", "image", (label_only_real.cnn, x[rows], y[rows]), (2000, 30))


def cifar10() -> Deployment:
    """10,000 images of 32 x 32 in colour, 2,000 members, a small convolutional network."""
    return network("cifar10", "image", (label_only.cnn, *data.cifar10(10_000)), (2000, 30))


def network(
    name: str, kind: str, parts: tuple[Any, np.ndarray, np.ndarray], training: tuple[int, int]
) -> Deployment:
    """A network trained on the first records of a random order.

    (make, x, y) and (members, epochs).
    """
    make, x, y = parts
    torch.manual_seed(0)
    order = np.random.default_rng(1).permutation(len(y))
    x, y, member = x[order], y[order], np.arange(len(y)) < training[0]
    module = label_only.trained(make(), x[member], y[member], training[1])
    return Deployment(name, kind, TorchTarget(module, n_classes=int(y.max()) + 1), x, y, member)


DEPLOYMENTS: dict[str, Callable[[], Deployment]] = {
    "location30": location30, "adult": adult, "fashion": fashion, "cifar10": cifar10,
}  # fmt: skip


def customers(served: Deployment, rng: np.random.Generator, n: int, base: float) -> np.ndarray:
    """Rows (n,) of the population, each a member with probability `base`."""
    inside, outside = np.flatnonzero(served.member), np.flatnonzero(~served.member)
    return np.where(rng.random(n) < base, rng.choice(inside, n), rng.choice(outside, n))


def visits(rng: np.random.Generator, rate: float, days: np.ndarray) -> np.ndarray:
    """The day of each query at `rate` a day, uneven from day to day and less at weekends."""
    level = rate * rng.gamma(2.0, 0.5, len(days)) * np.where(days % 7 >= 5, 0.4, 1.0)
    return np.repeat(days, rng.poisson(level))


def hours(rng: np.random.Generator, days: np.ndarray, zone: float) -> np.ndarray:
    """Times (n,) in days, mostly in the client's working hours."""
    hour = np.where(
        rng.random(len(days)) < 0.1,
        24 * rng.random(len(days)),
        13 + 3 * rng.standard_normal(len(days)),
    )
    return days + ((hour - zone) % 24) / 24


def ordinary(
    served: Deployment, rng: np.random.Generator, days: np.ndarray, base: float, rate: float
) -> Asked:
    """Queries about returning customers and new ones."""
    seen = customers(served, rng, int(rng.integers(20, 300)), base)
    time = hours(rng, visits(rng, rate, days), rng.choice(ZONES))
    returning = seen[(len(seen) * rng.random(len(time)) ** 2).astype(np.int64)]
    return time, np.where(
        rng.random(len(time)) < 0.5, returning, customers(served, rng, len(time), base)
    )


def interactive(
    served: Deployment, rng: np.random.Generator, days: np.ndarray, base: float
) -> Asked:
    """People at a form: log-normal volumes."""
    return ordinary(served, rng, days, base, float(np.exp(rng.normal(np.log(10), 1))))


def heavy(served: Deployment, rng: np.random.Generator, days: np.ndarray, base: float) -> Asked:
    """Another service: Pareto volumes."""
    return ordinary(served, rng, days, base, min(40 * (1 + rng.pareto(1.3)), 1000.0))


def newcomer(served: Deployment, rng: np.random.Generator, days: np.ndarray, base: float) -> Asked:
    """Somebody who starts later, with a first test of some dozens of records."""
    days = days[int(rng.integers(0, len(days) - 3)) :]
    time, row = interactive(served, rng, days, base)
    n = int(rng.integers(10, 80))
    test = days[0] + 0.4 + 0.2 * rng.random() + np.cumsum(rng.exponential(2.0, n)) / DAY
    return np.append(time, test), np.append(row, customers(served, rng, n, base))


def batch(served: Deployment, rng: np.random.Generator, days: np.ndarray, base: float) -> Asked:
    """A list scored every night or every week, in its own order.

    By a feature, by the last answer, or at random.
    """
    rows = customers(served, rng, int(rng.integers(50, 250)), base)
    key = rng.choice(3)
    feature = served.x.reshape(served.n, -1)[rows, rng.integers(0, served.x[0].size)]
    rows = rows[
        np.argsort((feature, served.answers[0][rows], rng.random(len(rows)))[key], kind="stable")
    ]
    nights = days if rng.random() < 0.3 else days[days % 7 == rng.integers(0, 7)]
    gap = rng.uniform(0.05, 0.5) / DAY
    time = (nights[:, None] + rng.uniform(0.02, 0.2) + gap * np.arange(len(rows))).ravel()
    return time, np.tile(rows, len(nights))


def arms(served: Deployment, rng: np.random.Generator, days: np.ndarray, base: float) -> Asked:
    """An experiment that sends every record to two arms within a second.

    Half of the clients change a feature on the way.
    """
    time, row = ordinary(served, rng, days, base, 12.0)
    other = changed(served, rng, row) if rng.random() < 0.5 else row
    return np.append(time, time + rng.uniform(0, 1, len(time)) / DAY), np.append(row, other)


def what_if(served: Deployment, rng: np.random.Generator, days: np.ndarray, base: float) -> Asked:
    """Somebody who tries two to eight variants of a record, some records a day."""
    time, row = ordinary(served, rng, days, base, float(np.exp(rng.normal(np.log(3), 0.7))))
    times = rng.integers(2, 9, len(time))
    later = (
        np.repeat(time, times)
        + np.concatenate([np.cumsum(rng.exponential(15, n)) for n in times] or [[]]) / DAY
    )
    return np.append(time, later), np.append(row, changed(served, rng, np.repeat(row, times)))


def dashboard(served: Deployment, rng: np.random.Generator, days: np.ndarray, base: float) -> Asked:
    """The same list in the same order every so many minutes of a working day.

    Some of its records change from week to week.
    """
    n, minutes = int(rng.integers(4, 16)), float(rng.choice([20, 30, 60]))
    rows = customers(served, rng, n, base)
    times, asked = [], []
    for day in days[days % 7 < 5]:
        if day % 7 == 0:
            rows = np.where(rng.random(n) < 0.2, customers(served, rng, n, base), rows)
        refreshes = day + 8 / 24 + np.arange(0, 9 * 60, minutes) / 1440
        times.append((refreshes[:, None] + np.arange(n) * 0.02 / DAY).ravel())
        asked.append(np.tile(rows, len(refreshes)))
    return np.concatenate(times or [np.zeros(0)]), np.concatenate(
        asked or [np.zeros(0, dtype=np.int64)]
    )


def changed(served: Deployment, rng: np.random.Generator, rows: np.ndarray) -> np.ndarray:
    """Rows of the pool for variants of `rows`.

    One or two features taken from another record, or an edited image.
    """
    x = served.x[rows].copy()
    if not len(x):
        return rows
    if served.kind == "image":
        return served.add(edited(rng, x))
    for _ in range(2):
        feature, donor = rng.integers(0, x.shape[1], len(x)), rng.integers(0, served.n, len(x))
        x[np.arange(len(x)), feature] = served.x[donor, feature]
    return served.add(x)


def edited(rng: np.random.Generator, x: np.ndarray) -> np.ndarray:
    """Images made brighter or darker, moved by a pixel or two, or compressed again."""
    kind = rng.integers(0, 3, len(x))
    found = np.clip(x * rng.uniform(0.8, 1.2, (len(x), 1, 1, 1)), 0, 1)
    for i in np.flatnonzero(kind == 1):
        found[i] = np.roll(x[i], rng.integers(-2, 3, 2), axis=(1, 2))
    for i in np.flatnonzero(kind == 2):
        found[i] = compressed(x[i], int(rng.integers(50, 95)))
    return found


def compressed(image: np.ndarray, quality: int) -> np.ndarray:
    """An image (c, h, w) after JPEG."""
    from PIL import Image

    pixels, buffer = np.rint(255 * image).astype(np.uint8).transpose(1, 2, 0), io.BytesIO()
    Image.fromarray(pixels.squeeze()).save(buffer, "JPEG", quality=quality)
    again = np.asarray(Image.open(buffer), dtype=np.float32).reshape(pixels.shape) / 255
    return again.transpose(2, 0, 1)


def repeated(rng: np.random.Generator, asked: Asked) -> Asked:
    """The same queries with retries: single ones, and a storm on some days."""
    time, row = asked
    if not len(time):
        return asked
    again = np.repeat(np.flatnonzero(rng.random(len(time)) < RETRIED), 2)
    stormy = [
        rng.choice(np.flatnonzero(time // 1 == day))
        for day in np.unique(time // 1)
        if rng.random() < STORM
    ]
    storms = np.repeat(np.array(stormy, dtype=np.int64), rng.integers(10, 60, len(stormy)))
    more = np.concatenate([again, storms])
    return np.append(time, time[more] + rng.exponential(5.0, len(more)) / DAY), np.append(
        row, row[more]
    )


MAKE: dict[str, Callable[[Deployment, np.random.Generator, np.ndarray, float], Asked]] = {
    "interactive": interactive, "heavy": heavy, "batch": batch, "arms": arms, "what_if": what_if, "dashboard": dashboard,
    "newcomer": newcomer, "owner": interactive,
}  # fmt: skip


def benign(served: Deployment, seed: int, n_clients: int = CLIENTS, n_days: int = DAYS) -> Stream:
    """The stream of all benign clients; streams of different seeds have different clients."""
    days, parts, names = np.arange(n_days), [], []
    kinds = np.repeat(list(KINDS), np.rint(n_clients * np.array(list(KINDS.values()))).astype(int))
    for place, (kind, child) in enumerate(
        zip(kinds, np.random.SeedSequence((seed, 17)).spawn(len(kinds)), strict=True)
    ):
        rng = np.random.default_rng(child)
        base = rng.beta(*(OWNERS if kind == "owner" else BASE))
        time, row = repeated(rng, MAKE[str(kind)](served, rng, days, float(base)))
        keep = time < n_days
        parts.append((time[keep], row[keep], np.full(int(keep.sum()), place)))
        names.append(f"benign-{seed}-{kind}-{place}")
    time, row, client = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    order = np.argsort(time, kind="stable")
    return Stream(START + DAY * time[order], client[order], row[order], np.array(names))


def kind_of(name: str) -> str:
    """The kind of a benign client by its name."""
    return name.split("-")[2]


def main(arguments: list[str]) -> None:
    served = DEPLOYMENTS[arguments[0]]()
    seed = int(arguments[1]) if len(arguments) > 1 else 1
    right = served.answers[0] == served.y
    print(
        f"{served.name}: {served.member.sum()} members of {served.n} records; accuracy "
        f"{right[served.member].mean():.3f} on members, {right[~served.member].mean():.3f} on "
        "others"
    )
    stream = benign(served, seed)
    hit = stream.row < served.n
    hit[hit] = served.member[stream.row[hit]]
    print(
        f"{len(stream)} queries, {len(stream.names)} clients, {stream.client_days()} client-days, "
        f"{100 * hit.mean():.1f}% about members"
    )
    print(
        "\n| kind | clients | queries | client-days | median a day | most a day | about members, % "
        "|\n" + "|---" * 7 + "|"
    )
    kinds = np.array([kind_of(name) for name in stream.names])
    for kind, n in Counter(kinds.tolist()).items():
        own = kinds[stream.client] == kind
        volumes = np.unique(stream.client[own] * 100_000 + stream.days()[own], return_counts=True)[
            1
        ]
        print(
            f"| {kind} | {n} | {own.sum()} | {len(volumes)} | {np.median(volumes):.0f} | "
            f"{volumes.max()} | {100 * hit[own].mean():.1f} |"
        )


if __name__ == "__main__":
    main(sys.argv[1:])
