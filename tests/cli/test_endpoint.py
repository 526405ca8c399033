"""An endpoint from the command line.

Every key a flag, nothing sent by `plan`, no secret on the disk, exit codes.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
from commands import COMMAND, run_command
from unruly import Unruly, model, serving

from memberscope.cli.options.commands import merge_options
from memberscope.cli.options.lookup import ENDPOINT_KEYS, ROWS
from memberscope.errors import InputError

TOKEN = "s3cret-token-of-the-test"
N = 300
CHOSEN = ("--attacks", "loss,gap", "--fpr", "0.1")


def call(*arguments: object, cwd: Path, **more: str) -> subprocess.CompletedProcess[str]:
    return run_command(*arguments, cwd=cwd, **({"COLUMNS": "200", "MY_TOKEN": TOKEN} | more))


@pytest.fixture
def folder(tmp_path) -> Path:
    """Records whose labels the model of the server guesses well for members."""
    rng = np.random.default_rng(0)
    for name, sure in (("members", 0.9), ("others", 0.3)):
        x = rng.normal(size=(N, 2))
        y = np.where(rng.random(N) < sure, model(x).argmax(axis=1), rng.integers(0, 3, N))
        lines = ["a,b,y", *(f"{a:.6f},{b:.6f},{label}" for (a, b), label in zip(x, y, strict=True))]
        (tmp_path / f"{name}.csv").write_text("\n".join(lines) + "\n")
    return tmp_path


def config(folder: Path, url: str, extra: str = "") -> Path:
    (folder / "audit.toml").write_text(
        f"""
