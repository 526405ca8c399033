"""A share for each client: of what is at once, of the connections, and of those that are idle."""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest
from running_guard import SERVING, read_metric, running
from unruly import Unruly, serving

from memberscope.guard.admission.connections import ConnectionRoom
from memberscope.guard.admission.shares import FairPlaces, Load
from memberscope.guard.counters import Uncounted
from memberscope.guard.policy.config import parse_guard_policy
from memberscope.guard.refused import RequestRefused

POLICY = f"""{SERVING}[identity]
by = ["api_key", "network"]
trusted_proxies = ["127.0.0.1/32"]
[[identity.keys]]
name = "partner"
sha256 = "dba36bffa5cab0f922d087a3aeb179f9d4e745df40b323e1b1471402848c8a3e"
[limits]
concurrency = 4
queue = 8
body_timeout = 60.0
[default]
restrict = "label"
"""
ENDED = 'connections_ended_total{why="idle"}'
IDLE = 253  # connections that one address may keep idle under this policy


class Here:
    """A guard that runs, the server behind it, and clients that ask at the same time."""

    def __init__(self, app: Unruly, port: int, admin_port: int) -> None:
        self.app, self.port, self.admin_port = app, port, admin_port
        self.statuses: dict[str, list[int]] = {}
        self.threads: list[threading.Thread] = []

    def ask(self, client: str, source: str = "127.0.0.1", **headers: str) -> int:
        """The status of the answer to one query."""
        connection = http.client.HTTPConnection(
            "127.0.0.1", self.port, timeout=60, source_address=(source, 0)
        )
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        body = json.dumps({"records": [[0.5, 0.25]]})
        connection.request("POST", "/score", body, {"x-forwarded-for": client} | named)
        answer = connection.getresponse()
        answer.read()
        connection.close()
        return answer.status

    def begin(self, client: str, n: int, **headers: str) -> None:
        """Begin n queries at once."""
        found = self.statuses.setdefault(client, [])

        def work() -> None:
            found.append(self.ask(client, **headers))

        self.threads += [threading.Thread(target=work, daemon=True) for _ in range(n)]
        for thread in self.threads[-n:]:
            thread.start()

    def until(self, reached: object) -> None:
        """Wait for what will come."""
        end = time.monotonic() + 60
        while not reached():  # type: ignore[operator]
            assert time.monotonic() < end
            time.sleep(0.01)

    def count(self, name: str) -> float:
        return read_metric(self.admin_port, name)

    @contextmanager
    def held(self) -> Iterator[None]:
        """While this lasts, the server answers what was ordered to wait when the test says so."""
        self.app.open.clear()
        try:
            yield
        finally:
            self.app.open.set()
            for thread in self.threads:
                thread.join(60)
            self.statuses.clear()
            self.threads.clear()


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Here]:
    folder, app = tmp_path_factory.mktemp("shares"), Unruly()
    (folder / "guard.toml").write_text(POLICY)
    with serving(app) as upstream, running(folder, upstream) as (process, _):
        said = process.said("serving")
        yield Here(app, said["port"], said["admin_port"])


def test_slow_queries_of_one_client_leave_places_to_others(here):
    with here.held():
        before, refused = here.app.requests, here.count('refused_total{reason="share"}')
        here.app.orders.extend(["wait"] * 2)
        here.begin("10.1.0.1", 20)
        # Half of the places and of the queue, and what is beyond is refused
        here.until(lambda: len(here.statuses["10.1.0.1"]) == 14)
        assert here.statuses["10.1.0.1"] == [429] * 14 and here.app.requests == before + 2
        assert here.ask("10.2.0.1") == 200 == here.ask("10.2.0.2")
        assert here.count('refused_total{reason="share"}') == refused + 14
        here.app.open.set()
        here.until(lambda: len(here.statuses["10.1.0.1"]) == 20)
        assert here.statuses["10.1.0.1"][14:] == [200] * 6


