"""Figures of benchmarks beside their aims."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from benchmark_scripts import BENCHMARKS, load_benchmark

aims = load_benchmark("aims")
MAKEFILE = (Path(__file__).resolve().parent.parent / "Makefile").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("value", "limits", "words"),
    [
        (20.0, {"at_most": 20}, "(aim at most 20 s: holds)"),
        (20.1, {"at_most": 20}, "(aim at most 20 s: does not hold)"),
        (1.5, {"at_least": 1.5}, "(aim at least 1.5 s: holds)"),
        (1.49, {"at_least": 1.5}, "(aim at least 1.5 s: does not hold)"),
        (0.4, {"at_least": 0.5, "at_most": 2}, "(aim 0.5 to 2 s: does not hold)"),
        (2.0, {"at_least": 0.5, "at_most": 2}, "(aim 0.5 to 2 s: holds)"),
        (float("nan"), {"at_most": 20}, "(aim at most 20 s: does not hold)"),
        (7.0, {}, "(no aim)"),
        (7.0, {"at_most": None}, "(no aim)"),
    ],
)
def test_a_figure_is_stated_beside_its_aim(value, limits, words, monkeypatch):
    monkeypatch.delenv(aims.VARIABLE, raising=False)
    assert aims.judge("seconds", value, "s", **limits) == words


def test_all_figures_are_listed_at_the_end_those_with_aims_first(tmp_path, monkeypatch, capsys):
    path = tmp_path / "figures.jsonl"
    monkeypatch.setenv(aims.VARIABLE, str(path))
    monkeypatch.setattr("sys.argv", ["benchmarks/scale.py", "--features"])
    aims.judge("records", 200_000)
    aims.judge("wall", 60.5, "s", at_most=30)
    aims.judge("wall", 28.5, "s", at_most=30)
    aims.judge("peak", 1.7, "GB", at_most=1.5)
    aims.print_table(aims.read_figures(path))
    assert capsys.readouterr().out.splitlines()[2:] == [
        "| scale.py --features | wall | 28.5 s | at most 30 s | holds |",
        "| scale.py --features | peak | 1.7 GB | at most 1.5 GB | **does not hold** |",
        "| scale.py --features | records | 200,000 | no aim |  |",
        "",
        "1 of 2 aims hold.",
    ]


def test_no_figures_are_an_empty_table(tmp_path, capsys):
    aims.print_table(aims.read_figures(tmp_path / "none.jsonl"))
    assert capsys.readouterr().out.splitlines()[-1] == "0 of 0 aims hold."


def test_every_benchmark_of_make_bench_states_aims():
    recipe = re.search(r"^bench:.*\n((?:\t.*\n)+)", MAKEFILE, re.MULTILINE)
    assert recipe is not None
    scripts = set(re.findall(r"benchmarks/(\w+\.py)", recipe[1])) | {"label_only.py"}
    assert len(scripts) > 15
    silent = [
        name
        for name in scripts
        if not re.search(r"judge\(|no aim", (BENCHMARKS / name).read_text(encoding="utf-8"))
    ]
    assert silent == []
