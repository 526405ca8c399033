"""Attempts to undo the noise of a running guard, or to have one serve noise that can be undone."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from running_guard import POLICY, Process, ask, running
from unruly import reply, serving

from memberscope.errors import InputError
from memberscope.guard.hashing.secret_key import (
    Secret,
    create_key_file,
    read_secrets,
    write_secrets,
)
from memberscope.guard.server.worker import Run
from memberscope.outputs import OutputNoise, find_recovery

KEYED = POLICY.replace("RESTRICT", "noise:0.5") + '[monitor]\nkey = "guard.key"\n'
TREES = 20
X = np.random.default_rng(0).uniform(size=(400, 2)).round(6)


def count_votes(x: np.ndarray) -> np.ndarray:
    """Shares of the votes of 20 trees among three classes, for records (n, 2)."""
    first = np.rint(np.asarray(x)[:, 0] * (TREES - 2)) + 1
    second = np.rint(np.asarray(x)[:, 1] * (TREES - 1 - first))
    return np.column_stack([first, second, TREES - first - second]) / TREES


async def forest(scope, receive, send):
    """A model server that answers with votes."""
    body, more = b"", True
    while more:
        event = await receive()
        body, more = body + event.get("body", b""), event.get("more_body", False)
    votes = count_votes(np.array(json.loads(body)["records"], dtype=np.float64))
    await reply(send, 200, json.dumps({"predictions": votes.tolist()}).encode())


@dataclass
class Served:
    """A guard with noise, and where its files are."""

    process: Process
    port: int
    admin: int
    folder: Path

    def score(self, records) -> np.ndarray:
        """Answers (n, 3) about records (n, 2)."""
        rows = records.tolist() if isinstance(records, np.ndarray) else records
        status, body = ask(self.port, "POST", "/score", {"records": rows})
        assert status == 200, body
        return np.array(json.loads(body)["predictions"])


@pytest.fixture(scope="module")
def served(tmp_path_factory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("keyed")
    create_key_file(folder / "guard.key")
    (folder / "guard.toml").write_text(KEYED)
    with serving(forest) as upstream, running(folder, upstream) as (process, _):
        ports = process.said("serving")
        yield Served(process, ports["port"], ports["admin_port"], folder)


@pytest.fixture(scope="module")
def answers(served) -> np.ndarray:
    found = served.score(X)
    true = count_votes(X)
    shown = (true > 0).sum(axis=1) > 1
    # By a key drawn anew, some of the noise is small
    assert (np.abs(found - true).max(axis=1) > 1e-3)[shown].mean() > 0.9, "noise is there"
    return found


def test_neither_public_seeds_nor_the_grid_undo_it(answers):
    assert find_recovery(answers, OutputNoise(0.5)) is None
    # The same attempt undoes the same answers under a public seed
    public = OutputNoise(0.5, seed=0)(count_votes(X))
    found = find_recovery(public, OutputNoise(0.5))
    np.testing.assert_allclose(found(public), count_votes(X), atol=1e-12)


def test_the_guards_other_secrets_are_no_key_of_the_noise(served, answers):
    """Hashes in logs use the file's key itself; the noise has a key derived from it."""
    secret = read_secrets(served.folder / "guard.key")[0]
    assert not np.array_equal(OutputNoise(0.5, key=secret.key)(count_votes(X)), answers)
    right = OutputNoise(0.5, key=secret.derive_noise_key())(count_votes(X))
    np.testing.assert_array_equal(right, answers)


def test_asking_again_or_in_other_spellings_gives_nothing_to_average(served, answers):
    rows = X[:40]
    same = [
        rows + 1e-12,  # the answer, not the record, decides
        rows - 1e-12,
        rows[::-1],
        rows.astype(np.float32).astype(np.float64),
        np.repeat(rows, 3, axis=0),
    ]
    expected = [answers[:40], answers[:40], answers[:40][::-1], answers[:40]]
    expected.append(np.repeat(answers[:40], 3, axis=0))
    for asked, known in zip(same, expected, strict=True):
        np.testing.assert_array_equal(served.score(asked), known)
    # One by one, as another batch would be
    for row, known in zip(rows[:5].tolist(), answers[:5], strict=True):
        np.testing.assert_array_equal(served.score([row])[0], known)
    np.testing.assert_array_equal(served.score([[-0.0, 0.5]]), served.score([[0, 0.5]]))


