"""What the guard costs beside the same proxy in pass-through, in one run on the loopback interface.

`python benchmarks/guard_load.py` runs all parts; `latency`, `throughput`, `clients`, `hour
[requests]` and `workers` run one. Both guards are real processes before the same server, which
answers over 1,000 classes with precomputed bytes. One passes everything on (`restrict = "none"`, no
budgets, nothing watched); the other answers with `top:3+round:2`, keeps budgets for each client,
each record and all together, runs all detectors and writes the access log. Blocks of requests
alternate between them, since other work shares the machine.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from statistics import median

import numpy as np

from aims import judge
from guard_stand import WATCHED, Served, equip, family, guard, program, redis, resident

FEATURES, BODIES, KEPT, CONNECTIONS = 30, 20_000, 20_000, 16
# Requests after which all records came three times, more than the monitor remembers, and all
# clients 60 times
FILLING = 60_000
STAND = Path(__file__).with_name("guard_stand.py")
RESTRICTED = 'restrict = "top:3+round:2"'
SERVING = """
[serving]
protocol = "v2"
model_name = "m"
answer = "p"
n_classes = CLASSES
[limits]
concurrency = 256
"""
PASSING = SERVING + '[monitor]\nenabled = false\n[default]\nrestrict = "none"\n'
GUARDED = (
    '[guard]\ntotal = "1000000000/h"\n'
    + SERVING
    + '[identity]\ntrusted_proxies = ["127.0.0.0/8"]\n[default]\n'
    + RESTRICTED
    + "\n"
    + 'per_client = "100000000/h"\nper_record = "100000/h"\n'
    + WATCHED
)

ALONE = (
    GUARDED.replace(RESTRICTED, 'restrict = "none"')
    .replace("total = ", "# total = ")
    .replace("per_", "# per_")
)
# What is on, the classes of the model, the policy, and the share of pass-through that is aimed at
CASES = (
    ("all, 1,000 classes", 1000, GUARDED, 0.50),
    ("all, 10 classes", 10, GUARDED, 0.60),
    ("detectors alone, 1,000 classes", 1000, ALONE, 0.70),
    ("detectors alone, 10 classes", 10, ALONE, 0.70),
)


def records(n: int = KEPT) -> np.ndarray:
    """Ordinary records (n, 30)."""
    return np.random.default_rng(0).normal(size=(n, FEATURES))


@cache
def bodies(n: int = BODIES) -> list[bytes]:
    """Requests about one record each, as clients write them."""
    return [
        json.dumps(
            {"inputs": [{"name": "x", "shape": [1, FEATURES], "datatype": "FP64", "data": row}]}
        ).encode()
        for row in records(n).round(4).tolist()
    ]


@contextmanager
def upstream(classes: int) -> Iterator[tuple[Path, str]]:
    """A folder with what the monitor needs, and the URL of a server that answers at once."""
    with (
        tempfile.TemporaryDirectory() as name,
        program(str(STAND), "fixed", str(classes)) as server,
    ):
        equip(Path(name), records())
        yield Path(name), server.url


def written_policy(folder: Path, name: str, text: str, classes: int) -> Path:
    """The policy's file."""
    path = folder / name
    path.write_text(text.replace("CLASSES", str(classes)))
    return path


@contextmanager
def both(classes: int = 1000, guarded: str = "") -> Iterator[tuple[Served, Served]]:
    """The proxy in pass-through and the whole guard, before the same server."""
    with upstream(classes) as (folder, url):
        passing = written_policy(folder, "passing.toml", PASSING, classes)
        whole = written_policy(folder, "guarded.toml", guarded or GUARDED, classes)
        with guard(passing, url) as first, guard(whole, url) as second:
            yield first, second


