"""One record in many spellings, and records that the sketch cannot read, sent to running guards.

The servers behind the guards read as leniently as real ones do: frames by name, arrays by place,
numbers in words, digits beyond single precision, and what they do not know is left out.
"""

from __future__ import annotations

import http.client
import json
import signal
import threading
import time
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from running_guard import ask, running

from memberscope.guard import parse_guard_policy
from memberscope.guard.hashing import Secret, write_secrets
from memberscope.guard.sketching import Sketcher, write_sketcher
from memberscope.wire import Batch

NAMES = ("age", "pay", "debt", "rate", "own", "job")
BASE = [39, 0.1, None, 0.0, 1, "cook"]
WATCHED = """
[identity]
trusted_proxies = ["127.0.0.0/8"]
[default]
per_record = "1/365d"
[monitor]
key = "guard.key"
sketch = "sketch.safetensors"
log = "access.jsonl"
unreadable = "refuse"
[alerts]
log = "alerts.jsonl"
"""
FRAMES = (
    """
[serving]
protocol = "mlflow"
n_classes = 2
columns = ["age", "pay", "debt", "rate", "own", "job"]
coercion = "numbers"
[serving.dtype]
age = "int64"
"""
    + WATCHED
)
# No columns are named here
TENSORS = (
    """
[serving]
protocol = "v2"
model_name = "m"
answer = "p"
n_classes = 2
"""
    + WATCHED
)


class Lenient(BaseHTTPRequestHandler):
    """A model's server that takes the first values of each record, or those that it knows by name."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        document = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if self.path == "/invocations":
            answer: Any = {"predictions": [score(row) for row in read_frames(document)]}
        else:
            scores = [score(row) for row in read_tensors(document)]
            data = [value for row in scores for value in row]
            tensor = {"name": "p", "shape": [len(scores), 2], "datatype": "FP64", "data": data}
            answer = {"model_name": "m", "outputs": [tensor]}
        body = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *words: Any) -> None:
        """Say nothing."""


def read_frames(document: dict[str, Any]) -> list[list[Any]]:
    """The rows of any of MLflow's forms, cast to the model's types."""
    ((form, found),) = [entry for entry in document.items() if entry[0] != "params"]
    if form == "dataframe_split":
        found = [dict(zip(found["columns"], row, strict=False)) for row in found["data"]]
    elif isinstance(found, dict):
        found = [dict(zip(found, row, strict=True)) for row in zip(*found.values(), strict=True)]
    rows = [
        [row[name] for name in NAMES] if isinstance(row, dict) else np.ravel(row).tolist()[:6]
        for row in found
    ]
    return [
        [int(float(row[0])), *(np.float32(np.nan if v is None else v) for v in row[1:5]), row[5]]
        for row in rows
    ]


def read_tensors(document: dict[str, Any]) -> list[list[Any]]:
    """The first three values of each record, in single precision."""
    kinds = {"FP16": "f2", "FP32": "f4", "INT64": "i8", "INT8": "i1", "BOOL": "?"}
    parts = []
    for entry in sorted(document["inputs"], key=lambda entry: entry["name"]):
        cast = np.array(entry["data"]).astype(kinds.get(entry["datatype"], "f8"))
        parts.append(cast.reshape(entry["shape"][0], -1))
    return np.hstack(parts)[:, :3].astype(np.float32).tolist()


def score(row: list[Any]) -> list[float]:
    """Two scores that tell every input from every other."""
    # The two zeros are one to a model
    plain = [value if isinstance(value, str) else value + 0.0 for value in row]
    seed = [int.from_bytes(str(value).encode(), "little") % 2**32 for value in plain]
    part = float(np.random.default_rng(seed).random())
    return [part, 1 - part]


@dataclass
class Running:
    """A running guard, its upstream's port, and the path of queries."""

    process: Any
    file: Path
    port: int
    admin: int
    upstream: int
    path: str
    clients: Iterator[int] = field(default_factory=lambda: count(1))
    logged: int = 0

    def send(self, body: bytes, client: str, port: int | None = None) -> tuple[int, bytes]:
        """Status and body of the answer to a query of the client at this address."""
        connection = http.client.HTTPConnection("127.0.0.1", port or self.port, timeout=30)
        try:
            head = {"content-type": "application/json", "x-forwarded-for": client}
            connection.request("POST", self.path, body, head)
            answer = connection.getresponse()
            # Queries with records that could be read are logged, also those beyond a budget
            self.logged += port is None and answer.status in (200, 429)
            return answer.status, answer.read()
        finally:
            connection.close()

    def new_client(self) -> str:
        """An address that nobody has used."""
        return f"10.0.0.{next(self.clients)}"

    def lines(self) -> list[dict[str, Any]]:
        """The lines of the access log, once all queries were looked at."""
        log = self.file.parent / "access.jsonl"
        end = time.monotonic() + 30
        while time.monotonic() < end:
            found = log.read_text().splitlines() if log.exists() else []
            if len(found) == self.logged:
                return [json.loads(line) for line in found]
            time.sleep(0.02)
        raise AssertionError(f"expected {self.logged} lines of the access log")


