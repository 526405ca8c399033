"""Torch recipes for models that predict numbers or several labels: every engine trains alike."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from memberscope.errors import InputError  # noqa: E402
from memberscope.recipes import TorchRecipe  # noqa: E402
from memberscope.recipes.torch.settings import Adam, EarlyStoppingSettings  # noqa: E402
from memberscope.types import Records  # noqa: E402


def draw_records(d=1, n=96, labels=False, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 4)).astype(np.float32)
    y = x[:, :d] * 2 + 0.1 * rng.normal(size=(n, d))
    y = (y > 0).astype(np.int64) if labels else y
    return Records(x, y[:, 0] if d == 1 and not labels else y, np.arange(n).astype(str))


def make_network(d):
    return torch.nn.Sequential(torch.nn.Linear(4, 16), torch.nn.ReLU(), torch.nn.Linear(16, d))


def make_recipe(d, loss, engine, **more):
    return TorchRecipe(
        lambda: make_network(d),
        optimiser=Adam(1e-2),
        loss=loss,
        epochs=20,
        batch_size=32,
        engine=engine,
        stack=2,
        precision="float64",
        **more,
    )


def answer(recipe, records):
    inside = np.arange(len(records)) % 2 == np.arange(2)[:, None]
    return [model.query(records.x) for model in recipe.many(records, inside, [3, 4])]


@pytest.mark.parametrize(
    ("d", "loss", "labels"),
    [(1, "squared_error", False), (3, "squared_error", False), (3, "label_cross_entropy", True)],
)
def test_engines_agree(d, loss, labels):
    records = draw_records(d, labels=labels)
    alone, stacked, mapped = (
        answer(make_recipe(d, loss, engine), records) for engine in ("loop", "matrices", "vmap")
    )
    for one, two, three in zip(alone, stacked, mapped, strict=True):
        np.testing.assert_allclose(one, two, atol=1e-6)
        np.testing.assert_allclose(one, three, atol=1e-6)


def test_squared_error_is_that_of_torch():
    records = draw_records()
    own = make_recipe(
        1, lambda out, y: torch.nn.functional.mse_loss(out.reshape(-1), y.reshape(-1)), "loop"
    )
    named = answer(make_recipe(1, "squared_error", "loop"), records)
    for one, two in zip(answer(own, records), named, strict=True):
        np.testing.assert_allclose(one, two, atol=1e-9)


def test_models_learn_and_know_their_task():
    records = draw_records()
    model = next(make_recipe(1, "squared_error", "loop").many(records, np.ones((1, 96), bool), [0]))
    assert (model.task, model.signal) == ("regression", "prediction")
    assert ((model.query(records.x)[:, 0] - records.y) ** 2).mean() < 0.2 * records.y.var()


def test_labels_are_answered_as_probabilities():
    records = draw_records(3, labels=True)
    recipe = make_recipe(3, "label_cross_entropy", "loop")
    model = next(recipe.many(records, np.ones((1, 96), bool), [0]))
    found = model.query(records.x)
    assert (model.task, model.signal) == ("multilabel", "label_probabilities")
    assert found.min() >= 0 and found.max() <= 1
    assert ((found > 0.5) == (records.y > 0)).mean() > 0.8


@pytest.mark.parametrize(
    "more",
    [{"mixup": 0.5}, {"label_smoothing": 0.1}, {"stop": EarlyStoppingSettings()}],
)
def test_what_needs_classes_is_refused(more):
    with pytest.raises(InputError, match="Expected no mixup, early stopping or label smoothing"):
        make_recipe(1, "squared_error", "loop", **more)


def test_an_unknown_loss_is_refused():
    with pytest.raises(InputError, match="Expected a loss among cross_entropy, squared_error"):
        make_recipe(1, "absolute", "loop")
