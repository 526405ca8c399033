"""DP-SGD: known epsilons, both engines against a plain loop over single records.

The noise measured, and mistakes in one sentence.
"""

from __future__ import annotations

import builtins
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn

from memberscope.auditing import compute_privacy_bounds
from memberscope.errors import InputError
from memberscope.recipes import (
    SGD,
    Adam,
    Execution,
    Privacy,
    TorchRecipe,
    TrainingJob,
    build_balanced_design,
    prove_epsilon,
    train_fleet,
)
from memberscope.recipes.dp_accounting import (
    compute_epsilons,
    compute_sampling_schedule,
    search_noise_multiplier,
)
from memberscope.recipes.torch.dpsgd_white_box import train_and_score_canaries
from memberscope.recipes.torch.poisson_sampling import build_poisson_batch, draw_poisson_steps
from memberscope.recipes.torch.task import (
    Task,
    build_initial_module,
    build_tensors,
    list_member_rows,
)
from memberscope.signals import SignalRequest, Store
from memberscope.statistics import auc_value, roc
from memberscope.types import Access, Records, SignalSpec

QUIET = Privacy(noise_multiplier=0.0, max_grad_norm=0.5)
NOISY = Privacy(noise_multiplier=0.8, max_grad_norm=0.5)


def deep() -> nn.Module:
    return nn.Sequential(
        *(nn.Flatten(), nn.Linear(20, 16), nn.ReLU(), nn.Linear(16, 12, bias=False), nn.Tanh()),
        *(nn.Linear(12, 8), nn.LeakyReLU(0.1), nn.Linear(8, 4)),
    )


def dropping() -> nn.Module:
    return nn.Sequential(nn.Linear(20, 16), nn.ReLU(), nn.Dropout(0.3), nn.Linear(16, 4))


def normalising() -> nn.Module:
    return nn.Sequential(nn.Linear(20, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 4))


def convolving() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 10))


def records(n: int = 120, seed: int = 0) -> Records:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 20))
    return Records(x, (x[:, :4] + rng.normal(size=(n, 4))).argmax(axis=1), np.arange(n).astype(str))


def weights(recipe: TorchRecipe, pool: Records, inside: np.ndarray, seeds: list[int]) -> np.ndarray:
    models = recipe.many(pool, inside, seeds)
    return np.stack(
        [
            np.concatenate([p.detach().double().numpy().ravel() for p in m.module.parameters()])
            for m in models
        ]
    )


def everyone(pool: Records, m: int = 1) -> np.ndarray:
    return np.ones((m, len(pool)), dtype=bool)


def naive(recipe: TorchRecipe, pool: Records, seed: int) -> np.ndarray:
    """One record after another by autograd, clipped, summed, divided by the expected batch.

    SGD with momentum; no noise.
    """
    module = build_initial_module(recipe, seed).train()
    x, y = build_tensors(recipe, pool, module)
    task = Task(recipe, [module], x, y, list_member_rows(everyone(pool)), [seed])
    parameters, clip = list(module.parameters()), recipe.privacy.max_grad_norm
    memory = [torch.zeros_like(p) for p in parameters]
    for step, sizes in draw_poisson_steps(task):
        sums = [torch.zeros_like(p) for p in parameters]
        for place in step.index[0, : sizes[0]]:
            loss = nn.functional.cross_entropy(
                module(x[place][None]), y[place][None], label_smoothing=recipe.label_smoothing
            )
            own = torch.autograd.grad(loss, parameters)
            norm = torch.sqrt(sum(g.square().sum() for g in own))
            for total, gradient in zip(sums, own, strict=True):
                total += gradient * min(1.0, clip / float(norm))
        with torch.no_grad():
            for p, held, total in zip(parameters, memory, sums, strict=True):
                held.mul_(recipe.optimiser.momentum).add_(
                    total / recipe.batch_size + recipe.weight_decay * p
                )
                p -= step.rate * held
    return np.concatenate([p.detach().double().numpy().ravel() for p in parameters])


