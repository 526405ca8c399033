"""One table over every output defence.

Shapes, the kept label, repetition, hidden classes, names, and composition.
"""

from __future__ import annotations

import numpy as np
import pytest

from memberscope._numerics import fill_hidden_probabilities
from memberscope.attacks import Gap
from memberscope.attacks._inputs import score_correctness
from memberscope.errors import InputError, TargetError
from memberscope.outputs import OUTPUT_DEFENCES, list_randomised_parts
from memberscope.outputs.chain import Chain, parse_restriction
from memberscope.outputs.hamp_output import HampOutput
from memberscope.outputs.label_only import LabelOnly
from memberscope.outputs.memguard import MemGuard
from memberscope.outputs.noise import OutputNoise, draw_keyed_normals
from memberscope.outputs.rounding import Rounding, pick_top_classes
from memberscope.outputs.temperature import Temperature
from memberscope.outputs.top_k import TopK
from memberscope.signals import restrict_to_access
from memberscope.signals.label_oracle import ask_top_labels
from memberscope.targets import FunctionTarget, RestrictedTarget
from memberscope.types import Access, Evidence, OutputDefence


def answers(n: int = 500, k: int = 6, seed: int = 0) -> np.ndarray:
    """Random probabilities, a few of them certain, some with ties."""
    rng = np.random.default_rng(seed)
    p = rng.dirichlet(np.full(k, 0.5), n)
    p[0], p[1] = np.eye(k)[2], 1 / k
    p[2] = [0.5, 0.5] + [0.0] * (k - 2)
    return p


SURE = answers(200, seed=9).max(axis=1) > 0.7
FITTED: tuple[OutputDefence, ...] = tuple(
    defence.fit(answers(200, seed=9), SURE)
    for defence in (
        MemGuard(2.0, seed=0),
        HampOutput(0),
        HampOutput(3),
        Chain((MemGuard(0.5, seed=0), Rounding(2))),
    )
)
TABLE: tuple[OutputDefence, ...] = (
    *(defence for defence in OUTPUT_DEFENCES if not list_randomised_parts(defence)),
    Rounding(0),
    Rounding(1),
    Temperature(0.2),
    Temperature(1e-3),
    Temperature(1e3),
    OutputNoise(2.0, seed=7),
    Chain((TopK(3), Rounding(1))),
    Chain((OutputNoise(0.5, seed=0), TopK(2))),
    *FITTED,
)
IDS = [defence.name for defence in TABLE]


@pytest.mark.parametrize("defence", TABLE, ids=IDS)
def test_the_top_class_stays_and_the_caller_s_answers_are_untouched(defence):
    given = answers()
    before = given.copy()
    seen = defence(given)
    np.testing.assert_array_equal(given, before)
    if defence.signal == "labels":
        assert seen.shape == (500, 1)
        np.testing.assert_array_equal(seen[:, 0], given.argmax(axis=1))
    else:
        assert seen.shape == given.shape
        np.testing.assert_array_equal(pick_top_classes(seen), given.argmax(axis=1))
        assert np.nanmin(seen) >= 0 and not np.isnan(seen).all(axis=1).any()


@pytest.mark.parametrize("defence", TABLE, ids=IDS)
def test_asked_again_or_in_another_order_it_answers_the_same(defence):
    given = answers()
    order = np.random.default_rng(1).permutation(len(given))
    np.testing.assert_array_equal(defence(given)[order], defence(given[order]))
    if defence not in FITTED:
        np.testing.assert_array_equal(
            defence.fit(given, given.max(axis=1) > 0.7)(given), defence(given)
        )


@pytest.mark.parametrize("defence", TABLE, ids=IDS)
def test_its_name_makes_it_again_and_its_digest_tells_what_it_is_fitted_to(defence):
    again = parse_restriction(defence.name)
    assert again.name == defence.name and again.hides == defence.hides
    if defence in FITTED:
        assert again != defence and again.digest != defence.digest
        refitted = again.fit(answers(200, seed=9), SURE)
        assert refitted == defence and refitted.digest == defence.digest
    else:
        assert again == defence and again.digest == defence.digest == defence.name


@pytest.mark.parametrize("defence", TABLE, ids=IDS)
def test_it_says_whether_it_leaves_something_out(defence):
    seen = defence(answers())
    whole = (
        seen.shape == (500, 6)
        and not np.isnan(seen).any()
        and bool(np.abs(seen.sum(axis=1) - 1).max() < 1e-6)
    )
    assert whole == (not defence.hides)


@pytest.mark.parametrize("defence", TABLE, ids=IDS)
def test_the_gap_attack_is_the_same_under_any_defence_that_keeps_the_label(defence):
    given, labels = answers(), np.random.default_rng(2).integers(0, 6, 500)
    hidden = np.full(500, -1, dtype=np.int8)

    def gap(outputs: np.ndarray) -> np.ndarray:
        signal, values = restrict_to_access(Access.LABEL, "probabilities", outputs, None)
        return Gap().score(
            Evidence(signal, values[:, None, :], labels, hidden), np.random.default_rng(0)
        )

    signal, values = restrict_to_access(Access.LABEL, "probabilities", given, defence)
    limited = Gap().score(
        Evidence(signal, values[:, None, :], labels, hidden), np.random.default_rng(0)
    )
    np.testing.assert_array_equal(limited, gap(given))


