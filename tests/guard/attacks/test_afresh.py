"""Attempts on features together: two models with one key file, rotation, restart and refunds."""

from __future__ import annotations

import gzip
import hashlib
import http.client
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from running_guard import Process
from unruly import Unruly, serving
from watching import call

from memberscope.guard.hashing import Secret, read_secrets, write_secrets

KEY, TOKEN = "partner-key-" + "7" * 20, "t0ken-" * 6
FIRST = """
[serving]
protocol = "json"
prefix = "/a"
path = "/score"
body = '{"records": "$records"}'
answer = "predictions"
n_classes = 3
columns = ["x", "y"]
passed = ["GET /docs"]
[identity]
by = ["api_key", "network"]
trusted_proxies = ["127.0.0.1/32"]
failures = "1000/m"
[[identity.keys]]
name = "partner"
sha256 = "HASH"
[default]
restrict = "top:1+round:1"
per_client = "1000/d"
per_record = "1/365d"
[limits]
answer_timeout = 1.0
refused = "1000/m"
[monitor]
key = "guard.key"
[state]
folder = "first"
record_megabytes = 1
[admin]
token_file = "admin.token"
"""
SECOND = """
[serving]
protocol = "json"
prefix = "/a/b"
path = "/score"
body = '{"records": "$records"}'
answer = "predictions"
n_classes = 3
columns = ["x", "y"]
[identity]
trusted_proxies = ["127.0.0.1/32"]
[default]
restrict = "label"
per_record = "1/h"
[monitor]
key = "guard.key"
[state]
folder = "second"
record_megabytes = 1
"""


class Running:
    """A guard of two models, each on two upstreams, that can be killed and started again."""

    def __init__(self, folder: Path, app: Unruly, upstreams: tuple[str, ...]) -> None:
        self.folder, self.app, self.upstreams = folder, app, upstreams
        self.files = folder / "first.toml", folder / "second.toml"
        hashed = hashlib.sha256(KEY.encode()).hexdigest()
        self.files[0].write_text(FIRST.replace("HASH", hashed))
        self.files[1].write_text(SECOND)
        token = folder / "admin.token"
        token.touch(0o600)
        token.write_text(TOKEN)
        self.rotate()
        self.start()

    def rotate(self) -> None:
        assert call("guard", "keys", "rotate", "--policy", self.files[0])[0] == 0

    def start(self) -> None:
        options = [word for url in self.upstreams for word in ("--upstream", url)]
        files = ["--policy", str(self.files[0]), "--model", str(self.files[1])]
        self.process = Process(*options, *files)
        self.ports = self.process.said("serving")

    def kill(self) -> None:
        self.process.process.kill()
        self.process.process.wait()
        self.process.process.stderr.close()

    def send(
        self,
        body: bytes,
        headers: list[tuple[str, str]] | tuple[()] = (),
        path: str = "/a/score",
        method: str = "POST",
        port: str = "port",
    ) -> tuple[int, bytes, dict[str, str]]:
        """Status, body and headers of the answer to one request, sent as it is."""
        connection = http.client.HTTPConnection("127.0.0.1", self.ports[port], timeout=30)
        try:
            connection.putrequest(method, path, skip_accept_encoding=True)
            for name, value in [("content-length", str(len(body))), *headers]:
                connection.putheader(name, value)
            connection.endheaders(body)
            answer = connection.getresponse()
            return answer.status, answer.read(), {k.lower(): v for k, v in answer.getheaders()}
        finally:
            connection.close()

    def score(self, record: list[float], address: str, path: str = "/a/score") -> int:
        body = json.dumps({"records": [record]}).encode()
        return self.send(body, [("x-forwarded-for", address)], path)[0]


@pytest.fixture(scope="module")
def guard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder, app = tmp_path_factory.mktemp("guard"), Unruly()
    with serving(app) as one, serving(app) as other:
        running = Running(folder, app, (one, other))
        yield running
        running.kill()


