"""Fleets of language models: what is kept of each, resumed runs, and models that read otherwise."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tiny_language_models import build_model, build_tokenizer, draw_text_records

from memberscope.errors import InputError
from memberscope.recipes import (
    CausalLMRecipe,
    Execution,
    FineTuning,
    FunctionRecipe,
    TrainingJob,
    build_balanced_design,
    train_fleet,
)
from memberscope.recipes.fleet import select_records
from memberscope.recipes.fleet.observe_texts import describe_difference
from memberscope.signals import SignalRequest, Store
from memberscope.types import Access, SignalSpec

HERE = Execution("sequential")
LOG = SignalRequest(
    Access.TOKEN_PROBABILITIES, SignalSpec("log_confidence", parameters=(("temperature", 1.0),))
)
LOGIT = SignalRequest(Access.TOKEN_PROBABILITIES, SignalSpec("logit_confidence"))


def make_job(recipe=None, **changes) -> TrainingJob:
    """Two models of half of 32 texts each, whole documents."""
    pool = draw_text_records(32)
    own = CausalLMRecipe(
        build_model(),
        FineTuning(epochs=2, lr=1e-2, batch_size=8, rows_at_once=8),
        build_tokenizer(),
    )
    inside = build_balanced_design(32, 16, 2, np.random.default_rng(0), unit=pool.unit)
    job = TrainingJob(recipe or own, pool, inside, (0, 1), (LOG, LOGIT), "loss", 1, task="text")
    return replace(job, tokens_identity=own.base_target.tokens_identity, **changes)


def test_what_is_kept_is_that_of_models_trained_by_hand(tmp_path):
    job = make_job(population=draw_text_records(4, seed=1))
    fleet = train_fleet(job, Store(tmp_path), HERE)
    model = job.recipe(select_records(job.pool, job.inside[1]), 1)
    mean = -model.query(job.pool.x)[:, 0]
    np.testing.assert_allclose(fleet.record_quality[1], mean, rtol=1e-6)
    np.testing.assert_allclose(fleet.observed[LOG][1, :, 0, 0], mean, rtol=1e-6)
    p = np.exp(mean)
    np.testing.assert_allclose(
        fleet.observed[LOGIT][1, :, 0, 0], np.log(p) - np.log1p(-p), rtol=1e-4
    )
    assert fleet.train_accuracy[1] == pytest.approx(p[job.inside[1]].mean())
    assert fleet.held_out_accuracy[1] == pytest.approx(p[~job.inside[1]].mean())
    assert fleet.population[LOG].shape == (2, 4, 1, 1)
    again = train_fleet(job, Store(tmp_path), HERE)
    assert (fleet.trained, again.trained) == (2, 0)
    np.testing.assert_array_equal(again.observed[LOG], fleet.observed[LOG])
    np.testing.assert_array_equal(again.record_quality, fleet.record_quality)


def test_answers_are_not_reused_for_a_target_that_reads_otherwise(tmp_path):
    job = make_job()
    train_fleet(job, Store(tmp_path), HERE)
    with pytest.raises(InputError, match=r"another before \(\[0\], the target has \[\]\)"):
        train_fleet(
            replace(job, tokens_identity=job.tokens_identity.replace("before=[0]", "before=[]")),
            Store(tmp_path),
            HERE,
        )


def test_a_classifier_is_no_reference_of_a_language_model():
    from sklearn.linear_model import LogisticRegression

    def fit(records, seed):
        return LogisticRegression().fit([[0.0], [1.0]], [0, 1])

    with pytest.raises(InputError, match="language models as the target is, got SklearnTarget"):
        train_fleet(make_job(FunctionRecipe(fit)), None, HERE)


def test_differences_name_each_part_that_differs():
    assert describe_difference("a=1; b=2", "a=1; b=3; c=4") == (
        "b (2, the target has 3) and c (none, the target has 4)"
    )
    assert describe_difference("mine", "yours") == "identity (mine, the target has yours)"
