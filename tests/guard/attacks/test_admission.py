"""Work before permission: what a request costs before its client may have it done."""

from __future__ import annotations

import gzip
import http.client
import json
import socket
import time
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from guarded import JSON, guarded, policy
from running_guard import SERVING, read_metric, running
from unruly import Unruly, serving

from memberscope.errors import InputError
from memberscope.guard.calibration.thresholds_file import read_tuned
from memberscope.guard.counters import Uncounted
from memberscope.guard.hashing.secret_key import read_secrets
from memberscope.guard.policy.config import read_policy
from memberscope.guard.state.in_memory import MemoryState
from memberscope.guard.state.interface import ActiveResponse

POLICY = f"""{SERVING}passed = ["POST /upload"]
[identity]
trusted_proxies = ["127.0.0.1/32"]
[limits]
max_body_bytes = 1000000
max_values = 100000
max_columns = 50
max_records = 100
max_unfold = 20.0
refused = "4/d"
body_timeout = 0.6
passed_timeout = 0.9
answer_timeout = 1.0
[default]
restrict = "label"
[[clients]]
name = "few"
who = ["network:10.9.0.0/16"]
restrict = "label"
per_client = "3/d"
"""
ROW = {"records": [[0.5, 0.25]]}
BOMB = gzip.compress(b'{"records": [[' + b"0," * 2_000_000 + b"0]]}")


