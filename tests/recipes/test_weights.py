"""Kept weights: later signals come from them without training.

And a file that is not whole is trained again.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from fleet_jobs import HERE, WANTED, order, same
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from memberscope.errors import InputError
from memberscope.recipes import FunctionRecipe, SklearnRecipe, TorchRecipe, train_fleet
from memberscope.recipes.fleet import attempts
from memberscope.recipes.fleet.fleet import ResumeState, read_resume_state
from memberscope.signals import Store
from memberscope.targets import load_target


def network() -> torch.nn.Module:
    return torch.nn.Sequential(
        torch.nn.Linear(5, 8), torch.nn.BatchNorm1d(8), torch.nn.ReLU(), torch.nn.Linear(8, 3)
    )


RECIPES = {
    "sklearn": SklearnRecipe(RandomForestClassifier(3)),
    "pipeline": SklearnRecipe(make_pipeline(StandardScaler(), LogisticRegression())),
    "torch": TorchRecipe(network, epochs=2, stack=1, engine="loop"),
}


def asked(name: str, **changes):
    found = order(RECIPES[name], m=3, keep_weights=True, **changes)
    if name != "torch":
        return found
    return replace(
        found, pool=replace(found.pool, x=found.pool.x.astype(np.float32)), population=None
    )


@pytest.mark.parametrize("name", RECIPES)
def test_a_signal_added_later_needs_no_training_and_equals_that_of_training(
    name, tmp_path, monkeypatch
):
    store, wish = Store(tmp_path), asked(name)
    first = replace(wish, wanted=WANTED[:1])
    train_fleet(first, store, HERE)
    assert read_resume_state(first, store) == ResumeState(3, 0, 0) and read_resume_state(
        wish, store
    ) == ResumeState(0, 3, 0)
    fresh = train_fleet(replace(wish, keep_weights=False), None, HERE)

    def no_training(*_):
        raise AssertionError("a model was trained")

    monkeypatch.setattr(attempts, "train_models", no_training)
    again = train_fleet(wish, store, HERE)
    assert again.trained == 0 and read_resume_state(wish, store) == ResumeState(3, 0, 0)
    if name == "torch":
        np.testing.assert_array_equal(again.observed[WANTED[0]], fresh.observed[WANTED[0]])
    else:
        assert same(again, fresh)


def test_weights_are_files_that_others_can_open(tmp_path):
    wish = asked("pipeline")
    train_fleet(wish, Store(tmp_path), HERE)
    files = sorted(tmp_path.glob("weights-*.skops"))
    assert len(files) == 3 and load_target(str(files[0])).target.query(wish.pool.x[:4]).shape == (
        4,
        3,
    )
    assert list(tmp_path.glob(".*")) == [], "nothing half written"


def test_nothing_is_kept_unless_asked_for(tmp_path):
    train_fleet(replace(asked("sklearn"), keep_weights=False), Store(tmp_path), HERE)
    assert list(tmp_path.glob("weights-*")) == []


def test_weights_asked_for_later_are_trained_once(tmp_path):
    store, wish = Store(tmp_path), asked("pipeline")
    assert train_fleet(replace(wish, keep_weights=False), store, HERE).trained == 3
    assert (
        train_fleet(wish, store, HERE).trained == 3 and train_fleet(wish, store, HERE).trained == 0
    )


@pytest.mark.parametrize("name", ["sklearn", "torch"])
def test_damaged_or_foreign_weights_are_trained_again(name, tmp_path):
    store, wish = Store(tmp_path), asked(name)
    train_fleet(replace(wish, wanted=WANTED[:1]), store, HERE)
    first, second, _ = sorted(tmp_path.glob("weights-*"))
    first.write_bytes(first.read_bytes()[:-50])
    if name == "torch":
        other = torch.nn.Linear(2, 2)
        store.put_all(
            second.stem, {key: value.detach().numpy() for key, value in other.state_dict().items()}
        )
    else:
        second.write_bytes(b"not an archive")
    assert train_fleet(wish, store, HERE).trained == 2


def test_what_cannot_be_kept_is_a_sentence(tmp_path):
    from memberscope.targets import FunctionTarget

    def function(records, seed):
        return FunctionTarget(lambda x: np.full((len(x), 3), 1 / 3), n_classes=3)

    wish = replace(order(FunctionRecipe(function), m=2), keep_weights=True)
    with pytest.raises(
        InputError,
        match="scikit-learn models or torch modules for --keep-weights, got FunctionTarget",
    ):
        train_fleet(wish, Store(tmp_path), HERE)
    with pytest.raises(InputError, match="Expected a folder to keep weights in"):
        train_fleet(asked("sklearn"), None, HERE)
    assert list(tmp_path.glob("*")) == []


def test_an_entry_of_another_program_under_a_models_key_is_trained_again(tmp_path):
    store, wish = Store(tmp_path), replace(asked("sklearn"), keep_weights=False)
    whole = train_fleet(wish, store, HERE)
    first, second, third = sorted(path.stem for path in tmp_path.glob("model-*"))
    store.put_all(first, {"array": np.zeros(3)})
    entry = store.get_all(second)
    store.put_all(second, {**entry, "pool 0": entry["pool 0"][:-1]})
    store.put_all(third, {**store.get_all(third), "more": np.zeros(1)})
    assert read_resume_state(wish, store).to_train == 3
    again = train_fleet(wish, store, HERE)
    assert again.trained == 3 and same(again, whole)
