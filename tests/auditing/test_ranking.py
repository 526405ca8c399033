"""The ranking of attacks: candidates of each level, the judged level and the leading attack."""

from __future__ import annotations

import numpy as np
import pytest

from memberscope.auditing import AttackScores, AuditArrays
from memberscope.auditing.estimates.ranking import build_ranking, drop_reference_attacks
from memberscope.errors import InputError
from memberscope.types import Access

N = 200
MEMBER = np.arange(N) < N // 2


def entry(attack: str, access: str, shift: float, seed: int, **given) -> AttackScores:
    scores = np.random.default_rng(seed).standard_normal(N) + shift * MEMBER
    return AttackScores(attack, access, False, scores, {}, **given)


def arrays(*scored: AttackScores) -> AuditArrays:
    zeros = np.zeros(N, dtype=np.int64)
    return AuditArrays(np.arange(N).astype(str), MEMBER, zeros, np.arange(N) % 5, scored)


def twin_of(other: AttackScores, attack: str) -> AttackScores:
    return AttackScores(attack, other.access, False, np.exp(other.scores), {})


GAP = entry("gap", "label", 0.3, 0)
COARSE_GAP = entry("gap", "probabilities", 0.4, 1)
TRIED = entry("loss", "probabilities", 0.5, 2, restriction="top:1", declared=False)
CALIBRATED = entry("calibrated", "probabilities", 2.0, 3)
LOSS = twin_of(CALIBRATED, "loss")
LOGIT = entry("logit", "probabilities", 1.0, 4)
LOGITS = entry("logit", "logits", 1.2, 5)
PLANTED = arrays(GAP, TRIED, CALIBRATED, LOSS, LOGIT)


def names(level) -> list[str]:
    return [candidate.name for candidate in level.candidates]


def test_of_two_attacks_with_one_ranking_the_first_is_the_candidate():
    ranking = build_ranking(PLANTED, Access.PROBABILITIES)
    assert ranking.judged is ranking.find_level("probabilities", None)
    assert names(ranking.judged) == ["gap@label", "calibrated@probabilities", "logit@probabilities"]
    assert ranking.leading is CALIBRATED is ranking.leading_reference
    parts = ranking.judged.build_parts()
    assert [part.scored for part in parts] == list(ranking.judged.candidates)
    derivable = {scored.name for scored in ranking.judged.list_derivable()}
    assert derivable == {*names(ranking.judged), "loss@probabilities"}, "no candidate, yet tried"


def test_without_trust_in_the_references_the_twin_of_a_reference_attack_is_a_candidate():
    ranking = build_ranking(PLANTED, Access.PROBABILITIES)
    alone = ranking.rank_without_references()
    assert names(alone) == ["gap@label", "loss@probabilities", "logit@probabilities"]
    assert alone.at is ranking.judged.at
    only = build_ranking(drop_reference_attacks(PLANTED), Access.PROBABILITIES)
    assert only.leading is LOSS and only.leading_reference is None
    none_left = build_ranking(arrays(CALIBRATED), Access.PROBABILITIES)
    assert names(none_left.rank_without_references()) == []


def test_a_restriction_that_is_tried_has_its_own_attacks_and_those_on_labels():
    ranking = build_ranking(PLANTED, Access.PROBABILITIES)
    assert names(ranking.find_level("probabilities", "top:1")) == [
        "gap@label",
        "loss@probabilities top:1",
    ]
    assert names(ranking.find_level("label", None)) == ["gap@label"]
    assert ranking.find_level("logits", None) is None
    assert [level.at.level for level in ranking.levels] == [
        "label",
        "probabilities top:1",
        "probabilities",
    ]


def test_each_attack_stands_at_its_highest_level_up_to_the_declared_one():
    scored = arrays(GAP, LOGIT, COARSE_GAP, LOGITS)
    ranking = build_ranking(scored, Access.LOGITS)
    assert names(ranking.judged) == ["gap@probabilities", "logit@logits"]
    assert ranking.leading is LOGITS
    lower = build_ranking(scored, Access.PROBABILITIES)
    assert names(lower.judged) == ["gap@probabilities", "logit@probabilities"]
    assert names(build_ranking(scored, Access.LABEL).judged) == ["gap@label"]
    only_tried = build_ranking(arrays(TRIED), Access.PROBABILITIES)
    assert only_tried.judged.at is TRIED, "where nothing was declared, what ran is judged"


def test_without_scores_there_is_nothing_to_judge():
    ranking = build_ranking(arrays(), Access.LABEL)
    assert (ranking.levels, ranking.leading, ranking.leading_reference) == ((), None, None)
    with pytest.raises(InputError, match="Expected the scores of at least one attack"):
        ranking.get_judged_level()
