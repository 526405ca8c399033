"""The model card, read by the Hub's own parser."""

from __future__ import annotations

import pytest
import yaml

from memberscope.reports.formats.key_numbers import list_key_estimates
from memberscope.reports.formats.model_card import format_yaml, render_model_card

hub = pytest.importorskip("huggingface_hub")


def read_card(result):
    return hub.ModelCard(render_model_card(result))


def test_the_hub_reads_every_number_with_its_interval(result):
    data = read_card(result).data
    wanted = list_key_estimates(result)
    assert data.model_name and data.tags == ["membership-inference"]
    assert len(data.eval_results) == len(wanted) > 10
    for found, entry in zip(data.eval_results, wanted, strict=True):
        assert isinstance(found, hub.EvalResult) and found.task_type == "membership-inference"
        assert found.metric_value == entry.value and found.metric_type == entry.metric
        assert found.metric_args["low"] == entry.low and found.metric_args["high"] == entry.high
        assert found.metric_args["n_members"] == entry.n_members
        assert found.metric_args["confidence"] == entry.confidence
    assert data.eval_results[0].metric_args["fpr"] == 0.05, "what was claimed comes first"


def test_every_verdict_is_a_card_that_the_hub_takes_and_writes_again(case, tmp_path):
    card = read_card(case)
    assert "## Membership inference" in card.text and "- Verdict: " in card.text
    card.save(tmp_path / "README.md")
    again = hub.ModelCard.load(tmp_path / "README.md")
    assert again.data.to_dict() == card.data.to_dict()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("fail", "- Verdict: FAIL, by the policy gate"),
        ("limited", "- Verdict: PASS (limited), by the policy gate"),
        ("unjudged", "- Verdict: not judged, as no policy was given\n"),
    ],
)
def test_the_section_says_the_verdict_as_it_is(cases, name, words):
    assert words in render_model_card(cases[name])


def test_hostile_titles_stay_one_text(cases):
    front = render_model_card(cases["harsh"]).split("---\n")[1]
    data = yaml.safe_load(front)
    assert set(data) == {"tags", "model-index"}
    (index,) = data["model-index"]
    assert index["name"].startswith("a|b `c`") and "\\x1b[2J" in index["name"]


@pytest.mark.parametrize(
    "value",
    [
        {"a": "x: y # z", "b": [], "c": {}, "d": {"e": [1, 2.5, True]}},
        [{"a": [{"b": "- c"}, "d"]}, ["e", ["f"]], -1e-300, 1e22, 0.1],
        {"text": "\"'\\ \u00e9 \U0001f600 \u2028 {{x}} ~ null yes 1e3"},
    ],
)
def test_yaml_reads_back_as_it_was(value):
    found = yaml.safe_load(format_yaml(value))
    if "text" in value:
        # What would move a cursor or end a line is shown instead
        value = {"text": value["text"].replace("\u2028", "\\u2028")}
    assert found == value
