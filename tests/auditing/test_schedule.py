"""The dry run and the audit say the same of what runs, and of what does not and why."""

from __future__ import annotations

import numpy as np
import pytest
from scenes import Planted, PlantedRecipe, gaussian_signals, numbers, planted_sides

from memberscope import Plan, ThreatModel
from memberscope.auditing import Training, audit_subject, make_signals_subject, make_subject
from memberscope.auditing.collect.measured_signals import plan_searches
from memberscope.auditing.collect.schedule import build_schedule
from memberscope.auditing.forecast import forecast_audit
from memberscope.recipes import Execution
from memberscope.types import Access, Records, SignalSpec

N = 60
ATTACKS = (
    "gap",
    "logit",
    "logit_per_class",
    "quantile",
    "boundary",
    "augmentation",
    "transfer",
    "gradient_norm",
    "lira",
    "rmia",
    "lira_boundary",
)


class Movable(Planted):
    """A planted model that answers about moved records as well."""

    def query(self, x):
        x = np.array(x)
        x[:, 0] = np.clip(np.round(x[:, 0]), 0, 2 * N - 1)
        x[:, 1] = np.clip(np.round(x[:, 1]), 0, 1)
        return super().query(x)


class MovableRecipe(PlantedRecipe):
    def __call__(self, records, seed):
        return Movable(numbers((records.x, records.y)), seed, self.shift, self.n)


def build_plan(threat=None, **changes):
    threat = threat or ThreatModel()
    return Plan(attacks=ATTACKS, fprs=(0.1,), references=4, threat=threat, folds=3, **changes)


def model_subject():
    members, others = planted_sides(N)
    return make_subject(Movable(numbers(members), 1, 1.0, 2 * N), members, others)


def signals_subject(**options):
    return make_signals_subject(gaussian_signals(N, 1.0, **options))


def training(*, population=False):
    x, y = planted_sides(N, seed=3)[0]
    ids = np.array([f"other-{row}" for row in range(len(x))])
    others = Records(x, y, ids) if population else None
    return Training(MovableRecipe(1.0, 2 * N), Execution("sequential"), population=others)


SET_UPS = {
    "stored signals": (build_plan(), signals_subject, None),
    "stored signals with features": (build_plan(), lambda: signals_subject(n_features=3), None),
    "a model without a recipe": (build_plan(search_queries=16), model_subject, None),
    "a recipe without a population": (build_plan(search_queries=16), model_subject, training()),
    "a recipe and a population": (
        build_plan(search_queries=16),
        model_subject,
        training(population=True),
    ),
    "no searches": (build_plan(search_queries=0), model_subject, training()),
    "a small budget": (build_plan(ThreatModel(query_budget=2)), model_subject, None),
    "labels alone": (build_plan(ThreatModel(Access.LABEL)), signals_subject, None),
    "an access that is not offered": (
        build_plan(ThreatModel(Access.WHITE_BOX)),
        signals_subject,
        None,
    ),
    "nothing granted": (
        build_plan(ThreatModel(known_records=False, references=0, population=False)),
        signals_subject,
        None,
    ),
    "a restriction in force": (build_plan(ThreatModel(restriction="top:1")), signals_subject, None),
}


@pytest.mark.parametrize("name", SET_UPS)
def test_plan_and_audit_give_the_same_reasons_in_the_same_words(name):
    plan, build, training_ = SET_UPS[name]
    found, result = (
        forecast_audit(plan, build(), training_),
        audit_subject(plan, build(), training=training_),
    )
    reasons = {(entry.attack, entry.why) for entry in result.not_run}
    assert {(entry.attack, entry.why) for entry in found.not_run} == reasons and reasons
    assert {entry.access for entry in found.not_run} <= {entry.access for entry in result.not_run}
    assert sorted(found.runs) == sorted(
        (entry.attack, entry.level) for entry in result.arrays.scored
    )


def test_every_attack_has_a_job_or_a_reason():
    for plan, build, training_ in SET_UPS.values():
        subject = build()
        schedule = build_schedule(
            plan_searches(plan, subject), subject, subject.target.signal, training_
        )
        named = {job.attack.name for job in schedule.jobs}
        refused = {entry.attack for entry in schedule.not_run}
        assert named | refused >= set(ATTACKS)
        pairs = {(entry.attack, entry.access) for entry in schedule.not_run}
        assert not pairs & {(job.attack.name, job.level.word) for job in schedule.jobs}


def test_signals_are_asked_for_only_by_jobs():
    plan, subject = build_plan(search_queries=16), model_subject()
    alone = build_schedule(plan, subject, "logits", None)
    assert alone.list_reference_requests() == ()
    assert {entry.spec.name for entry in alone.list_measured_requests()} == {"boundary"}
    schedule = build_schedule(plan, subject, "logits", training(population=True))
    asked = schedule.list_reference_requests()
    assert "boundary" in {entry.spec.name for entry in asked} and len(set(asked)) == len(asked)
    assert "transfer" not in {entry.spec.name for entry in schedule.list_target_requests()}
    assert "transfer" in {job.attack.name for job in schedule.jobs}


def test_a_signal_says_where_it_comes_from():
    sources = {name: SignalSpec(name).source for name in ("noise", "influence", "logit_confidence")}
    assert sources == {"noise": "search", "influence": "white_box", "logit_confidence": "answer"}
