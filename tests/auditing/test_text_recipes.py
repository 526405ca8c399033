"""Audits of language models with reference fine-tunes, whose leak is known in closed form."""

from __future__ import annotations

import numpy as np
import pytest
from language_models import draw_texts, make_text_target, make_token_function
from scipy.stats import norm

import memberscope
from memberscope.recipes import Execution, FunctionRecipe
from memberscope.targets import TokenFunctionTarget
from memberscope.types import Access, ThreatModel

MEMBERS, OTHERS = draw_texts(400, 11), draw_texts(400, 12)
GAIN, OWN, TOKENS = 0.15, 0.2, 20  # nats a token by training, noise of one model, tokens of a text
WHOLE = ThreatModel(access=Access.VOCABULARY)


def _make_recipe(gain: float) -> FunctionRecipe:
    """Make a recipe of models that give the texts they know `gain` more a token."""

    def train(records, seed):
        function = make_token_function(records.x, gain, salt=f"reference {seed}")
        return TokenFunctionTarget(
            function, access=Access.VOCABULARY, base=make_token_function(salt="base")
        )

    return FunctionRecipe(train)


def _audit(target_gain: float, recipe_gain: float, references: int = 2, **more):
    return memberscope.audit(
        make_text_target(MEMBERS, gain=target_gain),
        MEMBERS,
        OTHERS,
        threat=WHOLE,
        recipe=_make_recipe(recipe_gain),
        references=references,
        **more,
    )


@pytest.fixture(scope="module")
def matched():
    return _audit(GAIN, GAIN, policy="demo")


def _areas(result):
    return {
        entry.attack: entry
        for entry in result.estimates
        if entry.metric == "auc" and entry.group is None and entry.attack != "strongest"
    }


def test_references_find_what_the_models_own_noise_leaves(matched):
    areas = _areas(matched)
    # Of the target's loss the shared noise stays, of the difference to other models only the own
    # noise: with k models without the record, a gain of .15 against .2 (1 + 1/k)^.5 / 20^.5
    alone = norm.cdf(GAIN / np.hypot(1, OWN) * np.sqrt(TOKENS / 2))
    one_model = norm.cdf(GAIN / (OWN * np.sqrt(2)) * np.sqrt(TOKENS / 2))
    assert areas["loss"].low < alone < areas["loss"].high
    assert areas["rmia_gamma1_t1"].high > one_model > 0.94
    assert areas["base_difference"].low < one_model < areas["base_difference"].high + 0.02
    assert matched.controls["references"].passed is True
    assert matched.verdict == "FAIL"


def test_references_that_learned_less_are_inconclusive():
    result = _audit(0.5, 0.1, policy="demo", references=4)
    assert result.controls["references"].passed is False
    assert "trained in another way" in result.controls["references"].why
    assert result.verdict in ("INCONCLUSIVE", "FAIL")
    finding = next(f for f in result.findings if "reference models learned" in f.claim)
    assert finding.verdict == "INCONCLUSIVE"


def test_features_of_tokens_are_learned_from_references(matched):
    assert _areas(matched)["token_classifier"].value > 0.8


def test_every_attack_holds_one_half_where_nothing_is_learned():
    plan = memberscope.Plan(confidence=0.99)
    n_attacks = len(_areas(_audit(0.0, 0.0, references=4, plan=plan)))
    # Simultaneous over the attacks, by Bonferroni
    plan = memberscope.Plan(confidence=1 - 0.01 / n_attacks)
    areas = _areas(_audit(0.0, 0.0, references=4, plan=plan))
    assert n_attacks >= 18
    wrong = {name: entry for name, entry in areas.items() if not entry.low <= 0.5 <= entry.high}
    assert not wrong


def test_units_are_never_split_between_references():
    authors = [f"author {row // 2}" for row in range(800)]
    seen = []

    def train(records, seed):
        seen.append(set(records.ids))
        return make_text_target(records.x, gain=GAIN)

    memberscope.audit(
        make_text_target(MEMBERS, gain=GAIN),
        MEMBERS,
        OTHERS,
        recipe=FunctionRecipe(train),
        references=2,
        unit=(authors[:400], authors[400:]),
        execution=Execution(backend="sequential"),
    )
    ids = [f"member:{row}" for row in range(400)] + [f"non-member:{row}" for row in range(400)]
    for known in seen:
        assert all((ids[row] in known) == (ids[row + 1] in known) for row in range(0, 800, 2))
    assert len(seen) >= 2
