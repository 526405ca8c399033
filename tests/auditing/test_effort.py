"""The effort of a plan becomes numbers before anything is scored, and the same ones when resumed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scenes import Planted, PlantedRecipe, numbers, planted_sides
from sklearn.tree import DecisionTreeClassifier

import memberscope
from memberscope import Plan, ThreatModel
from memberscope.auditing import Policy
from memberscope.auditing.collect.measured_signals import plan_searches
from memberscope.auditing.collect.schedule import build_schedule
from memberscope.auditing.documents.effort import BOUNDARY, EFFORTS, QUICK
from memberscope.auditing.documents.policy import Claim
from memberscope.auditing.forecast.choose_effort import (
    MODELS,
    SEARCHES,
    SECONDS,
    choose_references,
    choose_search_queries,
    compute_search_seconds,
    fill_plan,
)
from memberscope.auditing.forecast.time_model import Timings, read_timings, sum_search_seconds
from memberscope.auditing.resume import resume_audit
from memberscope.auditing.subject.subject import make_subject
from memberscope.errors import InputError
from memberscope.recipes import Execution
from memberscope.targets import FunctionTarget, wrap

N = 60
QUIET = {"attacks": ("gap", "logit", "boundary", "noise"), "fprs": (0.1,)}
REFERRED = {"attacks": ("gap", "logit", "rmia"), "fprs": (0.1,), "search_queries": 0}
LIMIT = (Claim(fpr=0.1, tpr=0.5),)


def build_subject(query=None):
    rng = np.random.default_rng(0)
    sides = [(rng.normal(size=(N, 3)), rng.integers(0, 2, N)) for _ in range(2)]

    def answer(x):
        p = 1 / (1 + np.exp(-np.asarray(x)[:, 0]))
        return np.stack([1 - p, p], axis=1)

    return make_subject(FunctionTarget(query or answer, n_classes=2), *sides)


def choose(plan, subject, timings, *, trains=False):
    full = fill_plan(plan, subject, None, plan.effort)
    schedule = build_schedule(full, subject, "probabilities", None)
    return choose_search_queries(plan, subject, schedule, timings, trains=trains), schedule


@pytest.mark.parametrize("record", [1e-6, 1e-4, 3e-4, 1e-3, 3e-3, 1e-1])
def test_the_longest_searches_that_fit_are_chosen(record):
    plan, subject, timings = Plan(**QUIET), build_subject(), Timings(0.0, record)
    chosen, schedule = choose(plan, subject, timings)
    wanted = tuple(dict.fromkeys(job.request for job in schedule.jobs))
    longer = SEARCHES[: SEARCHES.index(chosen.search_budget)]
    seconds = [
        sum_search_seconds(
            replace(plan, search_queries=other.other, boundary_queries=other.boundary),
            subject, wanted, timings,
        )
        for other in (*longer, chosen.search_budget)
    ]  # fmt: skip
    left = compute_search_seconds(plan, subject, schedule, timings, trains=False)
    assert all(took > left for took in seconds[:-1]) and seconds[-1] <= left <= SECONDS


def test_a_slow_model_gets_shorter_searches_and_then_none():
    chosen = [
        choose(Plan(**QUIET), build_subject(), Timings(0.0, record))[0].search_budget
        for record in (1e-6, 1.2e-3, 4e-3, 1.0)
    ]
    assert chosen[0] == SEARCHES[0] and chosen[-1] == SEARCHES[-1]
    spent = [budget.boundary + budget.other for budget in chosen]
    assert spent == sorted(spent, reverse=True) and len(set(spent)) == 4


def test_a_larger_time_budget_buys_longer_searches():
    timings = Timings(0.0, 1e-3)
    few, many = (
        choose(Plan(**QUIET, time_budget=seconds), build_subject(), timings)[0].search_budget
        for seconds in (10.0, 60.0)
    )
    assert few.other < many.other


@pytest.mark.parametrize("required", ["boundary", "noise"])
def test_what_the_policy_requires_is_searched_whatever_the_time(required):
    policy = Policy(max_tpr=LIMIT, require=(required,))
    chosen = choose(Plan(**QUIET, policy=policy), build_subject(), Timings(0.0, 1.0))[0]
    budget = chosen.search_budget
    assert budget.boundary == BOUNDARY
    cheapest = min(choice.other for choice in SEARCHES if choice.boundary == BOUNDARY)
    assert budget.other == (QUICK.search_queries if required == "noise" else cheapest)


def test_the_models_that_the_policy_requires_are_trained_whatever_the_time():
    policy = Policy(max_tpr=LIMIT, references=5)
    assert choose_references(Plan(policy=policy), 1e6, 1).references == 5
    assert choose_references(Plan(), 1e6, 1).references == MODELS[-1]
    assert choose_references(Plan(policy=policy), 0.1, 1).references == MODELS[0]
    policy = Policy(max_tpr=LIMIT, references=30)
    assert choose_references(Plan(policy=policy), 0.1, 1).references == 30


def test_numbers_that_were_given_are_kept_at_every_effort():
    given = Plan(**QUIET, references=5, search_queries=40, boundary_queries=30)
    for effort in EFFORTS:
        filled = fill_plan(given, build_subject(), None, effort)
        assert (filled.references, filled.search_queries, filled.boundary_queries) == (5, 40, 30)
    same = plan_searches(Plan(**QUIET, search_queries=40), build_subject())
    assert same.boundary_queries == 40


def test_a_declared_query_budget_is_taken_as_it_is():
    plan = Plan(**QUIET, threat=ThreatModel(query_budget=300))
    chosen = choose(plan, build_subject(), Timings(0.0, 1.0))[0]
    assert (chosen.search_queries, chosen.boundary_queries) == (300, 300)


def test_a_result_holds_the_numbers_and_its_plan_gives_it_again():
    subject = build_subject()
    records, split = subject.records, subject.member
    sides = [(records.x[side], records.y[side]) for side in (split, ~split)]
    target = subject.target
    first = memberscope.audit(target, *sides, plan=Plan(**QUIET))
    assert first.plan.effort == "quick"
    assert (first.plan.search_queries, first.plan.boundary_queries) == (128, BOUNDARY)
    again = memberscope.audit(target, *sides, plan=Plan.restore(first.plan))
    assert again.plan == first.plan and again.digests == first.digests
    assert again.estimates == first.estimates


def build_planted():
    members, others = planted_sides(N)
    return Planted(numbers(members), 1, 1.0, 2 * N), members, others, PlantedRecipe(1.0, 2 * N)


def test_a_quick_audit_trains_as_many_models_as_there_is_time_for():
    target, members, others, recipe = build_planted()
    result = memberscope.audit(
        target, members, others, plan=Plan(**REFERRED), recipe=recipe,
        execution=Execution("sequential"),
    )  # fmt: skip
    assert result.plan.references == result.cost.models_trained == MODELS[0]
    same = memberscope.audit(
        target, members, others, plan=Plan(**REFERRED, references=MODELS[0]),
        recipe=recipe, execution=Execution("sequential"),
    )  # fmt: skip
    assert [e.value for e in same.estimates] == [e.value for e in result.estimates]


def test_a_resumed_audit_takes_the_numbers_of_the_first(tmp_path, monkeypatch):
    records = build_subject().records
    tree = DecisionTreeClassifier(max_depth=3, random_state=0).fit(records.x[:N], records.y[:N])
    sides = [(records.x[part], records.y[part]) for part in (slice(N), slice(N, None))]
    subject = make_subject(wrap(tree), *sides)
    first = resume_audit(Plan(**QUIET), subject, tmp_path / "out")
    assert first.plan.search_queries == QUICK.search_queries
    # A machine that has become slower would choose shorter searches
    monkeypatch.setattr(
        "memberscope.auditing.forecast.settle_effort.read_timings",
        lambda timed: Timings(0.0, 1.0),
    )
    assert resume_audit(Plan(**QUIET), subject, tmp_path / "out").plan == first.plan


def test_few_models_leave_out_lira_unless_it_is_named():
    target, members, others, recipe = build_planted()
    for plan, runs in (
        (Plan(references=2), False),
        (Plan(references=2, attacks=("lira_robust",)), True),
    ):
        result = memberscope.audit(
            target, members, others, recipe=recipe,
            plan=replace(plan, fprs=(0.1,), search_queries=0), execution=Execution("sequential"),
        )  # fmt: skip
        ran = {entry.attack for entry in result.estimates}
        assert ("lira_robust" in ran) == runs
        if not runs:
            assert "rmia" in ran
            why = next(entry.why for entry in result.not_run if entry.attack == "lira_robust")
            assert "--references 4" in why


def test_the_first_lines_say_what_a_longer_audit_adds():
    said = []
    subject = build_subject()
    records, split = subject.records, subject.member
    sides = [(records.x[side], records.y[side]) for side in (split, ~split)]
    memberscope.audit(
        subject.target,
        *sides,
        plan=Plan(**QUIET),
        progress=lambda stage, done, n: said.append(stage),
    )
    notes = [line.removeprefix("note: ") for line in said if line.startswith("note: ")]
    assert notes[0].startswith(f"Effort quick: searches of {BOUNDARY} (boundary) and 128 (noise)")
    assert notes[1].startswith("--effort normal: searches of 128 queries for each record, about")
    assert "; --effort thorough: searches of 512 queries for each record, about" in notes[1]
    assert sum("ffort" in note for note in notes) == 2


def test_a_resumed_audit_knows_what_longer_ones_would_run(tmp_path):
    records = build_subject().records
    tree = DecisionTreeClassifier(max_depth=3, random_state=0).fit(records.x[:N], records.y[:N])
    sides = [(records.x[part], records.y[part]) for part in (slice(N), slice(N, None))]
    subject = make_subject(wrap(tree), *sides)
    first, again = (resume_audit(Plan(**QUIET), subject, tmp_path / "out") for _ in range(2))
    said = first.environment["longer_audit_thorough"]
    assert said.startswith("searches of 512 queries for each record, about")
    # Nothing is timed again, so the time is not told
    assert again.environment["longer_audit_thorough"] == said.partition(", about")[0]
    thorough = Plan(**QUIET, effort="thorough", search_queries=4)
    last = resume_audit(thorough, subject, tmp_path / "other")
    assert last.environment["longer_audit"] == "none"


def test_timings_are_read_from_calls_of_two_sizes():
    calls = [(4096, 0.9), (4096, 0.42), (100, 0.5), (32, 0.0132)]
    found = read_timings(calls)
    # A line through (4096, 0.42) and (32, 0.0132)
    assert found.record == pytest.approx(1.001e-4, rel=1e-3)
    assert found.question + 32 * found.record == pytest.approx(0.0132)
    assert read_timings([(50, 0.5)]) == Timings(0.0, 0.01)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"effort": "lazy"}, "'lazy'"),
        ({"time_budget": 0.0}, "--time-budget"),
        ({"time_budget": float("nan")}, "--time-budget"),
        ({"time_budget": 5.0, "effort": "normal"}, "--effort quick"),
        ({"boundary_queries": -1}, "--boundary-queries"),
        ({"boundary_queries": 9, "threat": ThreatModel(query_budget=8)}, "--boundary-queries"),
    ],
)
def test_efforts_that_mean_nothing_are_refused(changes, named):
    with pytest.raises(InputError, match=named):
        Plan(**changes)


def test_a_time_budget_too_small_for_one_query_a_record_is_refused():
    subject = build_subject()
    records, split = subject.records, subject.member
    sides = [(records.x[side], records.y[side]) for side in (split, ~split)]
    with pytest.raises(InputError, match=f"one query of each of {2 * N} records.*--time-budget"):
        memberscope.audit(subject.target, *sides, plan=Plan(**QUIET, time_budget=1e-9))
