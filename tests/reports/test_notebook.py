"""A result in Python: what it shows, its frames, its charts, and how it is saved and loaded."""

from __future__ import annotations

import csv
import io
import subprocess
import sys
from html.parser import HTMLParser

import matplotlib
import numpy as np
import pytest
from rich.console import Console

import memberscope
from memberscope.auditing import hash_ids
from memberscope.errors import InputError
from memberscope.reports import list_citations, open_progress, render_report, show_progress
from memberscope.reports.citations import cite_attacks
from memberscope.reports.notebook import progress as shown
from memberscope.reports.notebook import tables

matplotlib.use("agg")
HOSTILE = "<script>alert(1)</script>"


class Tags(HTMLParser):
    """The tags of a page, and the addresses that it would load."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags, self.addresses = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.addresses += [value for name, value in attrs if name in ("src", "href")]


def test_a_result_is_shown_in_five_lines(result, clean):
    for entry in (result, clean):
        lines = repr(entry).splitlines()
        assert len(lines) <= 5 and max(map(len, lines)) <= 110
        assert entry.verdict in lines[1] and str(entry) == repr(entry)
    assert "FAIL" in repr(result) and "false positives" in repr(result)
    console = Console(record=True, width=80, file=io.StringIO())
    console.print(result)
    assert len(console.export_text().splitlines()) < 12


def test_the_card_holds_the_headline_and_nothing_that_runs_or_loads(result):
    card = result._repr_html_()
    found = Tags(card)
    assert "script" not in found.tags and "img" not in found.tags and found.addresses == []
    assert HOSTILE not in card and "&lt;script&gt;" in card
    best = next(e for e in result.estimates if e.metric == "tpr" and not e.exploratory)
    assert f"{100 * best.value:.3g}%" in card and "FAIL" in card
    # The same words as in the report, from the same template
    assert card.split('<div class="cards">')[1].split("</div>\n</div>")[0] in render_report(result)


def test_styles_of_the_card_stay_inside_it(result):
    style = result._repr_html_().split("<style>")[1].split("</style>")[0]
    rules = [rule for rule in style.replace("}}", "}").split("}") if "{" in rule]
    for rule in rules:
        selectors = rule.rsplit("{", 1)[0].split("{")[-1]
        assert all(part.strip().startswith(".memberscope-card") for part in selectors.split(","))


@pytest.mark.parametrize("backend", ["pandas", "polars"])
def test_estimates_as_a_frame(result, backend):
    frame = result.to_frame(backend)
    assert type(frame).__module__.split(".")[0] == backend
    assert frame.shape == (len(result.estimates), 21)
    assert set(frame["of"]) == {"records"}
    assert list(frame["value"]) == [entry.value for entry in result.estimates]
    groups = [entry.group for entry in result.estimates]
    assert [None if value != value else value for value in frame["group"]] == groups


def test_records_as_frames_name_nobody_unless_asked(result):
    records, scores = result.records("polars"), result.scores("polars")
    assert records["record"].to_list() == list(hash_ids(result.arrays.ids))
    assert result.records("polars", show_ids=True)["record"].to_list() == result.arrays.ids.tolist()
    assert scores["member"].to_list() == result.arrays.member.tolist()
    for entry in result.arrays.scored:
        np.testing.assert_array_equal(scores[entry.name].to_numpy(), entry.scores)
    risks = [name for name in records.columns if name.startswith("risk:")]
    assert risks == [f"risk:{name}" for name in result.arrays.posterior]


def test_frames_say_what_is_missing(result, monkeypatch):
    with pytest.raises(InputError, match="backend pandas or polars, got 'spark'"):
        result.to_frame("spark")
    monkeypatch.setattr(tables, "BACKENDS", ("no_such_frames",))
    with pytest.raises(InputError, match="got neither"):
        result.to_frame()
    with pytest.raises(InputError, match=r"Expected no_such_frames .* none installed"):
        result.to_frame("no_such_frames")


def test_the_roc_is_that_of_the_stored_scores(result):
    curve = result.roc("loss")
    entry = next(e for e in result.arrays.scored if e.attack == "loss" and e.access == "logits")
    member = result.arrays.member
    assert curve.access == "logits" and curve.threshold[0] == np.inf
    middle = len(curve.fpr) // 2
    accused = entry.scores >= curve.threshold[middle]
    assert curve.tpr[middle] == accused[member].mean()
    assert curve.fpr[middle] == accused[~member].mean()
    assert result.roc("loss", "probabilities").access == "probabilities"
    with pytest.raises(InputError, match="Expected an attack that ran"):
        result.roc("losss")
    with pytest.raises(InputError, match=r"level at which loss ran \(.*\), got 'label'"):
        result.roc("loss", "label")


def test_charts_are_drawn_on_given_axes(result):
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2)
    assert result.plot.roc(["loss", "gap"], ax=left) is left
    assert [line.get_label() for line in left.lines] == [
        "loss (logits)",
        "gap (label)",
        "chance",
    ]
    assert result.plot.groups(ax=right) is right
    assert len(right.get_yticklabels()) > 1
    own = result.plot.roc()
    assert own.figure is not figure and len(own.lines) == 6
    pyplot.close("all")


def test_a_saved_result_is_loaded_as_it_was(result, tmp_path):
    folder = result.save(tmp_path / "out")
    names = sorted(path.name for path in folder.iterdir())
    assert names == ["arrays.safetensors", "records.csv", "report.html", "result.json"]
    again = memberscope.load(folder)
    assert again == result.model_copy(update={"arrays": again.arrays}) and repr(again) == repr(
        result
    )
    assert again.scores("polars").equals(result.scores("polars"))
    assert memberscope.load(folder / "result.json").roc("gap").tpr.tolist() == (
        result.roc("gap").tpr.tolist()
    )
    (folder / "arrays.safetensors").unlink()
    bare = memberscope.load(folder)
    assert bare.to_frame("polars").equals(result.to_frame("polars"))
    for ask in (bare.scores, bare.records, bare.plot.roc, lambda: bare.roc("gap")):
        with pytest.raises(InputError, match=r"Expected arrays.safetensors"):
            ask()
    with pytest.raises(InputError, match="got the file"):
        result.save(folder / "result.json")


def test_records_can_be_left_out_of_what_is_saved(result, tmp_path):
    folder = result.save(tmp_path, records=False)
    assert not (folder / "records.csv").exists()
    assert b"secret-" not in (folder / "arrays.safetensors").read_bytes()


def test_a_frame_of_records_says_what_the_file_says(result, tmp_path):
    with (result.save(tmp_path) / "records.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    frame = result.records("polars")
    name = next(iter(result.arrays.posterior))
    assert [row["hash"] for row in rows] == frame["record"].to_list()
    assert [float(row[f"risk:{name}"]) for row in rows] == frame[f"risk:{name}"].to_list()


def test_works_behind_the_attacks_are_cited(result):
    found = {work.key: work for work in result.citations()}
    assert found["yeom2018"].attacks == ("gap", "gap_per_class", "loss", "loss_per_class")
    assert found["carlini2022"].arxiv == "2112.03570" and "zarifzadeh2024" not in found
    page = render_report(result)
    for work in found.values():
        assert (work.title in page and "eprint" in work.bibtex) or not work.arxiv
    assert list_citations(result) == result.citations()


def test_every_shipped_attack_has_a_work():
    from memberscope.attacks import (
        ATTACKS,
        OUTPUT_ATTACKS,
        TEXT_ATTACKS,
        VARIANTS,
        WHITE_BOX,
    )

    every = (*ATTACKS, *WHITE_BOX, *VARIANTS, *TEXT_ATTACKS, *OUTPUT_ATTACKS)
    names = tuple(one.name for one in every)
    cited = {name for work in cite_attacks(names) for name in work.attacks}
    assert set(names) - cited == set()
    works = {work.key: set(work.attacks) for work in cite_attacks((*names, "neighbourhood"))}
    assert works["base2025"] == {"base", "base_offline", "base_t1"}
    assert works["shi2024"] == {"min_k"} and works["mattern2023"] == {"neighbourhood"}


def test_public_names_are_listed_and_found():
    code = """