SETTINGS = {
    "momentum": {"optimiser": SGD(0.5)},
    "decay, smoothing, cosine": {
        "optimiser": SGD(0.5, momentum=0.5),
        "weight_decay": 0.01,
        "label_smoothing": 0.1,
        "schedule": "cosine",
    },
    "loose clipping": {"optimiser": SGD(0.1), "privacy": replace(QUIET, max_grad_norm=100.0)},
}


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
@pytest.mark.parametrize("engine", ["matrices", "loop"])
def test_both_engines_do_what_a_loop_over_single_records_does(engine, settings):
    recipe = TorchRecipe(
        deep, **{"epochs": 3, "batch_size": 16, "engine": engine, "privacy": QUIET, **settings}
    )
    pool = records()
    np.testing.assert_allclose(
        weights(recipe, pool, everyone(pool), [5])[0], naive(recipe, pool, 5), atol=1e-5
    )


def test_the_engines_agree_under_adam():
    recipe = TorchRecipe(
        deep, Adam(1e-2), epochs=2, batch_size=16, precision="float64", privacy=QUIET
    )
    pool = records()
    ours, opacus = (
        weights(replace(recipe, engine=e), pool, everyone(pool), [5]) for e in ("matrices", "loop")
    )
    np.testing.assert_allclose(ours, opacus, atol=1e-5)
    assert np.abs(ours - weights(replace(recipe, epochs=1), pool, everyone(pool), [5])).max() > 1e-3


@pytest.mark.parametrize("engine", ["matrices", "loop"])
def test_the_noise_on_an_update_has_the_deviation_it_should(engine):
    pool = records(40)
    recipe = TorchRecipe(
        deep,
        SGD(1.0, momentum=0.0),
        epochs=1,
        batch_size=40,
        engine=engine,
        privacy=replace(NOISY, noise_multiplier=3.0),
    )
    loud = weights(recipe, pool, everyone(pool, 30), list(range(30)))
    quiet = weights(replace(recipe, privacy=QUIET), pool, everyone(pool, 30), list(range(30)))
    noise = (loud - quiet) / (3.0 * 0.5 / 40)  # one step, all records in it: nothing else differs
    n = noise.size
    assert n > 15_000
    assert noise.std() == pytest.approx(1.0, abs=4 / np.sqrt(2 * n))
    assert abs(noise.mean()) < 4 / np.sqrt(n)
    assert abs(np.corrcoef(noise)[np.triu_indices(30, 1)]).max() < 5 / np.sqrt(noise.shape[1])


@pytest.mark.parametrize(
    "settings",
    [{}, {"model": dropping}, {"augmentation": ("noise:0.1",)}],
    ids=["plain", "dropout", "augmented"],
)
def test_models_of_a_stack_do_not_influence_each_other(settings):
    pool = records()
    recipe = TorchRecipe(
        **{
            "model": deep,
            "epochs": 3,
            "batch_size": 16,
            "privacy": NOISY,
            "precision": "float64",
            **settings,
        }
    )
    inside = build_balanced_design(len(pool), 60, 4, np.random.default_rng(0))
    together = weights(recipe, pool, inside, [0, 1, 2, 3])
    alone = np.concatenate([weights(recipe, pool, inside[i : i + 1], [i]) for i in range(4)])
    np.testing.assert_allclose(together, alone, atol=1e-10)
    assert len({row.tobytes() for row in together}) == 4


@pytest.mark.parametrize("engine", ["matrices", "loop"])
def test_the_same_seed_gives_the_same_bytes_and_another_seed_does_not(engine):
    pool, recipe = (
        records(),
        TorchRecipe(dropping, epochs=2, batch_size=16, engine=engine, privacy=NOISY),
    )
    first, again, other = (weights(recipe, pool, everyone(pool), [seed]) for seed in (3, 3, 4))
    assert first.tobytes() == again.tobytes() != other.tobytes()


