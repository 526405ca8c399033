"""How much of a collection was used, and was anything near it: questions to a finished audit."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scenes import Planted, PlantedRecipe, numbers, planted_sides

import memberscope
from memberscope import Plan, ThreatModel
from memberscope.attacks import BASE, RMIA, LiRA, RobustLiRA
from memberscope.auditing import audit_signals, set_test
from memberscope.auditing.sets import answer_share, score_references, state_share
from memberscope.auditing.sets.evidence import collect_set_evidence
from memberscope.auditing.verdict.recompute import digest_audit_arrays
from memberscope.errors import InputError, UnmetNeedError
from memberscope.recipes import Execution, build_balanced_design
from memberscope.statistics import auc_value, roc
from memberscope.statistics.sets import estimate_share
from memberscope.targets import StoredSignals
from memberscope.types import Access, Evidence


def build_reference_evidence(n, m, used, rng, signal="logit_confidence", population=None):
    """Evidence of a target that saw `used` and of m references, half inside, one number a record."""
    inside = build_balanced_design(n, n // 2, m, rng)
    difficulty = rng.normal(size=n)
    values = difficulty + 0.5 * rng.normal(size=(m + 1, n)) + 2 * np.vstack([used, inside])
    values = (values if signal == "logit_confidence" else -np.exp(-values))[:, :, None, None]
    hidden = np.full(n, -1, dtype=np.int8)
    return Evidence(
        signal,
        values[0],
        np.zeros(n, dtype=np.int64),
        hidden,
        references=values[1:],
        inside=inside,
        population=population,
    )


def test_pairs_leave_together():
    rng = np.random.default_rng(0)
    evidence = build_reference_evidence(400, 6, np.zeros(400, dtype=bool), rng)
    found = score_references(LiRA(), evidence, rng)
    # Three pairs of complements, each attacked with the two others
    assert sorted(found.rounds.tolist()) == [0, 0, 1, 1, 2, 2] and found.target.shape == (3, 400)
    for number in range(3):
        first, second = np.flatnonzero(found.rounds == number)
        assert (found.inside[first] == ~found.inside[second]).all()
        others = found.rounds != number
        alone = replace(
            evidence,
            target=evidence.references[first],
            references=evidence.references[others],
            inside=evidence.inside[others],
        )
        assert np.array_equal(found.references[first], LiRA().score(alone, rng))


def test_the_population_follows_the_models():
    rng = np.random.default_rng(1)
    nobody = np.zeros(300, dtype=bool)
    others = build_reference_evidence(300, 4, nobody, rng, "log_confidence")
    others = replace(others, inside=np.zeros((4, 300), dtype=bool))
    evidence = build_reference_evidence(300, 4, nobody, rng, "log_confidence", others)
    found = score_references(RMIA("offline", a=0.3), evidence, rng)
    for i in range(4):
        assert auc_value(roc(found.references[i], found.inside[i])) > 0.8


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_four_references_tell_the_share(share):
    rng = np.random.default_rng(2)
    n = 4000
    suspect = np.arange(n) < n // 2
    used = suspect & (np.arange(n) < share * n / 2)
    found = score_references(RobustLiRA(), build_reference_evidence(n, 4, used, rng), rng)
    answer = state_share(found, suspect, attack="lira_robust")
    assert answer.decision == "ESTIMATED" and answer.value == pytest.approx(share, abs=0.03)
    assert answer.low <= share <= answer.high and answer.controls[0].passed
    assert answer.statement.startswith("Between" if share else "At most")


def test_leaving_out_one_of_a_pair_alone_is_biased():
    """Why pairs leave together: fewer models with a record are left for members than for others."""
    rng = np.random.default_rng(3)
    n, errors = 4000, []
    evidence = build_reference_evidence(n, 4, np.zeros(n, dtype=bool), rng)
    everyone = np.ones(n, dtype=bool)
    paired = score_references(BASE(), replace(evidence, **as_log_confidence(evidence)), rng)
    errors.append(abs(estimate_share(paired, everyone).raw))
    alone = []
    evidence = replace(evidence, **as_log_confidence(evidence))
    for i in range(4):
        others = np.arange(4) != i
        left = replace(
            evidence,
            target=evidence.references[i],
            references=evidence.references[others],
            inside=evidence.inside[others],
        )
        alone.append(BASE().score(left, rng))
    single = replace(
        paired,
        target=BASE().score(evidence, rng)[None],
        references=np.array(alone),
        rounds=np.zeros(4, dtype=np.int64),
    )
    errors.append(abs(estimate_share(single, everyone).raw))
    assert errors[0] < 0.03 < errors[1]


def as_log_confidence(evidence):
    """The same evidence read as log-probabilities."""
    parts = {name: getattr(evidence, name) for name in ("target", "references")}
    return {name: -np.logaddexp(0, -part) for name, part in parts.items()} | {
        "signal": "log_confidence"
    }


def test_too_few_references_are_refused():
    rng = np.random.default_rng(4)
    evidence = build_reference_evidence(100, 2, np.zeros(100, dtype=bool), rng)
    with pytest.raises(InputError, match=r"at least 4 reference models, .* got 2"):
        score_references(RobustLiRA(), evidence, rng)
    four = build_reference_evidence(100, 4, np.zeros(100, dtype=bool), rng)
    with pytest.raises(UnmetNeedError):
        score_references(LiRA(), four, rng)


@pytest.fixture(scope="module")
def with_targets():
    members, others = planted_sides(200)
    return memberscope.audit(
        Planted(numbers(members)[:120], 1, 3.0, 400),
        members,
        others,
        recipe=PlantedRecipe(3.0, 400),
        plan=Plan(attacks=("gap", "logit", "lira_robust"), fprs=(0.1,), references=4, targets=4),
        threat=ThreatModel(Access.LOGITS),
        execution=Execution("sequential"),
    )


def test_further_targets_tell_the_share_of_an_audit(with_targets):
    answer = set_test(with_targets, questions=("share",)).find("share")
    assert answer.decision == "ESTIMATED" and answer.low <= 0.6 <= answer.high
    assert answer.value == pytest.approx(0.6, abs=0.08) and answer.n_suspect == 200
    assert "4 models" in answer.method and "does not say which records" in answer.assumption
    assert answer.controls[0].name == "held_out_share"
    # Asked without being named where further targets are known
    assert set_test(with_targets).find("share") == answer


def test_a_target_unlike_its_references_gets_no_share(with_targets):
    arrays = with_targets.arrays
    raised = tuple(
        replace(entry, scores=np.where(arrays.member, entry.scores, entry.scores + 50))
        for entry in arrays.scored
    )
    changed = replace(arrays, scored=raised)
    digests = with_targets.digests | {"arrays": digest_audit_arrays(changed)}
    other = with_targets.model_copy(update={"arrays": changed, "digests": digests})
    answer = set_test(other, questions=("share",)).find("share")
    assert answer.decision == "WITHHELD" and not answer.controls[0].passed
    assert "does not answer about them as the reference models do" in answer.statement


def test_ranks_among_the_records_tell_no_share(with_targets):
    evidence = collect_set_evidence(with_targets)
    renamed = replace(evidence, attacks=tuple("rmia" for _ in evidence.attacks))
    answer = answer_share(renamed)
    assert answer.decision == "NOT_RUN" and "--attacks lira_robust or base" in answer.statement
    without = answer_share(replace(evidence, known=evidence.known[:1]))
    assert without.decision == "NOT_RUN" and "--targets 4" in without.statement


def audit_variants(effect, *, n=150, k=6, seed=0, unit=True):
    """An audit of k variants each of n suspect and n held-out records; one was used, not the first."""
    rng = np.random.default_rng(seed)
    ranges = np.repeat(np.arange(2 * n), k)
    member, labels = ranges < n, rng.integers(0, 2, 2 * n * k)
    raised = rng.normal(size=2 * n * k) + effect * (member & (np.arange(2 * n * k) % k == 1))
    names = np.array([f"v{row}" for row in ranges])
    signals = StoredSignals(
        "logits",
        np.eye(2)[labels] * raised[:, None],
        labels,
        member,
        np.arange(2 * n * k).astype(str),
        {},
        None,
        digest=f"{seed} {effect}",
        unit=names if unit else None,
    )
    plan = Plan(
        title="versions",
        threat=ThreatModel(Access.LOGITS),
        attacks=("loss", "logit"),
        assume_exchangeable=True,
    )
    return audit_signals(signals, plan=plan)


def test_something_near_is_found_and_its_ranges_are_named():
    answer = set_test(audit_variants(5.0), questions=("near",)).find("near")
    assert answer.decision == "YES" and answer.p_value < 0.01
    assert answer.value > 50 and answer.n_units == 150 and answer.n_suspect == 900
    assert "mean of the 2 highest of 6 variants" in answer.method
    assert "near the records of this collection" in answer.statement


def test_nothing_near_is_not_called():
    called = [
        set_test(audit_variants(0.0, n=60, seed=seed), questions=("near",)).find("near")
        for seed in range(3)
    ]
    assert sum(answer.decision == "YES" for answer in called) <= 1
    assert all("not shown" in a.statement for a in called if a.decision == "NOT_SHOWN")


def test_variants_without_a_unit_are_refused():
    with pytest.raises(InputError, match="a column that names the record each belongs to"):
        set_test(audit_variants(0.0, n=40, unit=False), questions=("near",))