def test_after_refunds_rotations_and_restarts_a_record_is_answered_once(guard):
    """Late answers are given back under all keys, and no more than they took."""
    for order in ("503:", "hang", "502:"):
        guard.app.orders.append(order)
        assert guard.score([5.0, 1.0], "192.0.2.1") in (502, 503, 504)
    guard.rotate()
    guard.kill()
    guard.start()
    guard.app.orders.append("503:")
    assert [guard.score([5.0, 1.0], "192.0.2.1") for _ in range(3)] == [503, 200, 429]
    guard.rotate()
    guard.kill()
    guard.start()
    assert [guard.score([5.0, 1.0], "192.0.2.1") for _ in range(2)] == [429, 429]
    # One refund is no token for another record, client or model
    guard.app.orders.extend(["503:"] * 5)
    assert [guard.score([5.0, 2.0], "192.0.2.1") for _ in range(7)] == [503] * 5 + [200, 429]
    assert guard.score([5.0, 1.0], "192.0.2.1") == 429
    assert [guard.score([5.0, 1.0], "192.0.2.1", "/a/b/score") for _ in range(2)] == [200, 429]
    token = ("authorization", f"Bearer {TOKEN}")
    assert guard.send(b"", [token], "/reload", port="admin_port")[0] == 200
    assert guard.score([5.0, 1.0], "192.0.2.1") == 429


def age_keys(file: Path, seconds: float) -> None:
    """Have all rotations be so much longer ago."""
    kept = [
        Secret(one.id, one.key, one.rotated and one.rotated - seconds) for one in read_secrets(file)
    ]
    write_secrets(file, kept)


def test_a_late_start_after_a_rotation_gives_nobody_a_fresh_budget(guard):
    """Until it is started again a guard takes by the old key, also after a refill time."""
    guard.rotate()
    age_keys(guard.folder / "guard.key", 2 * 3600.0)
    assert guard.score([5.0, 3.0], "192.0.2.1", "/a/b/score") == 200
    guard.kill()
    guard.start()
    assert guard.score([5.0, 3.0], "192.0.2.1", "/a/b/score") == 429


def test_a_policy_with_longer_budgets_again_gives_nobody_a_fresh_budget(guard):
    """By a reload, after a start under a policy whose budgets needed no older key."""
    token = ("authorization", f"Bearer {TOKEN}")
    longer = SECOND.replace("1/h", "1/365d")
    guard.files[1].write_text(longer)
    assert guard.send(b"", [token], "/reload", port="admin_port")[0] == 200
    assert guard.score([5.0, 4.0], "192.0.2.1", "/a/b/score") == 200
    guard.rotate()
    age_keys(guard.folder / "guard.key", 30 * 86400.0)
    guard.files[1].write_text(SECOND)
    guard.kill()
    guard.start()
    guard.files[1].write_text(longer)
    assert guard.send(b"", [token], "/reload", port="admin_port")[0] == 200
    assert guard.score([5.0, 4.0], "192.0.2.1", "/a/b/score") == 429
    guard.files[1].write_text(SECOND)
    assert guard.send(b"", [token], "/reload", port="admin_port")[0] == 200


def test_a_rotation_for_one_model_leaves_the_keys_of_another(guard, tmp_path):
    """Two models have one key file, and budgets of an hour and of a year."""
    before = (guard.folder / "guard.key").read_bytes()
    age_keys(guard.folder / "guard.key", 30 * 86400.0)
    kept = {secret.id for secret in read_secrets(guard.folder / "guard.key")}
    code, said = call(
        "guard", "keys", "rotate", "--policy", guard.files[1], "--model", guard.files[0]
    )
    assert code == 0 and "for 372 days" in said
    assert kept <= {secret.id for secret in read_secrets(guard.folder / "guard.key")}
    elsewhere = tmp_path / "elsewhere.toml"
    elsewhere.write_text(SECOND)
    code, said = call("guard", "keys", "rotate", "--policy", guard.files[0], "--model", elsewhere)
    assert code == 2 and "got another file or none" in said
    (guard.folder / "guard.key").write_bytes(before)