class Client:
    """One connection that asks and waits, without a library's own time."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def ask(self, request: bytes) -> int:
        """Send one request, read its whole answer, and say the status."""
        self.socket.sendall(request)
        found = b""
        while (end := found.find(b"\r\n\r\n")) < 0:
            found += self.some()
        head = found[:end].lower()
        left = int(head.partition(b"content-length:")[2].split(b"\r\n", 1)[0]) - (
            len(found) - end - 4
        )
        while left > 0:
            left -= len(self.some())
        return int(head[9:12])

    def some(self) -> bytes:
        """The next bytes."""
        part = self.socket.recv(1 << 20)
        assert part, "the guard closed the connection"
        return part


def written(body: bytes, client: int) -> bytes:
    """A whole request by one of many clients.

    Told apart by the address that a listed proxy writes.
    """
    address = f"10.{client >> 16 & 255}.{client >> 8 & 255}.{client & 255}"
    head = (
        "POST /v2/models/m/infer HTTP/1.1\r\nhost: a\r\ncontent-type: "
        f"application/json\r\nx-forwarded-for: {address}\r\n"
        f"content-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def latency(blocks: int = 40, size: int = 250) -> None:
    """Milliseconds added at the median and at the 99th percentile, one request after the other."""
    requests = [written(body, place % 100) for place, body in enumerate(bodies())]
    with both() as sides:
        clients = [Client(side.port) for side in sides]
        taken: list[list[np.ndarray]] = [[], []]
        for block in range(-2, blocks):
            for side, client in enumerate(clients):
                times = np.empty(size)
                for k in range(size):
                    request = requests[(block * size + k) % len(requests)]
                    begun = time.perf_counter()
                    assert client.ask(request) == 200
                    times[k] = time.perf_counter() - begun
                if block >= 0:
                    taken[side].append(1000 * times)
    for share, aim in ((50, 1.0), (99, 5.0)):
        passing, whole = (
            np.array([np.percentile(times, share) for times in side]) for side in taken
        )
        rng = np.random.default_rng(0)
        drawn = [np.median((whole - passing)[rng.integers(0, blocks, blocks)]) for _ in range(2000)]
        low, high = np.percentile(drawn, [2.5, 97.5])
        print(
            f"latency at {share}%: pass-through {np.median(passing):.2f} ms, guarded "
            f"{np.median(whole):.2f} ms, added "
            f"{np.median(whole - passing):.2f} ms [{low:.2f}, {high:.2f}], medians of {blocks} "
            f"pairs of blocks of {size}, bootstrap over pairs "
            f"{judge(f'latency added at {share}%', np.median(whole - passing), 'ms', at_most=aim)}",
            flush=True,
        )


SCRIPT = """
local bodies, n = {}, 0
for line in io.lines("BODIES") do n = n + 1; bodies[n] = line end
local turn, address = FROM, ""
request = function()
  turn = turn + 1
  local client = turn % CLIENTS
  address = string.format("10.%d.%d.%d", math.floor(client / 65536), math.floor(client / 256) % 256, client % 256)
  local headers = {["content-type"] = "application/json", ["x-forwarded-for"] = address}
  return wrk.format("POST", "/v2/models/m/infer", headers, bodies[turn % n + 1])
end
done = function(summary, latency, requests)
  local bad = summary.errors.status + summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.timeout
  print(string.format("RESULT %d %d %d", summary.requests, summary.duration, bad))
