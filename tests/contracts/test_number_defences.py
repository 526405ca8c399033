"""One table over every restriction of numbers and of several labels.

Shapes, order, names, what each fits, and what it leaves of a leak.
"""

from __future__ import annotations

import numpy as np
import pytest

from memberscope.attacks import LiRAPrediction, PredictionError
from memberscope.errors import InputError
from memberscope.outputs import (
    NUMBER_DEFENCES,
    OUTPUT_DEFENCES,
    Bins,
    Chain,
    Clipping,
    Decimals,
    Digits,
    Edges,
    Intervals,
    LabelsOnly,
    can_derive_answers,
    can_restrict,
    check_restriction,
    choose_edges,
    parse_restriction,
)
from memberscope.statistics import auc_value, roc
from memberscope.types import Evidence, OutputDefence

TABLE: tuple[OutputDefence, ...] = (
    *NUMBER_DEFENCES,
    Decimals(2),
    Decimals(-1),
    Digits(1),
    Intervals(0.1),
    Bins(3, -5.0, 7.5),
    Edges((-1e6, 0.0, 0.125, 1e6)),
    Clipping(-1.0, 1.0),
    LabelsOnly(0.3),
    Chain((Clipping(0.0, 50.0), Decimals(1))),
)
IDS = [defence.name for defence in TABLE]
TASKS = ("classification", "text", "regression", "multilabel", "forecast")


def answers(n: int = 400, d: int = 3, seed: int = 0) -> np.ndarray:
    """Numbers of very different sizes, some of them round or zero."""
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(n, d)) * 10.0 ** rng.integers(-4, 5, (n, d))
    values[0], values[1] = 0.0, 50.0
    return values


@pytest.mark.parametrize("defence", TABLE, ids=IDS)
def test_it_answers_each_number_by_itself_and_never_turns_two_round(defence):
    given = answers()
    before = given.copy()
    seen = defence(given)
    np.testing.assert_array_equal(given, before)
    assert seen.shape == given.shape and np.isfinite(seen).all() and defence.hides
    np.testing.assert_array_equal(seen[::-1], defence(given[::-1]))
    np.testing.assert_array_equal(seen[:, :1], defence(given[:, :1]))
    order = np.argsort(given[:, 0])
    assert (np.diff(seen[order, 0]) >= 0).all()
    assert len(np.unique(seen)) < len(np.unique(given))


@pytest.mark.parametrize("defence", TABLE, ids=IDS)
def test_asked_about_its_own_answer_it_gives_the_same(defence):
    seen = defence(answers())
    np.testing.assert_allclose(defence(seen), seen, rtol=1e-12)


@pytest.mark.parametrize("defence", TABLE, ids=IDS)
def test_its_name_makes_it_again(defence):
    again = parse_restriction(defence.name)
    assert again == defence and again.digest == defence.digest == defence.name
    assert again.fit(answers(), np.zeros(400, dtype=bool)) == defence


def test_each_fits_the_tasks_that_it_is_made_for():
    fits = {one.name: [task for task in TASKS if can_restrict(one, task)] for one in TABLE}
    assert fits["decimals:2"] == ["regression", "multilabel", "forecast"]
    assert fits["labels:0.5"] == ["multilabel"]
    assert fits["clip:0:50+decimals:1"] == ["regression", "forecast"]
    assert all(can_restrict(one, "classification") for one in OUTPUT_DEFENCES)
    assert not any(can_restrict(one, "regression") for one in OUTPUT_DEFENCES)
    with pytest.raises(InputError, match=r"for regression, got top:1\. Give decimals:0"):
        check_restriction(parse_restriction("top:1"), "regression")
    with pytest.raises(InputError, match="for multilabel, got clip:0:1"):
        check_restriction(parse_restriction("clip:0:1"), "multilabel")
    with pytest.raises(InputError, match="of classification, got digits:2"):
        check_restriction(parse_restriction("digits:2"), "classification")


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("decimals:16", "-15 to 15 decimals"),
        ("decimals:x", "a restriction such as"),
        ("digits:0", "1 to 15 significant digits"),
        ("interval:0", "a width above 0"),
        ("interval:nan", "a width above 0"),
        ("bins:20", "a restriction such as"),
        ("bins:0:0:1", "bins in bins:n:low:high, got 0"),
        ("bins:5:1:1", "lower bound below the upper one"),
        ("edges:3", "two or more rising numbers"),
        ("edges:3:2", "got 3:2"),
        ("clip:2:inf", "got 2 and inf"),
        ("labels:1", "between 0 and 1"),
    ],
)
def test_what_makes_no_sense_is_refused_in_a_sentence(name, why):
    with pytest.raises(InputError, match=why):
        parse_restriction(name)


def test_rounding_is_that_of_written_numbers():
    given = np.array([[0.15, 2.675, 1234.5, -0.04]])
    assert Decimals(1)(given).tolist() == [[0.2, 2.7, 1234.5, 0.0]]
    assert not np.signbit(Decimals(1)(given)).any()
    assert Digits(3)(given).tolist() == [[0.15, 2.67, 1230.0, -0.04]]


def test_bins_are_chosen_by_count_or_by_width():
    given = np.random.default_rng(0).exponential(size=(1000, 1))
    by_count, by_width = choose_edges(given, 4), choose_edges(given, 4, "width")
    counts = np.unique(by_count(given), return_counts=True)[1]
    assert counts.tolist() == [250] * 4
    assert np.ptp(np.diff(np.unique(by_width(given)))) < 1e-9
    assert parse_restriction(by_count.name) == by_count
    assert len(choose_edges(np.array([[1.0], [1.0], [1.0], [2.0]]), 4).edges) < 5
    with pytest.raises(InputError, match="got 3 alone"):
        choose_edges(np.full((5, 1), 3.0), 4)


def test_a_chain_that_goes_on_tells_no_more_than_its_beginning():
    assert can_derive_answers("clip:0:50", "clip:0:50+decimals:1")
    assert not can_derive_answers("decimals:1", "interval:5")


def test_coarser_answers_leave_less_of_a_leak():
    """A model that predicts its members to within 1 and others to within 10."""
    rng = np.random.default_rng(0)
    n, m = 1500, 16
    member, inside = rng.random(n) < 0.5, np.argsort(rng.random((m, n)), axis=0) < m // 2
    truth = rng.uniform(0, 100, n)
    saw = np.concatenate([member[None], inside])
    found = truth + np.where(saw, 1.0, 10.0) * rng.standard_normal(saw.shape)
    areas = {}
    for defence in (Decimals(0), Intervals(20.0), Bins(2, 0.0, 100.0), Clipping(49.0, 51.0)):
        seen = np.stack([defence(row[:, None]) for row in found])[:, :, None]
        evidence = Evidence(
            "prediction", seen[0], truth[:, None], np.full(n, -1, np.int8), seen[1:], inside
        )
        areas[defence.name] = [
            auc_value(roc(attack.score(evidence, rng), member))
            for attack in (PredictionError(), LiRAPrediction())
        ]
    errors = [errors for errors, _ in areas.values()]
    ratios = [ratios for _, ratios in areas.values()]
    assert errors == sorted(errors, reverse=True) and ratios == sorted(ratios, reverse=True)
    assert errors[0] > 0.9 and ratios[-1] < 0.65
