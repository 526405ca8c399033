"""Audits in registries: logged to a real MLflow store and read back from it, and the page's hook.

Both run in an environment of their own, which tests/environment.sh makes.
"""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
from pathlib import Path

import pytest
from commands import fork_process, run_command
from releases import STRICT, audit_release

from memberscope.reports import (
    list_logged_metrics,
    list_logged_params,
    list_logged_tags,
    read_result,
    write_all,
)

ROOT = Path(__file__).resolve().parents[2]
PYTHON = ROOT / ".venv-registries" / "bin" / "python"
STORE = "sqlite:///mlflow.db"
MAKE = """
from mlflow import MlflowClient
client = MlflowClient("sqlite:///mlflow.db", "sqlite:///mlflow.db")
at = client.create_experiment("training")
run = client.create_run(at).info.run_id
client.create_registered_model("credit")
client.create_model_version("credit", "file:///nowhere", run)
print(run)
"""
READ = """
import json, sys
from mlflow import MlflowClient
client = MlflowClient("sqlite:///mlflow.db", "sqlite:///mlflow.db")
runs = [
    run
    for experiment in client.search_experiments()
    for run in client.search_runs([experiment.experiment_id])
]
found = []
for run in runs:
    name = run.info.run_id
    files = {file.path: open(client.download_artifacts(name, file.path)).read()
             for file in client.list_artifacts(name, "memberscope") if not file.path.endswith("tensors")}
    found.append({"id": name, "name": run.info.run_name, "status": run.info.status, "files": files,
        "experiment": client.get_experiment(run.info.experiment_id).name,
        "listed": [file.path for file in client.list_artifacts(name, "memberscope")],
        "metrics": run.data.metrics, "params": run.data.params, "tags": run.data.tags})
tags = client.get_model_version("credit", "1").tags
print(json.dumps({"runs": found, "tags": tags}))
"""
OFFLINE = """
import glob, json, struct
from wandb.proto import wandb_internal_pb2
(file,) = glob.glob("wandb/offline-run-*/*.wandb")
data, at, parts, records = open(file, "rb").read(), 7, b"", []
while at + 7 <= len(data):
    # A log of records in blocks of 32 KiB, whose ends are padded: checksum, length, kind
    if 32768 - at % 32768 < 7:
        at += 32768 - at % 32768
        continue
    _, length, kind = struct.unpack("<IHB", data[at : at + 7])
    parts += data[at + 7 : at + 7 + length]
    at += 7 + length
    if kind in (1, 4):
        records.append(wandb_internal_pb2.Record.FromString(parts))
        parts = b""
summary, artifacts = {}, {}
for record in records:
    for item in record.summary.update:
        summary[item.key or item.nested_key[0]] = json.loads(item.value_json)
    told = record.request.log_artifact.artifact if record.HasField("request") else record.artifact
    if told.name:
        artifacts[told.name] = [entry.path for entry in told.manifest.contents]
print(json.dumps([summary, artifacts]))
"""
needs_registries = pytest.mark.skipif(
    not PYTHON.exists(),
    reason="needs MLflow and wandb in an environment of their own: run `sh tests/environment.sh registries --no-deps`",
)


# What MLflow's client and `memberscope log` import, once for all of them
IMPORTED = (
    "memberscope.cli.main",
    "memberscope.reports",
    "mlflow",
    "mlflow.store.tracking.sqlalchemy_store",
    "mlflow.store.model_registry.sqlalchemy_store",
)


def run_forked(script: str | None, cwd: Path, *arguments: object) -> tuple[int, str, str]:
    """Run a script, or `memberscope`, where MLflow is installed and imported."""
    environment = {**os.environ, "COLUMNS": "100", "MLFLOW_DISABLE_TELEMETRY": "true"}
    argv = list(map(str, arguments))
    return fork_process(str(PYTHON), IMPORTED, argv, cwd, environment, script=script)


def ask_store(script: str, cwd: Path) -> str:
    """Run a script about the store, and give the last line that it prints."""
    code, printed, said = run_forked(script, cwd)
    assert code == 0, said
    return printed.strip().splitlines()[-1]