import sys, memberscope
names = dir(memberscope)
assert {"audit", "load", "Result", "Plan", "attacks", "statistics"} <= set(names)
assert names == sorted(memberscope.__all__) and "numpy" not in sys.modules
assert all(getattr(memberscope, name) is not None for name in names)
assert memberscope.attacks.LiRA().name == "lira"
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_progress_is_silent_where_nobody_looks(capsys):
    with open_progress(None) as report:
        assert report is None
    with open_progress(False, Console(force_terminal=True)) as report:
        assert report is None
    calls = []
    with open_progress(lambda *stage: calls.append(stage)) as report:
        report("query", 1, 2)
    assert calls == [("query", 1, 2)]
    assert capsys.readouterr() == ("", "")
    with (
        pytest.raises(InputError, match="progress None, True, False or a function"),
        open_progress("yes"),
    ):
        pass


def test_progress_asked_for_is_written_where_there_are_no_bars(capsys):
    with open_progress(True) as report:
        report("query", 1, 2)
        report("note: \x1b[2Jslow", 1, 1)
        report("query", 2, 2)
    assert capsys.readouterr().err == "\\x1b[2Jslow\nasking the model: 2 of 2\n"


def test_bars_in_a_terminal_have_plain_words_and_the_time_left():
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, width=100)
    with open_progress(None, console) as report:
        report("measure boundary", 1, 4)
        report("measure boundary", 2, 4)
    assert "searching boundaries" in stream.getvalue() and "left" in stream.getvalue()
    with show_progress(console) as report:
        report("note: the model is slow", 1, 1)
    assert "the model is slow" in stream.getvalue()


def test_bars_of_a_notebook_are_html():
    bars, notes = shown._build_bars(hidden=True), []
    report = shown._follow_stages(bars, notes.append)
    report("query", 1, 4)
    report("note: <b>", 1, 1)
    drawn = shown._render_bars(bars, notes)
    assert "asking the model" in drawn and 'max="4" value="1"' in drawn and "&lt;b&gt;" in drawn