end
"""


def wrk(port: int, *, clients: int, first: int = 0, seconds: int = 2) -> tuple[int, float]:
    """Requests answered and seconds taken, over 16 connections.

    By so many clients in turn beginning with the `first`.
    """
    if shutil.which("wrk") is None:
        raise SystemExit(
            "Expected wrk on the path, got none. Install it with the system's package manager."
        )
    with tempfile.TemporaryDirectory() as name:
        written, script = Path(name) / "bodies", Path(name) / "ask.lua"
        written.write_bytes(b"\n".join(bodies()))
        script.write_text(
            SCRIPT.replace("BODIES", str(written))
            .replace("CLIENTS", str(clients))
            .replace("FROM", str(first))
        )
        command = [
            "wrk",
            "-t1",
            f"-c{CONNECTIONS}",
            f"-d{seconds}s",
            "-s",
            str(script),
            f"http://127.0.0.1:{port}",
        ]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    requests, microseconds, bad = map(int, said.partition("RESULT ")[2].split())
    assert not bad, said
    return requests, microseconds / 1e6


def throughput(blocks: int = 12, seconds: int = 2) -> None:
    """Requests a second of both, and their ratio.

    Everything, and detectors alone, over 1,000 classes and over 10.
    """
    for title, classes, policy, aim in CASES:
        rates: list[list[float]] = [[], []]
        spent = np.zeros((2, 2))  # of each side, by the process that serves and by its monitor's
        with both(classes, policy) as sides:
            for block in range(-1, blocks):
                for side, served in enumerate(sides):
                    before = shares(served)
                    requests, taken = wrk(served.port, clients=100, seconds=seconds)
                    if block >= 0:
                        rates[side].append(requests / taken)
                        spent[side] += (shares(served) - before) / requests / blocks
        if not spent[1, 1]:
            raise SystemExit("Expected a monitor's process that works, found none.")
        ratios = [whole / passing for passing, whole in zip(*rates, strict=True)]
        print(
            f"throughput ({title}): pass-through {median(rates[0]):.0f}/s, guarded "
            f"{median(rates[1]):.0f}/s, ratio {median(ratios):.2f} "
            f"({min(ratios):.2f} to {max(ratios):.2f}), median of {blocks} pairs of blocks of "
            f"{seconds} s, {CONNECTIONS} connections; CPU {1e6 * spent[0, 0]:.0f} and {1e6 * spent[1, 0]:.0f} microseconds "
            f"a request, and {1e6 * spent[1, 1]:.0f} of the monitor's process "
            f"{judge(f'throughput ({title})', median(ratios), at_least=aim)}",
            flush=True,
        )


@contextmanager
def one(classes: int, text: str, workers: int = 1) -> Iterator[Served]:
    """One guard."""
    with (
        upstream(classes) as (folder, url),
        guard(written_policy(folder, "guard.toml", text, classes), url, workers) as served,
    ):
        yield served


def clients(n: int = 100_000) -> None:
    """Megabytes for so many distinct clients, above those for one that asked about every record.

    The tables of records are as large for one client as for many, up to `state.record_megabytes`.
    """
    with one(10, GUARDED) as served:
        time.sleep(1)
        idle, asked = resident(served.pids), 0
        while asked < BODIES:
            asked += wrk(served.port, clients=1, first=asked, seconds=5)[0]
        settled(served)
        of_records, asked = resident(served.pids) - idle, 0
        while asked < n:
            asked += wrk(served.port, clients=1 << 24, first=asked, seconds=10)[0]
        settled(served)
        kept = gauge(served, "memberscope_guard_monitor_clients")
        more = resident(served.pids) - idle - of_records
        print(
            f"memory: {idle:.0f} MB idle, {of_records:.0f} MB more once one client has asked about "
            f"{BODIES} records, and {more:.0f} MB more after {asked} requests of as many clients, of "
            f"which the monitor holds {kept:.0f} "
            f"{judge('memory of clients', more, 'MB', at_most=200)}",
            flush=True,
        )


def hour(n: int = 500_000) -> None:
    """Megabytes held while `n` requests by 1,000 clients come as fast as they are answered.

    After those that fill all tables.
    """
    with one(10, GUARDED) as served:
        begin = filled(served)
        held = [(begin, *both_resident(served))]
        while held[-1][0] < begin + n:
            asked = held[-1][0] + wrk(served.port, clients=1000, first=held[-1][0], seconds=10)[0]
            settled(served)
            held.append((asked, *both_resident(served)))
        at, *memory = np.array(held).T
        print(f"hour: {at[-1] - begin:.0f} requests after {begin} that fill all tables")
        for name, found in zip(
            ("the process that serves", "the monitor's process"), memory, strict=True
        ):
            shown = ", ".join(
                f"{found[place]:.2f}" for place in np.linspace(0, len(at) - 1, 8).astype(int)
            )
            whole, late = (
                1e5 * np.polyfit(at[part:], found[part:], 1)[0] for part in (0, len(at) // 2)
            )
            print(
                f"hour: {name}: {shown} MB at even steps; {whole:+.2f} MB in 100,000 requests, "
                f"over the last half {late:+.2f} (no aim)"
            )
        print(
            f"hour: {gauge(served, 'memberscope_guard_monitor_dropped_total'):.0f} queries not "
            "watched",
            flush=True,
        )


def filled(served: Served) -> int:
    """How many requests filled all tables, the last of them while the monitor stood still.

    Then it looks at as many at once as it ever does.
    """
    asked = 0
    while asked < FILLING:
        asked += wrk(served.port, clients=1000, first=asked, seconds=10)[0]
    for number in (signal.SIGSTOP, signal.SIGCONT):
        os.kill(served.pids[1], number)
        asked += wrk(served.port, clients=1000, first=asked)[0]
    settled(served)
    return asked


def both_resident(served: Served) -> tuple[float, float]:
    """Megabytes held by the process that serves, and by its monitor's."""
    return resident(served.pids[:1]), resident(served.pids[1:])


