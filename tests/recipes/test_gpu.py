"""The same work on a GPU: engines agree with the processor's, fleets learn, targets answer.

And white-box signals are the same.

Without a GPU these tests say so and are skipped.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import memberscope
from memberscope.attacks import GradientNorm, LiRA, SelfInfluence
from memberscope.errors import InputError
from memberscope.recipes import (
    SGD,
    Adam,
    EarlyStoppingSettings,
    Execution,
    TorchRecipe,
    TrainingJob,
    build_balanced_design,
    train_fleet,
)
from memberscope.signals import SignalRequest, Store, measure_signal
from memberscope.targets import TorchTarget
from memberscope.types import Access, Evidence, Records

pytestmark = pytest.mark.skipif(
    not torch.cuda.is_available(), reason="needs a GPU that torch can use"
)


@pytest.fixture(autouse=True)
def exact():
    """Convolutions in float32 as they are, not rounded to TF32, so that they can be compared."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cudnn.allow_tf32 = before


def connected() -> nn.Module:
    return nn.Sequential(nn.Linear(20, 16), nn.ReLU(), nn.Linear(16, 4))


def convolving() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(64, 4)
    )


def normalising() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(512, 4)
    )


def flat(n: int = 200) -> Records:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n, 20))
    return Records(x, (x[:, :4] + rng.normal(size=(n, 4))).argmax(axis=1), np.arange(n).astype(str))


def images(n: int = 200) -> Records:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n, 1, 8, 8))
    return Records(
        x, (x[:, 0, 0, :4] + rng.normal(size=(n, 4))).argmax(axis=1), np.arange(n).astype(str)
    )


def halves(n: int, m: int) -> np.ndarray:
    return build_balanced_design(n, n // 2, m, np.random.default_rng(1))


def weights(recipe: TorchRecipe, pool: Records, inside: np.ndarray) -> np.ndarray:
    models = recipe.many(pool, inside, list(range(len(inside))))
    return np.stack(
        [
            np.concatenate(
                [p.detach().cpu().double().numpy().ravel() for p in m.module.parameters()]
            )
            for m in models
        ]
    )


SETTINGS = {
    "momentum": {},
    "cosine, decay, noise": {
        "schedule": "cosine",
        "weight_decay": 1e-2,
        "augmentation": ("noise:0.1",),
    },
    "Adam, mixup": {"optimiser": Adam(0.01), "mixup": 0.4},
}


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize(
    ("model", "records", "engine"),
    [
        (connected, flat, "matrices"),
        (connected, flat, "vmap"),
        (convolving, images, "vmap"),
        (normalising, images, "loop"),
    ],
)
def test_every_engine_trains_the_model_that_the_processor_trains(model, records, engine, name):
    """20 steps in float64, against one by one on the CPU."""
    pool, inside = records(), halves(200, 3)
    here = TorchRecipe(
        model, epochs=5, batch_size=32, precision="float64", engine="loop", **SETTINGS[name]
    )
    expected = weights(here, pool, inside)
    found = weights(replace(here, device="cuda", engine=engine), pool, inside)
    np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-8 * np.abs(expected).max())
    assert np.abs(expected - weights(replace(here, epochs=1), pool, inside)).max() > 1e-3


def test_images_are_changed_alike():
    pool, inside = images(), halves(200, 2)
    changes = ("flip", "shift:1")
    here = TorchRecipe(
        convolving,
        epochs=3,
        batch_size=32,
        precision="float64",
        engine="loop",
        augmentation=changes,
    )
    expected = weights(here, pool, inside)
    np.testing.assert_allclose(
        weights(replace(here, device="cuda", engine="vmap"), pool, inside),
        expected,
        rtol=1e-8,
        atol=1e-9,
    )


def test_early_stopping_stops_where_it_does_on_the_processor():
    pool, inside = flat(), halves(200, 3)
    here = TorchRecipe(
        connected,
        SGD(0.02),
        epochs=40,
        batch_size=16,
        precision="float64",
        stop=EarlyStoppingSettings(4, 0.2),
    )
    expected = weights(replace(here, engine="loop"), pool, inside)
    for engine in ("loop", "matrices"):
        found = weights(replace(here, engine=engine, device="cuda"), pool, inside)
        np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    ("model", "records"), [(connected, flat), (convolving, images), (normalising, images)]
)
def test_a_fleet_is_measured_trained_and_told_apart(model, records, precision, tmp_path):
    """What is left open is chosen by measurement; members are fitted and LiRA tells them.

    A second run trains nothing.
    """
    pool, inside = records(400), halves(400, 8)
    wanted = SignalRequest(Access.LOGITS, LiRA().needs.spec)
    recipe = TorchRecipe(
        model, SGD(0.05), epochs=60, batch_size=32, precision=precision, device="cuda"
    )
    order = TrainingJob(recipe, pool, inside, tuple(range(8)), (wanted,), "logits", 4)
    fleet = train_fleet(order, Store(tmp_path), Execution())
    assert (
        fleet.trained == 8 and fleet.choice["device"] == "cuda" and fleet.choice["processes"] == 1
    )
    assert fleet.train_accuracy.mean() > fleet.held_out_accuracy.mean() + 0.1
    hidden = np.full(400, -1, dtype=np.int8)
    values = fleet.observed[wanted]
    evidence = Evidence(
        "logit_confidence", values[7], pool.y, hidden, references=values[:7], inside=inside[:7]
    )
    scores = LiRA("online", "fixed").score(evidence, np.random.default_rng(0))
    assert scores[inside[7]].mean() > scores[~inside[7]].mean()
    assert train_fleet(order, Store(tmp_path), Execution()).trained == 0


@pytest.mark.parametrize(("model", "records"), [(connected, flat), (convolving, images)])
def test_a_target_answers_and_shows_its_inside_as_on_the_processor(model, records):
    pool = records()
    torch.manual_seed(0)
    module = model().double()
    here, there = TorchTarget(module), TorchTarget(model().double(), device="cuda")
    there.module.load_state_dict(module.state_dict())
    np.testing.assert_allclose(there.query(pool.x), here.query(pool.x), rtol=1e-9, atol=1e-10)
    for attack in (GradientNorm(), SelfInfluence()):
        spec = attack.needs.spec
        expected, found = (
            measure_signal(here, pool, spec).final,
            measure_signal(there, pool, spec).final,
        )
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6 * np.abs(expected).max())


def test_a_whole_audit_of_a_model_on_a_gpu():
    pool, inside = images(400), halves(400, 1)[0]
    recipe = TorchRecipe(normalising, SGD(0.05), epochs=40, batch_size=32, device="cuda")
    members, others = (
        Records(pool.x[rows], pool.y[rows], pool.ids[rows]) for rows in (inside, ~inside)
    )
    result = memberscope.audit(
        recipe(members, seed=99),
        members,
        others,
        plan=memberscope.Plan(attacks=("loss", "lira", "rmia")),
        recipe=recipe,
        references=8,
    )
    assert result.cost.models_trained == 8
    areas = {
        estimate.attack: estimate.value for estimate in result.estimates if estimate.metric == "auc"
    }
    assert min(areas["loss"], areas["lira"], areas["rmia"]) > 0.6


def test_a_gpu_that_is_not_there():
    with pytest.raises(InputError, match="available device, got 'cuda:99'"):
        TorchTarget(connected(), device="cuda:99")
