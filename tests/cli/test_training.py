"""Reference models from the command line.

What is left open is measured once, written down, and the same when resumed.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
from commands import run_command

from memberscope.recipes import measure_product_rates

MODULE = """
import numpy as np, torch
from sklearn.linear_model import LogisticRegression
from memberscope import Records
from memberscope.recipes import SklearnRecipe, TorchRecipe

def network():
    return torch.nn.Sequential(torch.nn.Linear(4, 16), torch.nn.ReLU(), torch.nn.Linear(16, 2))

recipe = TorchRecipe(network, epochs=30, batch_size=32)
other = SklearnRecipe(LogisticRegression())

def target():
    data = np.load("members.npz")
    return recipe(Records(data["x"], data["y"], data["y"].astype(str)), 0)
"""


def call(*arguments: object, cwd: Path, fresh: bool = False) -> subprocess.CompletedProcess[str]:
    return run_command(*arguments, cwd=cwd, imported=("torch",), fresh=fresh)


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    folder = tmp_path_factory.mktemp("work")
    (folder / "own.py").write_text(MODULE)
    rng = np.random.default_rng(0)
    for name in ("members", "others"):
        x = rng.normal(size=(150, 4)).astype(np.float32)
        np.savez(folder / f"{name}.npz", x=x, y=(x[:, 0] + rng.normal(size=150) > 0).astype(int))
    return folder


def asked(verb: str, recipe: str, *more: object) -> list[object]:
    found = [
        verb,
        "--model",
        "own:target",
        "--members",
        "members.npz",
        "--non-members",
        "others.npz",
        "--recipe",
        recipe,
    ]
    return [*found, "--references", "4", "--attacks", "lira,rmia", "--fpr", "0.1", *more]


def without_times(folder: Path) -> dict[str, object]:
    result = json.loads((folder / "result.json").read_text())
    del result["environment"], result["cost"]["seconds"], result["cost"]["training_seconds"]
    return result


def test_precision_is_a_flag_and_the_choice_stands_in_the_result(work):
    command = asked("audit", "own:recipe", "--precision", "float64", "--out", "exact", "--verbose")
    done = call(*command, cwd=work)
    assert done.returncode == 0, done.stderr
    found = json.loads((work / "exact/result.json").read_text())["plan"]["execution"]
    assert (
        found["precision"] == "float64"
        and found["engine"] in ("matrices", "loop")
        and found["stack"] >= 1
    )
    assert f"engine {found['engine']}" in " ".join(done.stdout.split())
    assert call("verify", "exact", cwd=work).returncode == 0


def test_bfloat16_is_refused_by_plan_and_audit_where_it_is_emulated(work):
    if measure_product_rates().is_bfloat16_fast:
        pytest.skip("this processor has bfloat16")
    for verb in ("plan", "audit"):
        done = call(*asked(verb, "own:recipe", "--precision", "bfloat16", "--out", "h"), cwd=work)
        assert done.returncode == 2 and "Leave out --precision" in done.stderr
        assert "GFLOP/s in bfloat16" in " ".join(done.stderr.split())
    assert not (work / "h").exists()


def signals_of(out):
    """Every stored signal by name; the count of audits beside them changes with each."""
    return {path.name: path.read_bytes() for path in (out / "signals").glob("*.safetensors")}


def test_the_same_audit_again_is_the_same_bytes_and_plan_says_what_is_left(work):
    before = call(*asked("plan", "own:recipe", "--out", "first", "--measure"), cwd=work)
    assert (
        before.returncode == 0 and "0 stored" in before.stdout and "4 to train" in before.stdout
    ), before.stderr
    assert "s a model on one core" in before.stdout
    done = call(*asked("audit", "own:recipe", "--out", "first"), cwd=work)
    assert done.returncode == 0, done.stderr
    kept = signals_of(work / "first")
    arrays, said = (work / "first/arrays.safetensors").read_bytes(), without_times(work / "first")
    after = call(*asked("plan", "own:recipe", "--out", "first"), cwd=work)
    assert "4 stored" in after.stdout and "0 to train" in after.stdout
    assert (
        call(*asked("audit", "own:recipe", "--out", "first"), cwd=work, fresh=True).returncode == 0
    )
    assert signals_of(work / "first") == kept
    assert (work / "first/arrays.safetensors").read_bytes() == arrays and without_times(
        work / "first"
    ) == said


def test_a_precision_for_a_recipe_without_one_is_refused(work):
    done = call(*asked("audit", "own:other", "--precision", "bfloat16", "--out", "none"), cwd=work)
    assert (
        done.returncode == 2
        and "Expected a TorchRecipe for a precision, got SklearnRecipe" in done.stderr
    )
    done = call(*asked("audit", "own:recipe", "--precision", "half", "--out", "none"), cwd=work)
    assert done.returncode == 2 and "got 'half'" in done.stderr and not (work / "none").exists()


def test_plan_takes_the_flags_of_the_audit_it_previews(work):
    more = [
        "--views",
        "identity,noise:0.1",
        "--population",
        "others.npz",
        "--seed",
        "3",
        "--jobs",
        "1",
        "--reference-size",
        "120",
    ]
    more += ["--backend", "loky", "--model-timeout", "100", "--keep-weights", "--confidence", "0.9"]
    for budget, queries in (
        ("2", 900),
        ("3", 932),
    ):  # 2 x (300 records + 150 of the population), and 32 again if they may be
        done = call(
            *asked("plan", "own:other", *more, "--query-budget", budget, "--out", "nowhere"),
            cwd=work,
        )
        assert done.returncode == 0, done.stderr
        assert "4 to train" in done.stdout and f"queries  {queries} " in done.stdout


def test_flags_for_reference_models_without_a_recipe_are_refused(work):
    given = [
        "audit",
        "--model",
        "own:target",
        "--members",
        "members.npz",
        "--non-members",
        "others.npz",
        "--out",
        "none",
    ]
    for flag in (["--references", "4"], ["--keep-weights"], ["--population", "others.npz"]):
        done = call(*given, *flag, cwd=work)
        assert done.returncode == 2 and f"Expected a recipe for {flag[0]}, got none" in done.stderr
    done = call(*asked("audit", "own:other", "--jobs", "0", "--out", "none"), cwd=work)
    assert (
        done.returncode == 2
        and "at least one job at a time" in done.stderr
        and not (work / "none").exists()
    )
