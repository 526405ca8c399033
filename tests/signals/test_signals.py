"""Queries are paid once, answers are checked, and the store never gives what it was not given."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import textwrap

import numpy as np
import pytest

from memberscope.errors import InputError, TargetError
from memberscope.signals import Store, collect_outputs, digest_records, validate_outputs
from memberscope.targets import FunctionTarget
from memberscope.types import Records


class Counting:
    """A target that counts the records it was asked about."""

    access, signal, n_classes, digest, n_parameters = 2, "probabilities", 2, "counting", None

    def __init__(self, noise: float = 0.0) -> None:
        self.asked: list[int] = []
        self.noise = noise
        self.rng = np.random.default_rng(0)

    def query(self, x):
        self.asked.extend(x[:, 0].astype(int).tolist())
        p = np.full(len(x), 0.5) + self.noise * self.rng.uniform(-1, 1, len(x))
        return np.stack([p, 1 - p], axis=1)


def records(n: int = 100) -> Records:
    return Records(
        np.arange(float(n))[:, None], np.arange(n) % 2, np.array([f"r{i}" for i in range(n)])
    )


def test_each_record_is_asked_once_besides_the_probe():
    target = Counting()
    found = collect_outputs(target, records(), batch_size=30)
    assert sorted(target.asked) == sorted([*range(100), *range(32)])
    assert found.queries == 132 and found.deterministic is True


def test_a_model_is_hashed_only_where_answers_are_kept(tmp_path):
    class Hashed(Counting):
        hashed = 0

        @property
        def digest(self):
            Hashed.hashed += 1
            return "hashed"

    collect_outputs(Hashed(), records())
    assert Hashed.hashed == 0
    collect_outputs(Hashed(), records(), store=Store(tmp_path))
    assert Hashed.hashed == 1


def test_stored_answers_are_not_asked_again(tmp_path):
    store = Store(tmp_path)
    first = collect_outputs(Counting(), records(), store=store, batch_size=30)
    target = Counting()
    again = collect_outputs(target, records(), store=store, batch_size=30)
    assert target.asked == [] and (again.queries, again.deterministic) == (first.queries, True), (
        "as if never interrupted"
    )
    np.testing.assert_array_equal(first.outputs, again.outputs)


def test_other_records_of_the_same_shape_are_asked(tmp_path):
    store = Store(tmp_path)
    collect_outputs(Counting(), records(), store=store)
    target, other = Counting(), records()
    changed = Records(other.x + 1, other.y, other.ids)
    collect_outputs(target, changed, store=store)
    assert len(target.asked) == 132
    assert digest_records(other) != digest_records(changed)


def test_random_outputs_are_noticed():
    found = collect_outputs(Counting(noise=0.1), records())
    assert found.deterministic is False and found.largest_change > 0.01


def test_a_killed_run_goes_on_without_paying_twice(tmp_path):
    script = textwrap.dedent(
        """
        import os, signal, sys
        import numpy as np
        from memberscope.signals import Store, collect_outputs
        from memberscope.types import Records
        log, folder, kill = sys.argv[1:]
        class Target:
            access, signal, n_classes, digest, n_parameters = 2, "probabilities", 2, "killed", None
            def query(self, x):
                with open(log, "a") as stream:
                    stream.writelines(f"{int(v)}\\n" for v in x[:, 0])
                if kill == "yes" and x[0, 0] >= 50:
                    os.kill(os.getpid(), signal.SIGKILL)
                return np.full((len(x), 2), 0.5)
        x = np.arange(100.0)[:, None]
        rows = Records(x, np.arange(100) % 2, np.array([str(i) for i in range(100)]))
        collect_outputs(Target(), rows, store=Store(folder), batch_size=10)
        """
    )
    log, folder = tmp_path / "log", tmp_path / "store"
    first = subprocess.run([sys.executable, "-c", script, log, folder, "yes"], check=False)
    assert first.returncode == -signal.SIGKILL
    assert not list(folder.glob(".*.tmp"))
    subprocess.run([sys.executable, "-c", script, log, folder, "no"], check=True)
    asked = [int(line) for line in log.read_text().split()]
    assert [asked.count(i) for i in range(32, 50)] == [1] * 18, (
        "answers stored before the kill are not asked again"
    )
    assert set(asked) == set(range(100))


def test_damaged_entries_count_as_missing(tmp_path):
    store = Store(tmp_path)
    store.put("key", np.arange(10.0))
    path = tmp_path / "key.safetensors"
    data = path.read_bytes()
    for damaged in (data[:-8], b"junk", data[:-1] + bytes([data[-1] ^ 1])):
        path.write_bytes(damaged)
        assert store.get("key") is None
        assert not path.exists()


def test_full_and_read_only_disks_leave_nothing_half_written(tmp_path, monkeypatch):
    store = Store(tmp_path / "s")

    def full(handle):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InputError, match="full disk"):
        store.put("key", np.arange(10.0))
    assert list((tmp_path / "s").iterdir()) == []
    monkeypatch.undo()
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="folder that can be written"):
        Store(tmp_path / "file").put("key", np.arange(3.0))


def function(answer, n_classes=2, signal="probabilities"):
    return FunctionTarget(lambda x: answer(len(x)), n_classes=n_classes, signal=signal)


@pytest.mark.parametrize(
    ("answer", "error", "words"),
    [
        (
            lambda n: np.where(np.arange(2 * n).reshape(n, 2) == 6, np.nan, 0.5),
            InputError,
            "first record 'r3'",
        ),
        (
            lambda n: np.full((n, 2), 0.4),
            InputError,
            r"sum to 1, got 0\.8000 for record 'r0' \(100 records",
        ),
        (
            lambda n: np.tile([1.5, -0.5], (n, 1)),
            InputError,
            "between 0 and 1, got 1.5.*declare them: --outputs logits",
        ),
        (
            lambda n: np.full((n, 3), 1 / 3),
            InputError,
            "Expected 2 columns of probabilities, got 3",
        ),
        (lambda n: np.full((n - 1, 2), 0.5), TargetError, "Expected 100 rows"),
        (lambda n: np.full(n, 0.5), TargetError, "got shape"),
        (lambda n: 1 / 0, TargetError, "ZeroDivisionError"),
    ],
)
def test_bad_answers_are_one_sentence(answer, error, words):
    with pytest.raises(error, match=words):
        collect_outputs(function(answer), records())


def test_labels_out_of_range():
    rows = records()
    with pytest.raises(InputError, match=r"labels from 0 to 1, got 2 \(1 records"):
        collect_outputs(Counting(), Records(rows.x, np.append(rows.y[:-1], 2), rows.ids))


def test_negative_losses():
    with pytest.raises(InputError, match="losses of at least 0"):
        validate_outputs("loss", np.array([[0.1], [-2.0]]), np.array(["a", "b"]), 2)


def test_probabilities_declared_as_logits_are_refused():
    rng = np.random.default_rng(0)
    p = rng.dirichlet(np.ones(3), 40)
    ids = np.arange(40).astype(str)
    with pytest.raises(InputError, match="Declare them as probabilities"):
        validate_outputs("logits", p, ids, 3)
    validate_outputs("logits", np.log(p), ids, 3)
    validate_outputs("probabilities", p, ids, 3)