class Here:
    """A guard that runs, the server behind it, and how clients ask."""

    def __init__(self, app: Unruly, port: int, admin_port: int) -> None:
        self.app, self.port, self.admin_port, self._n = app, port, admin_port, 0

    def newcomer(self, network: str = "10.1") -> str:
        """An address that nobody asked from yet, in a network of its own."""
        self._n += 1
        return f"{network}.{self._n}.1"

    def ask(
        self, client: str, body: object = ROW, path: str = "/score", **headers: str
    ) -> http.client.HTTPResponse:
        """The answer to one request, on a connection of its own."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(
            "POST",
            path,
            data,
            {"content-type": "application/json", "x-forwarded-for": client} | named,
        )
        answer = connection.getresponse()
        answer.body = answer.read()  # type: ignore[attr-defined]
        connection.close()
        return answer

    def problem(self, client: str, body: object = ROW, **headers: str) -> str:
        """The name of the refusal, or "" where there is none."""
        answer = self.ask(client, body, **headers)
        if answer.status == 200:
            return ""
        return json.loads(answer.body)["type"].rpartition(":")[2]  # type: ignore[attr-defined]

    def count(self, name: str) -> float:
        return read_metric(self.admin_port, name)


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Here]:
    folder, app = tmp_path_factory.mktemp("admission"), Unruly()
    (folder / "guard.toml").write_text(POLICY)
    with serving(app) as upstream, running(folder, upstream) as (process, _):
        said = process.said("serving")
        yield Here(app, said["port"], said["admin_port"])


def test_whose_budget_is_spent_is_refused_without_unfolding_a_body(here):
    client = here.newcomer("10.9")
    assert [here.problem(client) for _ in range(4)] == ["", "", "", "budget-exhausted"]
    before, asked = here.count("bodies_parsed_total"), here.app.requests
    for body, headers in ((BOMB, {"content_encoding": "gzip"}), (b"[" * 2000, {}), (ROW, {})):
        answer = here.ask(client, body, **headers)
        assert answer.status == 429 and int(answer.headers["retry-after"]) > 1
    assert here.count("bodies_parsed_total") == before and here.app.requests == asked
    assert here.problem(here.newcomer("10.9")) == ""


def test_refusals_use_up_an_allowance_and_then_nothing_is_read(here):
    client = here.newcomer()
    # Requests that are answered cost nothing
    assert {here.problem(client) for _ in range(6)} == {""}
    assert {here.problem(client, b"[1") for _ in range(4)} == {"malformed-request"}
    before, asked = here.count("bodies_parsed_total"), here.app.requests
    refused = here.count('refused_total{reason="refusals"}')
    assert here.problem(client, BOMB, content_encoding="gzip") == "too-many-refusals"
    assert here.problem(client) == "too-many-refusals"
    assert here.count("bodies_parsed_total") == before and here.app.requests == asked
    assert here.count('refused_total{reason="refusals"}') == refused + 2
    assert here.problem(here.newcomer()) == ""


def test_addresses_of_one_network_share_an_allowance_of_refusals(here):
    network = here.newcomer().rpartition(".")[0]
    found = [here.problem(f"{network}.{k % 40}", b"[1") for k in range(40)]
    assert found[:16] == ["malformed-request"] * 16 and set(found[16:]) == {"too-many-refusals"}
    assert here.problem(here.newcomer()) == ""


WIDE = b",".join(b'"c%d": 1' % k for k in range(60))


@pytest.mark.parametrize(
    ("body", "coding", "name"),
    [
        (BOMB, "gzip", "content-too-large"),
        (zlib.compress(b" " * 900_000), "deflate", "content-too-large"),
        (gzip.compress(json.dumps(ROW).encode()), "gzip", ""),
        (b'{"records": [[' + b"0," * 120_000 + b"0]]}", "", "content-too-large"),
        (b'{"records": [' + b"[1]," * 40_000 + b"[1]]}", "", "content-too-large"),
        (b'{"records": [' + b"[1, 2]," * 100 + b"[1, 2]]}", "", "content-too-large"),
        (b'{"records": [{' + WIDE + b"}]}", "", "content-too-large"),
        (b'{"records": {' + WIDE.replace(b"1", b"[1]") + b"}}", "", "content-too-large"),
        (b'{"records": [NaN' + b", 0" * 20_000 + b"]}", "", "content-too-large"),
        (b'{"records": ' + b"[" * 900 + b"1" + b"]" * 900 + b"}", "", "malformed-request"),
        (b'{"records": [[' + b"9" * 900_000 + b"]]}", "", "malformed-request"),
        (b'{"' + b"k" * 900_000 + b'": [[1]]}', "", "malformed-request"),
        (b'{"records": ["a", [{}], 3]}', "", "malformed-request"),
    ],
    ids=range(13),
)
def test_bodies_are_capped_before_anything_is_made_of_them(here, body, coding, name):
    asked = here.app.requests
    headers = {"content_encoding": coding} if coding else {}
    client = here.newcomer()
    assert here.problem(client, body, **headers) == name
    assert here.app.requests == asked + (not name)
    assert here.problem(client) == ""


def test_what_the_guard_is_at_fault_for_is_given_back(here):
    client, before = here.newcomer("10.9"), here.count("refunds_total")
    for order in ("hang", "503", "hang", "503", "502"):
        here.app.orders.append(order)
        assert here.problem(client) in ("gateway-timeout", "unavailable", "bad-gateway")
    assert here.count("refunds_total") == before + 5
    # An answer that cannot be protected has been computed, and costs
    here.app.orders.append("html")
    assert here.problem(client) == "bad-gateway"
    assert [here.problem(client) for _ in range(3)] == ["", "", "budget-exhausted"]


def test_what_comes_back_to_a_spent_budget_can_be_asked_for_at_once(here):
    client, before = here.newcomer("10.9"), here.app.requests
    here.app.orders.extend(["hang"] * 3)
    with ThreadPoolExecutor(3) as pool:
        late = [pool.submit(here.problem, client) for _ in range(3)]
        while here.app.requests < before + 3 and not late[0].done():
            time.sleep(0.01)
        # Nothing is left, which is remembered
        assert here.problem(client) == "budget-exhausted"
        assert {one.result() for one in late} == {"gateway-timeout"}
    assert here.problem(client) == ""


def test_a_body_that_does_not_come_costs_and_a_passed_one_ends_in_time(here):
    client = here.newcomer()
    head = (
        f"POST /score HTTP/1.1\r\nhost: a\r\nx-forwarded-for: {client}\r\ncontent-length: 9\r\n\r\n"
    )
    for _ in range(4):
        with socket.create_connection(("127.0.0.1", here.port), timeout=30) as slow:
            slow.sendall(head.encode() + b"{")
            assert slow.recv(4096).startswith(b"HTTP/1.1 408 ")
    assert here.problem(client) == "too-many-refusals"
    with socket.create_connection(("127.0.0.1", here.port), timeout=30) as steady:
        steady.sendall(b"POST /upload HTTP/1.1\r\nhost: a\r\ncontent-length: 900000\r\n\r\n{")
        steady.settimeout(0.1)
        found = b""
        # A part comes in time each time, and the whole never
        for _ in range(300):
            try:
                steady.sendall(b"1")
                found = steady.recv(4096)
                break
            except TimeoutError:
                continue
        assert found.startswith(b"HTTP/1.1 408 ")


def test_a_connection_header_takes_nothing_away_that_the_guard_wrote(here):
    listed = "content-type, content-length, accept, x-forwarded-for, x-mine"
    assert here.problem(here.newcomer(), connection=listed, x_mine="1") == ""
    got = here.app.seen[-1]
    assert got["content-type"] == "application/json" == got["accept"]
    assert got["accept-encoding"] == "identity" and "x-mine" not in got
    assert int(got["content-length"]) > 0 and "10.1." in got["x-forwarded-for"]


class Parsed(Uncounted):
    """How many bodies were parsed."""

    n = 0

    def parsed(self) -> None:
        self.n += 1


@pytest.mark.parametrize(("response", "status"), [("block", 403), ("step_up", 401)])
@pytest.mark.parametrize("mode", ["enforce", "observe"])
def test_a_response_in_force_comes_before_the_body(response, status, mode):
    class Standings(MemoryState):
        async def standing(self, client: str) -> ActiveResponse | None:
            return ActiveResponse(response, "probing")

    counters = Parsed()
    given = policy(serving=JSON, respond={"probing": "block"}, guard={"mode": mode})
    with (
        serving(app := Unruly()) as upstream,
        guarded(upstream, given, state=Standings(), counters=counters) as guard,
    ):
        found = [guard.score().status for _ in range(2)]
    assert found == ([status] * 2 if mode == "enforce" else [200] * 2)
    assert counters.n == 0 and app.requests == (0 if mode == "enforce" else 2)


@pytest.mark.parametrize("read", [read_policy, read_secrets, lambda path: read_tuned(path, "k")])
def test_files_that_nest_too_deep_are_refused_with_a_sentence(read, tmp_path):
    (tmp_path / "deep").write_text(("a = " if read is read_policy else "") + "[" * 100_000)
    with pytest.raises(InputError, match="Expected"):
        read(tmp_path / "deep")
