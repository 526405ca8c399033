"""Noise and augmentation against closed forms, and what a budget allows."""

from __future__ import annotations

import numpy as np
import pytest
from labelled import Labels, assert_depth_is_seen, linear, memorised, mixed, records, spec
from scipy.special import ndtr, ndtri
from scipy.stats import spearmanr

from memberscope.errors import InputError, UnmetNeedError
from memberscope.signals import measure_signal
from memberscope.signals.feature_domain import encode_in_domain
from memberscope.signals.perturbation import (
    AGREE,
    BELOW,
    GROUP,
    LADDER,
    LEAST,
    MOST,
    STEP,
    WRONG,
    list_transforms,
    measure_augmentation,
    measure_noise,
    perturb_records,
    transform_images,
)


def wide(n: int = 200, f: int = 8):
    """A linear model whose records leave room for noise.

    Two of them lie far out on both sides of each feature.
    """
    x, _, model, _ = linear(n, f)
    x[0], x[1] = 40.0, -40.0
    scale = x.std(axis=0)
    w = np.random.default_rng(9).standard_normal(f)
    model = Labels(lambda z: (z @ w > 0).astype(int))
    return x, model.label(x), model, np.abs(x @ w) / np.linalg.norm(w * scale)


def test_at_a_fixed_scale_the_share_is_the_normal_probability_of_the_margin():
    x, y, model, margin = wide()
    found = measure_noise(model, records(x, y), spec("noise", scale=0.1, queries=2000)).final[2:, 0]
    share = 1 / (1 + np.exp(-found))
    np.testing.assert_allclose(share, ndtr(margin[2:] / 0.1), atol=0.04)


def test_the_staircase_finds_the_scale_at_which_nine_in_ten_agree():
    x, y, model, margin = wide()
    found = measure_noise(model, records(x, y), spec("noise", queries=400)).final[2:, 0]
    expected = np.log(margin[2:] / ndtri(AGREE))
    inside = (expected > -3) & (expected < 1)
    assert np.abs(found - expected)[inside].mean() < 0.25
    assert spearmanr(found, expected).statistic > 0.97


def naive(
    x: np.ndarray, y: np.ndarray, model: Labels, strength: float, seed: int, n_copies: int
) -> np.ndarray:
    """Copies of each record that keep the label at a fixed strength.

    A record and a copy at a time.
    """
    domain, z = encode_in_domain(x)
    draws, kept = (
        np.random.default_rng(seed).standard_normal((n_copies, 2, x.shape[1])),
        np.zeros(len(x)),
    )
    for i in range(len(x)):
        for normal, other in draws:
            kept[i] += (
                model.label(
                    perturb_records(domain, z[i : i + 1], np.array([strength]), (normal, other))
                )[0]
                == y[i]
            )
    return kept


@pytest.mark.parametrize("bits", [False, True])
def test_lockstep_is_one_record_at_a_time(bits):
    x, y, model, _ = memorised(60, 7)
    x = (x > 0).astype(np.float64) if bits else x
    found = measure_noise(model, records(x, y), spec("noise", scale=1.5, queries=30, seed=4))
    right = model.label(x) == y
    share = (naive(x, y, model, 1.5, 4, 29) + 0.5) / 30
    np.testing.assert_allclose(found.final[right, 0], np.log(share / (1 - share))[right], atol=1e-9)


