"""The command line as a script sees it: verbs, exit codes, one sentence for each mistake."""

from __future__ import annotations

import json
import pickle
import shutil
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from commands import run_command
from signal_files import write_signals

from memberscope.reports.history import read_history


def call(
    *arguments: object, cwd: Path, stdin: str = "", fresh: bool = False
) -> subprocess.CompletedProcess[str]:
    return run_command(*arguments, cwd=cwd, stdin=stdin, fresh=fresh)


@pytest.fixture(scope="module")
def audited(tmp_path_factory):
    folder = tmp_path_factory.mktemp("audited")
    write_signals(folder / "s.csv")
    done = call(
        "audit",
        "--signals",
        "s.csv",
        "--features",
        "x0",
        "--groups",
        "sex",
        "--policy",
        "demo",
        "--out",
        "out",
        cwd=folder,
    )
    assert done.returncode == 1, done.stderr
    return folder


def test_audit_writes_its_folder_and_returns_the_verdict(audited):
    files = {path.name for path in (audited / "out").iterdir()}
    assert files == {
        "result.json",
        "report.html",
        "records.csv",
        "arrays.safetensors",
        "plan.json",
        "signals",
        ".gitignore",
    }
    assert (audited / "out" / ".gitignore").read_text() == "*\n"
    document = json.loads((audited / "out" / "result.json").read_text())
    assert document["verdict"] == "FAIL" and document["title"] == "s.csv"
    assert {entry["group"] for entry in document["estimates"]} >= {"sex=f", "class=1", None}


def test_signals_alone_are_enough_and_without_a_policy_audit_exits_0_and_check_3(tmp_path):
    write_signals(tmp_path / "s.csv")
    done = call("audit", "--signals", "s.csv", "--out", "out", cwd=tmp_path)
    assert done.returncode == 0 and "NO POLICY" in done.stdout
    assert call("check", "out", cwd=tmp_path).returncode == 3


def test_check_returns_the_verdict_and_writes_junit(audited):
    done = call("check", "out", "--junit", "junit.xml", cwd=audited)
    assert done.returncode == 1 and done.stdout.startswith("FAIL: ")
    assert ElementTree.parse(audited / "junit.xml").getroot().get("failures") == "1"
    (audited / "lenient.toml").write_text("[policy]\nmax_tpr = [{ fpr = 0.05, tpr = 0.99 }]\n")
    assert call("check", "out", "--policy", "lenient.toml", cwd=audited).returncode == 0
    assert call("check", "out", "--policy", "standard", cwd=audited).returncode in (1, 3)


def test_check_fails_closed(audited, tmp_path):
    assert call("check", "nowhere", cwd=tmp_path).returncode == 2
    copy = tmp_path / "copy"
    copy.mkdir()
    for name in ("result.json", "arrays.safetensors"):
        (copy / name).write_bytes((audited / "out" / name).read_bytes())
    text = (copy / "result.json").read_text()
    (copy / "result.json").write_text(
        text.replace('"verdict": "FAIL",\n "reason"', '"verdict": "PASS",\n "reason"', 1)
    )
    assert json.loads((copy / "result.json").read_text())["verdict"] == "PASS"
    done = call("check", "copy", cwd=tmp_path)
    assert done.returncode == 2 and "give the verdict FAIL, not PASS" in done.stderr
    assert call("verify", "copy", cwd=tmp_path).returncode == 1


def test_verify_computes_everything_again(audited):
    done = call("verify", "out", cwd=audited)
    assert done.returncode == 0 and "estimates, the findings and the verdict follow" in done.stdout


@pytest.mark.parametrize(
    ("file", "old", "new", "words"),
    [
        (
            "result.json",
            '"verdict": "FAIL",\n   "claim"',
            '"verdict": "PASS",\n   "claim"',
            "other findings",
        ),
        ("result.json", '"passed": true', '"passed": false', "the verdict INCONCLUSIVE, not FAIL"),
        ("records.csv", ",1,", ",0,", "records.csv"),
    ],
)
def test_verify_sees_what_was_changed(audited, tmp_path, file, old, new, words):
    shutil.copytree(audited / "out", tmp_path / "out")
    text = (tmp_path / "out" / file).read_text()
    (tmp_path / "out" / file).write_text(text.replace(old, new, 1))
    assert old in text
    done = call("verify", "out", cwd=tmp_path)
    assert done.returncode == 1 and words in done.stdout


