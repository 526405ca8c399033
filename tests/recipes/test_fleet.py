"""Fleets: the same bytes wherever and however often they are run, whole entries only.

And one sentence when a recipe is wrong.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
from fleet_jobs import HERE, WANTED, order, records, same
from sklearn.linear_model import LogisticRegression
from sklearn.tree import DecisionTreeClassifier

from memberscope.errors import InputError, TargetError
from memberscope.recipes import (
    Execution,
    FunctionRecipe,
    SklearnRecipe,
    TrainingJob,
    as_recipe,
    load_recipe,
    train_fleet,
)
from memberscope.recipes.fleet.execution import limit_threads, stream_answers
from memberscope.recipes.fleet.tuning_cache import limit_jobs
from memberscope.signals import Store
from memberscope.types import Access


def test_observed_numbers_are_those_of_models_trained_by_hand():
    wish = order()
    fleet = train_fleet(wish, None, HERE)
    assert len(fleet) == 6 and fleet.trained == 6
    model = LogisticRegression().fit(wish.pool.x[wish.inside[2]], wish.pool.y[wish.inside[2]])
    p = model.predict_proba(wish.pool.x)
    true = p[np.arange(120), wish.pool.y]
    np.testing.assert_allclose(
        fleet.observed[WANTED[0]][2, :, 0, 0], np.log(true) - np.log(1 - true), rtol=1e-5
    )
    warm = p**0.5 / (p**0.5).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(
        fleet.observed[WANTED[1]][2, :, 0, 0], np.log(warm[np.arange(120), wish.pool.y]), rtol=1e-5
    )
    assert fleet.observed[WANTED[0]].shape == (6, 120, 2, 1) and fleet.observed[
        WANTED[2]
    ].shape == (6, 120, 1, 3)
    assert fleet.population[WANTED[0]].shape == (6, 40, 2, 1)
    assert fleet.train_accuracy[2] == model.score(
        wish.pool.x[wish.inside[2]], wish.pool.y[wish.inside[2]]
    )
    assert not np.array_equal(
        fleet.observed[WANTED[0]][:, :, 0], fleet.observed[WANTED[0]][:, :, 1]
    )


def test_processes_the_store_and_this_process_give_the_same_bytes(tmp_path):
    plain = train_fleet(order(), None, HERE)
    store = Store(tmp_path)
    stored = train_fleet(order(), store, Execution("loky", n_jobs=2))
    again = train_fleet(order(), store, HERE)
    assert same(plain, stored) and same(plain, again)
    assert (stored.trained, again.trained) == (6, 0)


def test_anything_that_decides_a_model_changes_its_key(tmp_path):
    store = Store(tmp_path)
    base = order()
    train_fleet(base, store, HERE)
    other = records(120, 3)
    changes = [
        replace(base, recipe=SklearnRecipe(LogisticRegression(C=0.5))),
        replace(base, seeds=tuple(range(10, 16))),
        replace(base, inside=~base.inside),
        replace(base, pool=replace(base.pool, x=other.x)),
        replace(base, wanted=WANTED[:2]),
        replace(base, views=("identity",)),
        replace(base, population=None),
    ]
    assert [train_fleet(change, store, HERE).trained for change in changes] == [6] * len(changes)
    assert train_fleet(base, store, HERE).trained == 0


def test_a_damaged_or_missing_entry_is_trained_again(tmp_path):
    store = Store(tmp_path)
    whole = train_fleet(order(), store, HERE)
    first, second, *_ = sorted(tmp_path.glob("model-*"))
    first.write_bytes(first.read_bytes()[:-100])
    second.unlink()
    again = train_fleet(order(), store, HERE)
    assert again.trained == 2 and same(whole, again)


SCRIPT = """
import time
from pathlib import Path
import numpy as np
from memberscope.recipes import Execution, FunctionRecipe, train_fleet
from memberscope.signals import Store
from fleet_jobs import order
from sklearn.linear_model import LogisticRegression

def slow(records, seed):
    time.sleep(0.3)
    return LogisticRegression().fit(records.x, records.y)

class Kept(FunctionRecipe):
    digest = "slow"

