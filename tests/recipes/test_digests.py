"""A stored model is used again only for the same recipe.

What a function carries, and where its code stands, is in its hash.
"""

from __future__ import annotations

import functools
import importlib
import sys
import threading

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from memberscope._own_code import is_own
from memberscope.recipes import FunctionRecipe, SklearnRecipe, TorchRecipe, as_recipe


def made(carried, default=0):
    def recipe(records, seed, more=default):
        return carried

    return recipe


class Trainer:
    def __init__(self, width):
        self.width = width

    def __call__(self, records, seed):
        return self.width

    def fit(self, records, seed):
        return self.width


def digest(given) -> str | None:
    return as_recipe(given).digest


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (1, 2),
        (np.zeros(5000), np.r_[np.zeros(4999), 1]),
        ({"lr": 0.1}, {"lr": 0.2}),
        (np.mean, np.median),
        (made(1), made(2)),
    ],
)
def test_functions_of_one_line_with_other_values_are_other_recipes(first, second):
    assert digest(made(first)) == digest(made(first)) != digest(made(second))
    assert digest(functools.partial(made(1), more=first)) != digest(
        functools.partial(made(1), more=second)
    )
    assert digest(made(0, first)) != digest(made(0, second)) and digest(made(first)) is not None


def test_methods_partials_and_objects_are_recipes_with_a_digest():
    for kind in (
        lambda width: Trainer(width),
        lambda width: Trainer(width).fit,
        lambda width: functools.partial(made(0), more=width),
    ):
        assert isinstance(as_recipe(kind(1)), FunctionRecipe)
        assert digest(kind(1)) == digest(kind(1)) != digest(kind(2)) and digest(kind(1)) is not None
    assert as_recipe(Trainer(3))(None, 0) == 3


def test_what_cannot_be_hashed_has_no_digest_and_is_not_stored():
    assert digest(made(threading.Lock())) is None


def test_a_torch_model_of_another_width_is_another_recipe():
    import torch

    def of(width):
        return TorchRecipe(lambda: torch.nn.Linear(3, width)).digest

    assert of(2) == of(2) != of(3)


def test_code_that_a_recipe_imports_counts_too(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "deep_net.py").write_text("WIDTH = 3\n")
    (tmp_path / "middle_net.py").write_text(
        "import deep_net\ndef net():\n    return deep_net.WIDTH\n"
    )
    (tmp_path / "top_recipe.py").write_text(
        "from middle_net import net\ndef train(records, seed):\n    return net()\n"
    )
    recipe = as_recipe(importlib.import_module("top_recipe").train)
    before = recipe.digest
    assert before == recipe.digest
    for name in ("deep_net", "middle_net"):
        with (tmp_path / f"{name}.py").open("a") as file:
            file.write("# changed\n")
        assert recipe.digest != before
        before = recipe.digest


def test_an_estimator_of_the_users_own_or_with_a_function_is_hashed_by_its_code(
    tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    source = "from sklearn.linear_model import LogisticRegression\nclass Mine(LogisticRegression):\n    pass\n"
    (tmp_path / "mine_estimator.py").write_text(source)
    mine = SklearnRecipe(importlib.import_module("mine_estimator").Mine())
    before = mine.digest
    assert before is not None
    (tmp_path / "mine_estimator.py").write_text(source + "    more = 1\n")
    assert mine.digest != before
    pipes = [
        SklearnRecipe(make_pipeline(FunctionTransformer(f), LogisticRegression())).digest
        for f in (np.log1p, np.exp)
    ]
    assert None not in pipes and pipes[0] != pipes[1]
    long = [np.zeros(3000), np.r_[np.zeros(2999), 1.0]]  # their repr is the same
    assert (
        len({SklearnRecipe(LogisticRegression(class_weight={0: value})).digest for value in long})
        == 2
    )
    assert SklearnRecipe(make_pipeline(StandardScaler(), LogisticRegression())).digest is not None


def test_packages_in_any_folder_of_an_installer_are_not_the_users_own(tmp_path, monkeypatch):
    """As after `pip install --target`.

    Sending such packages by value to workers would take all they import along.
    """
    for path, text in {
        "thirdparty/__init__.py": "",
        "thirdparty/deep.py": "def loss(): return 1",
        "thirdparty/mine.py": "",
        "thirdparty-1.dist-info/RECORD": "thirdparty/__init__.py,sha256=x,0\nthirdparty/deep.py,,\ntests/test_deep.py,,\n",
        "mine.py": "",
    }.items():
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    modules = [
        importlib.import_module(name)
        for name in ("thirdparty", "thirdparty.deep", "thirdparty.mine", "mine")
    ]
    for module in modules:
        del sys.modules[module.__name__]
    assert [is_own(module) for module in modules] == [False, False, True, True]