@pytest.mark.parametrize("defence", TABLE, ids=IDS)
def test_in_front_of_a_target_logits_become_what_it_lets_through(defence):
    logits = np.random.default_rng(3).normal(size=(40, 6)) * 3
    whole = FunctionTarget(lambda x: logits[np.asarray(x, dtype=int)], n_classes=6, signal="logits")
    target = RestrictedTarget(whole, defence)
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(target.query(np.arange(40)), defence(p), atol=1e-12)
    assert target.signal == defence.signal and target.restriction == defence.name
    assert target.hides == defence.hides
    assert target.access == (Access.LABEL if defence.signal == "labels" else Access.PROBABILITIES)


def test_hidden_classes_are_filled_in_within_all_that_is_known_of_them():
    given = answers(seed=4)
    for k in (1, 2, 3, 5):
        seen = TopK(k)(given)
        assert (np.isnan(seen).sum(axis=1) == 6 - k).all()
        whole, hidden = fill_hidden_probabilities(seen), np.isnan(seen)
        np.testing.assert_allclose(whole.sum(axis=1), 1.0)
        least = np.nanmin(seen, axis=1, keepdims=True)
        assert (whole[hidden] >= 0).all() and (whole <= np.where(hidden, least, 1.0) + 1e-12).all()
        first = whole[hidden].reshape(500, -1)
        np.testing.assert_array_equal(first, np.repeat(first[:, :1], 6 - k, axis=1))
    (
        np.testing.assert_allclose(fill_hidden_probabilities(TopK(5)(given)), given, atol=1e-12),
        "the last class follows from the others",
    )


def test_top_k_is_at_ease_with_answers_that_hide_classes_already():
    given = answers()
    np.testing.assert_array_equal(TopK(3)(TopK(3)(given)), TopK(3)(given))
    np.testing.assert_array_equal(TopK(1)(TopK(3)(given)), TopK(1)(given))


def test_a_known_temperature_is_undone():
    given = answers()[3:]
    np.testing.assert_allclose(Temperature(1 / 3.0)(Temperature(3.0)(given)), given, atol=1e-9)


def test_noise_has_the_scale_it_says_and_depends_on_its_key():
    given = np.random.default_rng(5).dirichlet(np.full(3, 50.0), 20_000)
    key = bytes(range(32))
    drawn = draw_keyed_normals(given, [key], "noise:1")[0]
    assert abs(drawn.mean()) < 0.02 and abs(drawn.std() - 1) < 0.02
    assert abs(np.corrcoef(drawn[:, 0], drawn[:, 1])[0, 1]) < 0.03
    assert abs(np.corrcoef(drawn[:, 0], given[:, 0])[0, 1]) < 0.03
    keyed = OutputNoise(0.5, key=key)(given)
    for other in (OutputNoise(0.5, seed=1), OutputNoise(0.5, key=bytes(32))):
        assert not (other(given) == keyed).all(axis=1).any()
    np.testing.assert_array_equal(OutputNoise(0.0, key=key)(given).round(12), given.round(12))
    # Two strengths draw independently, or both answers together would give the noise away
    mild = draw_keyed_normals(given, [key], "noise:0.5")[0]
    assert abs(np.corrcoef(drawn[:, 0], mild[:, 0])[0, 1]) < 0.03


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("top:0", "Expected at least one class in top:k, got 0"),
        ("top", "Expected a restriction such as top:1"),
        ("top:x", "Expected a restriction such as top:1"),
        ("round:99", "Expected 0 to 15 decimals"),
        ("temperature:-1", "Expected a temperature from 0.001 to 1000"),
        ("noise:0.5:-1", "Expected a noise seed"),
        ("noise:nan", "Expected a noise scale of at least 0"),
        ("blur:3", "Expected a restriction such as top:1"),
        ("label+top:1", "Expected nothing after label"),
    ],
)
def test_a_wrong_name_gets_a_sentence(name, sentence):
    with pytest.raises(InputError, match=sentence):
        parse_restriction(name)


def test_a_failing_model_is_not_hidden_behind_a_defence():
    broken = FunctionTarget(lambda x: np.tile([0.5, np.nan], (len(x), 1)), n_classes=2)
    with pytest.raises(TargetError, match="Expected finite outputs behind round:2, got 3 rows"):
        RestrictedTarget(broken, Rounding(2)).query(np.zeros((3, 1)))


def test_filled_in_classes_stay_below_rounded_visible_ones():
    given = np.random.default_rng(6).dirichlet(np.full(30, 20.0), 300)
    labels = given.argmax(axis=1)
    for name in ("top:1+round:1", "top:3+round:1", "round:1+top:1"):
        seen = parse_restriction(name)(given)
        assert (
            np.where(np.isnan(seen), fill_hidden_probabilities(seen), 0)
            <= np.nanmin(seen, axis=1, keepdims=True)
        ).all()
        evidence = Evidence(
            "probabilities", seen[:, None, :], labels, np.full(300, -1, dtype=np.int8)
        )
        assert score_correctness(evidence).all(), name


def test_labels_and_losses_cannot_be_restricted_further():
    with pytest.raises(
        InputError, match="Expected a target that returns probabilities or logits, got labels"
    ):
        RestrictedTarget(FunctionTarget(lambda x: x, n_classes=2, signal="labels"), LabelOnly())


@pytest.mark.parametrize("defence", TABLE, ids=IDS)
def test_searches_by_labels_skip_a_defence_and_find_the_same(defence):
    """What top_labels asks behind a defence is what the defence itself would have said."""
    whole = FunctionTarget(lambda x: x, n_classes=6)
    hidden = RestrictedTarget(whole, defence)
    given = answers()
    seen = hidden.query(given)
    through = seen[:, 0].astype(int) if defence.signal == "labels" else pick_top_classes(seen)
    np.testing.assert_array_equal(ask_top_labels(hidden, given), through)
    assert hidden.same_labels is (hidden if defence.signal == "labels" else whole)