fleet = train_fleet(order(Kept(slow)), Store({store!r}), Execution("sequential"))
np.save({out!r}, fleet.observed[order().wanted[0]])
"""


def test_a_killed_run_loses_only_the_model_in_flight(tmp_path):
    store, out = tmp_path / "store", tmp_path / "out.npy"
    script = SCRIPT.format(store=str(store), out=str(out))
    here = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    killed = subprocess.Popen([sys.executable, "-c", script], env=here)
    while len(list(store.glob("model-*.safetensors"))) < 2:
        assert killed.poll() is None
        time.sleep(0.02)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    before = {path.name: path.read_bytes() for path in store.glob("model-*.safetensors")}
    assert 2 <= len(before) < 6
    subprocess.run([sys.executable, "-c", script], check=True, env=here)
    assert all((store / name).read_bytes() == data for name, data in before.items())
    np.testing.assert_array_equal(
        np.load(out), train_fleet(order(), None, HERE).observed[WANTED[0]]
    )


def test_a_diverged_model_is_marked_and_not_a_crash():
    class Wild:
        access, signal, n_classes, digest, n_parameters = (
            Access.PROBABILITIES,
            "probabilities",
            3,
            None,
            None,
        )

        def query(self, x):
            return np.full((len(x), 3), np.nan)

    def recipe(records, seed):
        return Wild() if seed == 3 else LogisticRegression().fit(records.x, records.y)

    fleet = train_fleet(order(as_recipe(recipe)), None, HERE)
    assert np.isnan(fleet.train_accuracy).tolist() == [False] * 3 + [True] + [False] * 2
    assert all(np.isfinite(values).all() for values in fleet.observed.values())


@pytest.mark.parametrize("failing", ["train", "answer"])
def test_one_model_that_fails_is_left_out(failing, tmp_path):
    class Picky:
        classes_ = np.arange(3)

        def predict_proba(self, x):
            raise ValueError("found an unknown category")

    def recipe(records, seed):
        if seed == 0 and failing == "train":
            raise ValueError("a rare category is missing")
        return Picky() if seed == 0 else LogisticRegression().fit(records.x, records.y)

    for store in (None, Store(tmp_path)):
        fleet = train_fleet(order(as_recipe(recipe)), store, HERE)
        assert (
            np.isnan(fleet.train_accuracy).tolist() == [True] + [False] * 5
            and len(fleet.failures) == 1
        )
        assert all(np.isfinite(values).all() for values in fleet.observed.values())
    again = train_fleet(order(as_recipe(recipe)), Store(tmp_path), HERE)
    assert again.trained == 0 and np.isnan(again.train_accuracy[0])


def test_wrong_recipes_get_one_sentence():
    def raises(records, seed):
        raise ValueError("no such column")

    def no_model(records, seed):
        return 42

    def two_classes(records, seed):
        return LogisticRegression().fit(records.x, records.y > 0)

    def labels_only(records, seed):
        from sklearn.svm import LinearSVC

        model = LinearSVC().fit(records.x, records.y)
        return type(
            "Hard", (), {"classes_": model.classes_, "predict": lambda self, x: model.predict(x)}
        )()

    for recipe, kind, words in (
        (
            raises,
            TargetError,
            "Expected the recipe to train a model, got ValueError: no such column",
        ),
        (
            no_model,
            InputError,
            "Expected a fitted estimator, a torch module or a function, got int",
        ),
        (two_classes, InputError, "Expected reference models with 3 classes"),
        (
            labels_only,
            InputError,
            "Expected reference models that return probabilities as the target does, got labels",
        ),
    ):
        with pytest.raises(kind, match=words):
            train_fleet(order(as_recipe(recipe)), None, HERE)


def test_a_model_that_never_saw_a_class_gives_it_no_probability():
    pool = replace(records(60), y=np.where(np.arange(60) < 2, 2, np.arange(60) % 2))
    inside = np.tile(np.arange(60) >= 2, (2, 1))
    inside[:, 30] = False
    recipe = SklearnRecipe(DecisionTreeClassifier())
    fleet = train_fleet(
        TrainingJob(recipe, pool, inside, (0, 1), WANTED, "probabilities", 3), None, HERE
    )
    assert (fleet.observed[WANTED[2]][:, :, 0, 2] == 0).all() and np.isfinite(
        fleet.observed[WANTED[0]]
    ).all()


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_a_hanging_recipe_ends_the_run_in_a_sentence(tmp_path, monkeypatch, n_jobs):
    module = tmp_path / "hanging_recipe.py"
    module.write_text("import time\ndef recipe(records, seed):\n    time.sleep(600)\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(TargetError, match="Expected each job within 2 seconds"):
        train_fleet(
            order(load_recipe("hanging_recipe:recipe")),
            None,
            Execution("loky", n_jobs=n_jobs, timeout=2),
        )


def test_a_model_of_labels_that_never_saw_a_class_still_numbers_the_others_as_the_target_does():
    pool = replace(records(60), y=np.where(np.arange(60) < 2, 0, 1 + np.arange(60) % 2))
    inside = np.tile(np.arange(60) >= 2, (1, 1))
    inside[:, 30] = False

    class Hard(DecisionTreeClassifier):
        @property
        def predict_proba(self):
            raise AttributeError

    def recipe(some, seed):
        return Hard().fit(some.x, some.y)

    fleet = train_fleet(
        TrainingJob(as_recipe(recipe), pool, inside, (0,), (), "labels", 3), None, HERE
    )
    assert fleet.train_accuracy[0] == 1.0 and set(fleet.predicted[0].tolist()) == {1, 2}


def test_with_a_timeout_no_job_waits_and_one_at_a_time_stays_one(tmp_path):
    """Waiting would count as taking long."""
    log = tmp_path / "log"

    def work(shared, job):
        with log.open("a") as file:
            file.write("start ")
        time.sleep(0.05)
        with log.open("a") as file:
            file.write("stop ")
        return job

    assert sorted(
        stream_answers(work, None, [0, 1, 2], Execution("loky", n_jobs=1, timeout=100))
    ) == [0, 1, 2]
    assert log.read_text().split() == ["start", "stop"] * 3
    kept = limit_jobs(Execution(timeout=5), {"processes": 1})
    assert (kept.backend, kept.n_jobs, limit_jobs(Execution(), {"processes": 1}).backend) == (
        "loky",
        1,
        "sequential",
    )


def test_executions_that_cannot_be_are_refused():
    with pytest.raises(InputError, match="at least one job at a time"):
        Execution(n_jobs=0)
    with pytest.raises(InputError, match="sequential, which cannot end a job"):
        Execution("sequential", timeout=3)


def test_recipes_from_what_people_have(tmp_path, monkeypatch):
    assert isinstance(as_recipe(LogisticRegression()), SklearnRecipe)
    assert isinstance(as_recipe(lambda records, seed: None), FunctionRecipe)
    with pytest.raises(InputError, match="takes"):
        as_recipe(lambda records: None)
    with pytest.raises(InputError, match="Expected a recipe"):
        as_recipe("recipe")
    with pytest.raises(InputError, match="importable"):
        load_recipe("nowhere:at_all")
    (tmp_path / "failing_recipe.py").write_text("train = int('one')\n")
    (tmp_path / "mistaken_recipe.py").write_text("train = sorted(1)\n")
    (tmp_path / "mine.py").write_text("def train(records, seed):\n    return None\n")
    # Another test may have imported a module of this name
    monkeypatch.delitem(sys.modules, "mine", raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(InputError, match=r"importable module:function.*invalid literal"):
        load_recipe("failing_recipe:train")
    with pytest.raises(InputError, match="to import, got TypeError: 'int' object"):
        load_recipe("mistaken_recipe:train")
    recipe = load_recipe("mine:train")
    before = recipe.digest
    (tmp_path / "mine.py").write_text("def train(records, seed):\n    return 1\n")
    assert before is not None and recipe.digest != before


def test_a_full_disk_is_a_sentence(tmp_path, monkeypatch):
    import errno

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InputError, match="full disk"):
        train_fleet(order(), Store(tmp_path), HERE)
    assert list(tmp_path.glob("model-*")) == []


def test_lightgbm_is_limited_too():
    """It counts cores by joblib, and gives OpenMP a number of its own."""
    sklearn = pytest.importorskip("lightgbm.sklearn")
    before = os.environ.get("LOKY_MAX_CPU_COUNT")
    with limit_threads(1):
        assert sklearn.LGBMClassifier()._process_n_jobs(None) == 1
        assert sklearn.LGBMClassifier()._process_n_jobs(-1) == 1
    assert os.environ.get("LOKY_MAX_CPU_COUNT") == before
