"""Whatever a threat model does not grant is not run, for every field of it."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest
from scenes import PlantedRecipe, gaussian_signals, planted_sides

import memberscope
from memberscope.attacks import find_attacks
from memberscope.auditing import Plan, audit_signals
from memberscope.types import Access, ThreatModel

ATTACKS = ("gap", "loss", "logit", "logit_per_class", "quantile_class", "lira", "rmia")
PLAN = Plan(assume_exchangeable=True, attacks=ATTACKS, references=8, restrictions=())


def ran(result):
    return {entry.attack for entry in result.estimates} - {"strongest"}


def audit(threat, *, population=None):
    members, others = planted_sides(300)
    recipe = PlantedRecipe(1.0, 600)
    return memberscope.audit(
        recipe(memberscope.Records(members[0], members[1], np.arange(300).astype(str)), 0),
        members,
        others,
        plan=replace(PLAN, threat=threat),
        recipe=recipe,
        population=population,
    )


def withhold_access(result):
    return {threat.access for threat in result.threat_models} == {Access.LABEL} and ran(result) == {
        "gap"
    }


def withhold_known(result):
    learning = {name for name in ATTACKS if find_attacks((name,))[0].needs.known != "none"}
    return not (ran(result) & learning) and {"loss", "lira"} <= ran(result)


def withhold_references(result):
    return (
        ran(result).isdisjoint({"lira", "rmia"})
        and result.cost.models_trained == 0
        and "loss" in ran(result)
    )


def withhold_population(result):
    return not result.threat_models[-1].population


def fewer_references(result):
    return result.threat_models[-1].references == 4 and result.cost.models_trained == 4


CASES = {
    "access": (ThreatModel(access=Access.LABEL), withhold_access),
    "restriction": (ThreatModel(restriction="label"), lambda result: ran(result) == {"gap"}),
    "known_records": (ThreatModel(access=Access.LOGITS, known_records=False), withhold_known),
    "references": (ThreatModel(access=Access.LOGITS, references=0), withhold_references),
    "population": (ThreatModel(access=Access.LOGITS, population=False), withhold_population),
    "query_budget": (
        ThreatModel(query_budget=1),
        lambda result: all(entry.queries <= 1 for entry in result.estimates),
    ),
    "prior": (
        ThreatModel(prior=0.2),
        lambda result: 0.2 in {entry.prior for entry in result.estimates},
    ),
}


def test_every_field_has_a_case():
    assert set(CASES) == {field.name for field in fields(ThreatModel)}


@pytest.mark.parametrize("field", CASES)
def test_what_is_not_granted_is_not_run(field):
    threat, holds = CASES[field]
    population = None
    if field == "population":
        x, y = planted_sides(300, seed=5)[0]
        population = (x, y)
    assert holds(audit(threat, population=population))


def test_fewer_reference_models_are_trained_where_fewer_are_granted():
    assert fewer_references(audit(ThreatModel(access=Access.LOGITS, references=4)))


def test_each_attack_that_is_withheld_is_said_with_the_reason():
    result = audit_signals(
        gaussian_signals(400, 1.0),
        plan=replace(PLAN, threat=ThreatModel(known_records=False, references=0)),
    )
    reasons = {entry.attack: entry.why for entry in result.not_run}
    assert (
        "known_records = false" in reasons["logit_per_class"]
        and "known_records = false" in reasons["quantile_class"]
    )
    assert "references = 0" in reasons["lira"] and "references = 0" in reasons["rmia"]
