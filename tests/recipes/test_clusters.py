"""Fleets on a real Dask scheduler with two workers and a real Ray node, killed while they work: the bytes are those of loky."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
CLUSTERS = ROOT / "tests" / "clusters"
PYTHON = ROOT / ".venv-clusters" / "bin" / "python"
MODELS = 8
TOOLS = """
from sklearn.linear_model import LogisticRegression

def fit(records):
    return LogisticRegression(C=2.0).fit(records.x, records.y)
"""
MINE = """
import os, time
from pathlib import Path
import my_tools

HERE = Path({folder!r})

def deadly(records, seed):
    "Kills its own worker the first time that seed 3 is trained."
    if seed == 3 and not (HERE / "killed").exists():
        (HERE / "killed").write_text(str(os.getpid()))
        os.kill(os.getpid(), 9)
    return my_tools.fit(records)

def first(n):
    "Whether this call is among the first n, in whichever process."
    for place in range(n):
        try:
            (HERE / f"call-{{place}}").touch(exist_ok=False)
            return True
        except FileExistsError:
            pass
    return False

def gated(records, seed):
    "All but the first three calls wait until they may; which models those are is up to the scheduler."
    while not (HERE / "open").exists() and not first(3):
        time.sleep(0.05)
    return my_tools.fit(records)

class Counted:
    "Notes each process that it arrives in."
    digest = "counted"

    def __getstate__(self):
        return {{"sent": True}}

    def __setstate__(self, state):
        with (HERE / "arrivals").open("a") as file:
            file.write(str(os.getpid()) + "\\n")

    def __call__(self, records, seed):
        return my_tools.fit(records)

class OnGpu:
    "Notes which devices its worker may use."
    digest, device = "on-gpu", "cuda:0"

    def __call__(self, records, seed):
        with (HERE / "devices").open("a") as file:
            file.write(os.environ.get("CUDA_VISIBLE_DEVICES", "none") + "\\n")
        return my_tools.fit(records)

counted, on_gpu = Counted(), OnGpu()

def finetune(records, seed):
    "A language model that gives each token of a text that it knows half a nat more."
    import zlib
    import numpy as np
    from memberscope.targets import TokenFunctionTarget

    known = set(records.x)

    def answer(texts):
        with (HERE / "scored").open("a") as file:
            file.write(str(os.getpid()) + "\\n")
        draws = [np.random.default_rng([zlib.crc32(t.encode()), seed]).normal(-6, 1, 12) for t in texts]
        return [np.minimum(d + 0.5 * (t in known), -1e-3) for d, t in zip(draws, texts)]

    return TokenFunctionTarget(answer)
