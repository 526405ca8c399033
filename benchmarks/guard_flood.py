"""What another client feels of one client's flood, with hostile requests and with well-formed ones.

`python benchmarks/guard_flood.py --seconds 60` starts a guard (`--workers 1` unless told, and for
more a Redis of this run alone) before a real server. Connections of one client send the ten worst
shapes as fast as they are answered, while another client asks once every 20 ms. The same flood of
well-formed requests is measured in the same run, and without any flood. The aim is that hostile
requests leave the other client's median latency within twice of what well-formed ones give, and
none of its requests refused.
"""

from __future__ import annotations

import argparse
import base64
import gzip
import json
import multiprocessing
import tempfile
import time
import urllib.request
from collections import Counter
from pathlib import Path
from statistics import median

import numpy as np

from aims import judge
from guard_load import FEATURES, STAND, Client, bodies, written_policy
from guard_stand import Served, guard, program, redis

POLICY = """
[serving]
protocol = "v2"
model_name = "m"
answer = "p"
n_classes = CLASSES
[identity]
trusted_proxies = ["127.0.0.0/8"]
[default]
restrict = "top:3+round:2"
per_client = "100000000/h"
per_record = "100000/h"
"""
HOSTILE, OTHER = "10.1.0.1", "10.2.0.1"
NAME = "memberscope_guard_bodies_parsed_total "
PAUSE = 0.02  # seconds between two requests of the other client
TRICKLE = 2500  # bytes a second
HEAD = (
    "POST /v2/models/m/infer HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\n"
    "x-forwarded-for: {address}\r\n{more}content-length: {size}\r\n\r\n"
)


def written(body: bytes, address: str, coding: str = "") -> bytes:
    """A whole request."""
    more = f"content-encoding: {coding}\r\n" if coding else ""
    return HEAD.format(address=address, size=len(body), more=more).encode() + body


def tensor(data: bytes, shape: list[int], more: bytes = b"") -> bytes:
    """A request about one tensor whose data are this text."""
    return b'{"inputs":[{"name":"x","shape":%s,"datatype":"FP64"%s,"data":%s}]}' % (
        json.dumps(shape).encode(),
        more,
        data,
    )


def shapes() -> dict[str, bytes]:
    """The ten worst requests, whole; the trickle is this one's body, sent slowly."""
    n = 2**20
    many = tensor(b"[" + b"0," * (4 * n - 60) + b"0]", [1, 4 * n - 59])
    columns = b",".join(
        b'{"name":"c%d","shape":[1],"datatype":"FP64","data":[0]}' % k for k in range(100_000)
    )
    array = np.zeros((4, FEATURES))
    found = {
        "gzip bomb": written(gzip.compress(many), HOSTILE, "gzip"),
        "deep nesting": tensor(b"[" * 1000 + b"]" * 1000 + b",[]" * 50_000, [1, 1]),
        "many tokens": many,
        "many columns": b'{"inputs":[%s]}' % columns,
        "many records": tensor(b"[" + b"[1]," * 240_000 + b"[1]]", [240_001, 1]),
        "long numbers": tensor(b"[" + b"9" * 4_000_000 + b"]", [1, 1]),
        "huge keys": b'{"inputs":[],"' + b"k" * 4_000_000 + b'":1}',
        "wrong types": tensor(b"[" + b'"a",' * 300_000 + b"{}]", [1, 300_001]),
        "slow trickle": many[:50_000],
        "base64": tensor(
            b'["%s"]' % base64.b64encode(array.tobytes() * 3000),
            [1, 1],
            b',"parameters":{"binary_data_size":8}',
        ),
    }
    return {
        name: body if name == "gzip bomb" else written(body, HOSTILE)
        for name, body in found.items()
    }


def flood(port: int, requests: list[bytes], slow: bool, end: float, told: object) -> None:
    """One connection that asks, reads the answer, and asks again until `end`."""
    statuses: Counter[str] = Counter()
    client, turn = None, 0
    while time.monotonic() < end:
        try:
            client = client or Client(port)
            request = requests[turn % len(requests)]
            turn += 1
            if slow:
                trickle(client, request, end)
                break
            statuses[str(client.ask(request))] += 1
        except (OSError, AssertionError, ValueError):
            # The guard ends connections whose body it does not read
            statuses["closed"] += 1
            client = None
    told.put(statuses)  # type: ignore[attr-defined]