@pytest.fixture(scope="module")
def upstream() -> Iterator[int]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Lenient)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    server.server_close()
    thread.join()


def start(folder: Path, upstream: int, policy: str, sketcher: Sketcher) -> Any:
    """A guard with this policy and sketch."""
    write_secrets(folder / "guard.key", [sketcher.secret])
    write_sketcher(folder / "sketch.safetensors", sketcher)
    (folder / "guard.toml").write_text(policy)
    return running(folder, f"http://127.0.0.1:{upstream}")


@pytest.fixture(scope="module")
def frames(tmp_path_factory, upstream) -> Iterator[Running]:
    folder, rng = tmp_path_factory.mktemp("frames"), np.random.default_rng(0)
    columns = {name: rng.normal(size=60).round(3) for name in NAMES[:5]}
    columns["age"] = rng.integers(18, 90, 60).astype(float)
    columns["debt"][:9] = np.nan
    columns["job"] = rng.choice(["cook", "smith", "clerk"], 60).astype(object)
    form = parse_guard_policy(tomllib.loads(FRAMES)).serving.form
    sketcher = Sketcher.fit("tabular", Batch(columns=columns), Secret.new(), form=form)
    with start(folder, upstream, FRAMES, sketcher) as (process, file):
        ports = process.said("serving")
        yield Running(process, file, ports["port"], ports["admin_port"], upstream, "/invocations")


@pytest.fixture(scope="module")
def tensors(tmp_path_factory, upstream) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("tensors")
    ordinary = np.random.default_rng(0).normal(size=(60, 3))
    sketcher = Sketcher.fit("tabular", Batch(ordinary), Secret.new())
    with start(folder, upstream, TENSORS, sketcher) as (process, file):
        ports = process.said("serving")
        path = "/v2/models/m/infer"
        yield Running(process, file, ports["port"], ports["admin_port"], upstream, path)


def split(row: list[Any], names: tuple[str, ...] = NAMES, **more: Any) -> bytes:
    """A record as `dataframe_split`."""
    return json.dumps({"dataframe_split": {"columns": names, "data": [row]} | more}).encode()


def put(place: int, value: Any) -> list[Any]:
    """The record with another value at one place."""
    return [*BASE[:place], value, *BASE[place + 1 :]]


def written(place: int, text: str) -> bytes:
    """The record with a value written as this text."""
    return split(put(place, "HERE")).replace(b'"HERE"', text.encode())