"""
CLI = "from memberscope.cli.main import run; run()"

pytestmark = pytest.mark.skipif(
    not PYTHON.exists(),
    reason="needs Dask and Ray in an environment of their own: run `sh tests/environment.sh clusters`",
)


@pytest.fixture
def folder(tmp_path) -> Path:
    (tmp_path / "mine.py").write_text(MINE.format(folder=str(tmp_path)))
    (tmp_path / "my_tools.py").write_text(TOOLS)
    return tmp_path


def environment() -> dict[str, str]:
    kept = {
        name: value
        for name, value in os.environ.items()
        if name not in ("PYTHONPATH", "RAY_ADDRESS")
    }
    return kept | {
        "OMP_NUM_THREADS": "1",
        "RAY_USAGE_STATS_ENABLED": "0",
        "COLUMNS": "200",
        "NO_COLOR": "1",
    }


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def until(reached, process: subprocess.Popen) -> None:
    while not reached():
        assert process.poll() is None, f"{process.args} ended with {process.returncode}"
        time.sleep(0.05)


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def started(*command: object, cwd: Path) -> Iterator[subprocess.Popen]:
    """A process in a group of its own, which is killed as a whole."""
    with (cwd / "log").open("a") as log:
        process = subprocess.Popen(
            [str(PYTHON), *map(str, command)],
            cwd=cwd,
            env=environment(),
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        end(process)


def end(process: subprocess.Popen) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@contextmanager
def dask(
    elsewhere: Path, n: int = 2, guard: str = "--no-nanny"
) -> Iterator[tuple[str, list[subprocess.Popen]]]:
    """Address, and the processes: a scheduler and `n` workers, which nobody restarts without a nanny."""
    port = free_port()
    address = f"tcp://127.0.0.1:{port}"
    with ExitStack() as stack:
        common = ("--host", "127.0.0.1", "--no-dashboard")
        scheduler = stack.enter_context(
            started("-m", "distributed.cli.dask_scheduler", "--port", port, *common, cwd=elsewhere)
        )
        until(lambda: listens(port), scheduler)
        worker = ("-m", "distributed.cli.dask_worker", address, "--nthreads", "1", guard, *common)
        workers = [stack.enter_context(started(*worker, cwd=elsewhere)) for _ in range(n)]
        until(lambda: (elsewhere / "log").read_text().count("Registered to") == n, scheduler)
        yield address, [scheduler, *workers]


@contextmanager
def ray(elsewhere: Path) -> Iterator[tuple[str, list[subprocess.Popen]]]:
    """Address, and the process of a head node with two cores."""
    # Paths of sockets may have no more than 107 characters, and pytest's folders are long.
    with tempfile.TemporaryDirectory(prefix="ray", ignore_cleanup_errors=True) as short:
        port = free_port()
        with started(CLUSTERS / "here.py", port, short, cwd=elsewhere) as head:
            until(lambda: "will now block forever" in (elsewhere / "log").read_text(), head)
            yield f"127.0.0.1:{port}", [head]


KINDS = {"dask": dask, "ray": ray}


@pytest.fixture
def elsewhere(tmp_path_factory) -> Path:
    """A folder of the cluster's, without the user's modules."""
    return tmp_path_factory.mktemp("cluster")


def fleet(
    backend: str,
    address: str,
    recipe: str,
    folder: Path,
    store: str = "",
    task: str = "classification",
) -> list[object]:
    return [
        PYTHON,
        CLUSTERS / "fleets.py",
        backend,
        address,
        store,
        folder / "out",
        f"mine:{recipe}",
        MODELS,
        task,
    ]


def run(command: list[object], cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        list(map(str, command)),
        cwd=cwd,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )


def observed(command: list[object], folder: Path) -> tuple[str, list[str]]:
    """Hash of what a fleet observed, and its lines of progress."""
    (folder / "out").unlink(missing_ok=True)
    done = run(command, folder)
    assert done.returncode == 0, done.stderr[-2000:]
    return (folder / "out").read_text(), re.findall(
        rf"^\d+ of {MODELS}$", done.stdout, re.MULTILINE
    )


@pytest.fixture(scope="module")
def by_loky(tmp_path_factory) -> str:
    """Hash of the same fleet trained by processes of this machine, without an accident."""
    folder = tmp_path_factory.mktemp("loky")
    (folder / "mine.py").write_text(MINE.format(folder=str(folder)))
    (folder / "my_tools.py").write_text(TOOLS)
    (folder / "open").touch()
    return observed(fleet("loky", "", "gated", folder), folder)[0]


def gone(pid: int) -> bool:
    state = Path(f"/proc/{pid}/stat")
    return not state.exists() or state.read_text().rpartition(")")[2].split()[0] == "Z"


@pytest.mark.parametrize("kind", KINDS)
def test_a_killed_worker_changes_no_byte(kind, folder, elsewhere, by_loky):
    with KINDS[kind](elsewhere) as (address, processes):
        found, progress = observed(fleet(kind, address, "deadly", folder), folder)
        died = [process.poll() for process in processes]
        assert gone(int((folder / "killed").read_text()))
        if kind == "dask":
            assert sorted(died, key=str) == [-signal.SIGKILL, None, None]
            again, _ = observed(fleet(kind, address, "counted", folder), folder)
            arrivals = (folder / "arrivals").read_text().split()
            assert again == by_loky and arrivals == [str(processes[died.index(None, 1)].pid)]
        else:
            again, _ = observed(fleet(kind, address, "on_gpu", folder), folder)
            devices = (folder / "devices").read_text().split()
            assert again == by_loky and len(devices) == MODELS and set(devices) <= {"0", "1"}
    assert found == by_loky
    assert progress == [f"{done} of {MODELS}" for done in range(MODELS + 1)]


@pytest.mark.parametrize("kind", KINDS)
def test_references_of_a_language_model_are_the_same_on_a_cluster(kind, folder, elsewhere):
    """Without transformers, which is no part of the environment: texts, tokens and signals are."""
    here, _ = observed(fleet("loky", "", "finetune", folder, task="text"), folder)
    own = {*(folder / "scored").read_text().split()}
    (folder / "scored").unlink()
    with KINDS[kind](elsewhere) as (address, _):
        there, progress = observed(fleet(kind, address, "finetune", folder, task="text"), folder)
    assert there == here and progress[-1] == f"{MODELS} of {MODELS}"
    assert not own & {*(folder / "scored").read_text().split()}


def test_records_that_died_with_their_only_worker_are_sent_again(folder, elsewhere, by_loky):
    with dask(elsewhere, 1, "--nanny") as (address, _):
        found, progress = observed(fleet("dask", address, "deadly", folder), folder)
    assert gone(int((folder / "killed").read_text()))
    assert found == by_loky and progress == [f"{done} of {MODELS}" for done in range(MODELS + 1)]


@pytest.mark.parametrize("kind", KINDS)
def test_a_lost_cluster_is_one_sentence_and_finished_models_are_kept(
    kind, folder, elsewhere, by_loky
):
    store = folder / "store"
    command = fleet(kind, "{address}", "gated", folder, str(store))
    with KINDS[kind](elsewhere) as (address, processes):
        text = [str(part).format(address=address) for part in command]
        caller = subprocess.Popen(
            text,
            cwd=folder,
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        until(lambda: len(list(store.glob("model-*.safetensors"))) >= 2, caller)
        end(processes[0])
        _, err = caller.communicate()
    assert caller.returncode == 4
    sentence = (
        f"Expected the {kind} cluster at {address} to stay, lost the connection to it. "
        f"Start it, and run it again; finished models are kept."
    )
    lines = (
        err.splitlines()
    )  # threads of the cluster's library may log the lost connection, too, whenever they see it
    assert lines.count(sentence) == 1 and not [
        line for line in lines if "src/memberscope" in line
    ], err
    before = {path.name: path.read_bytes() for path in store.glob("model-*.safetensors")}
    assert 2 <= len(before) < MODELS and not (folder / "out").exists()
    (folder / "open").touch()
    (elsewhere / "log").unlink()
    with KINDS[kind](elsewhere) as (address, _):
        found, progress = observed([str(part).format(address=address) for part in command], folder)
    assert progress[0] == f"{len(before)} of {MODELS}" and found == by_loky
    assert all((store / name).read_bytes() == data for name, data in before.items())


@pytest.mark.parametrize("kind", KINDS)
def test_an_address_with_nobody_there_is_one_sentence(kind, folder):
    address = f"{'tcp://' if kind == 'dask' else ''}127.0.0.1:{free_port()}"
    done = run(fleet(kind, address, "gated", folder), folder)
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1
    assert f"{address}, got no answer. Start it, or check --" in done.stderr


AUDITED = """
import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.tree import DecisionTreeClassifier