[target]
url = "{url}/score?code={TOKEN}"
protocol = "json"
body = '{{"records": "$records"}}'
answer = "predictions"
batch_size = 50
auth_env = "MY_TOKEN"
auth_header = "X-Api-Key"
{extra}
[data]
members = "members.csv"
non_members = "others.csv"
[audit]
attacks = ["loss", "gap"]
fprs = [0.1]
out = "out"
"""
    )
    return folder / "audit.toml"


def document(folder: Path) -> dict:
    return json.loads((folder / "out" / "result.json").read_text())


def test_an_audit_over_http_pays_once_and_keeps_no_secret(folder):
    app = Unruly()
    with serving(app) as url:
        file = config(folder, url)
        done = call("audit", file, cwd=folder)
        assert done.returncode == 0, done.stderr
        assert sum(app.reached.values()) == 2 * N + 32 and {
            seen["x-api-key"] for seen in app.seen
        } == {TOKEN}
        again = call("audit", file, cwd=folder)
        assert again.returncode == 0 and sum(app.reached.values()) == 2 * N + 32
        port = url.rpartition(":")[2]
    found = document(folder)
    assert found["cost"]["queries"] == 2 * N + 32 and "target" not in found["digests"]
    assert (
        found["diagnostics"]["endpoint"]["protocol"],
        found["diagnostics"]["endpoint"]["path"],
    ) == ("json", "/score")
    assert (
        f"Asked http://127.0.0.1:{port}/score over HTTP (protocol json) without encryption."
        in found["diagnostics"]["notes"]
    )
    strongest = next(
        e
        for e in found["estimates"]
        if e["attack"] == "loss" and e["metric"] == "auc" and not e["group"]
    )
    assert strongest["value"] > 0.6
    written = {path: path.read_bytes() for path in (folder / "out").rglob("*") if path.is_file()}
    assert {"ledger.sqlite", "result.json", "plan.json"} <= {path.name for path in written}
    assert not [path for path, data in written.items() if TOKEN.encode() in data]
    assert TOKEN not in done.stdout + done.stderr + again.stdout + again.stderr


def test_what_was_sent_again_is_said(folder):
    app = Unruly("fine", "503:0", "fine")
    with serving(app) as url:
        done = call("audit", config(folder, url), cwd=folder)
    assert done.returncode == 0 and sum(app.reached.values()) == 2 * N + 32 + 50
    assert f"sent {2 * N + 82} records for {2 * N + 32} answers" in done.stdout
    assert document(folder)["cost"]["queries"] == 2 * N + 32


def test_a_killed_audit_ends_with_the_same_result_and_pays_no_answer_twice(folder):
    app = Unruly(*["fine"] * 6, always="wait")
    with serving(app) as url:
        file = config(folder, url)
        environment = {**os.environ, "MY_TOKEN": TOKEN}
        process = subprocess.Popen(
            [*COMMAND, "audit", str(file)], cwd=folder, env=environment, stdout=subprocess.DEVNULL
        )
        while app.requests < 10:
            assert process.poll() is None
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        app.always = "fine"
        app.open.set()
        assert call("audit", file, cwd=folder).returncode == 0
        resumed = document(folder)
        assert 2 * N + 32 <= sum(app.reached.values()) <= 2 * N + 32 + 4 * 50
        whole = call("audit", file, "--out", "whole", cwd=folder)
        assert whole.returncode == 0, whole.stderr
    once = json.loads((folder / "whole" / "result.json").read_text())
    for entry in (once, resumed):
        entry["cost"].pop("seconds")
    assert once == resumed


def test_plan_sends_nothing_and_says_what_it_would_take(folder):
    app = Unruly()
    app.metadata = {"outputs": [{"name": "p", "shape": [-1, 3]}]}
    with serving(app) as url:
        done = call("plan", config(folder, url, "rate = 0.1\nmax_queries = 500"), cwd=folder)
        assert done.returncode == 0, done.stderr
        assert app.requests == 0 and app.seen == []
        assert (
            "requests 13 of up to 50 records, 4 at a time; at 0.1 a second at least 2.2 minutes"
            in done.stdout
        )
        assert "budget   632 queries are more than --max-queries 500" in done.stdout
        assert not (folder / "out").exists()
        assert call("audit", config(folder, url), cwd=folder).returncode == 0
        after = call("plan", config(folder, url), cwd=folder)
        assert (
            "ledger   632 answers of an earlier run, 632 records sent, 0 without an answer"
            in after.stdout
        )
        flags = ["--model-name", "m", "--members", "members.csv", "--non-members", "others.csv"]
        requests = app.requests
        v2 = call("plan", "--url", url, *flags, cwd=folder)
        assert v2.returncode == 0 and app.requests == requests, v2.stderr


def test_a_budget_of_one_is_kept_and_a_query_too_many_is_a_sentence(folder):
    app = Unruly("fine", "500")
    with serving(app) as url:
        done = call("audit", config(folder, url), "--query-budget", "1", cwd=folder)
    assert done.returncode == 2 and "Expected at most 1 queries a record" in done.stderr
    assert "Traceback" not in done.stderr and max(app.reached.values()) == 1
    fine = Unruly()
    with serving(fine) as url:
        assert (
            call(
                "audit", config(folder, url), "--query-budget", "1", "--out", "other", cwd=folder
            ).returncode
            == 0
        )
    assert set(fine.reached.values()) == {1}


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--model", "m.skops"], 2, "got --url and --model"),
        (["--signals", "s.csv"], 2, "got --url and --signals"),
        (["--protocol", "v9"], 2, "with --protocol"),
        (["--n-classes", "2"], 2, "Expected labels from 0 to 1"),
        (["--answer", "scores"], 4, "Expected 'scores' in the answer"),
        (["--classes", "a,b"], 2, "Expected labels among a, b"),
        (["--batch-size", "0"], 2, "--batch-size"),
        (["--url", "http://127.0.0.1:9/x", "--retries", "0"], 4, "no connection"),
        (["--ca-file", "nowhere.pem"], 2, "--ca-file"),
        (["--auth-env", "NOT_SET"], 2, "NOT_SET"),
        (["--max-queries", "100"], 2, "Raise --max-queries"),
    ],
)
def test_mistakes_are_one_sentence(folder, arguments, code, words):
    with serving(Unruly()) as url:
        done = call("audit", config(folder, url), *arguments, cwd=folder)
    assert (done.returncode, done.stderr.count("\n")) == (code, 1) and words in done.stderr
    assert TOKEN not in done.stderr and not (folder / "out" / "result.json").exists()


def test_keys_of_an_endpoint_need_one_and_classes_with_names_need_an_order(folder):
    data = ["--members", "members.csv", "--non-members", "others.csv"]
    alone = call("audit", "--model", "m.skops", "--rate", "3", *data, cwd=folder)
    assert alone.returncode == 2 and "Expected --url with --rate" in alone.stderr
    for name in ("members.csv", "others.csv"):
        text = (folder / name).read_text()
        (folder / name).write_text(
            text.replace(",0\n", ",cat\n").replace(",1\n", ",dog\n").replace(",2\n", ",eel\n")
        )
    with serving(Unruly()) as url:
        file = config(folder, url)
        done = call("audit", file, cwd=folder)
        assert (
            done.returncode == 2
            and "Expected --classes in the order of the server's answers" in done.stderr
        )
        assert call("audit", file, "--classes", "cat,dog,eel", cwd=folder).returncode == 0


@pytest.mark.parametrize("verb", ["audit", "plan"])
def test_every_key_is_a_flag(verb, tmp_path):
    shown = call(verb, "--help", cwd=tmp_path).stdout
    assert [key for key in ENDPOINT_KEYS if f"--{key.replace('_', '-')} " not in shown] == []


def test_every_key_can_stand_in_the_file(tmp_path):
    values = {key: '["a", "b"]' if ROWS[key].is_list else '"x"' for key in ENDPOINT_KEYS}
    values |= dict.fromkeys(
        ("n_classes", "top_k", "batch_size", "concurrency", "retries", "max_queries"), "3"
    )
    values |= dict.fromkeys(("rate", "timeout", "connect_timeout", "read_timeout"), "1.5")
    file = tmp_path / "audit.toml"
    file.write_text("[target]\n" + "\n".join(f"{key} = {value}" for key, value in values.items()))
    options = merge_options(file, {"rate": 2.5})
    assert {
        key for key in ENDPOINT_KEYS if getattr(options, key) is None
    } == set() and options.rate == 2.5
    assert options.ca_file == str(tmp_path / "x") and options.classes == ("a", "b")
    file.write_text('[target]\nrate = "fast"')
    with pytest.raises(InputError, match=r"Expected a number for rate in \[target\]"):
        merge_options(file, {})