def test_a_reload_and_a_newer_key_draw_no_other_noise(served, answers):
    file = served.folder / "guard.key"
    kept = read_secrets(file)
    write_secrets(file, [*kept, Secret.new()])
    assert ask(served.admin, "POST", "/reload")[0] == 200
    np.testing.assert_array_equal(served.score(X), answers)


@pytest.mark.parametrize("n_keys", [1, 0])
def test_replicas_share_the_noise_of_one_key_file_and_no_other(served, answers, tmp_path, n_keys):
    if n_keys:
        shutil.copy(served.folder / "guard.key", tmp_path)
    else:
        create_key_file(tmp_path / "guard.key")
    (tmp_path / "guard.toml").write_text(KEYED)
    with serving(forest) as upstream, running(tmp_path, upstream) as (process, _):
        port = process.said("serving")["port"]
        body = ask(port, "POST", "/score", {"records": X.tolist()})[1]
    assert np.array_equal(np.array(json.loads(body)["predictions"]), answers) == bool(n_keys)


def test_the_key_is_in_no_log_and_on_no_page(served, answers):
    secret = read_secrets(served.folder / "guard.key")[0]
    assert ask(served.admin, "POST", "/reload")[0] == 200
    served.process.said("reloaded")
    shown = "".join(map(json.dumps, served.process.lines))
    assert '"event": "query"' in shown or "noise" in shown or len(served.process.lines) > 3
    for path in ("/policy", "/metrics", "/openapi.json", "/health/ready"):
        shown += ask(served.admin, "GET", path)[1].decode()
    for key in (secret.key, secret.derive_noise_key()):
        assert key.hex() not in shown and key.hex()[:12] not in shown
    assert len(secret.derive_noise_key()) * 8 >= 128


@pytest.mark.parametrize(
    ("restrict", "keyed", "sentence"),
    [
        ("noise:0.1:7", True, r"without a seed.* Write noise:0.1: the key of \[monitor\]"),
        ("noise:0.1:0", True, "without a seed"),
        ("top:2+noise:0.1:7", True, r"Write top:2\+noise:0.1"),
        ("memguard:1:300:undecided:7", True, "Write memguard:1:"),
        ("hamp_output:3", True, "Write hamp_output:"),
        ("noise:0.1", False, r"Expected key in \[monitor\] for noise:0.1, got none"),
        ("memguard:1", False, r"Expected key in \[monitor\] for memguard:1, got none"),
    ],
)
@pytest.mark.parametrize("table", ["default", "clients", "respond"])
def test_a_policy_with_a_seed_or_without_a_key_starts_no_guard(
    tmp_path, restrict, keyed, sentence, table
):
    create_key_file(tmp_path / "guard.key")
    text = POLICY.replace("RESTRICT", restrict if table == "default" else "label")
    text += '[monitor]\nkey = "guard.key"\n' if keyed else ""
    if table == "clients":
        text += f'[[clients]]\nname = "a"\nwho = ["network:10.0.0.0/8"]\nrestrict = "{restrict}"\n'
    if table == "respond":
        text += f'[respond]\ncoarsen = "{restrict}"\n'
    (tmp_path / "guard.toml").write_text(text)
    with pytest.raises(InputError, match=sentence):
        Run(upstream="http://127.0.0.1:1", policy=tmp_path / "guard.toml").checked()


def test_a_seed_in_a_reload_leaves_the_secret_noise_in_force(served, answers):
    file = served.folder / "guard.toml"
    for restrict in ("noise:0.5:0", "noise:0.4:1"):
        file.write_text(KEYED.replace("noise:0.5", restrict))
        assert ask(served.admin, "POST", "/reload")[0] == 409
        np.testing.assert_array_equal(served.score(X[:5]), answers[:5])
    file.write_text(KEYED)
    assert ask(served.admin, "POST", "/reload")[0] == 200