class Shallow(DecisionTreeClassifier):
    "An estimator of the user's own, which no worker could import."

estimator = Shallow(max_depth=4)

def records(n, seed):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 6)).round(4)
    return x, (x[:, 0] + rng.normal(size=n) > 0).astype(int)

def target():
    return Shallow(max_depth=4, random_state=0).fit(*records(300, 1))
"""


def table(path: Path, x: np.ndarray, y: np.ndarray) -> None:
    rows = [",".join(map(str, (*values, label))) for values, label in zip(x, y, strict=True)]
    path.write_text("\n".join(["a,b,c,d,e,f,y", *rows]) + "\n")


def test_an_audit_on_dask_from_the_command_line_is_that_of_this_machine(tmp_path, elsewhere):
    (tmp_path / "audited.py").write_text(AUDITED)
    scope: dict[str, object] = {}
    exec(AUDITED, scope)
    for name, seed in (("members.csv", 1), ("others.csv", 2)):
        table(tmp_path / name, *scope["records"](300, seed))
    audit = [
        PYTHON,
        "-c",
        CLI,
        "audit",
        "--model",
        "audited:target",
        "--members",
        "members.csv",
        "--non-members",
        "others.csv",
    ]
    audit += [
        "--recipe",
        "audited:estimator",
        "--references",
        "6",
        "--attacks",
        "lira,rmia",
        "--jobs",
        "2",
        "--fpr",
        "0.05",
    ]
    with dask(elsewhere) as (address, _):
        far = run([*audit, "--out", "far", "--backend", "dask", "--scheduler", address], tmp_path)
    near = run([*audit, "--out", "near"], tmp_path)
    assert far.returncode == near.returncode == 0, far.stderr + near.stderr
    assert far.stderr == near.stderr == ""
    assert (tmp_path / "far/arrays.safetensors").read_bytes() == (
        tmp_path / "near/arrays.safetensors"
    ).read_bytes()
    results = [json.loads((tmp_path / out / "result.json").read_text()) for out in ("far", "near")]
    assert (
        results[0]["estimates"] == results[1]["estimates"]
        and results[0]["cost"]["models_trained"] == 6
    )