@pytest.mark.parametrize("content", [None, "", "{}", "folder"])
def test_a_check_finds_a_key_file_that_no_guard_can_read(tmp_path, content):
    file, key = tmp_path / "guard.toml", tmp_path / "guard.key"
    file.write_text(SECOND)
    if content == "folder":
        key.mkdir(0o700)
    elif content is not None:
        key.touch(0o600)
        key.write_text(content)
    code, said = call("guard", "check", file, "--upstream", "http://127.0.0.1:1")
    assert code == 1 and "Expected a key file" in said


@pytest.mark.parametrize("name", ["a" * 300, "guard.toml/key", "folder", r"a\u0000b"])
def test_a_rotation_that_cannot_be_written_says_so(tmp_path, name):
    policy = tmp_path / "guard.toml"
    policy.write_text(SECOND.replace("guard.key", name))
    (tmp_path / "folder").mkdir(0o700)
    code, said = call("guard", "keys", "rotate", "--policy", policy)
    assert code == 2 and said.startswith("Expected")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["folder", "guard.toml"]


def test_a_policy_is_not_written_over_its_own_key(tmp_path):
    code, said = call("guard", "init", "--from", tmp_path, "--out", tmp_path / "guard.key")
    assert code == 2 and "which is the name of its key file" in said


@pytest.mark.parametrize("place", ["guard.toml", "guard.toml/budgets"])
def test_a_check_finds_a_folder_that_is_none(tmp_path, place):
    file = tmp_path / "guard.toml"
    file.write_text(SECOND.replace('"second"', f'"{place}"').replace("[monitor]\nkey", "# key"))
    code, said = call("guard", "check", file, "--upstream", "http://127.0.0.1:1")
    assert code == 1 and "Budgets cannot be kept" in said


def test_a_rotation_leaves_a_key_file_to_who_could_read_it(tmp_path):
    """A guard that runs as a member of its group would not start again; a link stays a link."""
    file, link = tmp_path / "guard.key", tmp_path / "link.key"
    write_secrets(file, [Secret.new()])
    file.chmod(0o640)
    if os.geteuid() == 0:
        os.chown(file, 10001, 10002)
    link.symlink_to(file)
    before = file.stat()
    policy = tmp_path / "guard.toml"
    policy.write_text(SECOND.replace("guard.key", "link.key"))
    assert call("guard", "keys", "rotate", "--policy", policy)[0] == 0
    after = file.stat()
    assert len(read_secrets(file)) == 2 and link.is_symlink()
    assert (after.st_mode, after.st_uid, after.st_gid) == (
        before.st_mode,
        before.st_uid,
        before.st_gid,
    )


@pytest.mark.parametrize("order", ["500:", "400:", "truncated", "html", "nan", "fewer", "other"])
def test_a_record_whose_answer_was_not_readable_has_been_asked_about(guard, order):
    guard.app.orders.append(order)
    record = [float(len(order)) / 8, 4.0 + ord(order[0]) / 256]
    assert guard.score(record, "192.0.2.6") in (400, 500, 502)
    assert guard.score(record, "192.0.2.6") == 429


