"""`memberscope guard prepare`, `tune` and `replay`.

Exit codes, keys that rotate, and one sentence for each mistake.
"""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from watching import START, call, population, prepared

from memberscope.guard import read_policy
from memberscope.guard.hashing.secret_key import read_secrets
from memberscope.guard.monitor.artifacts import load_monitor_artifacts
from memberscope.guard.sketching.observations import Observations, format_access_line
from memberscope.wire.batch import Batch


def log_of(file: Path, path: Path, days: int, seed: int = 0, clients: int = 12) -> None:
    """Benign queries of some days as the guard logs them."""
    policy = read_policy(file)
    equipment = load_monitor_artifacts(
        policy.model_copy(update={"monitor": policy.monitor.model_copy(update={"tuned": None})})
    )
    rng, lines = np.random.default_rng(seed), []
    for day in range(days):
        times = np.sort(rng.uniform(0, 86400, 60 * clients // 4))
        x = population(len(times), seed=1000 + 100 * seed + day)
        record, point, bins = equipment.sketcher.sketch(Batch(x))
        who = rng.integers(1, clients + 1, len(times)).astype(np.uint64)
        whole = Observations(
            START + 86400 * day + times, who, record, point, bins, rng.integers(0, 3, len(times))
        )
        lines += [
            format_access_line(whole.take(slice(i, i + 1)), key=equipment.secret.id)
            for i in range(len(times))
        ]
    path.write_text("".join(line + "\n" for line in lines))


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
    """A policy whose thresholds were found on a log."""
    file = prepared(tmp_path_factory.mktemp("cli"))
    (file.parent / "tuned.json").unlink()
    log_of(file, file.parent / "benign.jsonl", 8)
    code, said = call(
        "guard", "tune", file.parent / "benign.jsonl", "--policy", file, "--rate", "0.02"
    )
    assert code == 0, said
    return file, said


@pytest.fixture
def copied(tuned, tmp_path):
    """The same in a folder that a test may spoil."""
    shutil.copytree(tuned[0].parent, tmp_path / "here")
    return tmp_path / "here" / "guard.toml"


def test_tune_says_what_it_found_and_replay_uses_it(tuned, tmp_path):
    file, said = tuned
    assert "client-days" in said and "0.02 asked" in said
    thresholds = json.loads((file.parent / "tuned.json").read_text())["settings"]["thresholds"]
    assert len(thresholds) == 12 and all(value > 0 for value in thresholds.values())
    log_of(file, tmp_path / "other.jsonl", 2, seed=5)
    code, said = call(
        "guard", "replay", tmp_path / "other.jsonl", "--policy", file, "--out", tmp_path / "out"
    )
    assert code in (0, 1) and (tmp_path / "out" / "campaigns.html").is_file(), said
    found = json.loads((tmp_path / "out" / "replay.json").read_text())
    assert (code == 1) == bool(found["campaigns"])


def test_without_thresholds_the_exit_code_is_3_and_says_so(copied, tmp_path):
    (copied.parent / "tuned.json").unlink()
    code, said = call(
        "guard",
        "replay",
        copied.parent / "benign.jsonl",
        "--policy",
        copied,
        "--out",
        tmp_path / "out",
    )
    assert code == 3 and "guard tune" in said


def test_a_monitor_goes_on_with_the_key_of_its_sketch_after_a_rotation(copied):
    before = load_monitor_artifacts(read_policy(copied)).secret
    code, said = call("guard", "keys", "rotate", "--policy", copied)
    assert code == 0 and f"still those of the key {before.id}" in said
    after = load_monitor_artifacts(read_policy(copied)).secret
    newest = read_secrets(copied.parent / "guard.key")[-1]
    assert (after.id, after.key) == (before.id, before.key) and newest.key != before.key


def test_a_rotated_key_keeps_the_old_one_and_refuses_what_was_made_with_it(copied):
    folder = copied.parent
    old = (folder / "sketch.safetensors").read_bytes()
    arguments = (
        "--policy",
        copied,
        "--population",
        folder / "population.npz",
        "--members",
        folder / "members.npz",
    )
    assert call("guard", "prepare", *arguments)[0] == 0
    assert len(read_secrets(folder / "guard.key")) == 1
    assert call("guard", "prepare", *arguments, "--rotate")[0] == 0
    assert len(read_secrets(folder / "guard.key")) == 2
    code, said = call("guard", "replay", folder / "benign.jsonl", "--policy", copied)
    assert code == 2 and "Expected thresholds found with the key" in said
    (folder / "tuned.json").unlink()
    for verb in ("replay", "tune"):
        code, said = call("guard", verb, folder / "benign.jsonl", "--policy", copied)
        assert (
            code == 2
            and "of another" in said
            and said.startswith("Expected a log made with the key")
        ), said
    new = folder / "new.jsonl"
    log_of(copied, new, 1)
    new.write_text(new.read_text() + (folder / "benign.jsonl").read_text())
    code, said = call("guard", "replay", new, "--policy", copied, "--out", folder / "out")
    assert code == 3 and "lines of another key or version left out" in said
    (folder / "sketch.safetensors").write_bytes(old)
    code, said = call("guard", "replay", new, "--policy", copied)
    # The old sketch brings its own key, which the new fingerprints are not made with
    assert code == 2 and "Expected fingerprints made with the key" in said


def test_a_prepare_that_fails_changes_nothing(copied):
    folder = copied.parent
    before = {path.name: path.read_bytes() for path in folder.glob("*") if path.is_file()}
    np.savez(folder / "one.npz", X=population(1))
    before["one.npz"] = (folder / "one.npz").read_bytes()
    for options in (
        ("--population", folder / "one.npz"),
        ("--population", folder / "population.npz", "--members", folder / "absent.npz"),
        (
            "--population",
            folder / "population.npz",
            "--members",
            folder / "members.npz",
            "--false-rate",
            "0",
        ),
    ):
        assert call("guard", "prepare", "--policy", copied, *options, "--rotate")[0] == 2
        assert {
            path.name: path.read_bytes() for path in folder.glob("*") if path.is_file()
        } == before


def spoiled(folder: Path) -> dict[str, tuple]:
    """What users get wrong, and a word of the sentence that tells them."""
    np.savez(folder / "one.npz", X=population(1))
    np.savez(folder / "objects.npz", X=np.array([{}], dtype=object), allow_pickle=True)
    (folder / "model.pkl").write_bytes(b"\x80\x04N.")
    (folder / "words.jsonl").write_text("hello\nworld\n")
    (folder / "empty.jsonl").write_text("")
    (folder / "fake.parquet").write_bytes(b"PAR1 no")
    (folder / "cut.jsonl.gz").write_bytes(b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03K")
    lines = (folder / "benign.jsonl").read_text().splitlines(keepends=True)
    (folder / "day.jsonl").write_text("".join(lines[:100]))
    return {
        "an absent population": (("prepare", "--population", folder / "absent.csv"), "not there"),
        "one record": (("prepare", "--population", folder / "one.npz"), "at least 20"),
        "a pickle": (
            ("prepare", "--population", folder / "model.pkl"),
            r"\.parquet, \.feather or \.npz",
        ),
        "a pickle within": (("prepare", "--population", folder / "objects.npz"), "pickle"),
        "a column that is not there": (
            ("prepare", "--population", folder / "population.npz", "--drop", "y"),
            "--drop",
        ),
        "honey alone": (
            ("prepare", "--population", folder / "population.npz", "--honey", folder / "one.npz"),
            "--members",
        ),
        "no rate": (("tune", folder / "benign.jsonl", "--rate", "0"), "between 0 and 1"),
        "a rate above all": (("tune", folder / "benign.jsonl", "--rate", "1.5"), "between 0 and 1"),
        "one day": (("tune", folder / "day.jsonl"), "at least four days"),
        "an empty log": (("tune", folder / "empty.jsonl"), "empty"),
        "an absent log": (("replay", folder / "absent.jsonl"), "no file"),
        "words": (("replay", folder / "words.jsonl"), "got none in 2 lines"),
        "no Parquet": (("replay", folder / "fake.parquet"), "Parquet"),
        "a cut archive": (("replay", folder / "cut.jsonl.gz"), "to its end"),
    }


def test_each_mistake_is_one_sentence(copied):
    for name, (words, expected) in spoiled(copied.parent).items():
        code, said = call("guard", words[0], *words[1:], "--policy", copied)
        assert code == 2, (name, code, said)
        assert said.startswith("Expected ") and said.endswith(".") and "Traceback" not in said, (
            name,
            said,
        )
        assert re.search(expected, said), (name, said)


def test_records_with_nan_are_sketched_and_fingerprinted(copied):
    x = population(100, seed=77)
    x[::3, 2] = np.nan
    np.savez(copied.parent / "holes.npz", X=x)
    code, said = call(
        "guard",
        "prepare",
        "--policy",
        copied,
        "--population",
        copied.parent / "holes.npz",
        "--members",
        copied.parent / "holes.npz",
    )
    found = re.search(r"(\d+) fingerprints", said)
    assert (
        code == 0 and found is not None and 96 <= int(found[1]) <= 100
    )  # they are short: under some keys two are the same
