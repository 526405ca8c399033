"""Stacked networks with batch normalisation: each model's statistics are its own.

Tolerances: 1e-9 in float64, 1e-4 in float32 after twenty steps.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from memberscope.recipes import (
    SGD,
    Adam,
    Execution,
    TorchRecipe,
    TrainingJob,
    build_balanced_design,
    train_fleet,
)
from memberscope.recipes.torch.engines import choice as choosing
from memberscope.recipes.torch.engines.loop import choose_memory_layout
from memberscope.recipes.torch.task import build_initial_module
from memberscope.signals import SignalRequest, Store
from memberscope.types import Access, Records, SignalSpec

TOLERANCE = {"float64": 1e-9, "float32": 1e-4}


class Block(nn.Module):
    """A residual block as in ResNet, with a second path where the width grows."""

    def __init__(self, given: int, width: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(given, width, 3, stride, 1, bias=False)
        self.second = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.norms = nn.ModuleList(nn.BatchNorm2d(width) for _ in range(2))
        self.short = nn.Conv2d(given, width, 1, stride, bias=False) if stride > 1 else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        inner = torch.relu(self.norms[0](self.first(x)))
        return torch.relu(self.norms[1](self.second(inner)) + self.short(x))


def residual() -> nn.Module:
    return nn.Sequential(
        *(nn.Conv2d(1, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU()),
        *(Block(8, 8, 1), Block(8, 16, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 4)),
    )


def connected() -> nn.Module:
    return nn.Sequential(
        *(nn.Flatten(), nn.Linear(36, 16), nn.BatchNorm1d(16), nn.ReLU()),
        *(nn.Linear(16, 8), nn.BatchNorm1d(8, momentum=0.3), nn.Tanh(), nn.Linear(8, 4)),
    )


def images(n: int = 160) -> Records:
    rng = np.random.default_rng(0)
    x = 3 + rng.normal(size=(n, 1, 6, 6))
    y = (x[:, 0, 0, :4] + 0.3 * rng.normal(size=(n, 4))).argmax(axis=1)
    return Records(x, y, np.arange(n).astype(str))


def halves(n: int, m: int) -> np.ndarray:
    return build_balanced_design(n, n // 2, m, np.random.default_rng(1))


def states(recipe: TorchRecipe, pool: Records, inside: np.ndarray) -> list[dict[str, np.ndarray]]:
    """Weights and statistics of models with the seeds 5, 6, …"""
    models = recipe.many(pool, inside, [5 + i for i in range(len(inside))])
    return [{k: v.numpy().copy() for k, v in m.module.state_dict().items()} for m in models]


@pytest.mark.parametrize("precision", ["float64", "float32"])
@pytest.mark.parametrize(
    "settings",
    [
        {"optimiser": SGD(0.05), "schedule": "cosine", "weight_decay": 1e-3},
        # A bias before a normalisation has no gradient but rounding, which a small eps would enlarge
        {"optimiser": Adam(0.003, eps=1e-3), "augmentation": ("noise:0.1",)},
    ],
    ids=["SGD", "Adam"],
)
@pytest.mark.parametrize("model", [residual, connected])
def test_stacked_models_are_those_trained_one_by_one(model, settings, precision):
    """20 steps, the last of an epoch shorter than the others; statistics and counts included."""
    pool, inside = images(), halves(160, 3)
    recipe = TorchRecipe(model, epochs=5, batch_size=24, precision=precision, **settings)
    alone = states(replace(recipe, engine="loop"), pool, inside)
    together = states(replace(recipe, engine="vmap"), pool, inside)
    for one, other in zip(alone, together, strict=True):
        assert one.keys() == other.keys()
        for name, expected in one.items():
            if name.endswith("num_batches_tracked"):
                assert other[name] == expected == 20
            else:
                np.testing.assert_allclose(
                    other[name], expected, rtol=0, atol=TOLERANCE[precision], err_msg=name
                )
    # Statistics that stayed at their start, or that models share, would also be equal above
    means = [np.concatenate([v for k, v in s.items() if "running_mean" in k]) for s in together]
    assert min(np.abs(mean).max() for mean in means) > 0.1
    assert np.abs(means[0] - means[1]).max() > 0.01


def test_answers_use_the_running_statistics():
    """A record is answered alike alone and in company, and as in training one by one."""
    pool, inside = images(), halves(160, 2)
    recipe = TorchRecipe(residual, SGD(0.05), epochs=3, batch_size=16, precision="float64")
    stacked = list(replace(recipe, engine="vmap").many(pool, inside, [0, 1]))
    alone = list(replace(recipe, engine="loop").many(pool, inside, [0, 1]))
    for one, other in zip(stacked, alone, strict=True):
        assert not one.module.training
        whole = one.query(pool.x)
        np.testing.assert_allclose(one.query(pool.x[:1]), whole[:1], atol=1e-10)
        np.testing.assert_allclose(whole, other.query(pool.x), atol=1e-8)


class Counting(nn.Module):
    """A layer that assigns its statistics anew, where others change them in place."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(16))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training:
            self.mean = 0.9 * self.mean + 0.1 * x.mean(0).detach()
        return x - self.mean


