"""Undo the noise in a model's answers: with a public seed, and with a secret key.

`python benchmarks/keyed_noise.py`: 400 members and 400 others whose labels are drawn by coins, a
forest of 20 trees that remembers its members, and the AUC of the true class's probability. Then
MemGuard and HAMP's outputs on that forest and on a network for Location-30.
"""

from __future__ import annotations

import os
import warnings
from dataclasses import replace

import numpy as np
from sklearn.datasets import make_classification
from sklearn.ensemble import RandomForestClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import roc_auc_score
from sklearn.neural_network import MLPClassifier

from data import location30
from memberscope.outputs import (
    HampOutput,
    MemGuard,
    OutputNoise,
    find_recovery,
    parse_restriction,
    try_inversion,
    with_noise_key,
)
from memberscope.types import OutputDefence

N, TREES, SCALES = 400, 20, (0.03, 0.1, 0.3, 0.5, 1.0)
# A chain, and the same with a public seed
CHAINS = (
    ("noise:0.1+round:2", "noise:0.1:0+round:2"),
    ("noise:0.5+round:2", "noise:0.5:0+round:2"),
    ("top:2+noise:0.1", "top:2+noise:0.1:0"),
    ("noise:0.5+top:1", "noise:0.5:0+top:1"),
    ("temperature:2+noise:0.1", "temperature:2+noise:0.1:0"),
)


def main() -> None:
    x, y = make_classification(2 * N, 12, n_informative=6, n_classes=3, flip_y=1.0, random_state=0)
    member, rows = np.arange(2 * N) < N, np.arange(2 * N)
    plain = RandomForestClassifier(TREES, random_state=0).fit(x[:N], y[:N]).predict_proba(x)

    def area(answers: np.ndarray) -> str:
        return f"{roc_auc_score(member, answers[rows, y]):.3f}"

    def undone(seen: np.ndarray, scale: float) -> str:
        found = find_recovery(seen, OutputNoise(scale))
        if found is None:
            return "in vain"
        exact = (np.abs(found(seen) - plain).max(axis=1) < 1e-9).mean()
        how = "votes" if found.seed is None else f"seed {found.seed}"
        return f"by {how}: {100 * exact:.0f}% right, AUC {area(found(seen))}"

    print(f"Without noise: AUC {area(plain)}; what these tables show has no aim\n")
    print("| noise | AUC | with the seed 0 | with a secret key |\n|---|---|---|---|")
    for scale in SCALES:
        public = OutputNoise(scale, seed=0)(plain)
        secret = OutputNoise(scale, key=os.urandom(32))(plain)
        cells = (area(secret), undone(public, scale), undone(secret, scale))
        print(f"| `noise:{scale:g}` | {' | '.join(cells)} |", flush=True)
    for name, seeded in CHAINS:
        found = []
        for defence in (
            parse_restriction(seeded),
            with_noise_key(parse_restriction(name), os.urandom(32)),
        ):
            seen = defence(plain)
            found.append(undo(seen, plain, defence, rows, y, member))
        cell = area(np.nan_to_num(seen))
        print(f"| `{name}` | {cell} | {' | '.join(found)} |", flush=True)
    print_fitted("forest", plain, y, member)
    print_fitted("Location-30", *train_network())


def undo(
    seen: np.ndarray,
    plain: np.ndarray,
    defence: OutputDefence,
    rows: np.ndarray,
    y: np.ndarray,
    member: np.ndarray,
) -> str:
    """What comes of undoing a restriction, with the share that is right and the AUC."""
    tried = try_inversion(seen, defence, defence)
    if tried.recovery is None:
        return "in vain"
    found = tried.recovery(seen)
    right = (np.isnan(found) | (np.abs(found - plain) < 1e-9)).all(axis=1).mean()
    scores = np.nan_to_num(found)[rows, y]
    return f"{100 * right:.0f}% right, AUC {roc_auc_score(member, scores):.3f}"


def train_network() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Answers of a network about 1,000 members and 1,000 others of Location-30, and labels."""
    x, y = location30()
    order = np.random.default_rng(0).permutation(len(y))[:2000]
    x, y, member = x[order].astype(float), y[order].astype(int), np.arange(2000) < 1000
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = MLPClassifier((256, 128), max_iter=60, random_state=0).fit(x[member], y[member])
    return model.predict_proba(x), y, member


def print_fitted(title: str, plain: np.ndarray, y: np.ndarray, member: np.ndarray) -> None:
    """Print what comes of undoing fitted defences, and what their classifier says of answers."""
    rows, key = np.arange(len(y)), os.urandom(32)
    area = roc_auc_score(member, plain[rows, y])
    print(f"\n{title}: AUC {area:.3f} without noise\n")
    print("| restriction | AUC | undone | the classifier's side of 0.5 |\n|---|---|---|---|")
    guard = MemGuard(1.0, key=key).fit(plain, member)
    random = np.random.default_rng(1).dirichlet(np.ones(plain.shape[1]), 1000)
    hamp = HampOutput(key=key).fit(random, np.zeros(1000, dtype=bool))
    for defence in (guard, replace(guard, stop="crossed"), replace(guard, distortion=0.3), hamp):
        seen = defence(plain)
        undone, side = undo(seen, plain, defence, rows, y, member), ""
        if isinstance(defence, MemGuard):
            odds = -np.sign(guard.classifier.odds(seen))  # type: ignore[union-attr]
            side = f"{roc_auc_score(member, odds):.3f}"
        area = roc_auc_score(member, seen[rows, y])
        print(f"| `{defence.name}` | {area:.3f} | {undone} | {side} |", flush=True)


if __name__ == "__main__":
    main()
