"""Audits of language models through what a guard would leave of their log-probabilities."""

from __future__ import annotations

import numpy as np
import pytest
from language_models import draw_texts, make_text_target

import memberscope
from memberscope.auditing import Plan
from memberscope.auditing.forecast import forecast_audit
from memberscope.auditing.subject.texts import make_text_subject
from memberscope.outputs import parse_restriction
from memberscope.recipes.fleet.observe_model import Observation
from memberscope.recipes.fleet.observe_texts import observe_text_signals
from memberscope.signals import SignalRequest
from memberscope.types import Access, SignalSpec, ThreatModel

MEMBERS, OTHERS = draw_texts(200, 21), draw_texts(200, 22)


def _audit(restriction, target=None):
    threat = ThreatModel(access=Access.VOCABULARY, restriction=restriction)
    target = target or make_text_target(MEMBERS)
    return memberscope.audit(target, MEMBERS, OTHERS, threat=threat, policy="demo")


def _areas(result):
    return {
        entry.attack: entry
        for entry in result.estimates
        if entry.metric == "auc" and entry.group is None
    }


def test_rounded_log_probabilities_are_what_attacks_read():
    whole, rounded = _audit(None), _audit("round:0")
    areas = _areas(rounded)
    assert {entry.restriction for entry in areas.values()} == {"round:0"}
    assert {entry.access for entry in areas.values()} == {"token_probabilities"}
    # Losses to whole nats a token: a text of 20 tokens has a twentieth of them as its mean
    scores = next(one.scores for one in rounded.arrays.scored if one.attack == "loss")
    np.testing.assert_allclose(scores * 20, np.round(scores * 20), atol=1e-4)
    assert areas["loss"].value != _areas(whole)["loss"].value
    assert "min_k_plus_plus" not in areas and "min_k_plus_plus" in _areas(whole)


def test_only_texts_are_left_without_log_probabilities():
    target = make_text_target(MEMBERS)
    known = {text[: len(text) // 2]: text[len(text) // 2 :] for text in MEMBERS}
    # A model that has learned its members by heart writes them on, and others never
    target.generate = lambda prompts, n, max_tokens, seed: [
        [next((rest for half, rest in known.items() if prompt.startswith(half[:20])), "no")] * n
        for prompt in prompts
    ]
    result = _audit("no-logprobs", target)
    areas = _areas(result)
    assert set(areas) == {"strongest", "ngram_coverage"} and areas["ngram_coverage"].value > 0.9
    assert result.plan.threat.restriction == "label"
    assert [threat.access.word for threat in result.threat_models] == ["generations"]


def test_references_are_seen_through_the_same_restriction():
    wanted = SignalRequest(
        Access.TOKEN_PROBABILITIES, SignalSpec("log_confidence"), parse_restriction("round:0")
    )
    look = Observation((wanted,), "loss", 1, ("identity",), task="text")
    records = make_text_subject(make_text_target(), MEMBERS[:20], OTHERS[:20]).records
    kept = observe_text_signals(
        look, make_text_target(MEMBERS), records, np.arange(40) < 20, population=None
    )
    for name in ("pool 0", "record_quality"):
        np.testing.assert_allclose(kept[name] * 20, np.round(kept[name] * 20), atol=1e-4)


@pytest.mark.parametrize(("budget", "samples"), [(None, 5), (3, 3)])
def test_a_model_that_only_generates_is_asked_within_the_budget(budget, samples):
    target, asked = make_text_target(MEMBERS), []

    def write(prompts, n, max_tokens, seed):
        asked.extend([n] * len(prompts))
        return [[prompt[-8:]] * n for prompt in prompts]

    target.generate = write
    threat = ThreatModel(restriction="no-logprobs", query_budget=budget)
    plan = Plan(threat=threat, fprs=(0.1,))
    result = memberscope.audit(target, MEMBERS, OTHERS, plan=plan)
    assert asked == [samples] * 400 and result.cost.queries == 400 * samples
    assert {entry.queries for entry in result.estimates} == {samples}
    told = forecast_audit(plan, make_text_subject(target, MEMBERS, OTHERS))
    assert told.queries == 400 * samples


def test_continuations_beside_scores_need_a_budget_for_them_all():
    target = make_text_target(MEMBERS)
    target.generate = lambda prompts, n, max_tokens, seed: [["no"] * n for _ in prompts]
    threat = ThreatModel(query_budget=4)
    plan = Plan(threat=threat, attacks=("loss", "ngram_coverage"), effort="normal")
    told = forecast_audit(plan, make_text_subject(target, MEMBERS, OTHERS))
    assert [name for name, _ in told.runs] == ["loss"]
    why = next(entry.why for entry in told.not_run if entry.attack == "ngram_coverage")
    assert why.startswith("Expected a budget of at least 5 queries a record") and "got 4" in why


def test_a_forecast_says_the_same_levels():
    threat = ThreatModel(access=Access.VOCABULARY, restriction="round:1")
    subject = make_text_subject(make_text_target(MEMBERS), MEMBERS, OTHERS)
    told = forecast_audit(Plan(threat=threat), subject)
    assert {level for _, level in told.runs} == {"token_probabilities round:1"}


def test_a_restricted_result_is_verified_from_its_files(tmp_path):
    memberscope.write_all(_audit("round:1"), tmp_path)
    assert memberscope.load(tmp_path).verdict == "FAIL"
    assert "log-probabilities to 1 decimals" in (tmp_path / "report.html").read_text()
