"""Label-only searches and the inside of a model in an audit.

Budgets, counts, curves, references, and what stays undone.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scenes import gaussian_signals
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier

import memberscope
from memberscope.auditing import Plan, audit_signals, verify_arrays
from memberscope.auditing.forecast.dry_run import forecast_audit
from memberscope.auditing.subject.subject import make_subject
from memberscope.auditing.verdict.recompute import digest_account
from memberscope.errors import InputError
from memberscope.reports import read_arrays, read_result, write_all
from memberscope.reports.page.report_html import render_report
from memberscope.signals import Store
from memberscope.targets import FunctionTarget, SklearnTarget
from memberscope.types import Access, ThreatModel

LABELS = ("gap", "boundary", "noise")
WHOLE = Plan.normal(
    attacks=(*LABELS, "loss"), restrictions=(), assume_exchangeable=True, fprs=(0.1,)
)


def blobs(n: int = 600, seed: int = 0):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 4, n)
    x = 0.5 * np.random.default_rng(99).normal(size=(4, 40))[y] + 1.5 * rng.normal(size=(n, 40))
    return (x[: n // 2], y[: n // 2]), (x[n // 2 :], y[n // 2 :])


@pytest.fixture(scope="module")
def sides():
    return blobs()


@pytest.fixture(scope="module")
def network(sides):
    return MLPClassifier((64,), max_iter=2000, random_state=0).fit(*sides[0])


class Counting:
    """A target that counts the records it is asked about and tells labels alone."""

    access, signal, digest, n_parameters = Access.LABEL, "labels", None, None

    def __init__(self, model, costly: bool = False) -> None:
        self.model, self.n_classes, self.rows, self.costly = model, len(model.classes_), 0, costly

    def query(self, x):
        self.rows += len(x)
        return self.model.predict(x).astype(float)[:, None]


@pytest.fixture(scope="module")
def searched(sides, network):
    target = Counting(network)
    return memberscope.audit(target, *sides, plan=WHOLE, threat=ThreatModel(Access.LABEL)), target


def area(result, attack, **conditions):
    wanted = {"attack": attack, "metric": "auc", "group": None, "restriction": None} | conditions
    found = [
        e
        for e in result.estimates
        if all(getattr(e, name) == value for name, value in wanted.items())
    ]
    assert len(found) == 1, [(e.access, e.restriction) for e in found]
    return found[0]


def test_labels_alone_find_more_than_the_gap(searched):
    result, _ = searched
    for attack in ("boundary", "noise"):
        assert area(result, attack).value > area(result, "gap").value


def test_every_query_is_counted_and_none_exceeds_the_budget(searched):
    result, target = searched
    assert result.cost.queries == target.rows
    for attack in ("boundary", "noise"):
        spent = result.diagnostics.searches[attack]
        assert 1 < spent.mean <= spent.most <= spent.budget == 128
        assert area(result, attack).queries == spent.most and area(result, "gap").queries == 1


@pytest.mark.parametrize("budget", [16, 40])
def test_a_declared_budget_holds_for_each_search(sides, network, budget):
    result = memberscope.audit(network, *sides, plan=WHOLE, threat=ThreatModel(query_budget=budget))
    assert result.plan.search_queries == budget
    assert all(entry.most <= budget for entry in result.diagnostics.searches.values())
    assert max(entry.queries for entry in result.estimates) <= budget


def test_too_small_a_budget_is_said_and_the_gap_still_runs(sides, network):
    result = memberscope.audit(network, *sides, plan=WHOLE, threat=ThreatModel(query_budget=1))
    why = {entry.attack: entry.why for entry in result.not_run}
    assert "budget of at least 16 queries" in why["boundary"] and "got 1" in why["noise"]
    assert area(result, "gap").queries == 1 and result.cost.queries == 600


def test_an_endpoint_is_never_searched_unasked(sides, network):
    target = Counting(network, costly=True)
    result = memberscope.audit(target, *sides, plan=WHOLE, threat=ThreatModel(Access.LABEL))
    assert target.rows == 600 + 32
    assert all(
        "query budget for searches at an endpoint" in e.why
        for e in result.not_run
        if e.attack in LABELS
    )
    memberscope.audit(target, *sides, plan=WHOLE, threat=ThreatModel(Access.LABEL, query_budget=20))
    assert target.rows > 600 + 32 + 600 * 4


def test_leakage_is_told_for_every_smaller_budget(searched):
    result, _ = searched
    for attack in ("boundary", "noise"):
        curve = [
            (e.queries, e.value) for e in result.budgets if e.attack == attack and e.metric == "auc"
        ]
        queries = [q for q, _ in curve]
        assert len(curve) > 1 and queries == sorted(set(queries))
        assert curve[-1] == (area(result, attack).queries, area(result, attack).value), (
            "the last stage is the attack"
        )
    assert "Leakage by query budget" in render_report(result)


def redigested(result):
    """The result of a forger who computes the digest of what was edited."""
    return result.model_copy(
        update={"digests": result.digests | {"account": digest_account(result)}}
    )


def with_searches(result, searches):
    found = result.diagnostics.model_copy(update={"searches": searches})
    return result.model_copy(update={"diagnostics": found})


def test_stored_and_read_back_the_curve_can_be_computed_again(searched, tmp_path):
    write_all(searched[0], tmp_path)
    result, arrays = read_result(tmp_path), read_arrays(tmp_path)
    assert verify_arrays(result, arrays) == []
    forged = result.model_copy(
        update={"budgets": [replace(result.budgets[0], value=0.99), *result.budgets[1:]]}
    )
    assert verify_arrays(forged, arrays) == [
        "leakage by query budget does not follow from the stored scores"
    ]
    cheap = result.model_copy(
        update={"estimates": [replace(e, queries=min(e.queries, 1)) for e in result.estimates]}
    )
    assert "estimates differ" in verify_arrays(cheap, arrays)[0]
    searches = {
        name: replace(entry, most=1, mean=1.0)
        for name, entry in result.diagnostics.searches.items()
    }
    modest = with_searches(result, searches)
    assert "the controls, diagnostics or reasons" in verify_arrays(modest, arrays)[0]
    assert (
        verify_arrays(redigested(modest), arrays)[0]
        == "the queries of the search boundary are not those of its scores"
    )
    silent = with_searches(result, {})
    assert len(verify_arrays(redigested(silent), arrays)) == 2, "one for each search"
    free = result.model_copy(update={"cost": replace(result.cost, queries=5)})
    assert verify_arrays(free, arrays) == ["5 queries are fewer than were asked"]


def test_an_interrupted_search_is_not_paid_for_twice(sides, network, tmp_path):
    store = Store(tmp_path)
    first = memberscope.audit(SklearnTarget(network), *sides, plan=WHOLE, store=store)

    class Dead(SklearnTarget):
        def query(self, x):
            raise AssertionError("asked again")

    again = memberscope.audit(Dead(network, digest=None), *sides, plan=WHOLE, store=store)
    assert again.estimates == first.estimates and again.cost.queries == first.cost.queries


def test_a_constant_model_ends_and_tells_nothing(sides):
    model = DummyClassifier(strategy="most_frequent").fit(*sides[0])
    result = memberscope.audit(model, *sides, plan=WHOLE)
    for attack in ("boundary", "noise"):
        assert abs(area(result, attack).value - area(result, "gap").value) < 1e-9


def test_no_leak_no_finding(sides):
    outside = 0
    for seed in range(6):
        pair = blobs(400, 100 + seed)
        other, _ = blobs(400, 200 + seed)
        model = LogisticRegression(max_iter=500).fit(*other)
        result = memberscope.audit(model, *pair, plan=WHOLE)
        outside += sum(
            not area(result, attack).low <= 0.5 <= area(result, attack).high
            for attack in ("boundary", "noise")
        )
    assert outside <= 3


def test_likelihood_ratios_on_labels_run_by_default_with_a_recipe(sides, network):
    usual = Plan(
        restrictions=(), assume_exchangeable=True, fprs=(0.1,), references=8, search_queries=48
    )
    recipe = MLPClassifier((64,), max_iter=2000)
    result = memberscope.audit(
        network, *sides, plan=usual, threat=ThreatModel(Access.LABEL), recipe=recipe
    )
    for attack in ("lira_boundary", "lira_offline_boundary", "rmia_boundary"):
        assert (
            area(result, attack).value > area(result, "gap").value
            and area(result, attack).queries <= 48
        )
    why = {
        entry.attack: entry.why
        for entry in forecast_audit(usual, make_subject(SklearnTarget(network), *sides)).not_run
    }
    assert "reference models" in why["lira_boundary"]


def test_transfer_needs_a_population_and_asks_nothing_about_the_records(sides, network):
    plan = replace(WHOLE, attacks=("gap", "transfer"), references=4)
    recipe = MLPClassifier((32,), max_iter=2000)
    without = memberscope.audit(network, *sides, plan=plan)
    assert "Give --recipe and --population" in next(
        e.why for e in without.not_run if e.attack == "transfer"
    )
    population = blobs(900, 7)[0]
    result = memberscope.audit(network, *sides, plan=plan, recipe=recipe, population=population)
    assert area(result, "transfer").queries == 1, (
        "450 about the population, shared out over 600 records"
    )
    assert result.cost.queries == 600 + 32 + 450


def test_white_box_is_a_row_of_its_own_above_the_others(sides, network):
    # Fewer folds than usual: nasr is fitted for each and for each pair of them
    plan = replace(
        WHOLE, attacks=("gap", "loss", "gradient_norm", "self_influence", "nasr"), folds=3
    )
    result = memberscope.audit(network, *sides, plan=plan, threat=ThreatModel(Access.WHITE_BOX))
    assert [threat.access for threat in result.threat_models] == [
        Access.LABEL,
        Access.PROBABILITIES,
        Access.WHITE_BOX,
    ]
    assert (
        area(result, "gradient_norm").access == "white_box"
        and area(result, "gradient_norm").low > 0.5
    )
    assert (
        area(result, "strongest", access="white_box").value
        >= area(result, "strongest", access="probabilities").value
    )


def test_a_model_that_does_not_open_is_said_not_to(sides, network):
    closed = FunctionTarget(network.predict_proba, n_classes=4)
    result = memberscope.audit(closed, *sides, plan=WHOLE, threat=ThreatModel(Access.WHITE_BOX))
    assert any(
        entry.access == "white_box" and "returns probabilities only" in entry.why
        for entry in result.not_run
    )


def test_stored_signals_cannot_be_searched():
    result = audit_signals(
        gaussian_signals(200, 1.0), plan=replace(WHOLE, attacks=(*LABELS, "loss"))
    )
    assert all(
        "got stored signals" in entry.why
        for entry in result.not_run
        if entry.attack in ("boundary", "noise")
    )
    assert {entry.attack for entry in result.not_run} >= {"boundary", "noise"}


def test_stored_signals_are_not_searched_even_if_asked_to():
    plan = replace(WHOLE, attacks=(*LABELS, "loss"), search_queries=64)
    result = audit_signals(gaussian_signals(200, 1.0), plan=plan)
    assert {entry.attack for entry in result.estimates} == {"gap", "loss", "strongest"}


def test_more_search_queries_than_the_budget_are_refused():
    with pytest.raises(
        InputError, match="Expected at most 1 search queries for the query budget, got 64"
    ):
        Plan(threat=ThreatModel(query_budget=1), search_queries=64)


def test_a_model_that_fails_on_moved_copies_is_not_searched_and_gives_no_label(sides, network):
    def broken(x):
        p = network.predict_proba(x)
        seen = np.isin(
            np.round(x[:, 0], 9), np.round(np.concatenate([sides[0][0], sides[1][0]])[:, 0], 9)
        )
        return np.where(seen[:, None], p, np.nan)

    result = memberscope.audit(FunctionTarget(broken, n_classes=4), *sides, plan=WHOLE)
    reasons = {entry.attack: entry.why for entry in result.not_run}
    assert {
        name
        for name, why in reasons.items()
        if "Expected finite outputs about moved records" in why
    } >= {"boundary"}
    assert not {entry.attack for entry in result.estimates} & set(reasons)


def test_labels_that_are_no_classes_are_refused(sides):
    for label in (9.0, 0.5):
        strange = FunctionTarget(
            lambda x, label=label: np.full((len(x), 1), label), n_classes=4, signal="labels"
        )
        with pytest.raises(InputError, match="Expected labels as whole numbers from 0 to 3"):
            memberscope.audit(strange, *sides, plan=WHOLE, threat=ThreatModel(Access.LABEL))


def test_the_dry_run_counts_the_queries_to_come(sides, network):
    target = Counting(network)
    found = forecast_audit(WHOLE, make_subject(target, *sides))
    assert target.rows == 0 and found.queries == 600 + 32 + 2 * 600 * 128
    none = forecast_audit(replace(WHOLE, search_queries=0), make_subject(target, *sides))
    assert none.queries == 632 and {"boundary", "noise"} <= {entry.attack for entry in none.not_run}


def test_a_negative_number_of_queries_is_refused():
    with pytest.raises(InputError, match="Expected no or some search queries, got -1"):
        Plan(search_queries=-1)