def test_records_join_by_fair_coins_apart_from_each_other():
    pool, recipe = records(50), TorchRecipe(deep, epochs=400, batch_size=10, privacy=QUIET)
    x, y = build_tensors(recipe, pool, deep())
    counts, sizes = np.zeros((2, 50)), []
    for step, own in draw_poisson_steps(
        Task(recipe, [], x, y, list_member_rows(everyone(pool, 2)), [0, 1])
    ):
        sizes.append(own)
        for i, size in enumerate(own):
            drawn_rows = step.index[i, :size].numpy()
            assert len(set(drawn_rows)) == size
            counts[i, drawn_rows] += 1
    steps = len(sizes)
    assert steps == compute_sampling_schedule(50, 10, 400)[1] == 2000
    spread = np.sqrt(steps * 0.2 * 0.8)
    assert abs(counts - steps * 0.2).max() < 4.5 * spread
    assert np.std(counts) == pytest.approx(spread, rel=0.3)
    assert np.var(np.array(sizes)) == pytest.approx(50 * 0.2 * 0.8, rel=0.1)
    assert abs(np.corrcoef(np.array(sizes).T)[0, 1]) < 0.1


@pytest.mark.parametrize("engine", ["matrices", "loop"])
def test_a_step_that_nobody_joins_is_noise_alone(engine):
    pool = records(30)
    recipe = TorchRecipe(deep, SGD(0.02), epochs=3, batch_size=1, engine=engine, privacy=NOISY)
    x, y = build_tensors(recipe, pool, deep())
    assert [0] in [
        own
        for _, own in draw_poisson_steps(
            Task(recipe, [], x, y, list_member_rows(everyone(pool)), [0])
        )
    ]
    found = weights(recipe, pool, everyone(pool), [0])
    assert np.isfinite(found).all()
    quiet = weights(replace(recipe, privacy=QUIET), pool, everyone(pool), [0])[0]
    np.testing.assert_allclose(quiet, naive(replace(recipe, privacy=QUIET), pool, 0), atol=1e-5)


def test_augmentation_is_the_same_in_a_stack_and_alone():
    x, y = load_digits(return_X_y=True)
    pool = Records(
        (x[:80] / 16).astype(np.float32).reshape(80, 1, 8, 8), y[:80], np.arange(80).astype(str)
    )
    recipe = TorchRecipe(
        deep, batch_size=16, epochs=1, augmentation=("shift:2", "flip"), privacy=QUIET
    )
    rows = list_member_rows(everyone(pool, 3))
    values, labels = build_tensors(recipe, pool, deep())
    together = list(draw_poisson_steps(Task(recipe, [None] * 3, values, labels, rows, [0, 1, 2])))
    alone = list(draw_poisson_steps(Task(recipe, [None], values, labels, rows[1:2], [1])))
    assert len({own[1] for _, own in together}) > 1
    for (step, sizes), (lone, size) in zip(together, alone, strict=True):
        seen = build_poisson_batch(
            Task(recipe, [None] * 3, values, labels, rows, [0, 1, 2]), step, sizes
        )[0][1, : size[0]]
        torch.testing.assert_close(
            seen,
            build_poisson_batch(Task(recipe, [None], values, labels, rows[1:2], [1]), lone, size)[
                0
            ][0, : size[0]],
        )


def test_convolutions_train_by_opacus_and_leave_nothing_on_the_module():
    x, y = load_digits(return_X_y=True)
    pool = Records(
        (x[:400] / 16).astype(np.float32).reshape(400, 1, 8, 8), y[:400], np.arange(400).astype(str)
    )
    recipe = TorchRecipe(
        convolving, SGD(0.5), epochs=8, batch_size=50, privacy=Privacy(noise_multiplier=0.5)
    )
    target = recipe(pool, 0)
    assert (target.query(pool.x).argmax(1) == pool.y).mean() > 0.7
    assert not any(
        hasattr(p, "grad_sample") or hasattr(p, "summed_grad") for p in target.module.parameters()
    )
    assert type(target.module) is nn.Sequential
    assert not any(part._forward_hooks or part._backward_hooks for part in target.module.modules())