def run_python(script: str, cwd: Path, *arguments: object, **environment: str) -> str:
    done = subprocess.run(
        [PYTHON, "-c", script, *map(str, arguments)],
        cwd=cwd,
        capture_output=True,
        text=True,
        env={**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"} | environment,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip().splitlines()[-1]


def log(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    """`memberscope log` as the environment that has MLflow runs it."""
    code, printed, said = run_forked(None, cwd, "log", *arguments)
    return subprocess.CompletedProcess(["memberscope"], code, printed, said)


@pytest.fixture(scope="module")
def result():
    return audit_release(1.2, policy=STRICT)


@pytest.fixture(scope="module")
def work(result, tmp_path_factory) -> Path:
    """The folder of an audit whose own report shows ids, beside a store."""
    folder = tmp_path_factory.mktemp("registries")
    write_all(result, folder / "out", show_ids=True)
    assert "secret-" in (folder / "out" / "report.html").read_text()
    return folder


@pytest.fixture(scope="module")
def trained(work) -> str:
    """The run that trained a model, version 1 of which is registered."""
    return ask_store(MAKE, work)


def test_metrics_are_the_strongest_attacks_with_limits(result):
    found = list_logged_metrics(result)
    told = next(
        entry
        for entry in result.estimates
        if (entry.attack, entry.metric, entry.group, entry.access, entry.restriction)
        == ("strongest", "auc", None, "probabilities", None)
    )
    assert found["probabilities/auc"] == told.value
    assert found["probabilities/auc_low"] == told.low < told.value < told.high
    assert found["probabilities/auc_high"] == told.high
    assert found["probabilities/tpr_at_fpr_0.01"] > 0.01
    assert found["audit/members"] == 400 and "label/auc" in found
    assert all(re.fullmatch(r"[A-Za-z0-9_./ -]{1,250}", name) for name in found)
    assert all(isinstance(value, float) for value in found.values())


def test_no_number_is_overwritten_by_another_of_its_name(result):
    """Two estimates under one name would leave the later one."""
    found = list_logged_metrics(result)
    estimates = [
        entry
        for entry in result.estimates
        if entry.attack == "strongest" and entry.group is None and entry.target == "target"
        if entry.metric in ("auc", "tpr", "ppv") and entry.threshold in (None, "best")
    ]
    logged = [name for name in found if not name.startswith(("audit/", "model/"))]
    assert len(logged) == 3 * len(estimates)


def test_tags_and_parameters_find_an_audit_again(result):
    assert list_logged_tags(result)["membership_audit.verdict"] == "FAIL"
    assert list_logged_tags(result)["membership_audit.digest.arrays"] == result.digests["arrays"]
    limited = result.model_copy(update={"verdict": "PASS", "limited": True})
    assert list_logged_tags(limited)["membership_audit.verdict"] == "PASS, limited"
    params = list_logged_params(result)
    assert params["membership_audit.policy"] == "strict"
    assert params["membership_audit.attacks"] == "gap, loss, confidence"


@needs_registries
def test_a_run_is_read_back_from_a_real_store(work, result, trained):
    done = log("out", "--mlflow", STORE, "--model", "credit", "--version", "1", cwd=work)
    assert done.returncode == 0, done.stderr
    run_id = re.search(r"Logged FAIL to the run (\w+)\.", done.stdout)[1]
    assert "Tagged version 1 of credit." in done.stdout
    read = json.loads(ask_store(READ, work))
    run = next(entry for entry in read["runs"] if entry["id"] == run_id)
    assert (run["name"], run["experiment"], run["status"]) == ("credit", "memberscope", "FINISHED")
    assert run["metrics"] == list_logged_metrics(result)
    assert run["params"] == list_logged_params(result)
    assert run["tags"].items() >= list_logged_tags(result).items()
    assert sorted(run["files"]) == ["memberscope/report.html", "memberscope/result.json"]
    assert run["files"]["memberscope/result.json"] == (work / "out" / "result.json").read_text()
    assert "secret-" not in "".join(run["files"].values())
    assert read["tags"] == list_logged_tags(result) | {"membership_audit.run_id": run_id}


@needs_registries
def test_an_audit_is_logged_to_the_run_that_trained_the_model(work, result, trained):
    done = log("out", "--mlflow", STORE, "--run", trained, "--records", cwd=work)
    assert done.returncode == 0, done.stderr
    read = json.loads(ask_store(READ, work))
    run = next(entry for entry in read["runs"] if entry["id"] == trained)
    assert (run["experiment"], run["status"]) == ("training", "RUNNING")
    names = ["arrays.safetensors", "records.csv", "report.html", "result.json"]
    assert sorted(run["listed"]) == [f"memberscope/{name}" for name in names]
    assert run["metrics"] == list_logged_metrics(result)


@needs_registries
def test_a_mistake_leaves_no_run_behind(work, trained):
    assert log("out", "--mlflow", STORE, "--run", trained, cwd=work).returncode == 0
    n = len(json.loads(ask_store(READ, work))["runs"])
    write_all(audit_release(0.0), work / "other", records=False)
    for arguments, words in (
        (("out", "--run", "0" * 32), "Run with id=" + "0" * 32),
        (("out", "--model", "credit", "--version", "2"), "version=2"),
        (("out", "--model", "churn", "--version", "1"), "churn"),
        (("other", "--run", trained), "Changing param values is not allowed"),
        (("other", "--records"), "Expected records.csv"),
    ):
        done = log(*arguments, "--mlflow", STORE, cwd=work)
        assert done.returncode == 2, done.stderr
        last = done.stderr.splitlines()[-1]
        assert last.startswith("memberscope: Expected") and words in last
        assert "Traceback" not in done.stderr
    assert len(json.loads(ask_store(READ, work))["runs"]) == n


@needs_registries
def test_a_server_that_is_not_there_is_told(work):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    done = log("out", "--mlflow", f"http://user:hunter2@127.0.0.1:{port}", cwd=work)
    last = done.stderr.splitlines()[-1]
    assert done.returncode == 4 and last.startswith("memberscope: Expected MLflow at")
    assert "See that it runs" in last and "hunter2" not in done.stderr
    done = log("out", "--mlflow", "gopher://here", cwd=work)
    assert done.returncode == 2 and "Correct --mlflow" in done.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("none", "--mlflow", STORE), "Expected a result.json"),
        (("out", "--mlflow", STORE, "--model", "m"), "Expected --model and --version together"),
        (("out", "--mlflow", STORE, "--version", "1"), "got --version alone"),
        (("changed", "--mlflow", STORE), "Expected a result that agrees with its arrays"),
        (("out", "--mlflow", STORE), 'Install it: pip install "memberscope[mlflow]".'),
    ],
)
def test_each_mistake_is_one_sentence(work, result, arguments, words):
    """Here where MLflow is not installed."""
    write_all(result, work / "changed")
    document = json.loads((work / "changed" / "result.json").read_text())
    document["estimates"][0]["value"] = 0.123
    (work / "changed" / "result.json").write_text(json.dumps(document))
    done = run_command("log", *arguments, cwd=work)
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and words in done.stderr


@needs_registries
def test_the_hook_of_the_page_logs_to_weights_and_biases(work, result):
    page = (ROOT / "docs" / "registries.md").read_text()
    hook = re.search(r"## Weights.*?```python\n(.*?)```", page, re.DOTALL)[1]
    assert 15 <= len(hook.splitlines()) <= 20
    offline = {"WANDB_MODE": "offline", "WANDB_SILENT": "true", "WANDB_ERROR_REPORTING": "false"}
    shown = run_python(
        f"{hook}\nprint('run', log_to_wandb('out', 'audits'))",
        work,
        **offline,
        WANDB_CACHE_DIR=str(work / "cache"),
        WANDB_DATA_DIR=str(work / "staged"),
    )
    assert shown.startswith("run ")
    summary, artifacts = json.loads(run_python(OFFLINE, work))
    metrics = list_logged_metrics(read_result(work / "out"))
    assert {name: summary.get(name) for name in metrics} == pytest.approx(metrics)
    assert sorted(artifacts["membership-audit"]) == ["report.html", "result.json"]
