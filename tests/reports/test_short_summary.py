"""The short summary of an audit: 22 lines of 80 columns, and the command to copy."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from memberscope.auditing import STRONGEST
from memberscope.reports import print_summary
from memberscope.reports.level_rows import merge_levels
from memberscope.reports.short_summary import LINES


def show(result, width=80, out=Path("out"), **more):
    stream = io.StringIO()
    print_summary(result, Console(width=width, file=stream), out, **more)
    return stream.getvalue()


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("name", ["result", "clean"])
def test_it_fits_a_terminal_and_leaves_two_lines(request, name, width):
    result = request.getfixturevalue(name)
    lines = show(result, width).splitlines()
    assert len(lines) <= LINES == 22 and max(map(len, lines)) <= width
    text = " ".join(" ".join(lines).split())
    assert text.startswith(f"{result.verdict} ") and "Headline: " in text
    for words in ("what one query returns", "Worst group: ", "Controls: ", "Next: ", "--verbose"):
        assert words in text


def test_a_long_reason_and_title_are_cut_and_nothing_else(result):
    long = result.model_copy(update={"reason": "because " * 300, "title": "title " * 50})
    lines = show(long).splitlines()
    assert len(lines) <= LINES and sum(line.endswith("…") for line in lines) == 1
    assert show(long).partition("Headline")[2] == show(result).partition("Headline")[2]


def test_the_command_to_copy_is_one_line(result):
    arguments = " ".join(f"--members file{i}.csv" for i in range(9))
    inconclusive = result.model_copy(
        update={"verdict": "INCONCLUSIVE", "findings": [], "limited": False}
    )
    text = show(
        result.model_copy(update={"verdict": "PASS", "limited": True}),
        arguments=lambda verb: arguments,
    )
    assert any(f"memberscope audit {arguments} --recipe" in line for line in text.splitlines())
    assert "  memberscope explain --result out" in show(inconclusive).splitlines()


def test_the_worst_group_is_the_largest_each_by_its_strongest_attack(result):
    text = " ".join(show(result).split())
    best = next(e for e in result.estimates if e.attack == STRONGEST and not e.exploratory)
    groups = [
        entry
        for entry in result.estimates
        if entry.group and entry.metric == "tpr" and entry.threshold == "best"
        if (entry.fpr, entry.access, entry.restriction) == (best.fpr, best.access, None)
    ]
    strongest = [entry for entry in groups if entry.attack == STRONGEST]
    assert len(strongest) == len({entry.group for entry in groups})
    worst = max(strongest, key=lambda entry: entry.value)
    # No attack that was estimated by group may find more in one than what is shown
    assert worst.value == max(entry.value for entry in groups)
    assert f"(largest of {len(strongest)})" in text and f"{100 * worst.value:.3g}% (" in text
    assert f"found by {worst.reached_by}, the strongest attack there" in text


def test_levels_whose_numbers_are_the_same_share_a_row(result):
    own = [e for e in result.estimates if e.access == "logits" and e.restriction is None]
    twins = [replace(entry, restriction="round:5") for entry in own if entry.group is None]
    doubled = result.model_copy(update={"estimates": [*twins, *result.estimates]})
    for verbose in (False, True):
        text = show(doubled, 160, verbose=verbose)
        assert text.count("logits, also round:5") == 1
    other = [replace(e, value=e.value / 2, low=0.0) for e in twins]
    apart = show(result.model_copy(update={"estimates": [*other, *result.estimates]}), 160)
    assert "also round:5" not in apart and "logits round:5" in apart


def test_a_level_without_rows_joins_no_other():
    rows = {("label", None): [], ("logits", None): [("5%", "1%")], ("logits", "round:2"): []}
    assert [len(places) for places, _ in merge_levels(rows)] == [1, 1, 1]


def test_controls_that_did_not_pass_are_named_with_where_to_read(result):
    controls = dict(result.controls)
    controls["blind"] = replace(controls["blind"], passed=None)
    controls["null"] = replace(controls["null"], passed=False)
    text = " ".join(show(result.model_copy(update={"controls": controls})).split())
    n = len(controls)
    said = (
        f"Controls: {n - 2} of {n} passed; failed: null; not run: blind (memberscope explain null)"
    )
    assert said in text


def test_without_a_policy_there_is_a_headline_and_no_next_step(result):
    text = show(result.model_copy(update={"verdict": None, "reason": "No policy was given."}))
    assert text.startswith("NO POLICY ") and "Headline: " in text and "Next: " not in text


def test_verbose_has_every_table(result):
    text = show(result, 160, verbose=True)
    assert "Strongest attack by access" in text and "blind: ok" in text and "power:" in text
    assert "not run" in text and "Strongest attack by access" not in show(result, 160)