def naive_staircase(z, domain, keeps, i: int, budget: int) -> float:
    """Log-strength of record `i`, a copy at a time, from the draws of seed 0."""
    rng, f, spent, trace, strength = np.random.default_rng(0), z.shape[1], 1, [], 0.0

    def count(levels) -> int:
        draws = rng.standard_normal((len(levels), 2, f))
        copies = (
            perturb_records(domain, z[[i]], np.exp([level]), pair)
            for level, pair in zip(levels, draws, strict=True)
        )
        return sum(keeps(i, copy) for copy in copies)

    while spent < budget:
        if not trace:
            width = np.log(LADDER[-1] / LADDER[0]) / len(LADDER)
            broke = np.log(LADDER[0]) + width * (count(np.log(LADDER)) - 0.5)
            strength, spent = max(broke - BELOW, LEAST), spent + len(LADDER)
        else:
            copies = min(GROUP, budget - spent)
            step = STEP / len(trace) ** 0.5
            moved = strength + step * (count([strength] * copies) / copies - AGREE)
            strength, spent = min(max(moved, LEAST), MOST), spent + copies
        trace.append(strength)
    return float(np.mean(trace[len(trace) // 4 :]))


def test_the_staircase_is_one_record_at_a_time_in_frames_with_missing_values():
    x, y, model = mixed(40)
    domain, z = encode_in_domain(x)
    found = measure_noise(model, records(x, y), spec("noise", queries=40))
    right = model.label(x) == y

    def keeps(i: int, copy: np.ndarray) -> bool:
        return bool(model.label(domain.decode(copy))[0] == y[i])

    # Stages end at 16 and 32 queries, where a move has fewer copies
    alone = [naive_staircase(z, domain, keeps, i, 16) for i in np.flatnonzero(right)]
    np.testing.assert_allclose(found.values[right, 0, 0], alone, atol=1e-12)
    np.testing.assert_array_equal(found.queries[right], [[16, 32, 40]] * int(right.sum()))
    # The record itself, the ladder, and moves up to 16, 24, 32 and 40 queries
    assert [len(batch) // right.sum() for batch in model.batches[1:]] == [8, 7, 8, 8, 8]


def test_bits_flip_and_categories_are_drawn_as_often_as_said():
    rng = np.random.default_rng(0)
    x = np.column_stack(
        [rng.integers(0, 2, (400, 3)), rng.choice(5, (400, 3), p=[0.6, 0.1, 0.1, 0.1, 0.1])]
    ).astype(float)
    domain, z = encode_in_domain(x)
    moved = np.stack(
        [
            perturb_records(domain, z, np.full(400, 2.0), tuple(rng.standard_normal((2, 6))))
            for _ in range(4000)
        ]
    )
    changed = (moved != z).mean(axis=(0, 1))
    np.testing.assert_allclose(changed[:3], 0.2, atol=0.03)
    np.testing.assert_allclose(changed[3:], 0.2 * (1 - 0.36 - 4 * 0.01), atol=0.03)


def images(n: int = 80):
    """Bright spots left or right of the middle, by class, some near it."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, n)
    x = rng.random((n, 1, 9, 9)) * 0.01
    column = np.where(y == 0, rng.integers(1, 4, n), rng.integers(5, 8, n))
    x[np.arange(n), 0, 4, column] = 1.0
    return (
        x,
        y,
        Labels(
            lambda z: (z[..., 5:].sum(axis=(1, 2, 3)) > z[..., :4].sum(axis=(1, 2, 3))).astype(int)
        ),
        column,
    )


def test_augmented_copies_near_the_middle_lose_their_label():
    x, y, model, column = images()
    found = measure_augmentation(model, records(x, y), spec("augmentation")).final[:, 0]
    deep = np.abs(column - 4)
    assert found[deep == 1].mean() < found[deep > 1].min() - 0.1


def test_transforms_do_what_they_say():
    image = np.zeros((1, 1, 7, 7))
    image[0, 0, 1, 3] = 1.0
    assert transform_images(image, 1, 2, False, 0.0)[0, 0, 3, 4] == 1.0
    assert (
        transform_images(image, 0, 0, True, 0.0)[0, 0, 1, 3] == 1.0
        and transform_images(image, 1, 0, True, 0.0)[0, 0, 1, 4] == 1.0
    )
    np.testing.assert_allclose(
        transform_images(image, 0, 0, False, 90.0)[0, 0, 3, [1, 5]].sum(), 1.0, atol=1e-9
    )
    assert len(set(list_transforms())) == len(list_transforms())


@pytest.mark.parametrize("kind", list_transforms())
def test_images_with_channels_last_are_moved_as_those_with_channels_first(kind):
    image = np.random.default_rng(0).random((2, 3, 8, 6))
    np.testing.assert_array_equal(
        transform_images(np.moveaxis(image, 1, -1), *kind),
        np.moveaxis(transform_images(image, *kind), 1, -1),
    )


@pytest.mark.parametrize("name", ["noise", "augmentation"])
@pytest.mark.parametrize("budget", [1, 4, 12, 100])
def test_a_budget_is_never_exceeded_and_every_query_is_counted(name, budget):
    x, y, model, _ = images()
    y = np.where(np.arange(80) % 5 == 0, 1 - y, y)
    found = measure_signal(model, records(x, y), spec(name, queries=budget))
    assert found.queries.max() <= budget and model.asked == found.queries[:, -1].sum()
    wrong = model.label(x) != y
    assert (found.queries[wrong] == 1).all() and (found.values[wrong] == WRONG).all()
    assert (found.final[~wrong] > WRONG).all()
    assert len(model.batches) <= budget, "calls are those of one record"


@pytest.mark.parametrize("name", ["noise", "augmentation"])
def test_same_answer_twice_and_in_any_order(name):
    x, y, model, _ = images()
    order = np.random.default_rng(3).permutation(80)
    first, again = (measure_signal(model, records(x, y), spec(name)) for _ in range(2))
    moved = measure_signal(model, records(x[order], y[order]), spec(name))
    np.testing.assert_array_equal(first.values, again.values)
    np.testing.assert_allclose(moved.values, first.values[order], rtol=1e-9)


@pytest.mark.parametrize("name", ["noise", "augmentation"])
def test_a_constant_predictor_makes_all_its_records_robust(name):
    x, y, _, _ = images()
    model = Labels(lambda z: np.zeros(len(z), dtype=int))
    found = measure_signal(model, records(x, y), spec(name)).final[:, 0]
    assert (
        len(set(found[y == 0])) == 1 and found[y == 0].min() > 0 and (found[y == 1] == WRONG).all()
    )


def test_members_that_lie_deeper_stand_more_noise_and_others_alike():
    assert_depth_is_seen(spec("noise"))


def test_bad_input_is_refused_in_a_sentence():
    x, y, model, _ = linear(20, 3)
    with pytest.raises(InputError, match="at least 1 query"):
        measure_noise(model, records(x, y), spec("noise", queries=0))
    with pytest.raises(UnmetNeedError, match="Expected images"):
        measure_augmentation(model, records(x, y), spec("augmentation"))
