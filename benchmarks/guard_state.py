"""What keeping budgets costs a request, and what they weigh.

`python benchmarks/guard_state.py`: microseconds a call, the median of five runs of at least half a
second each; memory, and a redis-server that this command starts on loopback, one call after the
other and 16 at a time. Then bytes, and what newcomers lose to a flood.
"""

from __future__ import annotations

import asyncio
import mmap
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import count
from statistics import median

from memberscope.guard.policy.tables import ClientLimits, RateLimit
from memberscope.guard.state.bucket_table import BucketTable
from memberscope.guard.state.in_memory import RECORD_BYTES, MemoryState
from memberscope.guard.state.interface import Bucket, State, StateError
from memberscope.guard.state.record_table import RecordTable
from memberscope.guard.state.redis_store import RedisState
from memberscope.guard.state.token_buckets import build_buckets

CLIENTS = 100_000
ALLOWED = ClientLimits(per_client="1000000/h", per_record="100000/d")
Request = Callable[[int], list[Bucket]]


def requests(n: int) -> Request:
    """Requests about n records each, by many clients.

    A bucket for the client, one for all, one for each record.
    """
    total = RateLimit(n=10**9, seconds=3600.0)
    return lambda i: build_buckets(
        f"{i * 7919 % CLIENTS:016x}", "default", ALLOWED, total, range(i, i + n), None
    )


async def microseconds(state: State, wanted: list[list[Bucket]], at_once: int) -> float:
    """Of one call, the median of five runs.

    With several at a time, of the whole divided by the calls.
    """

    async def some() -> int:
        calls = 0
        while time.perf_counter() - begun < 0.5:
            await state.take(wanted[next(turn) % len(wanted)])
            calls += 1
        return calls

    found, turn = [], count()
    for _ in range(5):
        begun = time.perf_counter()
        calls = sum(await asyncio.gather(*(some() for _ in range(at_once))))
        found.append((time.perf_counter() - begun) / calls * 1e6)
    return median(found)


async def speeds(redis_url: str | None) -> None:
    """The table of speeds."""
    print(
        "microseconds of take(), no aim".ljust(34)
        + "".join(f"{n:>5} records" for n in (1, 10, 100))
    )
    rows: list[tuple[str, State, int]] = [("memory", MemoryState(CLIENTS), 1)]
    if redis_url:
        rows += [
            (f"Redis, {n} at a time", RedisState(redis_url, "bench", 30.0), n) for n in (1, 16)
        ]
    wanted = [[requests(n)(i) for i in range(1000)] for n in (1, 10, 100)]
    for name, state, at_once in rows:
        taken = [await microseconds(state, some, at_once) for some in wanted]
        print(name.ljust(34) + "".join(f"{value:>13.1f}" for value in taken))
        await state.close()


def weight() -> None:
    """Bytes for 100,000 clients, and for records."""
    size = BucketTable.count_bytes(CLIENTS)
    places = RecordTable(mmap.mmap(-1, RECORD_BYTES), 86400.0).places
    print(
        f"memory for {CLIENTS:,} clients: {size / 2**20:.1f} MiB, {size / CLIENTS:.0f} bytes a "
        f"bucket; {RECORD_BYTES / 2**20:g} MiB for {places:,} records, {RECORD_BYTES / places:.1f} "
        "bytes each (no aim)"
    )


async def flood() -> None:
    """Of a budget of 100, what a newcomer still gets after so many identities asked once each."""
    for times in (1, 2, 4, 10):
        state = MemoryState(10_000, clock=lambda: 0.0)
        rate = RateLimit(n=100, seconds=3600.0)
        for i in range(times * 10_000):
            await state.take([Bucket(f"c:flood{i}", rate, 1)])
        left = []
        for i in range(200):
            n = 0
            while (await state.take([Bucket(f"c:new{i}", rate, 1)])).allowed:
                n += 1
            left.append(n)
        print(
            f"{times:>3} identities a client's place: newcomers get {min(left)} to {max(left)} of "
            f"100, median {median(left):g} (no aim)"
        )


def main() -> int:
    """Run all."""
    program = shutil.which("redis-server")
    weight()
    asyncio.run(flood())
    if program is None:
        print("no redis-server on the path: memory only")
        asyncio.run(speeds(None))
        return 0
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        options = f"--port {port} --bind 127.0.0.1 --dir {folder} --save".split()
        server = subprocess.Popen([program, *options, ""], stdout=subprocess.DEVNULL)
        try:
            asyncio.run(answering(f"redis://127.0.0.1:{port}/0"))
            asyncio.run(speeds(f"redis://127.0.0.1:{port}/0"))
        finally:
            server.kill()
            server.wait()
    return 0


async def answering(url: str) -> None:
    """Wait until Redis answers."""
    for _ in range(200):
        state = RedisState(url, "bench", 1.0)
        try:
            await state.standing("00")
            return
        except StateError:
            await asyncio.sleep(0.05)
        finally:
            await state.close()
    raise SystemExit("redis-server did not answer")


if __name__ == "__main__":
    sys.exit(main())
