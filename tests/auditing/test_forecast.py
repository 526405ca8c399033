"""The dry run counts what an audit does.

Searches on every model, rows asked, and seconds from what was measured.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scenes import Planted, PlantedRecipe, gaussian_signals, numbers, planted_sides

import memberscope
from memberscope import Plan, ThreatModel
from memberscope.auditing import Training, make_signals_subject, make_subject
from memberscope.auditing.forecast.dry_run import forecast_audit
from memberscope.auditing.forecast.time_model import COPIES, PROBED, SPENT, Timings, time_target
from memberscope.errors import TargetError
from memberscope.recipes import Execution
from memberscope.targets import FunctionTarget, HttpTarget
from memberscope.types import Access
from memberscope.wire.endpoint import Endpoint

N, QUERIES = 60, 20
HERE = Execution("sequential")
SEARCHING = Plan(
    attacks=("gap", "logit", "boundary", "noise", "lira", "lira_boundary"),
    fprs=(0.1,),
    threat=ThreatModel(Access.LOGITS),
    references=4,
    targets=2,
    search_queries=QUERIES,
)


class Counted(Planted):
    """A planted model that counts the records asked of all models together."""

    rows = 0

    def query(self, x):
        Counted.rows += len(x)
        x = np.array(x)
        x[:, 0] = np.clip(np.round(x[:, 0]), 0, 2 * N - 1)
        x[:, 1] = np.clip(np.round(x[:, 1]), 0, 1)
        return super().query(x)


class CountedRecipe(PlantedRecipe):
    def __call__(self, records, seed):
        return Counted(numbers((records.x, records.y)), seed, self.shift, self.n)


@pytest.fixture(scope="module")
def scene():
    members, others = planted_sides(N)
    return Counted(numbers(members), 1, 1.0, 2 * N), members, others


def test_the_rows_asked_of_all_models_are_counted_with_their_searches(scene):
    """0.2 minutes were announced where searches on reference models took ten."""
    target, members, others = scene
    recipe = CountedRecipe(1.0, 2 * N)
    found = forecast_audit(SEARCHING, make_subject(target, members, others), Training(recipe, HERE))
    n = 2 * N
    assert (
        found.queries == n + 32 + 2 * n * QUERIES
    )  # boundary and noise; lira_boundary shares the former's
    assert found.model_queries == 4 * n * (1 + QUERIES) + 2 * n * (1 + 2 * QUERIES)
    Counted.rows = 0
    memberscope.audit(target, members, others, recipe=recipe, plan=SEARCHING, execution=HERE)
    assert 0.3 < Counted.rows / (found.queries + found.model_queries) <= 1


def test_seconds_follow_what_was_measured(scene):
    subject, training = make_subject(*scene), Training(CountedRecipe(1.0, 2 * N), HERE)
    timings = Timings(question=0.1, record=0.01, model=7.0)
    found = forecast_audit(SEARCHING, subject, training, timings=timings)
    assert found.seconds.training == 7.0 * 6 and found.unknown == []
    # Noise asks several copies in a call, the boundary one point of each record
    plain, steps = 0.1 + 0.01 * 2 * N, SPENT * QUERIES
    walk, noise = steps * (0.1 + 0.01 * 2 * N), steps * (0.1 / COPIES + 0.01 * 2 * N)
    assert found.seconds.asking == pytest.approx(plain + walk + noise, rel=0.01)
    assert found.seconds.observing == pytest.approx(
        4 * (plain + walk) + 2 * (plain + walk + noise), rel=0.01
    )
    quiet = forecast_audit(replace(SEARCHING, search_queries=0), subject, training, timings=timings)
    assert quiet.seconds.observing == pytest.approx(6 * plain) and quiet.minutes < found.minutes
    two = forecast_audit(
        SEARCHING, subject, replace(training, execution=Execution(n_jobs=2)), timings=timings
    )
    models = found.seconds.training + found.seconds.observing
    assert (found.minutes - two.minutes) * 60 == pytest.approx(models / 2)


def test_what_is_not_known_is_said(scene):
    found = forecast_audit(
        SEARCHING, make_subject(*scene), Training(CountedRecipe(1.0, 2 * N), HERE)
    )
    assert (
        found.seconds.asking is None
        and found.seconds.training is None
        and found.seconds.observing is None
    )
    assert len(found.unknown) == 3 and "--measure" in found.unknown[1]


def test_attacks_and_intervals_take_longer_with_records_attacks_and_targets():
    def scored(n, *attacks):
        found = forecast_audit(
            Plan(attacks=attacks, fprs=(0.1,)), make_signals_subject(gaussian_signals(n, 1.0))
        ).seconds
        return found.scoring + found.estimating

    assert (
        scored(200, "gap")
        < scored(200, "gap", "logit_per_class")
        < scored(2000, "gap", "logit_per_class")
    )


def test_a_local_model_is_timed_on_a_few_dozen_records_and_an_endpoint_is_never_asked(scene):
    now, asked = [0.0], []

    def model(x):
        asked.append(len(x))
        now[0] += 0.5 + 0.25 * len(x)
        return np.tile([0.5, 0.5], (len(x), 1))

    _, members, others = scene
    timings = time_target(
        make_subject(FunctionTarget(model, n_classes=2), members, others), lambda: now[0]
    )
    assert (
        timings.question == pytest.approx(0.5)
        and timings.record == pytest.approx(0.25)
        and min(asked) == PROBED
    )
    served = HttpTarget(
        Endpoint("http://127.0.0.1:1/none", model_name="m", n_classes=2, rate=2.0, batch_size=10)
    )
    subject = make_subject(served, members, others)
    assert time_target(subject) == Timings()
    found = forecast_audit(Plan(fprs=(0.1,)), subject)
    assert (
        found.seconds.asking == -(-found.queries // 10) / 2.0 and "rate limit" in found.unknown[0]
    )
    assert time_target(make_signals_subject(gaussian_signals(20, 1.0))) == Timings(0.0, 0.0)

    def broken(x):
        raise RuntimeError("no such layer")

    with pytest.raises(TargetError, match="RuntimeError: no such layer"):
        time_target(make_subject(FunctionTarget(broken, n_classes=2), members, others))