NAMED = dict(zip(NAMES, BASE, strict=True))
REVERSED = dict(reversed(NAMED.items()))
SAME = {
    "frame in another order": split(BASE[::-1], NAMES[::-1]),
    "frame with an index": json.dumps(
        {"dataframe_split": {"columns": NAMES, "index": [7], "data": [BASE]}}
    ).encode(),
    "records": json.dumps({"dataframe_records": [NAMED]}).encode(),
    "records in another order": json.dumps({"dataframe_records": [REVERSED]}).encode(),
    "instances of objects": json.dumps({"instances": [REVERSED]}).encode(),
    "instances of lists": json.dumps({"instances": [BASE]}).encode(),
    "inputs of lists": json.dumps({"inputs": [BASE]}).encode(),
    "inputs by column": json.dumps({"inputs": {k: [v] for k, v in REVERSED.items()}}).encode(),
    "a key given twice": json.dumps({"instances": [NAMED]})
    .replace('{"age"', '{"age": 4, "age"')
    .encode(),
    "39.0": written(0, "39.0"),
    "3.9e1": written(0, "3.9e1"),
    "39.7, cut off": written(0, "39.7"),
    "39 as a word": written(0, '"39"'),
    "39 as a word with blanks": written(0, '" 39 "'),
    "39 as a word with an exponent": written(0, '"3.9E+1"'),
    "39 as a word with a line": written(0, '"3_9"'),
    "39 in other digits": written(0, '"\\uff13\\uff19"'),
    "zeros at the end": written(1, "0.1000"),
    "digits beyond double precision": written(1, "0.1000000000000000000001"),
    "digits beyond single precision": written(1, "0.1000000001"),
    "single precision written out": written(1, "0.10000000149011612"),
    "0.1 as a word": written(1, '"1e-1"'),
    "NaN": written(2, "NaN"),
    "nan as a word": written(2, '"nan"'),
    "-0.0": written(3, "-0.0"),
    "0": written(3, "0"),
    "0 as a word": written(3, '"-0"'),
    "below single precision": written(3, "-1e-60"),
    "true": written(4, "true"),
    "1 as a word": written(4, '"+1"'),
    "escaped letters": written(5, '"\\u0063ook"'),
}
REFUSED = {
    "another column": (split([*BASE, 3], (*NAMES, "junk")), 400),
    "another key": (json.dumps({"instances": [NAMED | {"junk": 3}]}).encode(), 400),
    "a value too many": (json.dumps({"inputs": [[*BASE, 3]]}).encode(), 400),
    "a value too few": (json.dumps({"inputs": [BASE[:5]]}).encode(), 400),
    "a column given twice": (split([*BASE, 39], (*NAMES, "age")), 400),
    "lists within lists": (json.dumps({"inputs": [[[v] for v in BASE]]}).encode(), 400),
    "parameters beside": (json.dumps({"inputs": [BASE], "params": {"a": 1}}).encode(), 400),
    "a word for a number": (written(1, '"much"'), 422),
    "nothing for a number": (written(1, '""'), 422),
    "nothing for a whole number": (written(0, "null"), 422),
    "a whole number out of range": (written(0, "1e30"), 422),
}


@pytest.mark.parametrize("spelling", SAME)
def test_every_spelling_of_a_record_is_that_record(frames, spelling):
    body, client = SAME[spelling], frames.new_client()
    plain, other = (frames.send(text, client, frames.upstream) for text in (split(BASE), body))
    assert plain == other, "to the server they are the same"
    assert frames.send(split(BASE), client)[0] == 200
    assert frames.send(body, client)[0] == 429
    found = frames.lines()[-2:]
    assert [line["status"] for line in found] == [200, 429]
    assert found[0]["record"] == found[1]["record"]
    assert (found[0]["point"], found[0]["bins"]) == (found[1]["point"], found[1]["bins"])


def test_spellings_together_are_one_record_and_others_are_others(frames):
    rows = json.dumps({"inputs": [put(0, 39.0), put(1, 0.1000000001)]}).encode()
    client = frames.new_client()
    assert frames.send(rows, client)[0] == 429, "two of one record"
    others = [put(0, 40), put(1, 0.1001), put(2, 0.0), put(3, 1e-30), put(4, 0), put(5, "Cook")]
    for row in others:
        assert frames.send(split(row), client)[0] == 200, row


@pytest.mark.parametrize("spelling", REFUSED)
def test_what_the_server_would_leave_out_is_refused(frames, spelling):
    body, status = REFUSED[spelling]
    found, answer = frames.send(body, frames.new_client())
    assert found == json.loads(answer)["status"] == status
    assert json.loads(answer)["type"].startswith("urn:memberscope:guard:")


def tensor(data: Any, shape: list[int] | None = None, kind: str = "FP64", **more: Any) -> Any:
    """One input."""
    return {"name": "x", "shape": shape or [1, 3], "datatype": kind, "data": data} | more