def test_report_and_explain(audited):
    (audited / "out" / "report.html").unlink()
    assert call("report", "out", cwd=audited).returncode == 0
    assert (audited / "out" / "report.html").stat().st_size > 50_000
    findings = call("explain", "--result", "out", cwd=audited)
    assert findings.returncode == 0 and "FAIL: No attack finds more than 15%" in findings.stdout
    assert "Record r0 is a member" in call("explain", "r0", "--result", "out", cwd=audited).stdout
    assert "See it: memberscope" in call("explain", "hard-labels", cwd=audited).stdout
    assert call("explain", "astrology", cwd=audited).returncode == 2


def test_the_same_audit_again_is_the_same_and_another_is_refused(audited):
    before = json.loads((audited / "out" / "result.json").read_text())
    base = (
        "audit",
        "--signals",
        "s.csv",
        "--features",
        "x0",
        "--groups",
        "sex",
        "--policy",
        "demo",
        "--out",
        "out",
    )
    assert call(*base, cwd=audited, fresh=True).returncode == 1
    after = json.loads((audited / "out" / "result.json").read_text())
    audits = [document["environment"].pop("audits_of_this_plan") for document in (before, after)]
    assert int(audits[1]) == int(audits[0]) + 1
    for document in (before, after):
        document.pop("cost")
        document["controls"].pop("determinism")
    assert before == after
    other = call(*base, "--seed", "1", cwd=audited)
    assert (
        other.returncode == 2 and "another plan" in other.stderr and "--overwrite" in other.stderr
    )
    assert json.loads((audited / "out" / "result.json").read_text())["plan"]["seed"] == 0


