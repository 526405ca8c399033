"""Torch recipes: every engine trains the same model, what is measured is decided once.

And mistakes get one sentence.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn

from memberscope.attacks import Confidence
from memberscope.errors import InputError
from memberscope.recipes import (
    SGD,
    Adam,
    EarlyStoppingSettings,
    Execution,
    Steps,
    TorchRecipe,
    TrainingJob,
    build_balanced_design,
    train_fleet,
)
from memberscope.recipes.torch.batches import augment_records, build_batch, iterate_steps
from memberscope.recipes.torch.engines import choice as choosing
from memberscope.recipes.torch.linear_layers import find_linear_layers
from memberscope.recipes.torch.losses import (
    Distilling,
    HighEntropy,
    RelaxLossObjective,
    solve_top_probability,
)
from memberscope.recipes.torch.settings import compute_learning_rate
from memberscope.recipes.torch.task import (
    Task,
    build_initial_module,
    build_tensors,
    list_member_rows,
)
from memberscope.signals import SignalRequest, Store
from memberscope.statistics import auc_value, roc
from memberscope.types import Access, Evidence, Records, SignalSpec

HERE = Execution("sequential")


def plain() -> nn.Module:
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(20, 16),
        nn.ReLU(),
        nn.Linear(16, 12),
        nn.LeakyReLU(0.1),
        nn.Linear(12, 4),
    )


def mixed() -> nn.Module:
    return nn.Sequential(
        nn.Sequential(nn.Linear(20, 16), nn.Tanh()),
        nn.Linear(16, 12, bias=False),
        nn.Sigmoid(),
        nn.Linear(12, 4),
    )


def dropping() -> nn.Module:
    return nn.Sequential(nn.Linear(20, 16), nn.ReLU(), nn.Dropout(0.3), nn.Linear(16, 4))


def convolving() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(64, 8),
        nn.ReLU(),
        nn.Linear(8, 10),
    )


def normalising() -> nn.Module:
    return nn.Sequential(nn.Linear(20, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 4))


def averaging() -> nn.Module:
    return nn.Sequential(nn.Linear(20, 4), nn.BatchNorm1d(4, momentum=None))


def records(n: int = 200, seed: int = 0) -> Records:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 20))
    return Records(x, (x[:, :4] + rng.normal(size=(n, 4))).argmax(axis=1), np.arange(n).astype(str))


def digits(n: int = 600) -> Records:
    x, y = load_digits(return_X_y=True)
    return Records(
        (x[:n] / 16).astype(np.float32).reshape(n, 1, 8, 8), y[:n], np.arange(n).astype(str)
    )


def halves(n: int, m: int) -> np.ndarray:
    return build_balanced_design(n, n // 2, m, np.random.default_rng(1))


def weights(recipe: TorchRecipe, pool: Records, inside: np.ndarray, seeds: list[int]) -> np.ndarray:
    models = recipe.many(pool, inside, seeds)
    return np.stack(
        [
            np.concatenate([p.detach().double().numpy().ravel() for p in m.module.parameters()])
            for m in models
        ]
    )


SETTINGS = {
    "momentum": {},
    "cosine, nesterov, decay, smoothing": {
        "optimiser": SGD(0.1, nesterov=True),
        "schedule": "cosine",
        "weight_decay": 1e-2,
        "label_smoothing": 0.1,
    },
    "plain gradient, noise": {
        "optimiser": SGD(0.1, momentum=0.0),
        "weight_decay": 1e-3,
        "augmentation": ("noise:0.1",),
    },
    "Adam, steps": {"optimiser": Adam(0.01), "schedule": Steps((2, 3)), "weight_decay": 1e-2},
    "RelaxLoss": {"loss": RelaxLossObjective(1.0, 0.9)},
    "high entropy": {"loss": HighEntropy(0.5, 0.1)},
    "mixup, smoothing": {"mixup": 0.4, "label_smoothing": 0.1},
    "mixup, augmented, RelaxLoss": {
        "mixup": 0.4,
        "augmentation": ("noise:0.1",),
        "loss": RelaxLossObjective(0.5),
    },
}


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("model", [plain, mixed, dropping])
def test_stacked_models_are_those_trained_one_by_one(model, name):
    """20 steps in float64; the reference trains each model in a call of its own.

    With autograd and torch's optimisers.
    """
    pool, inside, seeds = records(), halves(200, 3), [5, 6, 7]
    recipe = TorchRecipe(
        model, epochs=5, batch_size=32, precision="float64", engine="loop", **SETTINGS[name]
    )
    alone = [
        weights(recipe, pool, row[None], [seed])[0] for row, seed in zip(inside, seeds, strict=True)
    ]
    engines = (
        ["matrices"] if model is dropping else ["matrices", "vmap"]
    )  # vmap's dropout has a stream of its own
    for engine in engines:
        together = weights(replace(recipe, engine=engine), pool, inside, seeds)
        np.testing.assert_allclose(together, alone, rtol=1e-9, atol=1e-9 * np.abs(alone).max())
    assert np.abs(alone - weights(replace(recipe, epochs=1), pool, inside, seeds)).max() > 1e-3


@pytest.mark.parametrize("loss", ["cross_entropy", Distilling(3.0)])
def test_stacked_models_learn_probabilities_each_its_own(loss):
    pool, inside, seeds = records(), halves(200, 3), [5, 6, 7]
    soft = np.random.default_rng(0).dirichlet(np.ones(4), (3, 200))
    recipe = TorchRecipe(
        plain, epochs=5, batch_size=32, precision="float64", engine="loop", loss=loss
    )
    found = {}
    for engine in ("loop", "matrices", "vmap"):
        models = replace(recipe, engine=engine).many(pool, inside, seeds, soft)
        found[engine] = np.stack([model.query(pool.x) for model in models])
    np.testing.assert_allclose(found["matrices"], found["loop"], rtol=1e-9, atol=1e-10)
    np.testing.assert_allclose(found["vmap"], found["loop"], rtol=1e-9, atol=1e-10)
    others = list(recipe.many(pool, inside, seeds, soft[::-1].copy()))
    assert np.abs(others[0].query(pool.x) - found["loop"][0]).max() > 1e-3


def test_early_stopping_keeps_the_best_epoch_of_each_model():
    """Against training to that epoch and no further, on the same records.

    Stacked models stop apart.
    """
    pool, inside, seeds = records(), halves(200, 4), [5, 6, 7, 8]
    recipe = TorchRecipe(
        plain,
        SGD(0.02),
        epochs=60,
        batch_size=16,
        precision="float64",
        stop=EarlyStoppingSettings(4, 0.2),
    )
    alone = [
        weights(replace(recipe, engine="loop"), pool, row[None], [seed])[0]
        for row, seed in zip(inside, seeds, strict=True)
    ]
    np.testing.assert_allclose(
        weights(replace(recipe, engine="matrices"), pool, inside, seeds),
        alone,
        rtol=1e-8,
        atol=1e-10,
    )
    bests = []
    for row, seed, stopped in zip(inside, seeds, alone, strict=True):
        members = np.flatnonzero(row)
        mixed = members[np.random.default_rng([seed, 4]).permutation(100)]
        fitted = np.isin(np.arange(200), mixed[20:])
        losses, found = [], []
        for epochs in range(1, 61):
            model = next(
                replace(recipe, epochs=epochs, stop=None, engine="loop").many(
                    pool, fitted[None], [seed]
                )
            )
            logits = torch.from_numpy(model.query(pool.x[mixed[:20]]))
            losses.append(
                float(nn.functional.cross_entropy(logits, torch.from_numpy(pool.y[mixed[:20]])))
            )
            found.append(
                np.concatenate([p.detach().numpy().ravel() for p in model.module.parameters()])
            )
            if len(losses) - 1 - int(np.argmin(losses)) >= 4:
                break
        bests.append(int(np.argmin(losses)))
        np.testing.assert_allclose(stopped, found[bests[-1]], rtol=1e-8, atol=1e-10)
    assert len(set(bests)) > 1 and max(bests) > 1, bests


def test_a_model_that_diverges_ends_early_stopping_without_an_error():
    recipe = TorchRecipe(plain, SGD(1e6), epochs=9, batch_size=16, stop=EarlyStoppingSettings(2))
    for engine in ("loop", "matrices"):
        assert len(weights(replace(recipe, engine=engine), records(), halves(200, 2), [1, 2])) == 2


def test_relaxloss_in_numbers():
    """Both kinds of epoch on two records worked out by hand.

    One right with p = .6, one wrong with p = .2, two classes.
    """
    p = torch.tensor([[0.6, 0.4], [0.8, 0.2]], dtype=torch.float64)
    y, each = torch.tensor([0, 1]), -np.log([0.6, 0.2])
    loss = RelaxLossObjective(2.0)
    assert float(loss.of(p.log(), y, 0)) == pytest.approx(2.0 - each.mean())
    flat = -(0.8 * np.log(0.8) + 0.2 * np.log(0.2))
    assert float(loss.of(p.log(), y, 1)) == pytest.approx((-each[0] + flat - each[1]) / 2)
    assert float(RelaxLossObjective(0.5).of(p.log(), y, 1)) == pytest.approx(each.mean())


def test_high_entropy_labels_have_the_entropy_asked_for():
    top = solve_top_probability(0.7, 30)
    rest = (1 - top) / 29
    assert -(top * np.log(top) + 29 * rest * np.log(rest)) == pytest.approx(0.7 * np.log(30))
    soft = torch.full((1, 30), rest, dtype=torch.float64)
    soft[0, 3] = top
    assert float(HighEntropy(0.7).of(soft.log(), torch.tensor([3]), 0)) == pytest.approx(
        0.0, abs=1e-12
    )


def test_the_loop_is_torchs_own_training():
    """The reference of the test above against a loop written out with nothing of ours but the order of records."""
    pool = records(100)
    recipe = TorchRecipe(
        plain,
        SGD(0.1),
        epochs=3,
        batch_size=32,
        weight_decay=0.01,
        precision="float64",
        engine="loop",
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(9)
        module = plain().double()
    optimiser = torch.optim.SGD(module.parameters(), 0.1, momentum=0.9, weight_decay=0.01)
    x, y = torch.from_numpy(pool.x), torch.from_numpy(pool.y)
    for epoch in range(3):
        order = np.random.default_rng([9, 1, epoch]).permutation(100)
        for start in (0, 32, 64, 96):
            rows = torch.from_numpy(order[start : start + 32])
            optimiser.zero_grad()
            nn.functional.cross_entropy(module(x[rows]), y[rows]).backward()
            optimiser.step()
    expected = np.concatenate([p.detach().numpy().ravel() for p in module.parameters()])
    everyone = np.ones((1, 100), dtype=bool)
    np.testing.assert_allclose(
        weights(recipe, pool, everyone, [9])[0], expected, rtol=1e-10, atol=1e-12
    )


def test_small_convolutional_networks_stack_too():
    pool, inside, seeds = digits(120), halves(120, 2), [1, 2]
    recipe = TorchRecipe(
        convolving,
        SGD(0.05),
        epochs=4,
        batch_size=16,
        precision="float64",
        augmentation=("shift:1", "flip"),
    )
    alone = weights(replace(recipe, engine="loop"), pool, inside, seeds)
    np.testing.assert_allclose(
        weights(replace(recipe, engine="vmap"), pool, inside, seeds), alone, rtol=1e-8, atol=1e-10
    )


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_lower_precision_stays_within_the_spread_between_seeds(precision):
    """Held-out accuracy and AUC of confidence of 8 stacked models beside 8 models trained one by one in float64."""
    pool = digits(600)
    wrong = (
        np.random.default_rng(0).random(600) < 0.2
    )  # wrong labels, so that there is something to remember
    pool = replace(pool, y=np.where(wrong, (pool.y + 1) % 10, pool.y))
    inside, seeds = halves(600, 8), list(range(8))
    base = TorchRecipe(
        lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10)),
        epochs=60,
    )

    def measured(recipe: TorchRecipe) -> np.ndarray:
        found = []
        for model, row in zip(recipe.many(pool, inside, seeds), inside, strict=True):
            logits = model.query(pool.x)
            hidden = np.full(len(pool), -1, dtype=np.int8)
            scores = Confidence().score(
                Evidence("logits", logits[:, None], pool.y, hidden), np.random.default_rng(0)
            )
            found.append(((logits.argmax(1) == pool.y)[~row].mean(), auc_value(roc(scores, row))))
        return np.array(found)

    exact = measured(replace(base, precision="float64", engine="loop"))
    stacked = measured(replace(base, precision=precision, engine="matrices"))
    spread = exact.std(axis=0, ddof=1)
    assert exact[:, 0].min() > 0.6 and exact[:, 1].mean() > 0.6
    assert (np.abs(stacked.mean(axis=0) - exact.mean(axis=0)) < 2 * spread).all(), (exact, stacked)


def test_seeds_decide_and_nothing_else():
    pool, inside = records(), halves(200, 2)
    recipe = TorchRecipe(plain, epochs=2)
    before = torch.get_rng_state()
    first = weights(recipe, pool, inside, [1, 2])
    assert torch.equal(before, torch.get_rng_state()), "the caller's generator was moved"
    np.testing.assert_array_equal(first, weights(recipe, pool, inside, [1, 2]))
    assert np.abs(first - weights(recipe, pool, inside, [3, 4])).min(axis=0).max() > 1e-3


def test_models_of_several_sizes_are_trained_with_their_like():
    pool = records(60)
    inside = np.zeros((3, 60), dtype=bool)
    inside[0, :30] = inside[1, :20] = inside[2, 30:] = True
    recipe = TorchRecipe(plain, epochs=2, precision="float64")
    alone = [
        weights(recipe, pool, row[None], [seed])[0]
        for row, seed in zip(inside, [4, 5, 6], strict=True)
    ]
    np.testing.assert_allclose(
        weights(recipe, pool, inside, [4, 5, 6]), alone, rtol=1e-9, atol=1e-12
    )


def order(recipe: TorchRecipe, m: int = 4) -> TrainingJob:
    pool = records()
    wanted = (SignalRequest(Access.LOGITS, SignalSpec("logit_confidence")),)
    return TrainingJob(recipe, pool, halves(200, m), tuple(range(m)), wanted, "logits", 4)


def test_processes_and_a_resumed_store_give_the_same_bytes(tmp_path):
    wish = order(TorchRecipe(plain, epochs=3, stack=2, engine="matrices"))
    whole = train_fleet(wish, None, HERE)
    store = Store(tmp_path)
    spread = train_fleet(wish, store, Execution("loky", n_jobs=2))
    sorted(tmp_path.glob("model-*"))[
        0
    ].unlink()  # as if the run had been killed before this one landed
    resumed = train_fleet(wish, store, HERE)
    assert resumed.trained == 2  # its company is trained again with it
    for fleet in (spread, resumed):
        assert all(np.array_equal(fleet.observed[w], whole.observed[w]) for w in wish.wanted)


def test_the_choice_is_measured_once_and_kept(tmp_path, monkeypatch):
    wish, store = order(TorchRecipe(plain, epochs=2)), Store(tmp_path)
    first = train_fleet(wish, store, HERE)
    assert first.choice["engine"] in ("matrices", "loop") and first.choice["stack"] in (1, 2)
    assert first.choice["precision"] == "float32" and first.choice["note"].startswith(
        "fully connected"
    )

    def measured_again(*_):
        raise AssertionError("the choice was measured again")

    monkeypatch.setattr("memberscope.recipes.torch.recipe.choose_engine_settings", measured_again)
    again = train_fleet(wish, store, HERE)
    assert (again.trained, again.choice) == (0, first.choice)
    with pytest.raises(AssertionError, match="measured again"):
        train_fleet(replace(wish, recipe=TorchRecipe(plain, epochs=3)), store, HERE)


def test_a_choice_that_another_program_wrote_is_measured_again(tmp_path):
    wish, store = order(TorchRecipe(plain, epochs=2)), Store(tmp_path)
    first = train_fleet(wish, store, HERE)
    (file,) = tmp_path.glob("choice-*")
    for foreign in (
        {"other": np.zeros(3)},
        {"choice": np.zeros(3, dtype=np.uint8)},
        {"choice": np.frombuffer(b"{}", np.uint8)},
    ):
        store.put_all(file.stem, foreign)
        assert train_fleet(wish, store, HERE).choice.keys() == first.choice.keys()


def test_the_quickest_is_chosen_and_a_little_gain_is_not_worth_a_larger_stack(monkeypatch):
    costs = {
        ("matrices", 1): 1.0,
        ("matrices", 2): 0.99,
        ("matrices", 4): 0.5,
        ("matrices", 8): 0.49,
        ("loop", 1): 0.8,
    }
    monkeypatch.setattr(
        choosing,
        "measure_step_seconds",
        lambda recipe, pool, size: costs[recipe.engine, recipe.stack],
    )
    found, choice = choosing.choose_engine_settings(TorchRecipe(plain), records(), 100, 64)
    assert (found.engine, found.stack, choice["stack"]) == ("matrices", 4, 4)
    costs["loop", 1] = 0.1
    assert (
        choosing.choose_engine_settings(TorchRecipe(plain), records(), 100, 64)[0].engine == "loop"
    )
    lone, _ = choosing.choose_engine_settings(TorchRecipe(plain, engine="loop"), records(), 100, 1)
    assert lone.stack == 1


def test_what_cannot_be_stacked_goes_one_by_one_and_says_so():
    able, why = choosing.list_engines(TorchRecipe(convolving), convolving())
    assert able == ("loop",) and "on a CPU such layers gain nothing" in why
    stopping = TorchRecipe(normalising, stop=EarlyStoppingSettings())
    assert choosing.list_engines(stopping, normalising())[1].endswith("training stops early")
    assert choosing.list_engines(TorchRecipe(convolving, device="cuda"), convolving())[0] == (
        "vmap",
        "loop",
    )
    pool, inside = records(), halves(200, 2)
    models = list(TorchRecipe(normalising, epochs=2).many(pool, inside, [0, 1]))
    assert models[0].query(pool.x).shape == (200, 4) and not models[0].module.training


def test_only_fully_connected_networks_are_taken_for_such():
    assert [layer.path for layer in find_linear_layers(mixed())] == ["0.0", "1", "3"]
    assert find_linear_layers(dropping())[0].dropout == 0.3
    for other in (
        normalising(),
        convolving(),
        nn.Linear(3, 2),
        nn.Sequential(nn.ReLU(), nn.Linear(3, 2)),
        nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 2)),
        nn.Sequential(nn.Linear(3, 2), nn.ReLU()),
        nn.Sequential(nn.Linear(3, 2), nn.GELU(), nn.Linear(2, 2)),
    ):
        assert find_linear_layers(other) is None


def test_a_loss_of_ones_own():
    def squared(logits, labels):
        return ((logits.softmax(1) - torch.eye(4, dtype=logits.dtype)[labels]) ** 2).mean()

    pool, inside = records(), halves(200, 2)
    recipe = TorchRecipe(plain, SGD(0.5), epochs=10, loss=squared, precision="float64")
    found = weights(recipe, pool, inside, [0, 1])
    np.testing.assert_allclose(
        weights(replace(recipe, engine="vmap"), pool, inside, [0, 1]), found, rtol=1e-9, atol=1e-12
    )
    assert (
        np.abs(found - weights(replace(recipe, loss="cross_entropy"), pool, inside, [0, 1])).max()
        > 1e-3
    )


def test_steps_cover_each_record_once_an_epoch_and_leave_out_a_lone_one():
    pool = records(65)
    recipe = TorchRecipe(plain, epochs=2, batch_size=32)
    x, y = build_tensors(recipe, pool, recipe.model())
    task = Task(recipe, [plain()], x, y, list_member_rows(np.ones((1, 65), dtype=bool)), [3])
    made = list(iterate_steps(task))
    assert [len(step.index[0]) for step in made] == [32, 32] * 2
    seen = torch.cat([step.index[0] for step in made[:2]]).tolist()
    assert len(set(seen)) == 64 and seen != torch.cat([step.index[0] for step in made[2:]]).tolist()
    assert torch.equal(build_batch(task, made[0])[0][0], x[made[0].index[0]])


def test_rates_over_time():
    assert compute_learning_rate(0.1, "constant", 7, 0.9) == 0.1
    assert [
        compute_learning_rate(1.0, Steps((2, 4)), epoch, 0.0) for epoch in (1, 2, 5)
    ] == pytest.approx([1.0, 0.1, 0.01])
    assert [
        compute_learning_rate(1.0, "cosine", 0, done) for done in (0.0, 0.25, 1.0)
    ] == pytest.approx([1.0, 0.8535534, 0.0])


def test_augmentation_moves_flips_and_adds_noise():
    x = torch.arange(2 * 300 * 12, dtype=torch.float64).reshape(2, 300, 1, 3, 4) + 1
    moved = augment_records("shift:1", x, [np.random.default_rng(s) for s in (0, 1)]).numpy()
    found = set()
    for image, original in zip(moved.reshape(-1, 3, 4), x.reshape(-1, 3, 4).numpy(), strict=True):
        padded = np.pad(original, 1)
        matches = [
            (d, r)
            for d in (-1, 0, 1)
            for r in (-1, 0, 1)
            if (image == padded[1 - d : 4 - d, 1 - r : 5 - r]).all()
        ]
        assert len(matches) == 1
        found.add(matches[0])
    assert len(found) == 9
    flipped = augment_records("flip", x, [np.random.default_rng(s) for s in (0, 1)])
    which = (flipped != x).flatten(2).any(-1)
    assert torch.equal(flipped[which], x[which].flip(-1)) and 200 < int(which.sum()) < 400
    assert not torch.equal(which[0], which[1])
    noise = augment_records("noise:0.5", x, [np.random.default_rng(s) for s in (0, 1)]) - x
    assert abs(float(noise.std()) - 0.5) < 0.02 and abs(float(noise.mean())) < 0.02


def test_every_setting_and_the_models_code_change_the_digest(tmp_path, monkeypatch):
    base = TorchRecipe(plain)
    changes = [
        {"optimiser": SGD(0.2)},
        {"optimiser": Adam()},
        {"schedule": "cosine"},
        {"epochs": 3},
        {"batch_size": 7},
        {"weight_decay": 0.1},
        {"label_smoothing": 0.1},
        {"augmentation": ("noise:1",)},
        {"precision": "bfloat16"},
        {"stack": 2},
        {"engine": "loop"},
        {"threads": 2},
        {"model": mixed},
        {"model": partial(nn.Sequential, nn.Linear(1, 1))},
    ]
    digests = [base.digest, *(replace(base, **change).digest for change in changes)]
    assert len(set(digests)) == len(digests) and None not in digests[:-1]
    assert replace(base, model=eval("lambda: None")).digest is None


def test_mistakes_get_one_sentence():
    pool = records()
    everyone = np.ones((1, 200), dtype=bool)
    for make, words in (
        (lambda: TorchRecipe(plain, precision="half"), "Expected a precision among"),
        (lambda: TorchRecipe(plain, epochs=0), "Expected epochs >= 1, got 0"),
        (lambda: TorchRecipe(plain, augmentation=("rotate",)), "Expected an augmentation"),
        (lambda: TorchRecipe(plain, augmentation=("flip:2",)), "Expected an augmentation"),
        (
            lambda: TorchRecipe(lambda: 3)(pool, 0),
            "Expected model\\(\\) to build a torch module, got int",
        ),
        (
            lambda: TorchRecipe(plain, device="mars")(pool, 0),
            "Expected an available device, got 'mars'",
        ),
        (
            lambda: list(TorchRecipe(plain).many(replace(pool, x=[1]), everyone, [0])),
            "one array for a TorchRecipe, got list",
        ),
        (
            lambda: TorchRecipe(averaging, engine="vmap")(pool, 0),
            "Expected a model that the engine 'vmap' can train, .* averages its statistics",
        ),
        (
            lambda: TorchRecipe(convolving, engine="matrices")(pool, 0),
            "Expected a model that the engine 'matrices'",
        ),
    ):
        with pytest.raises(InputError, match=words):
            make()


def test_initial_weights_follow_the_seed():
    recipe = TorchRecipe(plain)
    first, again, other = (
        next(build_initial_module(recipe, seed).parameters()).detach() for seed in (1, 1, 2)
    )
    assert torch.equal(first, again) and not torch.equal(first, other)


def looking_up() -> nn.Module:
    return nn.Sequential(nn.Embedding(9, 6), nn.Flatten(), nn.Linear(30, 4))


@pytest.mark.parametrize("engine", ["auto", "matrices", "loop"])
def test_whole_numbers_are_quantities_and_only_an_embedding_reads_codes(engine):
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 9, (120, 5)).astype(np.uint8), rng.integers(0, 4, 120)
    names = np.arange(120).astype(str)

    def net() -> nn.Module:
        return nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 4))

    recipe = TorchRecipe(net, epochs=2, engine=engine)
    pixels, reals = (
        recipe(Records(values, y, names), 0).query(values) for values in (x, x.astype(np.float32))
    )
    np.testing.assert_array_equal(pixels, reals)
    if engine != "matrices":
        codes = x.astype(np.int64)
        model = replace(recipe, model=looking_up)(Records(codes, y, names), 0)
        assert model.query(codes).shape == (120, 4)
