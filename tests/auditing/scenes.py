"""Stored signals with a known amount of leakage."""

from __future__ import annotations

import numpy as np

from memberscope.targets import StoredSignals


def gaussian_signals(
    n: int, shift: float, seed: int = 0, *, classes: int = 2, n_features: int = 0, feature_shift: float = 0.0
) -> StoredSignals:
    """Logits whose true-class logit is N(0, 1), plus `shift` for members; `feature_shift` moves the first feature of members."""
    rng = np.random.default_rng([seed, n])
    member = np.arange(2 * n) < n
    labels = rng.integers(0, classes, 2 * n)
    outputs = np.zeros((2 * n, classes))
    outputs[np.arange(2 * n), labels] = rng.standard_normal(2 * n) + shift * member
    features = None
    if n_features:
        features = rng.standard_normal((2 * n, n_features))
        features[:, 0] += feature_shift * member
    groups = {"sex": np.where(rng.random(2 * n) < 0.3, "f", "m")}
    ids = np.array([f"id-{i}" for i in range(2 * n)])
    return StoredSignals("logits", outputs, labels, member, ids, groups, features, digest=f"scene {seed} {n} {shift}")
