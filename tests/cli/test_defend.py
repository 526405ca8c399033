"""`memberscope defend` and `audit --canaries` from the command line.

Exit codes, what is written, and a sentence for each mistake.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from commands import run_command

ROOT = Path(__file__).resolve().parents[2]
MODULE = """
from dataclasses import replace
import numpy as np, torch
from sklearn.tree import DecisionTreeClassifier
from memberscope import Records
from memberscope.recipes import SGD, Privacy, SklearnRecipe, TorchRecipe

def network():
    return torch.nn.Sequential(torch.nn.Linear(12, 32), torch.nn.ReLU(), torch.nn.Linear(32, 2))

def normalised():
    return torch.nn.Sequential(torch.nn.Linear(12, 32), torch.nn.BatchNorm1d(32), torch.nn.ReLU(), torch.nn.Linear(32, 2))

recipe = TorchRecipe(network, SGD(0.1), epochs=60, batch_size=16, engine="matrices", stack=2)
private = TorchRecipe(network, SGD(0.5), epochs=20, batch_size=32, engine="matrices", privacy=Privacy(epsilon=1.0))
batched = TorchRecipe(normalised, SGD(0.1), epochs=3, batch_size=16, engine="loop", stack=1)
tree = SklearnRecipe(DecisionTreeClassifier())

def train(given):
    data = np.load("members.npz")
    return given(Records(data["x"], data["y"], data["y"].astype(str)), 0)

def target():
    return train(recipe)

def hasty():
    return train(replace(recipe, epochs=1))