def counting() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(36, 16), Counting(), nn.ReLU(), nn.Linear(16, 4))


def half_frozen() -> nn.Module:
    model = connected()
    model[1].requires_grad_(requires_grad=False)
    return model


def frozen_without_statistics() -> nn.Module:
    model = nn.Sequential(nn.Flatten(), nn.Linear(36, 8), nn.ReLU(), nn.Linear(8, 4))
    model[1].requires_grad_(requires_grad=False)
    return model


@pytest.mark.parametrize("model", [counting, half_frozen, frozen_without_statistics])
def test_assigned_statistics_are_carried_and_frozen_weights_stay(model):
    pool, inside = images(), halves(160, 2)
    recipe = TorchRecipe(model, SGD(0.05), epochs=3, batch_size=16, precision="float64")
    alone = states(replace(recipe, engine="loop"), pool, inside)
    together = states(replace(recipe, engine="vmap"), pool, inside)
    plain = states(recipe, pool, inside)
    for one, other, auto in zip(alone, together, plain, strict=True):
        for name, expected in one.items():
            np.testing.assert_allclose(other[name], expected, rtol=0, atol=1e-9, err_msg=name)
            np.testing.assert_allclose(auto[name], expected, rtol=0, atol=1e-9, err_msg=name)
    if model is counting:
        assert np.abs(together[0]["2.mean"]).max() > 0.1
    else:
        start = build_initial_module(recipe, 5).state_dict()["1.weight"].numpy()
        np.testing.assert_array_equal(together[0]["1.weight"], start)


def test_layers_that_break_the_librarys_layout_keep_their_own():
    """oneDNN writes past its memory there: 1 x 1, a stride, fewer than eight channels."""
    assert choose_memory_layout(residual()) is torch.channels_last
    assert choose_memory_layout(connected()) is torch.preserve_format
    for channels, stride, expected in (
        *((4, 2, torch.preserve_format), (8, 2, torch.channels_last)),
        (4, 1, torch.channels_last),
    ):
        module = nn.Sequential(nn.Conv2d(channels, 16, 1, stride))
        assert choose_memory_layout(module) is expected


def test_which_networks_are_stacked():
    able, _ = choosing.list_engines(TorchRecipe(residual, device="cuda"), residual())
    assert able == ("vmap", "loop")
    assert choosing.list_engines(TorchRecipe(residual), residual())[0] == ("loop",)
    # Measured, and one by one where nobody measures
    assert choosing.list_engines(TorchRecipe(connected), connected())[0] == ("loop", "vmap")
    lasting = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3, momentum=None))
    able, why = choosing.list_engines(TorchRecipe(connected, device="cuda"), lasting)
    assert able == ("loop",) and "'1' averages its statistics over all batches" in why


def test_a_layer_that_cannot_be_stacked_is_left_to_the_loop(monkeypatch):
    """Failing trials are no error while one succeeds, in whatever order they come."""

    def seconds(recipe, pool, size):
        if recipe.engine == "vmap":
            raise RuntimeError("vmap: no rule for this layer")
        return 1.0

    monkeypatch.setattr(choosing, "measure_step_seconds", seconds)
    found, choice = choosing.choose_engine_settings(TorchRecipe(connected), images(), 80, 64)
    assert (found.engine, choice["stack"]) == ("loop", 1)
    with pytest.raises(RuntimeError, match="no rule"):
        choosing.choose_engine_settings(TorchRecipe(connected, engine="vmap"), images(), 80, 64)


def test_a_stacked_fleet_is_resumed_from_its_store(tmp_path):
    pool, wanted = images(), (SignalRequest(Access.LOGITS, SignalSpec("logit_confidence")),)
    recipe = TorchRecipe(residual, SGD(0.05), epochs=2, batch_size=16, engine="vmap", stack=2)
    order = TrainingJob(recipe, pool, halves(160, 4), (0, 1, 2, 3), wanted, "logits", 4)
    first = train_fleet(order, Store(tmp_path), Execution("sequential"))
    again = train_fleet(order, Store(tmp_path), Execution("sequential"))
    assert (first.trained, again.trained, first.choice["engine"]) == (4, 0, "vmap")
    np.testing.assert_array_equal(first.observed[wanted[0]], again.observed[wanted[0]])
