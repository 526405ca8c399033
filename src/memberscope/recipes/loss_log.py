"""Log each record's loss while a model is trained, for a list of the records at risk."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memberscope.attacks import true_class_log_probability
from memberscope.errors import InputError
from memberscope.targets import wrap
from memberscope.types import Evidence, Floats


@dataclass(eq=False)
class LossLog:
    """The loss of each record (x, y) after each epoch, in the order in which it was recorded.

    Call `record(model)` at the end of an epoch, or give the training one of the callbacks below.
    The model is asked once about every record each time.

    >>> from sklearn.linear_model import SGDClassifier
    >>> x, y = np.array([[0.0], [1.0], [2.0], [9.0]]), np.array([0, 0, 1, 1])
    >>> log, model = LossLog(x, y), SGDClassifier(loss="log_loss", random_state=0)
    >>> for _ in range(4):
    ...     log.record(model.partial_fit(x, y, classes=[0, 1]))
    >>> log.read_losses().shape
    (4, 4)
    """

    x: Any
    y: NDArray[np.int64]
    every: int = 1
    rows: list[Floats] = field(default_factory=list)
    seen: int = 0

    def record(self, model: Any) -> None:
        """Record the losses under a model as it is now; of `every` k epochs the last one counts.

        Raises:
            InputError: The model is of no framework here, or does not give one class a record.
        """
        self.seen += 1
        if self.seen % self.every:
            return
        training = getattr(model, "training", None)
        target = wrap(model)
        outputs = target.query(self.x)
        # The training goes on as it was, with dropout and the like
        if training and hasattr(model, "train"):
            model.train()
        labels = np.asarray(self.y, dtype=np.int64)
        if target.signal not in ("probabilities", "logits") or len(outputs) != len(labels):
            raise InputError(
                f"Expected probabilities or logits of {len(labels)} records, got {target.signal} "
                f"of {len(outputs)}. Log the training of a classifier on its own records."
            )
        hidden = np.full(len(labels), -1, dtype=np.int8)
        evidence = Evidence(target.signal, outputs[:, None, :], labels, hidden)
        self.rows.append(-true_class_log_probability(evidence))

    def read_losses(self) -> Floats:
        """Read what was recorded, as (epochs, n)."""
        n = len(self.y)
        return np.array(self.rows) if self.rows else np.zeros((0, n))

    def save(self, path: str | Path) -> None:
        """Save the losses as the array `losses` of an NPZ file."""
        np.savez_compressed(path, losses=self.read_losses().astype(np.float32))


def make_keras_callback(log: LossLog) -> Any:
    """Make a callback for `fit` of a Keras model, which records after each epoch."""
    import keras

    class _Recorder(keras.callbacks.Callback):  # type: ignore[misc]
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            log.record(self.model)

    return _Recorder()


def make_lightgbm_callback(log: LossLog) -> Callable[[Any], None]:
    """Make a callback for LightGBM's `train` or `fit`, which records after each tree or so.

    >>> import lightgbm
    >>> x, y = np.arange(80.0)[:, None], (np.arange(80) > 39).astype(int)
    >>> log, data = LossLog(x, y), lightgbm.Dataset(x, y)
    >>> settings = {"objective": "binary", "verbose": -1, "num_threads": 1}
    >>> model = lightgbm.train(settings, data, 5, callbacks=[make_lightgbm_callback(log)])
    >>> log.read_losses().shape
    (5, 80)
    """

    def record(env: Any) -> None:
        log.record(env.model)

    return record


def make_xgboost_callback(log: LossLog) -> Any:
    """Make a callback for XGBoost's `train` or `fit`, which records after each tree or so."""
    import xgboost

    class _Recorder(xgboost.callback.TrainingCallback):
        def after_iteration(self, model: Any, epoch: int, evals_log: Any) -> bool:
            log.record(model)
            return False

    return _Recorder()