def settled(served: Served) -> None:
    """Wait until the monitor has seen all."""
    while gauge(served, "memberscope_guard_monitor_queue") > 0:
        time.sleep(0.2)


def gauge(served: Served, name: str) -> float:
    """A number that operators read."""
    with urllib.request.urlopen(f"http://127.0.0.1:{served.admin_port}/metrics") as answer:
        lines = answer.read().decode().splitlines()
    return sum(
        float(line.rsplit(" ", 1)[1])
        for line in lines
        if line.startswith(name) and not line.startswith("#")
    )


def workers(budget: int = 2000) -> None:
    """How many records one client gets of a budget that two workers share through Redis.

    Asked over 16 connections.
    """
    with redis() as address:
        text = GUARDED.replace('per_client = "100000000/h"', f'per_client = "{budget}/d"').replace(
            "per_record", "# per_record"
        )
        text += f'[state]\nredis = "{address}"\ntimeout = 5.0\n'
        requests = [written(body, 7) for body in bodies(500)]
        with one(10, text, workers=2) as served:
            before = [busy((pid,)) for pid in served.pids]
            started = time.perf_counter()
            with ThreadPoolExecutor(CONNECTIONS) as pool:
                each = budget * 3 // 2 // CONNECTIONS
                statuses = list(
                    pool.map(lambda _: asked(served.port, requests, each), range(CONNECTIONS))
                )
            seconds = time.perf_counter() - started
            shares = [busy((pid,)) - start for pid, start in zip(served.pids, before, strict=True)]
    answered = sum(statuses)
    refill = budget * seconds / 86400
    beyond = 100 * (answered / budget - 1)
    print(
        f"two workers: {answered} of a budget of {budget} records "
        f"({beyond:+.2f}%, of which {refill:.1f} were refilled) in {seconds:.1f} s; the workers spent {shares[0]:.1f} and {shares[1]:.1f} s "
        f"of CPU {judge('two workers: beyond the budget', beyond, '%', at_least=-1, at_most=1)}",
        flush=True,
    )


def asked(port: int, requests: list[bytes], n: int) -> int:
    """How many of `n` requests over one connection are answered.

    All others are beyond the budget.
    """
    client = Client(port)
    statuses = [client.ask(requests[k % len(requests)]) for k in range(n)]
    assert set(statuses) <= {200, 429}, set(statuses)
    return statuses.count(200)


def busy(pids: tuple[int, ...]) -> float:
    """Seconds of CPU that processes have spent."""
    found = [Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split() for pid in pids]
    return sum(int(fields[11]) + int(fields[12]) for fields in found) / os.sysconf("SC_CLK_TCK")


def shares(served: Served) -> np.ndarray:
    """Seconds of CPU that the process that serves and that those it has started have spent.

    They are looked up each time, as a monitor that ended is started again.
    """
    pids = family(served.pids[0])
    return np.array([busy(pids[:1]), busy(pids[1:])])


PARTS = {
    "latency": latency,
    "throughput": throughput,
    "clients": clients,
    "hour": hour,
    "workers": workers,
}

if __name__ == "__main__":
    if sys.argv[1:]:
        PARTS[sys.argv[1]](*map(int, sys.argv[2:]))
    else:
        for part in PARTS.values():
            part()
