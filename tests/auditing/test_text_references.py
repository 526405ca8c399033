"""The control of reference fine-tunes: same training passes, other training fails."""

from __future__ import annotations

import numpy as np
import pytest

from memberscope.auditing.collect.text_references import (
    compare_training,
    explain_other_training,
    mark_learned_models,
)
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
    found = simulate(np.random.default_rng(0), 1600, 4, (0.2, 0.5), (0.1, 0.5))
    assert found.target_gain == pytest.approx(0.2, abs=0.02)
    assert found.reference_gain == pytest.approx(0.1, abs=0.02)
    assert found.gain.low < -0.1 < found.gain.high
    assert found.others.low < 0.0 < found.others.high


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
