"""A fleet that grows trains the new models only, in the way that was measured for the first."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from fleet_jobs import HERE, order, same
from torch import nn

from memberscope.auditing import Plan, Training, make_subject, resume_audit
from memberscope.auditing.collect.reference_models import build_training_job
from memberscope.auditing.collect.target_models import build_target_job
from memberscope.auditing.forecast import forecast_audit, measure_training_seconds
from memberscope.recipes import TorchRecipe, train_fleet
from memberscope.recipes.fleet import read_resume_state
from memberscope.recipes.fleet.tuning_cache import (
    Decision,
    find_tuned_recipe,
    tune_recipe,
)
from memberscope.signals import Store
from memberscope.types import Records


def net() -> nn.Module:
    return nn.Sequential(nn.Linear(5, 12), nn.ReLU(), nn.Linear(12, 3))


RECIPE = TorchRecipe(net, epochs=3, batch_size=16)


def subject(n: int = 60):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2 * n, 5)).astype(np.float32)
    y = (x[:, 0] + rng.normal(size=2 * n) > 0).astype(int) + (x[:, 1] > 1)
    ids = np.arange(2 * n).astype(str)
    target = RECIPE(Records(x[:n], y[:n], ids[:n]), 9)
    return make_subject(target, (x[:n], y[:n]), (x[n:], y[n:]))


def plan(references: int, **changes) -> Plan:
    return Plan(attacks=("lira", "rmia"), fprs=(0.1,), references=references, **changes)


@pytest.fixture
def count_trainings(monkeypatch):
    """Count the models that `many` trains, and the choices that are measured."""
    counts = {"models": 0, "choices": 0}
    many, tuned = TorchRecipe.many, TorchRecipe.tuned

    def counted(self, pool, inside, seeds, soft=None):
        counts["models"] += len(seeds)
        return many(self, pool, inside, seeds, soft)

    def measured(self, pool, size, n_models):
        counts["choices"] += 1
        return tuned(self, pool, size, n_models)

    monkeypatch.setattr(TorchRecipe, "many", counted)
    monkeypatch.setattr(TorchRecipe, "tuned", measured)
    return counts


@pytest.mark.parametrize("unit", [False, True])
@pytest.mark.parametrize("n", [60, 57])
def test_members_and_seeds_of_the_first_models_stay(n, unit):
    """Rows and seeds of 8 models begin those of 16; each record is in half of either."""
    found = subject(n)
    if unit:
        found = replace(found, records=replace(found.records, unit=np.arange(2 * n) // 3))
    training, seed = Training(RECIPE), np.random.SeedSequence(3)
    jobs = [build_training_job(plan(m), found, training, (), seed) for m in (8, 16, 32)]
    for smaller, larger in pairwise(jobs):
        m = len(smaller.seeds)
        np.testing.assert_array_equal(larger.inside[:m], smaller.inside)
        assert larger.seeds[:m] == smaller.seeds and len(set(larger.seeds)) == 2 * m
        if not unit:
            assert (smaller.inside.sum(axis=0) == m // 2).all()
    few, many = (
        build_target_job(replace(plan(4), targets=t), found, training, (), seed) for t in (1, 3)
    )
    np.testing.assert_array_equal(many.inside[:1], few.inside)
    assert many.seeds[:1] == few.seeds


def test_a_fleet_of_estimators_grows_model_by_model(tmp_path):
    whole, store = order(m=6), Store(tmp_path)
    first = replace(whole, inside=whole.inside[:2], seeds=whole.seeds[:2])
    assert train_fleet(first, store, HERE).trained == 2
    assert read_resume_state(whole, store).to_train == 4
    grown = train_fleet(whole, store, HERE)
    assert grown.trained == 4 and same(grown, train_fleet(whole, None, HERE))


def test_an_audit_of_8_references_after_one_of_4_trains_4(tmp_path, count_trainings):
    """The stack measured for 4 is used again, and the result is that of training all 8 so."""
    found, training = subject(), Training(RECIPE, HERE)
    start = count_trainings["models"]
    small = resume_audit(plan(4), found, tmp_path / "out", training=training)
    assert (count_trainings["models"] - start, count_trainings["choices"]) == (4, 1)
    state = forecast_audit(plan(8), found, training, Store(tmp_path / "out" / "signals")).standing
    assert (state.stored, state.to_train) == (4, 4)
    grown = resume_audit(plan(8), found, tmp_path / "out", training=training, overwrite=True)
    assert (count_trainings["models"] - start, count_trainings["choices"]) == (8, 1)
    choice = small.plan.execution
    assert grown.plan.execution == choice
    fixed = replace(RECIPE, stack=choice["stack"], engine=choice["engine"])
    again = resume_audit(plan(8), found, tmp_path / "new", training=Training(fixed, HERE))
    assert again.estimates == grown.estimates
    # And it shrinks to what was there
    resume_audit(plan(4), found, tmp_path / "out", training=training, overwrite=True)
    assert count_trainings["choices"] == 2 and count_trainings["models"] - start == 16


def test_what_plan_measures_is_what_the_audit_uses(tmp_path, count_trainings):
    found, training, asked = subject(), Training(RECIPE, HERE), plan(4, targets=2)
    store = Store(tmp_path / "signals")
    assert measure_training_seconds(asked, found, training, store=store) > 0
    # One choice serves the references and the further targets
    assert count_trainings["choices"] == 1
    state = forecast_audit(asked, found, training, store).standing
    assert (state.stored, state.to_train) == (0, 6)
    (file,) = tmp_path.glob("signals/choice-*")
    kept = file.read_bytes()
    result = resume_audit(asked, found, tmp_path, training=training)
    assert count_trainings["choices"] == 1 and file.read_bytes() == kept
    measured = find_tuned_recipe(RECIPE, found.records, 60, 4, store)
    execution = result.plan.execution
    assert (execution["stack"], execution["engine"]) == (measured.stack, measured.engine)


class Chosen:
    """A recipe whose choice tells for how many models it was made."""

    digest, stack = "chosen", 1

    def __call__(self, records, seed):
        raise AssertionError("nothing is trained here")

    def tuned(self, pool, size, n_models):
        return self, {"engine": "own", "stack": min(n_models, 4), "threads": 1, "of": n_models}

    def chosen(self, choice):
        return self


def test_a_choice_is_used_again_for_fleets_of_like_size_and_never_changes(tmp_path):
    pool, store = order().pool, Store(tmp_path)

    def decide(n: int) -> int:
        return tune_recipe(Chosen(), pool, 60, n, store)[1]["of"]

    assert [decide(n) for n in (1, 8, 16, 32, 33)] == [1, 8, 8, 8, 33]
    # Four times eight was reused, and does not make four times 32 alike; 33 was measured
    assert decide(128) == 33 and decide(133) == 133
    assert decide(4) == 8 and decide(6) == 8 and decide(2) == 2
    # What was decided stays, whatever was measured since
    assert [decide(n) for n in (16, 4, 32, 1)] == [8, 8, 8, 1]
    assert tune_recipe(Chosen(), pool, 59, 8, store)[1]["of"] == 8
    assert find_tuned_recipe(Chosen(), pool, 58, 8, store) is None
    assert Decision(8, {}).measured == 8


def test_random_numbers_of_the_caller_do_not_move():
    before = torch.get_rng_state()
    build_training_job(plan(4), subject(), Training(RECIPE), (), np.random.SeedSequence(0))
    assert torch.equal(before, torch.get_rng_state())