def test_opacus_known_epsilons():
    """Constants of Opacus's tests.

    Its README's 2.91 and 1.16 come from an older conversion of Rényi bounds.
    """
    assert compute_epsilons(1.5, 0.04, 2250, 1e-5)[1] == pytest.approx(7.32911117143, rel=1e-5)
    assert compute_epsilons(1.5, 0.04, 2249, 1e-5)[0] == pytest.approx(6.777395712150674, rel=1e-5)
    from opacus.accountants import RDPAccountant
    from opacus.accountants.analysis.rdp import compute_rdp

    orders = np.array(RDPAccountant.DEFAULT_ALPHAS)
    for noise, epochs, published in ((1.1, 60, 2.91), (1.3, 15, 1.16)):
        found = prove_epsilon(Privacy(noise_multiplier=noise), 60_000, 240, epochs)
        spent = compute_rdp(
            q=found.sample_rate, noise_multiplier=noise, steps=found.steps, orders=orders
        )
        assert (spent + np.log(1e5) / (orders - 1)).min() == pytest.approx(published, abs=0.01)
        assert found.epsilon < found.epsilon_rdp < published


@pytest.mark.parametrize(
    ("target", "n", "batch", "epochs"),
    [(1.0, 2505, 128, 5), (8.0, 500, 50, 10), (0.5, 100, 100, 3)],
)
def test_the_noise_found_proves_the_target_and_hardly_less_would(target, n, batch, epochs):
    found = prove_epsilon(Privacy(epsilon=target, delta=1e-5), n, batch, epochs)
    assert 0.985 * target < found.epsilon <= target
    assert (
        compute_epsilons(0.99 * found.noise_multiplier, found.sample_rate, found.steps, 1e-5)[0]
        > target
    )
    assert (
        TorchRecipe(deep, epochs=epochs, batch_size=batch, privacy=Privacy(epsilon=target)).proof(n)
        == found
    )


def test_a_full_batch_is_the_plain_gaussian_mechanism():
    """One step with everybody in it.

    The closed form of Balle and Wang (arXiv:1805.06530), delta at the proven epsilon.
    """
    from scipy.stats import norm

    epsilon = compute_epsilons(2.0, 1.0, 1, 1e-5)[0]
    exact = norm.cdf(0.25 - 2 * epsilon) - np.exp(epsilon) * norm.cdf(-0.25 - 2 * epsilon)
    assert exact <= 1e-5
    closer = epsilon - 0.03
    assert norm.cdf(0.25 - 2 * closer) - np.exp(closer) * norm.cdf(-0.25 - 2 * closer) > 1e-5


def test_a_recipe_without_privacy_proves_nothing_and_one_with_it_is_another_recipe():
    recipe = TorchRecipe(deep)
    assert recipe.proof(100) is None
    digests = {
        r.digest for r in (recipe, replace(recipe, privacy=NOISY), replace(recipe, privacy=QUIET))
    }
    assert len(digests) == 3


def test_a_fleet_of_private_models_chooses_an_engine_and_is_resumed(tmp_path):
    pool = records()
    recipe = TorchRecipe(deep, epochs=2, batch_size=16, privacy=Privacy(epsilon=4.0))
    inside = build_balanced_design(len(pool), 60, 4, np.random.default_rng(0))
    wanted = SignalRequest(Access.LOGITS, SignalSpec("logit_confidence"))
    order = TrainingJob(recipe, pool, inside, tuple(range(4)), (wanted,), "logits", 4)
    fleet = train_fleet(order, Store(tmp_path), Execution("sequential"))
    assert (fleet.choice["engine"], fleet.trained) == ("matrices", 4)
    again = train_fleet(order, Store(tmp_path), Execution("sequential"))
    assert again.trained == 0
    np.testing.assert_array_equal(fleet.observed[wanted], again.observed[wanted])


def test_a_frozen_layer_stays_as_it_is():
    def frozen() -> nn.Module:
        module = deep()
        module[1].requires_grad_(False)
        return module

    recipe, pool = TorchRecipe(frozen, epochs=2, batch_size=16, privacy=NOISY), records()
    module = recipe(pool, 0).module
    assert torch.equal(module[1].weight, build_initial_module(recipe, 0)[1].weight)
    assert not torch.equal(module[3].weight, build_initial_module(recipe, 0)[3].weight)


def test_layers_that_mix_records_are_named_and_replaced_on_request():
    pool = records()
    with pytest.raises(InputError, match=r"BatchNorm1d at '1'.*GroupNorm.*fix=True"):
        TorchRecipe(normalising, epochs=1, privacy=NOISY)(pool, 0)
    recipe = TorchRecipe(
        normalising, SGD(0.2), epochs=3, batch_size=16, privacy=replace(NOISY, fix=True)
    )
    module = recipe(pool, 0).module
    assert isinstance(module[1], nn.GroupNorm)
    assert recipe.tuned(pool, 60, 2)[1]["engine"] == "loop"


