"""Canaries planted in a training run.

What is written, what a leaking and a private model prove, and mistakes.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest
from commands import run_command

FACTORY = """
import csv
import numpy as np
from sklearn.{module} import {name}

def target():
    rows = list(csv.reader(open("canaries/train.csv")))[1:]
    x = np.array([[float(v) for v in row[:4]] for row in rows])
    return {name}({settings}).fit(x, np.array([row[4] for row in rows]))
"""


def call(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    return run_command(*arguments, cwd=cwd, COLUMNS="200")


def table(path: Path, n: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 4)).round(5)
    words = np.array(["no", "yes"])[(x[:, 0] > 0).astype(int)]
    lines = [
        "a,b,c,d,y",
        *(",".join([*map(str, row), word]) for row, word in zip(x, words, strict=True)),
    ]
    path.write_text("\n".join(lines) + "\n")


@pytest.fixture(scope="module")
def planted(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("planted")
    table(folder / "members.csv", 300, 0)
    table(folder / "pool.csv", 500, 1)
    done = call(
        "canaries",
        "export",
        "--members",
        "members.csv",
        "--pool",
        "pool.csv",
        "--number",
        400,
        "--seed",
        5,
        cwd=folder,
    )
    assert done.returncode == 0, done.stderr
    return folder


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines()[1:]


def test_members_stay_and_each_canary_is_in_or_out_with_another_label(planted):
    train, inside, outside = (
        lines(planted / "canaries" / f"{name}.csv") for name in ("train", "in", "out")
    )
    assert train[:300] == lines(planted / "members.csv") and train[300:] == inside
    assert len(inside) + len(outside) == 400 and 150 < len(inside) < 250
    pool = {
        line.rpartition(",")[0]: line.rpartition(",")[2] for line in lines(planted / "pool.csv")
    }
    for line in inside + outside:
        record, _, word = line.rpartition(",")
        assert {word, pool[record]} == {"no", "yes"}


@pytest.mark.parametrize(
    ("module", "name", "settings", "refuted"),
    [
        ("tree", "DecisionTreeClassifier", "random_state=0", True),
        ("linear_model", "LogisticRegression", "C=1e-4", False),
    ],
)
def test_a_claim_is_refuted_where_the_model_learned_the_canaries_by_heart(
    planted, module, name, settings, refuted
):
    (planted / f"{module}_factory.py").write_text(
        FACTORY.format(module=module, name=name, settings=settings)
    )
    data = (
        "--members",
        "canaries/in.csv",
        "--non-members",
        "canaries/out.csv",
        "--attacks",
        "gap,logit,loss_per_class",
    )
    # A private model takes every canary for the class that it is not: that is what they are for.
    more = (
        "--coins",
        "--assume-class-order",
        "--fpr",
        "0.1",
        "--search-queries",
        "0",
        "--out",
        name,
    )
    done = call("audit", "--model", f"{module}_factory:target", *data, *more, cwd=planted)
    assert done.returncode == 0, done.stderr
    scored = call("canaries", "score", name, "--claimed", "1", cwd=planted)
    assert scored.returncode == (1 if refuted else 0), scored.stderr
    assert ("REFUTED" in scored.stdout) == refuted and scored.stdout.count("epsilon >=") == 2
    if not refuted:
        assert scored.stdout.count("epsilon >= 0.000") == 2
    unknown = call("canaries", "score", name, "--attack", "loss_per_class", cwd=planted)
    assert unknown.returncode == 2 and "one that learns nothing" in unknown.stderr


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (("--number", 900), "2 to 500 canaries"),
        (("--kind", "odd"), "natural or mislabelled"),
        (("--label", "z"), "the column 'z'"),
        (("--pool", "other.csv"), "the same columns"),
    ],
)
def test_mistakes_are_one_sentence(planted, more, words):
    (planted / "other.csv").write_text("a,y\n1,no\n2,yes\n")
    done = call(
        "canaries",
        "export",
        "--members",
        "members.csv",
        "--pool",
        "pool.csv",
        "--out",
        "new",
        *more,
        cwd=planted,
    )
    assert (
        done.returncode == 2
        and words in done.stderr
        and done.stderr.count("\n") == 1
        and not (planted / "new").exists()
    )


def test_an_audit_without_coins_proves_nothing(planted):
    (planted / "t.py").write_text(
        FACTORY.format(module="tree", name="DecisionTreeClassifier", settings="max_depth=3")
    )
    data = (
        "--members",
        "canaries/in.csv",
        "--non-members",
        "canaries/out.csv",
        "--attacks",
        "gap",
        "--fpr",
        "0.1",
    )
    assert (
        call(
            "audit",
            "--model",
            "t:target",
            *data,
            "--assume-class-order",
            "--out",
            "plain",
            cwd=planted,
        ).returncode
        == 0
    )
    done = call("canaries", "score", "plain", cwd=planted)
    assert done.returncode == 2 and "--coins" in done.stderr


def test_randomised_response_of_the_claimed_epsilon_is_not_refuted(capsys):
    """Its trade-off curve is no Gaussian one's, so the f-DP form exceeds the truth there.

    That may not refute anything.
    """
    from memberscope.auditing import compute_privacy_bounds
    from memberscope.cli.epsilon_words import report_refutation

    doubts = 0
    for seed in range(10):
        rng = np.random.default_rng(seed)
        inside = rng.random(1000) < 0.5
        kept = rng.random(1000) < np.e / (
            1 + np.e
        )  # 1-DP: the coin itself with this probability, else the other side
        bounds = compute_privacy_bounds(
            np.where(kept, inside, ~inside) + 1e-3 * rng.random(1000), inside, 1e-9
        )
        assert not report_refutation(bounds, 1.0)
        doubts += "In doubt" in capsys.readouterr().out
    assert doubts > 0
    assert report_refutation(bounds, 0.3)