def test_who_leaves_before_the_answer_has_asked(guard):
    body = b'{"records": [[6.0, 1.0]]}'
    head = "POST /a/score HTTP/1.1\r\nhost: a\r\nx-forwarded-for: 192.0.2.2\r\n"
    guard.app.orders.append("wait")
    guard.app.open.clear()
    with socket.create_connection(("127.0.0.1", guard.ports["port"])) as connection:
        connection.sendall(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
        while not guard.app.active:
            pass
    guard.app.open.set()
    assert [guard.score([6.0, 1.0], "192.0.2.2") for _ in range(2)] == [429, 429]


SPELLINGS: dict[str, tuple[bytes, list[tuple[str, str]], str]] = {
    "whole numbers": (b'{"records": [[1, 2]]}', [], "/a/score"),
    "exponents": (b'{"records": [[10e-1, 0.2e1]]}', [], "/a/score"),
    "truth": (b'{"records": [[true, 2]]}', [], "/a/score"),
    "words": (b'{"records": [["1", "2"]]}', [], "/a/score"),
    "a digit that single precision drops": (b'{"records": [[1.00000000001, 2]]}', [], "/a/score"),
    "deeper": (b'{"records": [[[1, 2]]]}', [], "/a/score"),
    "a key twice": (b'{"records": [[9, 9]], "records": [[1, 2]]}', [], "/a/score"),
    "an escaped key": (b'{"record\\u0073": [[1, 2]]}', [], "/a/score"),
    "compressed": (
        gzip.compress(b'{"records": [[1, 2]]}'),
        [("content-encoding", "gzip")],
        "/a/score",
    ),
    "a mark before it": (b'\xef\xbb\xbf{"records": [[1, 2]]}', [], "/a/score"),
    "UTF-16": ('{"records": [[1, 2]]}'.encode("utf-16"), [], "/a/score"),
    "beside another": (b'{"records": [[1, 2], [7, 7.5]]}', [], "/a/score"),
    "a value more": (b'{"records": [[1, 2, 3]]}', [], "/a/score"),
    "flat": (b'{"records": [1, 2]}', [], "/a/score"),
    "by name": (b'{"records": [{"y": 2, "x": 1}]}', [], "/a/score"),
    "a query string": (b'{"records": [[1, 2]]}', [], "/a/score?a=1"),
    "a slash": (b'{"records": [[1, 2]]}', [], "/a/score/"),
    "an escaped path": (b'{"records": [[1, 2]]}', [], "/%61/score"),
    "two slashes": (b'{"records": [[1, 2]]}', [], "//a/score"),
    "dots": (b'{"records": [[1, 2]]}', [], "/a/b/../score"),
    "whole address": (b'{"records": [[1, 2]]}', [], "http://127.0.0.1/a/score"),
    "another port": (b'{"records": [[1, 2]]}', [("x-forwarded-for", "192.0.2.3:99")], "/a/score"),
    "an IPv4 address in IPv6": (
        b'{"records": [[1, 2]]}',
        [("x-forwarded-for", "::ffff:192.0.2.3")],
        "/a/score",
    ),
    "a longer chain": (
        b'{"records": [[1, 2]]}',
        [("x-forwarded-for", "9.9.9.9, 192.0.2.3")],
        "/a/score",
    ),
    "two chains": (
        b'{"records": [[1, 2]]}',
        [("x-forwarded-for", "9.9.9.9"), ("x-forwarded-for", "192.0.2.3")],
        "/a/score",
    ),
    "a proxy at the end": (
        b'{"records": [[1, 2]]}',
        [("x-forwarded-for", "9.9.9.9, 192.0.2.3, 127.0.0.1")],
        "/a/score",
    ),
    "a key of nobody": (b'{"records": [[1, 2]]}', [("x-api-key", "made-up")], "/a/score"),
    "an empty key": (b'{"records": [[1, 2]]}', [("x-api-key", " ")], "/a/score"),
    "the key twice": (
        b'{"records": [[1, 2]]}',
        [("x-api-key", KEY), ("x-api-key", KEY)],
        "/a/score",
    ),
    "the key quoted": (b'{"records": [[1, 2]]}', [("x-api-key", f'"{KEY}"')], "/a/score"),
    "the key with another header": (b'{"records": [[1, 2]]}', [("x_api_key", KEY)], "/a/score"),
    "the key as a token": (
        b'{"records": [[1, 2]]}',
        [("authorization", f"Bearer {KEY}")],
        "/a/score",
    ),
}


@pytest.mark.parametrize("name", SPELLINGS)
def test_no_spelling_of_a_record_a_path_or_a_client_is_another(guard, name):
    guard.score([1.0, 2.0], "192.0.2.3")
    reached = guard.app.reached[1.0, 2.0]
    body, headers, path = SPELLINGS[name]
    if not any(key == "x-forwarded-for" for key, _ in headers):
        headers = [*headers, ("x-forwarded-for", "192.0.2.3")]
    status = guard.send(body, headers, path)[0]
    assert status in (400, 401, 404, 415, 422, 429), status
    assert guard.app.reached[1.0, 2.0] == reached


CHUNKED = b'16\r\n{"records": [[1, 2]]}\n\r\n0\r\n'
FRAMES: dict[str, tuple[bytes, bytes]] = {
    "an address behind the body": (
        b"transfer-encoding: chunked",
        CHUNKED + b"x-forwarded-for: 9.9.9.9\r\n",
    ),
    "a key behind the body": (
        b"transfer-encoding: chunked",
        CHUNKED + f"x-api-key: {KEY}\r\n".encode(),
    ),
    "two lengths": (b"content-length: 1\r\ncontent-length: 22", b'{"records": [[1, 2]]}\n'),
    "a length and chunks": (b"content-length: 4\r\ntransfer-encoding: chunked", CHUNKED),
    "chunks of another name": (
        b"content-length: 22\r\ntransfer-encoding: xchunked",
        b'{"records": [[1, 2]]}\n',
    ),
    "a folded line": (b"content-length: 22\r\nx-a: 1,\r\n 2", b'{"records": [[1, 2]]}\n'),
    "a blank in a name": (
        b"content-length: 22\r\nx-forwarded-for : 9.9.9.9",
        b'{"records": [[1, 2]]}\n',
    ),
    "an underscore": (
        b"content-length: 22\r\nx_forwarded_for: 9.9.9.9",
        b'{"records": [[1, 2]]}\n',
    ),
    "other headers of addresses": (
        b"content-length: 22\r\nforwarded: for=9.9.9.9\r\nx-real-ip: 9.9.9.9",
        b'{"records": [[1, 2]]}\n',
    ),
}


@pytest.mark.parametrize("name", FRAMES)
def test_no_frame_of_a_request_makes_another_client_or_a_second_request(guard, name):
    guard.score([1.0, 2.0], "192.0.2.3")
    head, body = FRAMES[name]
    reached = guard.app.reached[1.0, 2.0]
    start = (
        b"POST /a/score HTTP/1.1\r\nhost: a\r\nconnection: close\r\nx-forwarded-for: 192.0.2.3\r\n"
    )
    with socket.create_connection(("127.0.0.1", guard.ports["port"]), timeout=30) as connection:
        connection.sendall(start + head + b"\r\n\r\n" + body + b"\r\n")
        with connection.makefile("rb") as answer:
            found = answer.read()
    assert found[:12] in (b"HTTP/1.1 400", b"HTTP/1.1 429") and found.count(b"HTTP/1.1") == 1
    assert guard.app.reached[1.0, 2.0] == reached


OTHER_FORMS: dict[str, tuple[str, str, list[tuple[str, str]]]] = {
    "HEAD": ("HEAD", "/a/score", []),
    "OPTIONS": ("OPTIONS", "/a/score", []),
    "PUT": ("PUT", "/a/score", []),
    "GET": ("GET", "/a/score", []),
    "another method by a header": ("POST", "/a/score", [("x-http-method-override", "GET")]),
    "binary": ("POST", "/a/score", [("accept", "application/octet-stream")]),
    "another path by a header": (
        "POST",
        "/a/score",
        [("x-original-url", "/raw"), ("x-rewrite-url", "/raw")],
    ),
    "a part": ("POST", "/a/score", [("range", "bytes=0-100000")]),
    "an upgrade": ("POST", "/a/score", [("connection", "upgrade"), ("upgrade", "h2c")]),
    "the other model's prefix": ("POST", "/a/b/score", []),
    "both prefixes": ("POST", "/a/a/b/score", []),
    "no prefix": ("POST", "/score", []),
    "half a prefix": ("POST", "/a/bscore", []),
    "a connection of its own": (
        "POST",
        "/a/score",
        [("connection", "content-type, x-forwarded-for")],
    ),
}


@pytest.mark.parametrize("name", OTHER_FORMS)
def test_no_method_header_or_prefix_gives_a_finer_answer(guard, name):
    method, path, headers = OTHER_FORMS[name]
    number = float(list(OTHER_FORMS).index(name))
    body = json.dumps({"records": [[number / 10, 8.0]]}).encode()
    status, found, told = guard.send(
        body, [*headers, ("x-forwarded-for", "192.0.2.4")], path, method
    )
    assert set(told) <= {
        "content-type", "content-length", "date", "server", "connection", "allow",
        "x-request-id", "ratelimit", "ratelimit-policy", "retry-after",
    }  # fmt: skip
    if status != 200 or method == "OPTIONS":
        assert status in (200, 400, 404, 405) and b"predictions" not in found
        return
    (told_of,) = json.loads(found)["predictions"]
    if path == "/a/b/score":
        assert isinstance(told_of, int)
    else:
        assert len(told_of) == 1 and all(round(p, 1) == p for p in told_of.values())


WITHHELD = (
    "if-match", "if-none-match", "if-modified-since", "if-unmodified-since", "if-range",
    "x-original-url", "x-rewrite-url", "x-http-method", "x-http-method-override",
)  # fmt: skip


def test_the_server_gets_no_guess_of_its_answer_and_no_other_path(guard):
    """One that knows its answers by a hash would say whether a guess of the true one is right."""
    sent = [(name, '"guess"') for name in WITHHELD]
    headers = [*sent, ("x-forwarded-for", "192.0.2.5"), ("x-kept", "1")]
    assert guard.send(b'{"records": [[9.0, 1.0]]}', headers)[0] == 200
    assert "x-kept" in guard.app.seen[-1] and not set(WITHHELD) & set(guard.app.seen[-1])
    # Another path could be one of those that are refused
    assert guard.send(b"", headers, "/a/docs", "GET")[0] == 404
    assert "x-kept" in guard.app.seen[-1] and "x-original-url" not in guard.app.seen[-1]


ADMIN: dict[str, tuple[str, str, list[tuple[str, str]]]] = {
    "no token": ("GET", "/metrics", []),
    "a part of it": ("GET", "/metrics", [("authorization", f"Bearer {TOKEN[:-1]}")]),
    "another scheme": ("GET", "/metrics", [("authorization", f"Basic {TOKEN}")]),
    "twice": ("GET", "/metrics", [("authorization", f"Bearer {TOKEN}")] * 2),
    "an underscore": ("GET", "/metrics", [("authorization_", f"Bearer {TOKEN}")]),
    "a free path before it": ("GET", "/health/live/../../metrics", []),
    "escaped": ("GET", "/health/live%2f..%2f..%2fmetrics", []),
    "two slashes": ("GET", "//metrics", []),
    "a free path behind it": ("GET", "/metrics?/health/live", []),
    "whole address": ("GET", "http://127.0.0.1/health/live/../../metrics", []),
    "as a parameter": ("GET", f"/metrics?token={TOKEN}", []),
    "HEAD": ("HEAD", "/metrics", []),
    "reload": ("POST", "/reload", []),
    "policy": ("GET", "/policy", []),
    "as the free path's method": ("POST", "/reload", [("x-original-url", "/health/live")]),
}


@pytest.mark.parametrize("name", ADMIN)
def test_nothing_but_the_token_opens_the_operators_port(guard, name):
    method, path, headers = ADMIN[name]
    status, found, _ = guard.send(b"", headers, path, method, "admin_port")
    assert status in (400, 401, 404) and b"memberscope_guard_" not in found
    assert TOKEN.encode() not in found
