"""The log of losses: the same by hand and by each framework's callback."""

from importlib.util import find_spec

import numpy as np
import pytest

from memberscope.errors import InputError
from memberscope.recipes import (
    LossLog,
    make_keras_callback,
    make_lightgbm_callback,
    make_xgboost_callback,
)
from memberscope.statistics import rank_by_loss_range
from memberscope.targets.frameworks.keras import import_keras, silence_keras

RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 4)).astype(np.float32)
Y = (X[:, 0] + 0.1 * RNG.normal(size=60) > 0).astype(np.int64)


def loss_of(probability):
    """Minus the log-probability of the true class, where one column is that of class 1."""
    return -np.log(np.where(Y == 1, probability, 1 - probability))


def test_a_torch_module_is_asked_in_its_evaluation_mode_and_trains_on():
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Linear(4, 2), torch.nn.Dropout(0.9)).train()
    log = LossLog(X, Y)
    log.record(module)
    assert module.training
    with torch.no_grad():
        wanted = torch.nn.functional.cross_entropy(
            module.eval()(torch.from_numpy(X)), torch.from_numpy(Y), reduction="none"
        )
    np.testing.assert_allclose(log.read_losses()[0], wanted.numpy(), rtol=1e-5)


def test_lightgbm_records_each_tree():
    lightgbm = pytest.importorskip("lightgbm")
    log = LossLog(X, Y, every=2)
    settings = {"objective": "binary", "verbose": -1, "num_threads": 1, "min_data_in_leaf": 2}
    model = lightgbm.train(
        settings, lightgbm.Dataset(X, Y), 6, callbacks=[make_lightgbm_callback(log)]
    )
    assert log.read_losses().shape == (3, 60)
    np.testing.assert_allclose(log.read_losses()[-1], loss_of(model.predict(X)), rtol=1e-6)


def test_xgboost_records_each_tree():
    xgboost = pytest.importorskip("xgboost")
    log = LossLog(X, Y)
    data = xgboost.DMatrix(X, label=Y)
    settings = {"objective": "binary:logistic", "nthread": 1}
    model = xgboost.train(settings, data, 4, callbacks=[make_xgboost_callback(log)])
    assert log.read_losses().shape == (4, 60)
    np.testing.assert_allclose(log.read_losses()[-1], loss_of(model.predict(data)), rtol=1e-4)


@pytest.mark.skipif(not find_spec("keras"), reason="needs keras")
def test_keras_records_each_epoch():
    keras = import_keras()
    model = keras.Sequential([keras.layers.Dense(2, activation="softmax")])
    model.compile(optimizer="sgd", loss="sparse_categorical_crossentropy")
    log = LossLog(X, Y)
    model.fit(X, Y, epochs=3, verbose=0, callbacks=[make_keras_callback(log)])
    assert log.read_losses().shape == (3, 60)
    with silence_keras():
        last = keras.ops.convert_to_numpy(model(X))[:, 1]
    np.testing.assert_allclose(log.read_losses()[-1], loss_of(last), rtol=1e-4)


def test_a_wrong_label_learned_by_heart_is_ranked_first():
    """Ten labels of a network are wrong, and it learns them last."""
    network = pytest.importorskip("sklearn.neural_network")
    wrong = Y.copy()
    wrong[:10] = 1 - wrong[:10]
    log = LossLog(X, wrong)
    model = network.MLPClassifier((64,), learning_rate_init=0.02, random_state=0)
    for _ in range(150):
        log.record(model.partial_fit(X, wrong, classes=[0, 1]))
    listed = rank_by_loss_range(log.read_losses(), share=1 / 6)
    assert len(listed) == 10
    assert (listed < 10).sum() >= 7


def test_what_cannot_be_logged_is_told(tmp_path):
    log = LossLog(X, Y)
    with pytest.raises(InputError, match=r"at least 4 epochs, got shape \(0, 60\)"):
        rank_by_loss_range(log.read_losses())
    with pytest.raises(InputError, match="finite losses, got NaN or infinity for 1 of 2"):
        rank_by_loss_range([[0.0, 1.0]] * 3 + [[0.0, np.nan]])
    with pytest.raises(InputError, match="above 0 and at most 1, got 0"):
        rank_by_loss_range(np.zeros((4, 3)), share=0)
    log.rows.append(np.arange(60.0))
    log.save(tmp_path / "losses.npz")
    with np.load(tmp_path / "losses.npz") as stored:
        assert stored["losses"].shape == (1, 60)
