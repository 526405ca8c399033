"""MemGuard: what its noise must fulfil, the budget, and a naive search row by row."""

from __future__ import annotations

import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from memberscope.errors import InputError
from memberscope.outputs.chain import parse_restriction
from memberscope.outputs.memguard import KEPT, PATIENCE, STEP, WEIGHTS, MemGuard
from memberscope.outputs.top_k import TopK
from memberscope.targets import RestrictedTarget, TorchTarget

K = 5


def answers(n: int = 300, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities (n, K), surer where they are about members, and who is one."""
    rng = np.random.default_rng(seed)
    member = rng.random(n) < 0.5
    logits = rng.normal(size=(n, K))
    logits[np.arange(n), rng.integers(0, K, n)] += np.where(member, 6.0, 3.0)
    p = np.exp(logits)
    return p / p.sum(axis=1, keepdims=True), member


KEY = bytes(range(32))


@pytest.fixture(scope="module")
def guard() -> MemGuard:
    return MemGuard(1.0, key=KEY).fit(*answers())


def chance(guard: MemGuard, p: np.ndarray) -> np.ndarray:
    """What the classifier says, by torch."""
    values = torch.from_numpy(np.sort(p, axis=1)[:, ::-1].copy())
    for number, (weights, offset) in enumerate(guard.classifier.layers):
        values = values @ torch.from_numpy(weights).double() + torch.from_numpy(offset).double()
        values = values.relu() if number + 1 < len(guard.classifier.layers) else values
    return torch.sigmoid(values[:, 0]).numpy()


def test_the_classifier_tells_members_from_others(guard):
    fresh, member = answers(2000, seed=1)
    assert ((chance(guard, fresh) > 0.5) == member).mean() > 0.75


def test_noise_leaves_the_classifier_undecided_and_the_top_class_alone(guard):
    p, _ = answers(1000, seed=2)
    noisy, length = guard.noisy(p)
    used = length > 0
    assert used.mean() > 0.95
    np.testing.assert_array_equal(noisy[~used], p[~used])
    np.testing.assert_allclose(length, np.abs(noisy - p).sum(axis=1), atol=1e-15)
    assert np.abs(chance(guard, noisy[used]) - 0.5).max() < 1e-5
    np.testing.assert_array_equal(noisy.argmax(axis=1), p.argmax(axis=1))
    np.testing.assert_allclose(noisy.sum(axis=1), 1.0, atol=1e-12)
    assert noisy.min() >= 0


def test_certain_and_even_answers_keep_their_top_class(guard):
    p = np.vstack(
        [
            np.eye(K),
            np.full((1, K), 1 / K),
            [[0.5, 0.5, 0.0, 0.0, 0.0]],
            [[0.4, 0.3, 0.3, 0.0, 0.0]],
        ]
    )
    noisy, length = guard.noisy(p)
    np.testing.assert_array_equal(noisy.argmax(axis=1), p.argmax(axis=1))
    assert (length[:K] > 0).all() and np.isfinite(noisy).all()
    assert np.abs(chance(guard, noisy[:K]) - 0.5).max() < 1e-5


def naive(guard: MemGuard, p: np.ndarray) -> np.ndarray:
    """One row (K,): the published search by automatic differentiation, and then.

    Unless it stops there, halving on the way back.
    """
    layers = [
        (torch.from_numpy(w).double(), torch.from_numpy(b).double())
        for w, b in guard.classifier.layers
    ]
    start, top = torch.from_numpy(p), int(p.argmax())

    def odds(q: torch.Tensor) -> torch.Tensor:
        values = q.sort(descending=True).values
        for weights, offset in layers[:-1]:
            values = (values @ weights + offset).relu()
        return (values @ layers[-1][0] + layers[-1][1])[0]

    side, best, most = torch.sign(odds(start)), None, guard.steps
    for weight in WEIGHTS:
        z, crossed = start.clamp_min(1e-6).log(), None
        for step in range(most + 1):
            z.requires_grad_(True)
            q = z.softmax(0)
            if torch.sign(odds(q)) != side and int(q.argmax()) == top:
                crossed, taken = q.detach(), step
                break
            others = torch.cat([z[:top], z[top + 1 :]]).max()
            moved = (q - start).abs()
            loss = (
                odds(q).abs()
                + KEPT * (others - z[top]).relu()
                + weight * moved[moved > 1e-12].sum()
            )
            (slope,) = torch.autograd.grad(loss, z)
            z = (z - STEP * slope / slope.norm()).detach()
        if crossed is None:
            break
        low, high = 0.0, 1.0
        for _ in range(60 if guard.stop == "undecided" else 0):
            middle = (low + high) / 2
            low, high = (
                (low, middle)
                if torch.sign(odds(start + middle * (crossed - start))) != side
                else (middle, high)
            )
        found = start + high * (crossed - start)
        if best is None:
            most = min(guard.steps, PATIENCE * taken + 2)
        if best is None or (found - start).abs().sum() < (best - start).abs().sum():
            best = found
    if best is None or abs(odds(best)) >= abs(odds(start)):
        return p
    return best.numpy()


@pytest.mark.parametrize("stop", ["undecided", "crossed"])
def test_it_agrees_with_a_naive_search_row_by_row(guard, stop):
    guard = replace(guard, stop=stop)
    p, _ = answers(60, seed=3)
    noisy, length = guard.noisy(p)
    plain = np.stack([naive(guard, row) for row in p])
    np.testing.assert_allclose(length, np.abs(plain - p).sum(axis=1), rtol=1e-4)
    np.testing.assert_allclose(noisy, plain, atol=1e-5)


@pytest.mark.parametrize("budget", [0.05, 0.2, 0.5])
def test_noise_is_used_as_often_as_the_budget_allows(guard, budget):
    p, _ = answers(3000, seed=4)
    length = guard.noisy(p)[1]
    spent = np.abs(replace(guard, distortion=budget)(p) - p).sum(axis=1)
    whole = spent > 0
    # The key moves where noise ends by a little
    np.testing.assert_allclose(
        spent[whole], length[whole], atol=1e-4, err_msg="all of the noise or none"
    )
    assert whole[(length > 0) & (length <= budget)].all()
    expected = np.minimum(budget, length)
    error = np.sqrt((np.maximum(length - expected, 0) * expected).sum())
    assert abs(spent.sum() - expected.sum()) < 4 * error
    assert abs(spent.sum() - length.sum()) > 8 * error, "the budget binds"
    assert spent.mean() < budget
    other = replace(guard, distortion=budget, seed=1)(p)
    assert ((np.abs(other - p).sum(axis=1) > 0) != whole).mean() > 0.02, "the seed draws"


def test_where_noise_ends_does_not_tell_what_the_classifier_said(guard):
    p, _ = answers(3000, seed=12)
    before, noisy = guard.classifier.odds(p), guard(p)
    after, (beyond, length) = guard.classifier.odds(noisy), guard.noisy(p)
    used = (length > 0) & (noisy != p).any(axis=1)
    assert used.mean() > 0.5 and np.abs(chance(guard, noisy[used]) - 0.5).max() < 1e-5
    np.testing.assert_array_equal(noisy.argmax(axis=1), p.argmax(axis=1))
    np.testing.assert_allclose(noisy[used], beyond[used], atol=1e-3)
    side = np.sign(before[used])
    assert (np.sign(guard.classifier.odds(beyond[used])) == -side).mean() > 0.9
    assert abs((np.sign(after[used]) == -side).mean() - 0.5) < 4 * 0.5 / np.sqrt(used.sum())


def test_the_authors_stop_is_beyond_and_takes_more_noise(guard):
    p, _ = answers(500, seed=9)
    beyond, more = replace(guard, stop="crossed").noisy(p)
    _, least = guard.noisy(p)
    both = (more > 0) & (least > 0)
    assert both.mean() > 0.5 and (more[both] >= least[both] - 1e-9).all()
    assert ((chance(guard, beyond[both]) > 0.5) != (chance(guard, p[both]) > 0.5)).all()
    np.testing.assert_array_equal(beyond.argmax(axis=1), p.argmax(axis=1))


def test_without_a_budget_nothing_changes(guard):
    p, _ = answers(seed=5)
    np.testing.assert_array_equal(replace(guard, distortion=0.0)(p), p)


@settings(max_examples=25)
@given(st.integers(0, 10_000), st.integers(1, 40))
def test_an_answer_does_not_depend_on_its_company(guard, seed, n):
    p, _ = answers(n, seed)
    company = np.concatenate([answers(50, seed + 1)[0], p, answers(20, seed + 2)[0]])
    together = guard(company)[50 : 50 + n]
    np.testing.assert_array_equal(together, guard(p))
    np.testing.assert_array_equal(together, np.concatenate([guard(row[None]) for row in p]))


def test_the_last_digits_do_not_draw_again(guard):
    small = replace(guard, distortion=0.1)
    p, _ = answers(300, seed=6)
    p = np.round(p, 5)
    moved = p * (1 + 1e-9)
    np.testing.assert_array_equal((small(p) != p).any(axis=1), (small(moved) != moved).any(axis=1))


def test_fitting_repeats_and_travels(guard):
    again = MemGuard(1.0, key=KEY).fit(*answers())
    assert again == guard and again.digest == guard.digest
    p, _ = answers(seed=7)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(guard))(p), guard(p))


def test_other_classifiers_are_other_defences(guard):
    other = MemGuard(1.0, key=KEY).fit(*answers(seed=8))
    assert other != guard and other.name == guard.name and other.digest != guard.digest
    whole = TorchTarget(torch.nn.Linear(2, K))
    digests = [
        RestrictedTarget(whole, defence).digest
        for defence in (guard, other, MemGuard(1.0), TopK(1))
    ]
    assert len(set(digests)) == 4 and None not in digests


def test_unfitted_or_before_hidden_answers_it_says_what_to_do(guard):
    p, member = answers()
    with pytest.raises(
        InputError,
        match=r"Expected a fitted memguard:1, got one that has no classifier yet. Call fit",
    ):
        parse_restriction("memguard:1")(p)
    with pytest.raises(
        InputError,
        match=r"Expected whole answers of 5 classes before memguard:1, got .* Put memguard:1 first",
    ):
        guard(TopK(2)(p))
    with pytest.raises(InputError, match="Expected whole answers of 5 classes"):
        guard(p[:, :3])
    with pytest.raises(InputError, match="got only one kind"):
        MemGuard().fit(p, np.ones(len(p), dtype=bool))
    with pytest.raises(InputError, match="Expected outputs"):
        MemGuard().fit(p, member[:5])


def test_names_tell_what_is_unusual():
    names = {
        MemGuard(): "memguard:1",
        MemGuard(0.3, 50): "memguard:0.3:50",
        MemGuard(1.0, stop="crossed"): "memguard:1:300:crossed",
        MemGuard(0.3, seed=0): "memguard:0.3:300:undecided:0",
    }
    for made, name in names.items():
        assert made.name == name and parse_restriction(name) == made
    with pytest.raises(InputError, match="Expected MemGuard to stop at undecided or crossed"):
        parse_restriction("memguard:1:300:there")