def trickle(client: Client, request: bytes, end: float) -> None:
    """Send a request slowly until the guard ends the connection."""
    for at in range(0, len(request), TRICKLE // 10):
        if time.monotonic() > end:
            return
        client.socket.sendall(request[at : at + TRICKLE // 10])
        time.sleep(0.1)


def flood_all(
    port: int, requests: list[bytes], slow: int, n: int, end: float, told: object
) -> None:
    """All connections of the flood, one thread each, in a process of their own."""
    from threading import Thread

    threads = [
        Thread(
            target=flood,
            args=(port, requests[k % len(requests) :] + requests, k < slow, end, told),
            daemon=True,
        )
        for k in range(n)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic()) + 20)


def measure(served: Served, requests: list[bytes], slow: int, args: argparse.Namespace) -> dict:
    """Latency and errors of the other client during a flood of these requests."""
    context = multiprocessing.get_context("fork")
    told, end = context.Queue(), time.monotonic() + args.seconds
    process = context.Process(
        target=flood_all,
        args=(served.port, requests, slow, args.connections if requests else 0, end, told),
    )
    process.start()
    taken, client, place = [], Client(served.port), 0
    errors: Counter[str] = Counter()  # by status
    asked = [written(body, OTHER) for body in bodies(1000)]
    while time.monotonic() < end:
        begun = time.perf_counter()
        try:
            status = client.ask(asked[place % len(asked)])
            if status != 200:
                errors[str(status)] += 1
        except (OSError, AssertionError):
            errors["closed"] += 1
            client = Client(served.port)
        taken.append(time.perf_counter() - begun)
        place += 1
        time.sleep(PAUSE)
    process.join(30)
    process.kill()
    statuses: Counter[str] = Counter()
    while not told.empty():
        statuses += told.get()
    return {
        "median": 1000 * median(taken),
        "p99": 1000 * float(np.percentile(taken, 99)),
        "n": len(taken),
        "errors": dict(errors),
        "flood": dict(statuses),
    }


def parsed(served: Served) -> float:
    """How many bodies the guard has parsed."""
    url = f"http://127.0.0.1:{served.admin_port}/metrics"
    with urllib.request.urlopen(url, timeout=30) as answer:
        lines = answer.read().decode().splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith(NAME))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--connections", type=int, default=50)
    args = parser.parse_args()
    plain = [written(body, HOSTILE) for body in bodies(1000)]
    hostile = shapes()
    floods = {"no flood": ([], 0), "well-formed": (plain, 0), "hostile": ([*hostile.values()], 5)}
    found = {}
    for name, (requests, slow) in floods.items():
        with (
            tempfile.TemporaryDirectory() as folder,
            redis() as address,
            program(str(STAND), "fixed", "10") as upstream,
            guard(
                written_policy(
                    Path(folder),
                    "guard.toml",
                    POLICY + (f'[state]\nredis = "{address}"\n' if args.workers > 1 else ""),
                    10,
                ),
                upstream.url,
                args.workers,
            ) as served,
        ):
            found[name] = measure(served, requests, slow, args)
            print(
                f"{name}: the other client's median {found[name]['median']:.2f} ms, 99th "
                f"percentile {found[name]['p99']:.2f} ms, errors {found[name]['errors']} of "
                f"{found[name]['n']}; the flood got {found[name]['flood']}, and "
                f"{parsed(served):.0f} bodies were parsed",
                flush=True,
            )
    ratio = found["hostile"]["median"] / found["well-formed"]["median"]
    errors = sum(found["hostile"]["errors"].values())
    print(
        f"flood, {args.workers} workers, {args.connections} connections, {args.seconds:g} s each: "
        f"hostile beside well-formed, ratio of medians {ratio:.2f} "
        f"{judge('flood: ratio of medians', ratio, at_most=2)}, errors {errors} "
        f"{judge('flood: errors', errors, at_most=0)}"
    )


if __name__ == "__main__":
    main()
