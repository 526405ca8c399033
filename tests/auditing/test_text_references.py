"""The control of reference fine-tunes: same training passes, other training fails."""

from __future__ import annotations

import numpy as np
import pytest

from memberscope.auditing.collect.text_references import (
    explain_other_training,
    mark_learned_models,
)
from memberscope.auditing.collect.training_comparison import compare_training
from memberscope.recipes import build_balanced_design

# Of a small GPT fine-tuned for four epochs and for one: gain on own texts, and general progress
FOUR, ONE = (0.26, 0.8), (0.06, 0.55)
HARD, NOISE, LEVEL = 0.44, 0.06, 0.01  # spread over texts, of a text, and of a model


def simulate(rng, n, m, target=FOUR, references=FOUR):
    """Draw mean log-probabilities of a target and of m references on n texts of n / 2 documents."""
    unit = np.arange(n) // 2
    inside = np.concatenate(
        [build_balanced_design(n, n // 2, 2, rng, unit=unit) for _ in range(m // 2)]
    )
    member = build_balanced_design(n, n // 2, 1, rng, unit=unit)[0]
    hard = rng.normal(-4.5, HARD, n)

    def tell(rows, training):
        gain, progress = training
        noise = NOISE * rng.normal(size=rows.shape) + LEVEL * rng.normal(size=(len(rows), 1))
        # Harder texts gain more
        return hard + progress + gain * rows * rng.gamma(4, 0.25, n) + noise

    told = tell(member[None], target)[0], tell(inside, references)
    return compare_training(told[0], member, told[1], inside, 0.95, unit)


@pytest.mark.parametrize("m", [2, 4, 8])
@pytest.mark.parametrize("n", [100, 400, 1600])
def test_references_trained_alike_pass_and_others_fail(n, m):
    rng, runs = np.random.default_rng(n + m), 40
    alike = sum(explain_other_training(simulate(rng, n, m)) is not None for _ in range(runs))
    short = [explain_other_training(simulate(rng, n, m, FOUR, ONE)) for _ in range(runs)]
    long = [explain_other_training(simulate(rng, n, m, ONE, FOUR)) for _ in range(runs)]
    assert alike == 0
    assert sum(why is not None for why in short) >= (38 if m > 2 else 36)
    assert sum(why is not None for why in long) >= (38 if m > 2 else 36)
    assert any("more than the audited model" in why for why in short if why)


def test_gains_are_measured_whatever_the_records_are_like():
    runs = [
        simulate(np.random.default_rng(seed), 1600, 4, (0.2, 0.5), (0.1, 0.5))
        for seed in range(100)
    ]
    assert runs[0].target_gain == pytest.approx(0.2, abs=0.02)
    assert runs[0].reference_gain == pytest.approx(0.1, abs=0.02)
    # Of 95% intervals fewer than 88 in a hundred hold the truth with a probability of .002
    assert sum(run.gain.low < -0.1 < run.gain.high for run in runs) >= 88
    # Levels of whole fine-tunes, the target's own and a quarter of each reference's, cancel out
    level = LEVEL * (1 + 1 / 4) ** 0.5
    values = np.array([run.others.value for run in runs])
    assert abs(values.mean()) < 3 * level / 10
    assert values.std() == pytest.approx(level, rel=0.3)


def test_a_design_without_records_of_a_kind_says_less():
    rng = np.random.default_rng(0)
    member = np.arange(40) < 20
    # References that were trained on nothing that the target was
    inside = np.repeat(~member[None], 2, axis=0) & (rng.random((2, 40)) < 0.5)
    found = compare_training(rng.normal(size=40), member, rng.normal(size=(2, 40)), inside, 0.95)
    assert found.members is None and found.others is not None


def test_a_model_that_learned_nothing_is_left_out_and_one_epoch_is_judged_later():
    learned = mark_learned_models(np.exp([-3.46, -3.86, -6.2, np.nan]), np.exp(-3.46))
    assert learned.tolist() == [True, True, False, False]


def test_a_recipe_that_reads_texts_otherwise_is_refused_before_training():
    from dataclasses import replace

    from tiny_language_models import build_model, build_tokenizer, draw_text_records

    from memberscope.auditing.collect.reference_models import read_like_target
    from memberscope.errors import InputError
    from memberscope.recipes import CausalLMRecipe, FineTuning, TrainingJob

    recipe = CausalLMRecipe(build_model(), FineTuning(), build_tokenizer())
    short = replace(recipe, settings=FineTuning(max_length=5))
    records = draw_text_records(4)
    job = TrainingJob(recipe, records, np.eye(2, 4, dtype=bool), (0, 1), (), "loss", 1)
    assert read_like_target(job, recipe.base_target).task == "text"
    with pytest.raises(InputError, match=r"another longest \(5, the target has 16\)"):
        read_like_target(replace(job, recipe=short), recipe.base_target)