def infer(*inputs: Any) -> bytes:
    """A request about these inputs."""
    return json.dumps({"inputs": inputs}).encode()


PLAIN = infer(tensor([2, 0.5, 0.0]))
SAME_TENSORS = {
    "nested": infer(tensor([[2, 0.5, 0.0]])),
    "another shape": infer(tensor([2, 0.5, 0.0], [1, 3, 1])),
    "another name": infer(tensor([2, 0.5, 0.0], name="y")),
    "single precision": infer(tensor([2, 0.5, 0.0], kind="FP32")),
    "half precision": infer(tensor([2.0, 0.5, -0.0], kind="FP16")),
    "digits beyond half precision": infer(tensor([2.0001, 0.50001, 1e-9], kind="FP16")),
    "digits beyond single precision": infer(tensor([2.00000001, 0.5, -1e-60])),
    "several inputs": infer(tensor([2, 0.5], [1, 2], name="a"), tensor([0.0], [1, 1], name="b")),
    "several inputs in another order": infer(
        tensor([False], [1, 1], "BOOL", name="b"), tensor([2, 0.5], [1, 2], name="a")
    ),
}
UNREAD = {
    "a value too many": (infer(tensor([2, 0.5, 0.0, 7], [1, 4])), 422),
    "a value too few": (infer(tensor([2, 0.5], [1, 2])), 422),
    "an input too many": (
        infer(tensor([2, 0.5, 0.0], name="a"), tensor([7], [1, 1], name="b")),
        422,
    ),
    "words": (infer(tensor(["2", "0.5", "0"], kind="BYTES")), 422),
    "base64": (
        infer(
            tensor(["Mg==", "LjU=", "MA=="], kind="BYTES", parameters={"content_type": "base64"})
        ),
        415,
    ),
    "a whole number that is none": (infer(tensor([2, 0.5, 0], kind="INT64")), 400),
    "a whole number that wraps around": (infer(tensor([258, 1, 0], kind="INT8")), 400),
    "an unknown datatype": (infer(tensor([2, 0.5, 0], kind="FP65")), 400),
}


@pytest.mark.parametrize("spelling", SAME_TENSORS)
def test_every_tensor_of_a_record_is_that_record(tensors, spelling):
    body, client = SAME_TENSORS[spelling], tensors.new_client()
    plain, other = (tensors.send(text, client, tensors.upstream) for text in (PLAIN, body))
    assert plain == other, "to the server they are the same"
    assert tensors.send(PLAIN, client)[0] == 200
    assert tensors.send(body, client)[0] == 429


@pytest.mark.parametrize("spelling", UNREAD)
def test_tensors_that_the_sketch_cannot_read_are_refused(tensors, spelling):
    body, status = UNREAD[spelling]
    assert tensors.send(body, tensors.new_client())[0] == status


def test_what_passes_without_a_sketch_is_logged_counted_and_alerted(tensors):
    def count_unreadable() -> float:
        text = ask(tensors.admin, "GET", "/metrics")[1].decode()
        (line,) = [
            line
            for line in text.splitlines()
            if line.startswith("memberscope_guard_unreadable_total")
        ]
        return float(line.split()[-1])

    assert count_unreadable() == 0
    policy = tensors.file.read_text()
    tensors.file.write_text(policy.replace('unreadable = "refuse"', 'unreadable = "log"'))
    tensors.process.process.send_signal(signal.SIGHUP)
    tensors.process.said("reloaded")
    client, body = tensors.new_client(), UNREAD["a value too many"][0]
    for _ in range(3):
        assert tensors.send(body, client)[0] in (200, 429)
    end = time.monotonic() + 30
    while count_unreadable() < 3 and time.monotonic() < end:
        time.sleep(0.02)
    lines = [line for line in tensors.lines() if "unreadable" in line]
    assert [line["unreadable"] for line in lines] == [1, 1, 1] and count_unreadable() == 3
    alerts = tensors.file.parent / "alerts.jsonl"
    while not alerts.exists() and time.monotonic() < end:
        time.sleep(0.02)
    (alert,) = [json.loads(line) for line in alerts.read_text().splitlines()]
    assert (alert["detector"], alert["clients"]) == ("unreadable", [lines[0]["client"]])
