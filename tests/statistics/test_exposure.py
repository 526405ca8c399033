"""Exposure of canaries: ranks by hand, its law without memory, and its interval."""

from __future__ import annotations

import numpy as np
import pytest

from memberscope.errors import InputError
from memberscope.statistics import compute_exposure, summarise_exposure


def test_exposure_is_the_log_of_candidates_over_the_rank():
    outside = np.arange(7.0)
    # Above all seven, between the third and fourth highest, and below all
    found = compute_exposure(np.array([9.0, 3.5, -1.0]), outside)
    assert found == pytest.approx([3.0, np.log2(8) - np.log2(4), 0.0])


def test_ties_count_against_the_canary():
    assert compute_exposure(np.array([2.0]), np.array([2.0, 2.0, 1.0])).tolist() == [
        pytest.approx(np.log2(4) - np.log2(3))
    ]


def test_without_memory_exposure_exceeds_t_bits_with_probability_two_to_minus_t():
    rng = np.random.default_rng(0)
    found = compute_exposure(rng.normal(size=20_000), rng.normal(size=20_000))
    for bits in (1, 2, 4):
        share, error = (found >= bits).mean(), (2.0**-bits / 20_000) ** 0.5
        # Ranks share their candidates, which adds about as much variance as the canaries have
        assert abs(share - 2.0**-bits) < 5 * error


def test_the_interval_holds_the_median_as_often_as_it_says():
    # Exposure is continuous enough with so many candidates; its median without memory is one bit
    rng, held = np.random.default_rng(1), 0
    outside = rng.normal(size=50_000)
    truth = float(np.median(compute_exposure(rng.normal(size=50_000), outside)))
    for _ in range(400):
        found = summarise_exposure(rng.normal(size=25), outside, 0.9).median
        held += found.low <= truth <= found.high
    # At least 90% less four standard errors
    assert held >= 400 * 0.84


def test_few_canaries_give_limits_without_content():
    found = summarise_exposure(np.array([1.0, 2.0]), np.zeros(15))
    assert (found.median.low, found.median.high, found.most) == (0.0, 4.0, 4.0)


@pytest.mark.parametrize(
    ("inside", "outside", "words"),
    [([1.0], [], "got 0 left out"), ([np.nan], [1.0], "finite"), ([], [1.0], "got none")],
)
def test_bad_input_is_one_sentence(inside, outside, words):
    with pytest.raises(InputError, match=words):
        summarise_exposure(np.array(inside), np.array(outside))
