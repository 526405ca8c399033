"""The commands on predicted numbers, several labels and forecasts run as the page has them."""

import csv
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from commands import run_command

import memberscope

pytest.importorskip("pandas")

PAGE = Path(__file__).resolve().parents[2] / "docs" / "outputs.md"
MODELS = """
import numpy as np
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor

people = np.genfromtxt("people.csv", delimiter=",", names=True)
x = np.column_stack([people[name] for name in "abc"])

def make_ages():
    return RandomForestRegressor(5, random_state=0).fit(x, people["age"])

def make_tags():
    labels = np.column_stack([people["low"], people["high"]]).astype(int)
    return RandomForestClassifier(5, random_state=0).fit(x, labels)

def make_loads():
    load = np.genfromtxt("meters.csv", delimiter=",", names=True)["load"].reshape(-1, 40)
    windows = np.concatenate([load[:, k : k + 30] for k in range(11)])
    return RandomForestRegressor(5, random_state=0).fit(windows[:, :24], windows[:, 24:])
"""


def write_rows(path, names, rows):
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([names, *rows])


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    for name in ("people.csv", "others.csv"):
        x = rng.normal(size=(150, 3))
        age = 50 + 10 * x[:, 0] + 10 * rng.normal(size=150)
        rows = np.column_stack([x, age])
        labels = np.column_stack([age < 45, age > 55]).astype(int)
        write_rows(
            tmp_path / name,
            ["a", "b", "c", "age", "low", "high"],
            [[*row, *tags] for row, tags in zip(rows, labels, strict=True)],
        )
    for k, name in enumerate(("meters.csv", "others_meters.csv")):
        rows = [(100 * k + m, hour, rng.normal()) for m in range(20) for hour in range(40)]
        write_rows(tmp_path / name, ["meter", "hour", "load"], rows)
    (tmp_path / "models.py").write_text(MODELS, encoding="utf-8")
    return tmp_path


def test_the_commands_audit_what_the_page_says(folder):
    commands = [
        shlex.split(line)
        for line in re.findall(
            r"^\$ memberscope (audit .*)$",
            PAGE.read_text(encoding="utf-8").replace("\\\n", " "),
            re.MULTILINE,
        )
    ]
    assert len(commands) == 3
    for command in commands:
        done = run_command(*command, cwd=folder, MEMBERSCOPE_NO_HISTORY="1")
        assert done.returncode == 0, done.stdout + done.stderr
    ages, tags, loads = (memberscope.load(folder / name) for name in ("ages", "tags", "loads"))
    assert [one.plan.task for one in (ages, tags, loads)] == [
        "regression",
        "multilabel",
        "forecast",
    ]
    assert ages.threat_models[-1].restriction == "interval:10"
    assert "label_loss" in {one.attack for one in tags.estimates}
    assert loads.plan.unit == "meter"
    assert {one.n_members for one in loads.by_unit if one.of == "units"} == {20}