"""
CONFIG = """
[target]
model = "own:target"
[data]
members = "members.npz"
non_members = "others.npz"
[recipe]
train = "own:tree"
references = 4
jobs = 1
[defend]
defences = ["depth:1", "top:1"]
canaries = 48
[threat]
search_queries = 16
[policy]
max_tpr = [{ fpr = 0.1, tpr = 0.6 }]
[audit]
folds = 3
out = "swept"
"""
LABELS = CONFIG.replace('"swept"', '"again"').replace('"depth:1", "top:1"', '"depth:1"')
LABELS = LABELS.replace("canaries = 48", "canaries = 0")
LABELS = LABELS.replace("[threat]", '[threat]\naccess = "label"')


def call(*arguments: object, cwd: Path, fresh: bool = False) -> subprocess.CompletedProcess[str]:
    return run_command(*arguments, cwd=cwd, imported=("torch",), fresh=fresh)


@pytest.fixture(scope="module")
def work(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("work")
    (folder / "own.py").write_text(MODULE)
    (folder / "audit.toml").write_text(CONFIG)
    rng = np.random.default_rng(0)
    for name in ("members", "others"):
        x = rng.normal(size=(300, 12)).astype(np.float32)
        np.savez(folder / f"{name}.npz", x=x, y=(x[:, 0] + rng.normal(size=300) > 0).astype(int))
    return folder


def asked(verb: str, recipe: str, *more: object, model: str = "target") -> list[object]:
    found = [
        verb,
        "--model",
        f"own:{model}",
        "--members",
        "members.npz",
        "--non-members",
        "others.npz",
        "--recipe",
        f"own:{recipe}",
    ]
    return (
        [*found, "--jobs", 1, "--search-queries", 0, *more]
        if verb == "audit"
        else [*found, "--jobs", 1, "--references", 4, *more]
    )


@pytest.fixture(scope="module")
def swept(work) -> subprocess.CompletedProcess[str]:
    return call("defend", "audit.toml", cwd=work)


def test_a_sweep_from_a_configuration_writes_a_frontier_and_an_audit_for_each_way_of_training(
    work, swept
):
    assert swept.returncode == 0, swept.stderr
    document = json.loads((work / "swept/frontier.json").read_text())
    schema = json.loads((ROOT / "schema" / "frontier.schema.json").read_text())
    jsonschema.Draft202012Validator(schema).validate(document)
    assert [row["name"] for row in document["rows"]] == ["none", "depth:1", "top:1"]
    rows = {row["name"]: row for row in document["rows"]}
    assert (
        rows["depth:1"]["meets"] == "meets"
        and rows["depth:1"]["auc"]["value"] < rows["none"]["auc"]["value"] - 0.1
    )
    assert "EstimatorParameter(knob='depth', value=1.0)(recipe)" in rows["depth:1"]["settings"]
    assert "Of 3 choices" in " ".join(swept.stdout.split()) and "depth:1" in swept.stdout
    page = (work / "swept/frontier.html").read_text()
    assert page.count("<svg") == 2 and "script-src" in page and "<script" not in page
    for name in ("none", "depth-1"):
        assert call("verify", f"swept/{name}", cwd=work).returncode == 0
    assert all(line.isprintable() and len(line) <= 100 for line in swept.stdout.splitlines())


def test_the_schema_of_a_frontier_is_the_one_in_the_repository():
    from memberscope.reports import frontier_schema

    stored = json.loads((ROOT / "schema" / "frontier.schema.json").read_text())
    assert stored == json.loads(json.dumps(frontier_schema())), "run `make schema`"


def test_a_frontier_is_read_back_and_a_broken_one_is_one_sentence(work, swept, tmp_path):
    from memberscope.errors import InputError
    from memberscope.reports import read_frontier

    assert [row.name for row in read_frontier(work / "swept").rows] == ["none", "depth:1", "top:1"]
    text = (work / "swept/frontier.json").read_text()
    for broken in (text[:-20], "{}", '{"format": "memberscope-frontier/1"}'):
        (tmp_path / "frontier.json").write_text(broken)
        with pytest.raises(
            InputError, match=r"Expected a frontier.json in .*Run `memberscope defend` again"
        ):
            read_frontier(tmp_path)


def test_resumed_it_trains_nothing_and_another_sweep_needs_a_word(work):
    """The sweep is of labels alone, which few attacks see; each row is attacked twice all the same."""
    (work / "again.toml").write_text(LABELS)
    found = []
    for _ in range(2):
        done = call("defend", "again.toml", cwd=work)
        assert done.returncode == 0, done.stderr
        kept = (work / "again/signals").glob("*")
        found.append({path.name: path.stat().st_mtime_ns for path in kept})
        found[-1].pop("audits.json")
    assert found[0] == found[1] and len(found[0]) > 8
    rows = json.loads((work / "again/frontier.json").read_text())["rows"]
    assert [(row["name"], row["meets"], row["lacking"]) for row in rows] == [
        ("none", "meets", []),
        ("depth:1", "meets", []),
    ]
    other = call("defend", "again.toml", "--defences", "depth:2", cwd=work)
    assert (
        other.returncode == 2
        and "got a result with another defences" in other.stderr
        and other.stderr.count("\n") == 1
    )


@pytest.mark.parametrize(
    ("recipe", "defences", "code", "sentence"),
    [
        (
            "recipe",
            "distill",
            2,
            "Expected public records to distil on, got none. Give --population, or leave out "
            "distill.",
        ),
        ("recipe", "dpsgd:noise=0", 2, "Expected noise in a defence, got a noise multiplier of 0."),
        (
            "recipe",
            "dpsgd:eps=1:noise=0",
            2,
            "Expected either a target epsilon or a noise multiplier, got epsilon 1 and noise 0.",
        ),
        ("recipe", "l2", 2, "Expected a defence such as l2:0.001"),
        ("tree", "l2:1,dropout", 2, "Expected"),
        ("tree", "dpsgd:eps=1", 2, "Expected a TorchRecipe for DP-SGD, got SklearnRecipe."),
    ],
)
def test_mistakes_are_one_sentence_before_anything_is_trained(
    work, recipe, defences, code, sentence
):
    more = ("--defences", defences, "--canaries", 20, "--out", "mistaken")
    done = call(*asked("defend", recipe, *more, model="hasty"), cwd=work)
    assert done.returncode == code and sentence in done.stderr and done.stderr.count("\n") == 1, (
        done.stderr
    )
    assert not (work / "mistaken/frontier.json").exists() and not (work / "mistaken/none").exists()


def test_what_fails_while_training_keeps_its_row_and_the_exit_code_says_so(work):
    names = "dpsgd:eps=8,dpsgd:eps=8:fix,dpsgd:eps=0.000001:fix"
    done = call(
        *asked(
            "defend",
            "batched",
            "--defences",
            names,
            "--canaries",
            0,
            "--attacks",
            "gap,loss",
            "--out",
            "failing",
        ),
        cwd=work,
    )
    assert done.returncode == 3, done.stderr
    said = " ".join(done.stdout.split())
    assert "BatchNorm" in said and "GroupNorm" in said and "fix" in said
    rows = {
        row["name"]: row for row in json.loads((work / "failing/frontier.json").read_text())["rows"]
    }
    assert rows["dpsgd:eps=8"]["why_not"] and rows["dpsgd:eps=8:fix"]["proven"]["epsilon"] <= 8
    assert "can reach" in rows["dpsgd:eps=1e-06:fix"]["why_not"]


def test_canaries_in_one_run_refute_what_is_claimed_of_plain_training(work):
    done = call(
        *asked("audit", "recipe", "--canaries", 200, "--claimed", 0.3, "--out", "plain"), cwd=work
    )
    assert done.returncode == 1, done.stderr
    assert "REFUTED: epsilon 0.3 is claimed." in done.stdout
    found = json.loads((work / "plain/canaries.json").read_text())
    assert found["proven"] is None and list(found["bounds"]) == ["black box (logit)"]


def test_private_training_keeps_its_promise_black_and_white_box(work):
    done = call(*asked("audit", "private", "--canaries", 200, "--out", "private"), cwd=work)
    assert done.returncode == 0, done.stderr
    found = json.loads((work / "private/canaries.json").read_text())
    assert found["proven"]["epsilon"] <= 1.0001
    assert list(found["bounds"]) == ["black box (logit)", "white box (all updates)"]
    assert "Proven by accounting: epsilon 1 at delta 1e-05." in done.stdout


def test_plan_previews_an_audit_with_canaries_and_trains_nothing(work):
    found = asked("audit", "recipe", "--canaries", 200, "--out", "planned", model="hasty")
    done = call("plan", *found[1:], cwd=work)
    assert done.returncode == 0, done.stderr
    assert "canaries one model to train, on 300 members and 91 of 200 canaries" in done.stdout
    assert "runs     logit at probabilities" in done.stdout and not (work / "planned").exists()


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (("--claimed", 1), "Expected --canaries with --claimed, got none."),
        (("--canaries", 1000), "Expected 2 to 300 canaries from a pool of 300 records, got 1000."),
        (
            ("--canaries", 30, "--canary-kind", "odd"),
            "Expected canaries that are natural or mislabelled, got 'odd'.",
        ),
        (
            ("--canaries", 10),
            "Expected at least 20 canaries and an attack among logit, boundary, gap, got 10",
        ),
        (
            ("--canaries", 100, "--attacks", "loss"),
            "an attack among logit, boundary, gap, got 100 and loss.",
        ),
    ],
)
def test_mistakes_with_canaries_are_one_sentence(work, more, sentence):
    done = call(*asked("audit", "recipe", *more, "--out", "wrong", model="hasty"), cwd=work)
    assert done.returncode == 2 and sentence in done.stderr and done.stderr.count("\n") == 1, (
        done.stderr
    )
