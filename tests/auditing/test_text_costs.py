"""What reference fine-tunes cost, before any is trained."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tiny_language_models import build_model, build_tokenizer, draw_text_records

from memberscope.auditing.collect.reference_models import Training
from memberscope.auditing.forecast import (
    describe_missing_references,
    describe_reference_costs,
    forecast_reference_costs,
)
from memberscope.auditing.forecast.time_model import Timings
from memberscope.auditing.subject.subject import Subject
from memberscope.recipes import CausalLMRecipe, FineTuning


def make_parts(epochs=3):
    """A target with 20 texts of 9 tokens, 10 of them members, and its recipe."""
    recipe = CausalLMRecipe(build_model(), FineTuning(epochs=epochs), build_tokenizer())
    records, member = draw_text_records(20), np.arange(20) < 10
    return Subject(recipe.base_target, records, member, None, ("text",)), Training(recipe)


def test_tokens_requests_minutes_and_money_follow_the_number_of_models():
    subject, training = make_parts()
    timings = Timings(question=1.0, record=0.1, model=57.0)
    costs = forecast_reference_costs(subject, training, 10, timings, at_once=2, price=0.5)
    assert [cost.n_models for cost in costs] == [2, 4, 8]
    two, eight = costs[0], costs[2]
    # 9 tokens a text: 20 texts asked, and 10 trained on three times
    assert (two.requests, two.asked_tokens, two.trained_tokens) == (40, 2 * 180, 2 * 270)
    assert two.money == pytest.approx(0.5 * (360 + 540))
    assert two.minutes == pytest.approx(1.0) and eight.minutes == pytest.approx(4.0)
    assert eight.trained_tokens == 4 * two.trained_tokens
    lines = describe_reference_costs(costs)
    assert lines[0].endswith(
        "540 tokens to train on and 360 to read for 40 questions: 450.00 at the price given"
    )


def test_without_a_recipe_the_sentence_says_what_is_known():
    subject, _ = make_parts()
    costs = forecast_reference_costs(subject, None, 10, Timings(), at_once=1)
    assert costs[0].trained_tokens is None and costs[0].minutes is None
    sentence = describe_missing_references(costs)
    assert "understated" in sentence and "360 tokens to read for 40 questions" in sentence
    assert "None" not in sentence


def test_classifiers_and_stored_texts_have_no_such_costs():
    subject, training = make_parts()
    nothing = replace(subject, records=replace(subject.records, x=None))
    assert forecast_reference_costs(nothing, training, 10, Timings(), at_once=1) == []