def test_a_model_from_a_factory_a_skops_file_and_a_config(tmp_path):
    (tmp_path / "mine.py").write_text(
        "import numpy as np\n"
        "from sklearn.neighbors import KNeighborsClassifier\n"
        "rows = np.loadtxt('train.csv', delimiter=',', skiprows=1)\n"
        "def build():\n"
        "    return KNeighborsClassifier(1, algorithm='kd_tree').fit(rows[:, :3], rows[:, "
        "3].astype(int))\n"
    )
    rng = np.random.default_rng(0)
    for name in ("train", "holdout"):
        rows = [
            ",".join([*(f"{v:.5f}" for v in rng.normal(size=3)), str(rng.integers(0, 2))])
            for _ in range(200)
        ]
        (tmp_path / f"{name}.csv").write_text("\n".join(["a,b,c,y", *rows]) + "\n")
    data = ("--members", "train.csv", "--non-members", "holdout.csv")
    few = ("--attacks", "gap,loss")
    done = call("audit", "--model", "mine:build", *data, *few, "--out", "one", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    subprocess.run(
        [sys.executable, "-c", "import mine, skops.io; skops.io.dump(mine.build(), 'm.skops')"],
        cwd=tmp_path,
        check=True,
    )
    refused = call("audit", "--model", "m.skops", *data, "--out", "two", cwd=tmp_path)
    assert (
        refused.returncode == 2
        and "--trust-type" in refused.stderr
        and not (tmp_path / "two").exists()
    )
    (tmp_path / "audit.toml").write_text(
        '[target]\nmodel = "m.skops"\ntrust_types = ["sklearn.neighbors._kd_tree.KDTree", "sklearn.metrics._dist_metrics.EuclideanDistance64"]\n'
        '[data]\nmembers = "train.csv"\nnon_members = "holdout.csv"\n'
        '[threat]\nprior = 0.1\n[policy]\nuse = "demo"\n[audit]\nattacks = ["gap", "loss"]\nout = "two"\n'
    )
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    done = call("audit", "../audit.toml", "--title", "mine", cwd=elsewhere)
    assert done.returncode in (0, 1, 3), done.stderr
    document = json.loads((tmp_path / "two" / "result.json").read_text())
    assert document["plan"]["threat"]["prior"] == 0.1 and document["title"] == "mine"
    assert "Trusted these types" in document["diagnostics"]["notes"][0]
    one, two = (
        json.loads((tmp_path / name / "result.json").read_text())["digests"]["outputs"]
        for name in ("one", "two")
    )
    assert one == two, "the same model by both routes"


def test_plan_is_a_dry_run(tmp_path):
    write_signals(tmp_path / "s.csv")
    done = call("plan", "--signals", "s.csv", "--policy", "demo", cwd=tmp_path)
    assert done.returncode == 0
    for words in (
        "runs     logit at probabilities",
        "not run  quantile: Expected features for the attack quantile, got none.",
        "lowest false-positive rate",
        "queries  832",
    ):
        assert words in done.stdout
    assert "power    at 5% false positives" in done.stdout
    assert {path.name for path in tmp_path.iterdir()} == {"s.csv"}


def test_plan_takes_what_audit_takes_and_says_whose_result_is_in_the_folder(audited):
    base = ("plan", "--signals", "s.csv", "--features", "x0", "--groups", "sex", "--policy", "demo")
    only_audit = ("--accept-limited", "--no-records", "--show-ids", "--drop-overlap")
    same = call(*base, "--out", "out", *only_audit[:3], cwd=audited)
    assert same.returncode == 0 and "folder" not in same.stdout, same.stderr
    other = call(*base, "--out", "out", *only_audit, "--title", "t", cwd=audited)
    assert other.returncode == 0, other.stderr
    assert "folder   out holds a result with another plan: the audit will need" in other.stdout
    replaced = call(*base, "--out", "out", *only_audit, "--overwrite", cwd=audited)
    assert replaced.returncode == 0 and "folder" not in replaced.stdout


def test_init_writes_a_configuration_that_plan_reads(tmp_path):
    write_signals(tmp_path / "s.csv")
    answers = (
        "\n".join(["my model", "anyone", "probabilities", "100", "0.05", "low", "s.csv"]) + "\n"
    )
    done = call("init", cwd=tmp_path, stdin=answers)
    assert done.returncode == 0, done.stderr
    assert 'use = "demo"' in (tmp_path / "audit.toml").read_text()
    assert call("plan", "audit.toml", cwd=tmp_path).returncode == 0
    again = call("init", cwd=tmp_path, stdin=answers)
    assert again.returncode == 2 and "--force" in again.stderr


def test_any_title_is_read_back_and_a_policy_file_stands_beside_its_configuration(tmp_path):
    import tomllib

    from memberscope.cli.options.configuration import read_audit_config

    title = 'm 🙂 "q" \\ \x7f\n[policy]'
    answers = {
        "--title": title,
        "--who": "any\nbody\x01",
        "--access": "label",
        "--queries": "1",
        "--prior": "0.5",
    }
    flags = [
        word for pair in {**answers, "--harm": "low", "--target": "m:f"}.items() for word in pair
    ]
    done = call("init", "audit.toml", *flags, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (
        tomllib.loads((tmp_path / "audit.toml").read_text(encoding="utf-8"))["audit"]["title"]
        == title
    )
    (tmp_path / "own.toml").write_text('[policy]\nuse = "mine.toml"\n')
    assert read_audit_config(tmp_path / "own.toml").policy == str(tmp_path / "mine.toml")


def test_doctor_and_list(tmp_path):
    doctor = call("doctor", cwd=tmp_path)
    assert doctor.returncode == 0 and "cores" in doctor.stdout and "numpy" in doctor.stdout
    assert "quantile" in call("list", cwd=tmp_path).stdout
    for kind in ("metrics", "policies", "standards", "topics", "access"):
        assert call("list", kind, cwd=tmp_path).stdout.strip()
    assert call("list", "nothing", cwd=tmp_path).returncode == 2


MISTAKES = [
    (("audit",), "Expected --signals FILE, or --model"),
    (("audit", "--signals", "none.csv"), "not there"),
    (("audit", "--signals", "s.csv", "--fpr", "0.00001"), "at least 100000 non-members"),
    (("audit", "--signals", "s.csv", "--fpr", "many"), "--fpr"),
    (("audit", "--signals", "s.csv", "--prior", "2"), "strictly between 0 and 1"),
    (("audit", "--signals", "s.csv", "--seed", "-1"), "Expected a seed of at least 0"),
    (
        (
            "init",
            "new.toml",
            "--prior",
            "5",
            "--title",
            "t",
            "--who",
            "w",
            "--access",
            "label",
            "--queries",
            "1",
            "--harm",
            "low",
            "--target",
            "m:f",
        ),
        "strictly between 0 and 1",
    ),
    (("plan", "--model", "m.pkl", "--members", "s.csv", "--non-members", "s.csv"), "--trust-code"),
    (("audit", "--signals", "s.csv", "--access", "telepathy"), "Expected access label"),
    (("audit", "--signals", "s.csv", "--attacks", "lyra"), "got 'lyra'"),
    (("audit", "--signals", "s.csv", "--policy", "nonesuch"), "one of demo"),
    (("audit", "--signals", "s.csv", "--groups", "colour"), "column 'colour'"),
    (("audit", "--signals", "s.csv", "--model", "a:b"), "got both"),
    (("audit", "--signals", "bad.csv"), "sum to 1"),
    (("audit", "--signals", "nan.csv"), "first record 'r0'"),
    (("audit", "--model", "m.pkl", "--members", "s.csv", "--non-members", "s.csv"), "--trust-code"),
    (("audit", "absent.toml"), "memberscope init"),
    (("audit", "typo.toml"), "got 'modell'"),
    (("audit", "section.toml"), "got [recipes]"),
    (("audit", "kind.toml"), "Expected a number for prior in [threat]"),
    (("audit", "--signals", "s.csv", "--out", "s.csv"), "Expected a folder"),
    (("explain", "r0", "--result", "nowhere"), "holds none"),
    (("audit", "scalar.toml"), "Expected a section [target]"),
    (("audit", "both.toml"), "Keep either use or the claims"),
    (("audit", "--signals", "s.csv", "--policy", "scalar.toml"), "Expected a [policy] table"),
    (("audit", "--signals", "s.csv", "--policy", "latin.toml"), "Expected"),
]


@pytest.mark.parametrize(("arguments", "words"), MISTAKES, ids=[words for _, words in MISTAKES])
def test_mistakes_are_one_sentence_exit_2_and_leave_nothing(tmp_path, arguments, words):
    write_signals(tmp_path / "s.csv", 60)
    rows = (tmp_path / "s.csv").read_text().splitlines()
    (tmp_path / "bad.csv").write_text("\n".join([rows[0], "r0,1,0,0.5,0.7,f,0", *rows[2:]]))
    (tmp_path / "nan.csv").write_text("\n".join([rows[0], "r0,1,0,nan,0.7,f,0", *rows[2:]]))
    (tmp_path / "m.pkl").write_bytes(pickle.dumps(print))
    (tmp_path / "typo.toml").write_text('[target]\nmodell = "x"\n')
    (tmp_path / "section.toml").write_text("[recipes]\n")
    (tmp_path / "scalar.toml").write_text('target = "x"\npolicy = 3\n')
    (tmp_path / "both.toml").write_text(
        '[policy]\nuse = "demo"\nmax_tpr = [{ fpr = 0.05, tpr = 0.06 }]\n'
    )
    (tmp_path / "latin.toml").write_bytes(b'[policy]\nmax_tpr = "\xe9"\n')
    (tmp_path / "kind.toml").write_text('[threat]\nprior = "low"\n')
    before = {path.name for path in tmp_path.iterdir()}
    done = call(*arguments, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert words in done.stderr and "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert {path.name for path in tmp_path.iterdir()} == before


def test_an_unanswered_question_is_no_failed_policy(tmp_path):
    done = call("init", "new.toml", cwd=tmp_path)
    assert done.returncode == 2 and "Expected an answer to each question" in done.stderr
    assert not list(tmp_path.iterdir())


def write_own_model(folder: Path, answer: str) -> tuple[str, ...]:
    """Write a model whose `predict_proba` runs the lines `answer`, and two tables of records.

    Give the command that audits it.
    """
    (folder / "own.py").write_text(
        "import os, signal\nimport numpy as np\n"
        "class Model:\n    classes_ = [0, 1]\n    def predict_proba(self, x):\n"
        + textwrap.indent(answer, " " * 8)
        + "\ndef build():\n    return Model()\n"
    )
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        (folder / f"{name}.csv").write_text(
            "x,y\n" + "".join(f"{rng.normal():.5f},{i % 2}\n" for i in range(60))
        )
    sides = ("--members", "a.csv", "--non-members", "b.csv")
    return ("audit", "--model", "own:build", *sides, "--out", "out")


def test_an_interrupted_audit_says_how_to_go_on(tmp_path):
    command = write_own_model(tmp_path, "os.kill(os.getpid(), signal.SIGINT)")
    done = call(*command, cwd=tmp_path)
    assert done.returncode == 4 and "Interrupted. Run the same command again" in done.stderr


def test_an_interrupted_search_says_what_is_kept_and_goes_on(tmp_path):
    # The first questions are answered; the search is interrupted, and the second run is not
    stop = "if len(x) < 60 and not os.path.exists('once'):\n    open('once', 'w').close()\n"
    stop += "    os.kill(os.getpid(), signal.SIGINT)\n"
    command = write_own_model(
        tmp_path,
        stop + "p = 1 / (1 + np.exp(-np.asarray(x)[:, 0]))\nreturn np.stack([1 - p, p], 1)",
    )
    command += ("--attacks", "gap,boundary", "--fpr", "0.1")
    done = call(*command, cwd=tmp_path)
    assert done.returncode == 4 and "What was finished is kept in out." in done.stderr
    assert "Stopped at: asking the model, 120 of 120." in done.stderr
    assert call(*command, cwd=tmp_path).returncode == 0


def test_a_failing_model_is_exit_4(tmp_path):
    command = write_own_model(tmp_path, "raise RuntimeError('no GPU')")
    done = call(*command, cwd=tmp_path)
    assert (
        done.returncode == 4
        and "RuntimeError: no GPU" in done.stderr
        and "Traceback" not in done.stderr
    )


def test_a_killed_audit_goes_on(tmp_path):
    command = write_own_model(
        tmp_path,
        "if os.path.exists('kill'):\n    os.kill(os.getpid(), signal.SIGKILL)\n"
        "p = 1 / (1 + np.exp(-np.asarray(x)[:, 0]))\nreturn np.stack([1 - p, p], axis=1)",
    )
    (tmp_path / "kill").touch()
    assert call(*command, cwd=tmp_path).returncode == -signal.SIGKILL
    assert not (tmp_path / "out" / "result.json").exists()
    (tmp_path / "kill").unlink()
    assert call(*command, cwd=tmp_path).returncode == 0
    assert (tmp_path / "out" / "result.json").exists()


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """A demo, and the folder that it ran in."""
    folder = tmp_path_factory.mktemp("demo")
    return call("demo", "--out", "demo", cwd=folder), folder


def test_the_demo_fails_one_model_and_passes_the_other(demo):
    done, folder = demo
    assert done.returncode == 0, done.stderr + done.stdout
    verdicts = {
        name: json.loads((folder / "demo" / name / "result.json").read_text())["verdict"]
        for name in ("leaky", "clean")
    }
    assert verdicts == {"leaky": "FAIL", "clean": "PASS"}
    assert "An audit of this size fails a model" in " ".join(done.stdout.split())


def test_a_demo_is_kept_in_the_history_as_such(demo):
    kept = read_history(demo[1] / ".memberscope" / "history.sqlite")
    assert [(entry.kind, entry.verdict) for entry in kept] == [("demo", "FAIL"), ("demo", "PASS")]


def test_a_full_disk_is_one_sentence_and_nothing_half_written(tmp_path):
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", small],
        capture_output=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip("needs the right to mount a small file system")
    try:
        write_signals(tmp_path / "s.csv")
        done = call("audit", "--signals", "s.csv", "--out", small / "out", cwd=tmp_path)
        assert (
            done.returncode == 2 and "full disk" in done.stderr and "Traceback" not in done.stderr
        )
        left = {path.name for path in (small / "out").rglob("*") if path.is_file()}
        assert "result.json" not in left and not any(name.endswith(".tmp") for name in left)
    finally:
        subprocess.run(["umount", small], check=True)
