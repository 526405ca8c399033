"""What reference models do to the verdict, designs of the user's own, and recipes that are wrong.

Each a sentence.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scenes import Planted, PlantedRecipe, numbers, planted_sides
from sklearn.ensemble import RandomForestClassifier
from sklearn.naive_bayes import GaussianNB

from memberscope.auditing import (
    Claim,
    Plan,
    Policy,
    Training,
    audit,
    judge_again,
    make_subject,
    verify_arrays,
)
from memberscope.auditing.forecast.dry_run import forecast_audit
from memberscope.errors import InputError
from memberscope.recipes import Execution, FunctionRecipe, as_recipe, build_balanced_design
from memberscope.types import Access, Records, ThreatModel

HERE = Execution("sequential")
LOGITS = ThreatModel(access=Access.LOGITS)
N = 200
INSIDE = numbers(planted_sides(N)[0])
STRICT = Policy("strict", (Claim(0.05, 0.1),))
LOOSE = Policy("loose", (Claim(0.05, 0.9),))


def audited(
    recipe,
    policy=None,
    *,
    shift: float = 1.0,
    attacks=("logit", "lira"),
    n: int = N,
    references: int = 8,
    **given,
):
    members, others = planted_sides(n)
    plan = Plan(attacks=attacks, references=references, **given.pop("planned", {}))
    target = Planted(numbers(members), 12345, shift, 2 * n)
    return audit(
        target,
        members,
        others,
        recipe=recipe,
        plan=plan,
        threat=LOGITS,
        policy=policy,
        execution=HERE,
        **given,
    )


def diverging(shift: float = 1.0) -> PlantedRecipe:
    return PlantedRecipe(shift, 2 * N, diverges=lambda seed: seed % 2 == 0)


def claims(result):
    return [finding for finding in result.findings if finding.claim.startswith("No attack")]


def test_too_many_failed_models_make_it_inconclusive_even_where_every_claim_would_hold():
    good, bad = audited(PlantedRecipe(1.0, 2 * N), LOOSE), audited(diverging(), LOOSE)
    assert good.verdict == "PASS" and good.controls["references"].passed
    assert (
        bad.verdict == "INCONCLUSIVE"
        and "did not learn" in bad.reason
        and bad.cost.models_failed > 2
    )
    assert bad.controls["references"].passed is False


def test_a_leak_that_needs_no_reference_models_fails_though_they_are_broken():
    result = audited(diverging(4.0), STRICT, shift=4.0)
    assert result.controls["references"].passed is False
    assert (
        result.verdict == "FAIL"
        and "logit" in result.reason
        and "needs no reference models" in result.reason
    )
    (finding,) = claims(result)
    assert (
        "left out, since those failed their control" in finding.rule
        and "over 1 candidates" in finding.estimate.method
    )
    assert (
        judge_again(result, result.arrays, None).verdict == "FAIL"
        and verify_arrays(result, result.arrays) == []
    )


def test_a_leak_that_only_broken_reference_models_show_is_inconclusive():
    """The recipe returns one model trained on the members.

    It carries their membership, and the target leaks nothing.
    """

    def cheat(records: Records, seed: int) -> Planted:
        return Planted(INSIDE, 7 + seed % 3, 6.0, 2 * N)

    def members_told(records: Records, seed: int) -> Planted:
        model = Planted(np.arange(0), seed, 0.0, 2 * N)
        model.true[INSIDE] -= 20 * (seed % 4 != 0)
        return model

    for recipe in (cheat, members_told):
        result = audited(recipe, STRICT, shift=0.0, attacks=("logit", "lira", "calibrated"))
        assert result.controls["references"].passed is False, recipe.__name__
        assert result.verdict == "INCONCLUSIVE" and claims(result)[0].verdict != "FAIL"


def test_with_nothing_but_reference_attacks_broken_references_leave_no_claim_to_test():
    result = audited(diverging(4.0), STRICT, shift=4.0, attacks=("lira", "base"), references=40)
    assert result.verdict == "INCONCLUSIVE" and claims(result)[0].verdict == "NOT_RUN"


def test_a_recipe_that_returns_one_model_is_found_out():
    model = Planted(np.arange(0), 3, 0.0, 2 * N)
    result = audited(lambda records, seed: model, LOOSE)
    assert (
        result.verdict == "INCONCLUSIVE" and "answer exactly as another one does" in result.reason
    )
    (members, others), rng = planted_sides(N), np.random.default_rng(0)
    for recipe in (GaussianNB(), RandomForestClassifier(5)):
        sides = [(rng.standard_normal((N, 3)), side[1]) for side in (members, others)]
        target = recipe.fit(*sides[0])
        found = audit(
            target,
            *sides,
            recipe=recipe,
            references=6,
            execution=HERE,
            plan=Plan(attacks=("loss", "lira")),
        )
        assert "answer exactly" not in found.controls["references"].why, (
            "training that needs no seed is no mistake"
        )


def test_a_recipe_that_never_reads_its_seed_is_told_so():
    def deaf(records, seed):
        return Planted(records.x[:, 0].astype(int), int(records.x[:, 0].sum()), 1.0, 2 * N)

    def hears(records, seed):
        return Planted(records.x[:, 0].astype(int), seed, 1.0, 2 * N)

    def in_a_closure(records, seed):
        return (lambda: Planted(records.x[:, 0].astype(int), seed, 1.0, 2 * N))()

    class Trainer:
        def deaf(self, records, seed):
            return None

    assert not as_recipe(deaf).reads_seed
    assert as_recipe(hears).reads_seed and as_recipe(in_a_closure).reads_seed
    assert not FunctionRecipe(Trainer().deaf).reads_seed and FunctionRecipe(print).reads_seed
    assert any("never reads its seed" in note for note in audited(deaf).diagnostics.notes)
    assert not any("seed" in note for note in audited(hears).diagnostics.notes)
    members, others = planted_sides(N)
    subject = make_subject(Planted(INSIDE, 1, 1.0, 2 * N), members, others)
    assert any(
        "seed" in note
        for note in forecast_audit(Plan(), subject, Training(as_recipe(deaf), HERE)).notes
    )


def test_the_forecast_counts_attack_classifiers_and_further_targets():
    """An audit of ninety seconds was announced as one of six."""
    members, others = planted_sides(N)
    subject = make_subject(Planted(INSIDE, 1, 1.0, 2 * N), members, others)
    training = Training(PlantedRecipe(1.0, 2 * N), HERE)

    def minutes(*attacks, targets=0):
        return forecast_audit(Plan(attacks=attacks, targets=targets), subject, training).minutes

    assert (
        minutes("lira")
        < minutes("shokri_statistics")
        < minutes("shokri")
        < minutes("shokri", targets=2)
    )


def test_fewer_models_than_an_attack_needs_are_a_reason_and_a_requirement_is_not_met():
    required = replace(LOOSE, require=("lira",))
    result = audited(PlantedRecipe(1.0, 2 * N), required, references=2)
    (missing,) = [
        entry for entry in result.not_run if entry.attack == "lira" and entry.access == "logits"
    ]
    assert "at least 2 reference model(s) trained with each record" in missing.why
    assert result.verdict == "INCONCLUSIVE" and result.diagnostics.vulnerability is None


def test_a_design_of_the_users_own_is_used_as_it_is():
    rng = np.random.default_rng(5)
    design = rng.random((6, 2 * N)) < 0.4
    everyone = np.concatenate([numbers(side) for side in planted_sides(N)])
    seen = []

    def recipe(records, seed):
        seen.append(records.x[:, 0].astype(int))
        return Planted(seen[-1], seed, 1.0, 2 * N)

    result = audited(recipe, design=design.astype(int))
    assert [set(rows.tolist()) for rows in seen] == [set(everyone[row].tolist()) for row in design]
    assert result.plan.references == 6 == result.diagnostics.references.models
    assert result.diagnostics.references.records_per_model == round(design.sum() / 6)
    other = audited(recipe, design=~design)
    assert result.digests["design"] != other.digests["design"]
    assert verify_arrays(result, result.arrays) == []


def test_a_record_in_all_or_none_of_the_models_is_a_reason_and_not_a_crash():
    design = build_balanced_design(2 * N, N, 8, np.random.default_rng(5))
    design[:, 3], design[:, N + 4] = True, False
    result = audited(
        PlantedRecipe(1.0, 2 * N),
        LOOSE,
        design=design,
        attacks=("logit", "lira", "calibrated", "attack_r"),
    )
    reasons = {entry.attack: entry.why for entry in result.not_run}
    assert set(reasons) == {"lira", "calibrated", "attack_r"} and all(
        "each record" in why for why in reasons.values()
    )
    found = result.diagnostics.references
    assert (found.records_in_every_model, found.records_in_no_model) == (1, 1)
    assert {entry.attack for entry in result.estimates} == {"logit", "strongest"}


def test_designs_that_do_not_fit_are_refused():
    recipe = PlantedRecipe(1.0, 2 * N)
    for design, words in (
        (np.ones((4, 7)), r"Expected membership of shape \(models, 400\), got \(4, 7\)"),
        (np.full((4, 2 * N), 2), "zeros and ones"),
        (np.zeros((4, 2 * N)), "none or all"),
        (np.zeros((0, 2 * N)), "at least one model in the design"),
    ):
        with pytest.raises(InputError, match=words):
            audited(recipe, design=design)
    with pytest.raises(InputError, match="since the plan names 'person', got none"):
        audited(recipe, planned={"unit": "person"})


def test_a_design_follows_the_records_when_duplicates_are_left_out():
    members, others = planted_sides(N)
    x = others[0].copy()
    x[0] = members[0][0]
    design = np.random.default_rng(5).random((6, 2 * N)) < 0.5
    rows = []

    def recipe(records, seed):
        rows.append(records.ids)
        return Planted(records.x[:, 0].astype(int), seed, 1.0, 2 * N)

    plan = Plan(attacks=("logit", "lira"), drop_overlap=True)
    target = Planted(INSIDE, 1, 1.0, 2 * N)
    result = audit(
        target,
        members,
        (x, others[1]),
        recipe=recipe,
        plan=plan,
        threat=LOGITS,
        execution=HERE,
        design=design,
    )
    names = [f"member:{i}" for i in range(N)] + [f"non-member:{i}" for i in range(N)]
    for row, seen in zip(design, rows, strict=True):
        assert set(seen.tolist()) == {names[i] for i in np.flatnonzero(row)} & set(
            result.arrays.ids.tolist()
        )
    assert result.diagnostics.overlap.dropped >= 1 and "non-member:0" not in result.arrays.ids