MISTAKES = {
    "both": (
        {"epsilon": 1.0, "noise_multiplier": 0.0},
        "either a target epsilon or a noise multiplier, got epsilon 1 and noise 0",
    ),
    "neither": ({}, "either a target epsilon or a noise multiplier, got none"),
    "no epsilon": ({"epsilon": 0.0}, "epsilon above 0"),
    "infinite": ({"epsilon": float("inf")}, "finite epsilon"),
    "negative noise": ({"noise_multiplier": -1.0}, "noise multiplier of 0 to"),
    "nan": ({"noise_multiplier": float("nan")}, "noise multiplier of 0 to"),
    "delta": ({"epsilon": 1.0, "delta": 1.0}, "delta between 0 and 1"),
    "clip": ({"epsilon": 1.0, "max_grad_norm": 0.0}, "max_grad_norm above 0"),
}


@pytest.mark.parametrize(("settings", "sentence"), MISTAKES.values(), ids=MISTAKES)
def test_mistakes_in_the_settings_get_one_sentence(settings, sentence):
    with pytest.raises(InputError, match=sentence):
        Privacy(**settings)


def test_what_cannot_be_proven_is_refused():
    with pytest.raises(InputError, match="Without noise nothing is proven"):
        prove_epsilon(QUIET, 100, 10, 1)
    with pytest.raises(InputError, match=r"delta below 1 / records = 0\.001, got 0\.01"):
        prove_epsilon(Privacy(epsilon=1.0, delta=1e-2), 1000, 10, 1)
    with pytest.raises(InputError, match=r"16 steps can reach, got 0\.001"):
        search_noise_multiplier(1e-3, 1e-5, 0.125, 16)


def test_what_breaks_the_bound_on_a_gradient_is_refused():
    with pytest.raises(InputError, match="bfloat16"):
        TorchRecipe(deep, precision="bfloat16", privacy=NOISY)
    with pytest.raises(InputError, match="several records at once"):
        TorchRecipe(deep, loss=nn.functional.cross_entropy, privacy=NOISY)
    with pytest.raises(InputError, match="engine 'vmap' can train"):
        TorchRecipe(deep, epochs=1, engine="vmap", privacy=NOISY)(records(), 0)


def test_without_opacus_its_extra_is_named_and_given_noise_needs_none(monkeypatch):
    actual = builtins.__import__

    def missing(name, *rest, **named):
        if name.startswith("opacus"):
            raise ImportError(name)
        return actual(name, *rest, **named)

    monkeypatch.setattr(builtins, "__import__", missing)
    search_noise_multiplier.cache_clear()
    with pytest.raises(InputError, match=r"pip install memberscope\[dp\]"):
        prove_epsilon(Privacy(epsilon=1.0), 100, 10, 1)
    with pytest.raises(InputError, match=r"pip install memberscope\[dp\]"):
        TorchRecipe(convolving, privacy=NOISY)(records(), 0)
    recipe = TorchRecipe(deep, epochs=1, privacy=NOISY)
    assert recipe.tuned(records(), 60, 4)[1]["engine"] == "matrices"
    assert recipe(records(), 0).query(records().x).shape == (120, 4)


def watched(
    noise: float, wide: int = 400, **settings
) -> tuple[np.ndarray, np.ndarray, TorchRecipe]:
    """Scores of 200 canaries far apart from each other, which of them were in, and the recipe."""
    rng = np.random.default_rng(0)
    inside = rng.random(200) < 0.5

    def some(n: int) -> Records:
        return Records(rng.normal(size=(n, wide)), rng.integers(0, 4, n), np.arange(n).astype(str))

    def model() -> nn.Module:
        return nn.Sequential(nn.Linear(wide, 16), nn.ReLU(), nn.Linear(16, 4))

    recipe = TorchRecipe(
        model, epochs=10, batch_size=50, privacy=replace(QUIET, noise_multiplier=noise), **settings
    )
    known, candidates = some(100), some(200)
    target, scores = train_and_score_canaries(recipe, known, candidates, inside, seed=1)
    joined = Records(
        *(np.concatenate([getattr(known, a), getattr(candidates, a)[inside]]) for a in ("x", "y")),
        np.arange(100 + inside.sum()).astype(str),
    )
    np.testing.assert_allclose(target.query(known.x), recipe(joined, 1).query(known.x), atol=1e-4)
    return scores, inside, recipe