def test_addresses_of_one_network_share_and_proven_clients_there_do_not(here):
    with here.held():
        before = here.app.requests
        here.app.orders.extend(["wait"] * 3)
        here.begin("10.3.0.1", 6)
        here.until(lambda: here.app.requests == before + 2)
        here.begin("10.3.0.2", 6)
        here.until(lambda: here.app.requests == before + 3)
        # The fourth place is no stranger's of that network, but everybody else's
        here.until(lambda: sum(map(len, here.statuses.values())) == 3)
        assert here.ask("10.3.0.1", x_api_key="words") == 200 == here.ask("10.4.0.1")
        assert here.app.requests == before + 5
        here.app.open.set()


def test_idle_connections_of_one_address_close_none_of_another(here):
    with ExitStack() as kept:

        def connect(source: str) -> socket.socket:
            address = ("127.0.0.1", here.port)
            return kept.enter_context(socket.create_connection(address, 60, (source, 0)))

        other = connect("127.7.0.1")
        idle = [connect("127.0.0.2") for _ in range(IDLE + 20)]
        here.until(lambda: here.count(ENDED) == 20)
        # The oldest were ended, and an address that has few is served
        assert [one.recv(1) for one in idle[:20]] == [b""] * 20
        assert here.ask("", source="127.7.0.2") == 200
        for one in (other, idle[-1], idle[20]):
            one.sendall(b"GET /nothing HTTP/1.1\r\nhost: a\r\n\r\n")
            assert one.recv(12) == b"HTTP/1.1 404"
        assert here.count(ENDED) == 20


def room(most: int) -> tuple[ConnectionRoom, list[str]]:
    """Room for so many connections, half of them for one address, and those that were ended."""
    return ConnectionRoom(parse_guard_policy({"serving": {"n_classes": 3}}), Uncounted(), most), []


def test_connections_in_use_are_refused_beyond_a_share_and_idle_ones_give_way():
    here, ended = room(16)
    seats = [here.enter("192.0.2.7", lambda: ended.append("a")) for _ in range(4)]
    for seat in seats:
        seat.occupy()
    more = [here.enter("192.0.2.7", lambda k=k: ended.append(f"b{k}")) for k in range(4)]
    assert all(more) and not ended
    # Eight are an address's share: the oldest idle one gives way, and then there is none
    newest = here.enter("192.0.2.7", lambda: ended.append("c"))
    assert ended == ["b0"]
    for seat in (*more[1:], newest):
        seat.occupy()
    assert here.enter("192.0.2.7", lambda: None) is None and here.n == 8
    # Its network has three quarters, and others have the rest
    near = [here.enter("192.0.2.8", lambda: ended.append("d")) for _ in range(4)]
    assert all(near) and ended == ["b0"]
    far = [here.enter(f"198.51.{k}.1", lambda: ended.append("e")) for k in range(6)]
    # All are in use: whoever has the most idle connections loses one
    assert all(far) and ended == ["b0", "d", "d"] and here.n == 16
    seats[0].leave()
    seats[0].leave()
    assert here.n == 15


def test_who_waits_is_served_in_turn_and_who_leaves_frees_its_turn():
    async def play() -> list[str]:
        places, served = FairPlaces(1, 8), []
        a, b = (Load(name, *places.find_share(1.0)) for name in "ab")
        await places.take((a,), 60)

        async def wait(load: object, name: str) -> None:
            await places.take((load,), 60)
            served.append(name)
            places.give((load,))

        waiting = [
            asyncio.create_task(wait(load, name))
            for load, name in ((a, "a1"), (a, "a2"), (a, "a3"), (b, "b1"), (b, "b2"))
        ]
        await asyncio.sleep(0)
        waiting[1].cancel()
        places.give((a,))
        await asyncio.gather(*waiting, return_exceptions=True)
        assert (a.running, a.waiting, b.running, b.waiting) == (0, 0, 0, 0)
        # Nothing was lost on the way
        await places.take((b,), 60)
        with pytest.raises(RequestRefused, match="overloaded"):
            await places.take((a,), 0.001)
        return served

    assert asyncio.run(play()) == ["a1", "b1", "a3", "b2"]
