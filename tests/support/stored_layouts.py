"""Write the same models' answers in the file shapes of several tools."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class Models:
    """Logits (models, n, k) of models of which the first is audited, and who trained each."""

    logits: np.ndarray
    inside: np.ndarray
    labels: np.ndarray

    @property
    def probability(self) -> np.ndarray:
        """Probability (models, n) of the true class."""
        z = self.logits - self.logits.max(axis=-1, keepdims=True)
        p = np.exp(z) / np.exp(z).sum(axis=-1, keepdims=True)
        return p[:, np.arange(len(self.labels)), self.labels]

    @property
    def loss(self) -> np.ndarray:
        """Cross-entropy (models, n), in nats."""
        return -np.log(self.probability)

    @property
    def logit(self) -> np.ndarray:
        """Logit-scaled confidence (models, n)."""
        others = self.logits.copy()
        rows = np.arange(len(self.labels))
        others[:, rows, self.labels] = -np.inf
        return self.logits[:, rows, self.labels] - np.logaddexp.reduce(others, axis=-1)


def plant_models(
    n: int = 240, models: int = 9, classes: int = 3, shift: float = 2.0, seed: int = 0
) -> Models:
    """Models that know their own records by `shift`; every record is in half of the references."""
    rng = np.random.default_rng([seed, n, models])
    member = rng.permutation(n) < n // 2
    ranks = rng.random((models - 1, n)).argsort(axis=0)
    inside = np.vstack([member[None], ranks < (models - 1) // 2])
    labels, hard = rng.integers(0, classes, n), rng.normal(size=n)
    logits = 0.3 * rng.normal(size=(models, n, classes))
    logits[:, np.arange(n), labels] += (
        2.5 + hard + shift * inside + 0.5 * rng.normal(size=(models, n))
    )
    return Models(logits, inside, labels)


def write_lira(folder: Path, models: Models, *, scores: bool = False, flat: bool = False) -> Path:
    """Write the layout of tensorflow/privacy (mi_lira_2021); the last model is the audited one.

    With `scores` the logits are left out; `flat` is the layout of versions with one file a model.
    """
    order = [*range(1, len(models.logits)), 0]
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "y_train.npy", models.labels)
    for place, model in enumerate(order):
        home = folder / (str(place) if flat else f"experiment-{place}_{len(order)}")
        home.mkdir()
        np.save(home / "keep.npy", models.inside[model])
        (home / "hparams.json").write_text(json.dumps({"arch": "wrn28-2"}))
        # The record itself and a mirrored view, whose logits differ a little
        views = np.stack([models.logits[model], models.logits[model] + 0.01], axis=1)
        score = np.stack([models.logit[model]] * 2, axis=1)
        if flat:
            np.save(home / ("scores.npy" if scores else "logits.npy"), score if scores else views)
            continue
        kind = home / ("scores" if scores else "logits")
        kind.mkdir()
        np.save(kind / "0000000010.npy", np.zeros_like(score if scores else views[:, None]))
        np.save(kind / "0000000100.npy", score if scores else views[:, None])
    return folder


def write_privacy_meter(folder: Path, models: Models) -> Path:
    """Write the layout of ML Privacy Meter, whose second model has the other half of the records."""
    inside = np.vstack([models.inside[:1], ~models.inside[:1], models.inside[1:]])
    twin = models.probability[:1]
    signals = np.vstack([models.probability[:1], twin, models.probability[1:]]).T
    for name in ("models", "signals", "report"):
        (folder / name).mkdir(parents=True)
    np.save(folder / "models" / "memberships.npy", inside)
    (folder / "models" / "models_metadata.json").write_text("{}")
    np.save(folder / "signals" / "rmia_signals.npy", signals)
    np.save(folder / "signals" / "rmia_signals_pop.npy", signals[:10])
    np.save(folder / "labels.npy", models.labels)
    return folder


def write_leakpro(folder: Path, models: Models, *, shuffled: bool = True) -> Path:
    """Write the layout of LeakPro, with membership beside it as plain arrays."""
    cache = folder / "attack_cache"
    cache.mkdir(parents=True)
    n = len(models.labels)
    # Training records first, as the tool caches them, among more records of the population
    order = np.argsort(~models.inside[0], kind="stable")
    number = order + 5
    np.save(cache / "target_0a1b_logits.npy", models.logits[0][order])
    np.save(cache / "target_0a1b_indices.npy", number)
    told = {"label": np.concatenate([np.zeros(5, int), models.labels]), "target": number[: n // 2]}
    for place in range(1, len(models.logits)):
        again = np.random.default_rng(place).permutation(n) if shuffled else np.arange(n)
        np.save(cache / f"sm_{place - 1}_77ff_logits.npy", models.logits[place][order][again])
        np.save(cache / f"sm_{place - 1}_77ff_indices.npy", number[again])
        told[f"sm_{place - 1}"] = np.flatnonzero(models.inside[place]) + 5
    np.savez(folder / "membership.npz", **told)
    return folder