def test_watched_from_inside_canaries_without_noise_are_told_apart_and_coins_that_fell_otherwise_are_not():
    scores, inside, _ = watched(noise=0.01)
    assert auc_value(roc(scores, inside)) > 0.99
    assert min(bound.epsilon for bound in compute_privacy_bounds(scores, inside, 1e-5)) > 2
    others = np.random.default_rng(1).permutation(inside)
    assert max(bound.epsilon for bound in compute_privacy_bounds(scores, others, 1e-5)) == 0


def test_watched_from_inside_enough_noise_hides_who_was_in():
    scores, inside, recipe = watched(noise=30.0)
    proven = recipe.proof(100 + int(inside.sum())).epsilon
    assert (
        max(bound.epsilon for bound in compute_privacy_bounds(scores, inside, 1e-5)) <= proven < 1
    )


def test_a_score_is_the_best_linear_estimate_of_a_coin():
    """One full-batch step by autograd.

    What the update holds beyond everybody's expected part, regressed on clipped gradients.
    """
    pool, rng = records(30), np.random.default_rng(0)
    inside = rng.random(20) < 0.5
    recipe = TorchRecipe(
        deep, SGD(0.5, momentum=0.0), epochs=1, batch_size=100, label_smoothing=0.1, privacy=NOISY
    )
    known, candidates = (
        Records(pool.x[rows], pool.y[rows], pool.ids[rows]) for rows in (slice(10), slice(10, 30))
    )
    target, scores = train_and_score_canaries(recipe, known, candidates, inside, seed=3)
    module = build_initial_module(recipe, 3)
    x, y = build_tensors(recipe, pool, module)
    clipped = []
    for one, label in zip(x, y, strict=True):
        loss = nn.functional.cross_entropy(module(one[None]), label[None], label_smoothing=0.1)
        own = torch.cat([g.ravel() for g in torch.autograd.grad(loss, list(module.parameters()))])
        clipped.append(own * min(1.0, 0.5 / float(own.norm())))
    clipped = torch.stack(clipped).double().numpy()
    before, after = (
        nn.utils.parameters_to_vector(m.parameters()).detach().double().numpy()
        for m in (module, target.module)
    )
    n = 10 + inside.sum()
    expected = (clipped[:10].sum(0) + clipped[10:].sum(0) / 2) / n
    products = clipped[10:] @ ((before - after) / 0.5 - expected)
    deviation = 0.8 * 0.5 / n  # the noise's, on the mean; a coin less a half has variance 1/4
    coins = np.linalg.solve(
        clipped[10:] @ clipped[10:].T / n**2 / 4 + deviation**2 * np.eye(20), products / n / 4
    )
    np.testing.assert_allclose(scores, coins, atol=1e-4)


def test_what_cannot_be_watched_is_told():
    pool, inside = records(20), np.arange(20) % 2 == 0
    with pytest.raises(InputError, match="recipe with privacy, got one without"):
        train_and_score_canaries(TorchRecipe(deep), pool, pool, inside, 0)
    recipe = TorchRecipe(deep, epochs=1, privacy=NOISY)
    with pytest.raises(InputError, match="one truth value for each canary, 20 in all"):
        train_and_score_canaries(recipe, pool, pool, inside[:10], 0)
    with pytest.raises(InputError, match="every=0"):
        train_and_score_canaries(recipe, pool, pool, inside, 0, every=0)
    with pytest.raises(InputError, match="fully connected network, all its layers trained"):
        train_and_score_canaries(
            replace(
                recipe, model=lambda: nn.Sequential(nn.Linear(20, 8), nn.GELU(), nn.Linear(8, 4))
            ),
            pool,
            pool,
            inside,
            0,
        )
