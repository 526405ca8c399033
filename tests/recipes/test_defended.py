"""Reference models behind the target's defence, each with its own copy fitted to it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from memberscope import audit
from memberscope.auditing import Plan
from memberscope.errors import InputError
from memberscope.outputs.chain import parse_restriction
from memberscope.outputs.hamp_output import HampOutput
from memberscope.outputs.temperature import Temperature
from memberscope.outputs.top_k import TopK
from memberscope.recipes.fleet.observe_model import Observation, observe_signals
from memberscope.signals import SignalRequest
from memberscope.targets import FunctionTarget, RestrictedTarget, SklearnTarget
from memberscope.types import Access, OutputDefence, Records, SignalSpec

P = np.random.default_rng(0).dirichlet(np.full(4, 0.5), 30)
POOL = Records(np.arange(30.0)[:, None], P.argmax(axis=1), np.arange(30).astype(str))
HAMP = HampOutput(seed=1).fit(
    np.random.default_rng(1).dirichlet(np.full(4, 0.5), 9), np.zeros(9, dtype=bool)
)


def kept(behind: OutputDefence, seen_through: str | None) -> np.ndarray:
    """What is kept of a model `behind` a defence where the target is seen through a restriction.

    (30, 4).
    """
    model = RestrictedTarget(FunctionTarget(lambda x: P[x[:, 0].astype(int)], n_classes=4), behind)
    wanted = SignalRequest(
        Access.PROBABILITIES,
        SignalSpec(),
        parse_restriction(seen_through) if seen_through else None,
    )
    look = Observation((wanted,), "probabilities", 4, ("identity",))
    return observe_signals(look, model, POOL, np.arange(30) < 15, None)["pool 0"][:, 0]


def test_a_defence_is_not_applied_twice():
    np.testing.assert_allclose(kept(HAMP, "hamp_output:1"), HAMP(P), atol=1e-6)
    np.testing.assert_allclose(kept(HAMP, "hamp_output:1+top:2"), TopK(2)(HAMP(P)), atol=1e-6)
    np.testing.assert_allclose(
        kept(HAMP, "hamp_output:1+round:2+top:2"), TopK(2)(HAMP(P).round(2)), atol=1e-6
    )
    np.testing.assert_allclose(
        kept(Temperature(3.0), "temperature:3"), Temperature(3.0)(P), atol=1e-6
    )


def test_another_defence_than_the_target_s_is_refused():
    with pytest.raises(InputError, match="behind the target's, got one behind temperature:2"):
        kept(Temperature(2.0), None)
    with pytest.raises(InputError, match="behind the target's, got one behind temperature:2"):
        kept(Temperature(2.0), "temperature:3")
    with pytest.raises(InputError, match="got one behind a defence"):
        kept(TopK(2), None)


def guarded(records: Records, seed: int) -> RestrictedTarget:
    """A model behind HAMP's outputs, with the scores of its own."""
    model = SklearnTarget(LogisticRegression(C=100.0).fit(records.x, records.y))
    inputs = np.random.default_rng(seed).normal(size=(50, records.x.shape[1]))
    hidden = HampOutput(key=bytes(32)).fit(model.query(inputs), np.zeros(50, dtype=bool))
    return RestrictedTarget(model, hidden)


def test_an_audit_trains_references_behind_their_own_copies():
    rng = np.random.default_rng(2)
    x = rng.normal(size=(240, 20))
    y = (x[:, 0] + rng.normal(size=240) > 0).astype(int) + (x[:, 1] > 1)
    member = np.arange(240) < 120
    target = guarded(Records(x[member], y[member], np.arange(120).astype(str)), 0)
    plan = Plan(attacks=("confidence", "lira"), references=4, fprs=(0.1,))
    result = audit(
        target, (x[member], y[member]), (x[~member], y[~member]), plan=plan, recipe=guarded
    )
    ran = {(entry.attack, entry.restriction) for entry in result.estimates if entry.metric == "auc"}
    assert {("confidence", "hamp_output"), ("lira", "hamp_output")} <= ran
    assert ("lira", "hamp_output+top:1") in ran

    def plain(records: Records, seed: int) -> SklearnTarget:
        return guarded(records, seed).target

    failed = audit(
        target,
        (x[member], y[member]),
        (x[~member], y[~member]),
        plan=replace(plan, seed=1),
        recipe=plain,
    )
    assert {entry.attack for entry in failed.not_run} >= {"lira"} and failed.cost.models_failed > 0
    assert any(
        "Expected a fitted hamp_output" in entry.why
        for entry in failed.not_run
        if entry.attack == "lira"
    )
