"""LiRA offline with and without models of a member made from other records, on Location-30.

    python benchmarks/lira_proxy.py [--targets 3] [--references 16]

Networks of one hidden layer (scikit-learn) are trained on half of 2,700 records each. Targets draw
their members apart from the references' balanced design.
"""

from __future__ import annotations

import argparse
import warnings

import numpy as np
from sklearn.neural_network import MLPClassifier

import data
from memberscope.attacks import LiRA, ProxyLiRA, RobustLiRA
from memberscope.statistics import auc_value, roc, tpr_at_fpr
from memberscope.types import Evidence

POOL, SIZE, FEWEST = 2_700, 1_350, 1e-30
ATTACKS = (LiRA("offline"), ProxyLiRA(), LiRA(), RobustLiRA())


def measure_confidence(x: np.ndarray, y: np.ndarray, rows: np.ndarray, seed: int) -> np.ndarray:
    """Train a network on some rows, and give the logit-scaled confidence of each record."""
    network = MLPClassifier(
        (256,), max_iter=30, batch_size=64, learning_rate_init=2e-3, random_state=seed
    ).fit(x[rows], y[rows])
    outputs = np.full((len(y), 30), FEWEST)
    outputs[:, network.classes_] = network.predict_proba(x).astype(np.float64)
    own = outputs[np.arange(len(y)), y]
    outputs[np.arange(len(y)), y] = 0
    return np.log(np.maximum(own, FEWEST)) - np.log(np.maximum(outputs.sum(axis=1), FEWEST))


def main() -> None:
    """Print a table of attacks for 4, 8 and 16 references."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--targets", type=int, default=3)
    parser.add_argument("--references", type=int, default=16)
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    x, y = data.location30()
    y = y.astype(np.int64)
    rng = np.random.default_rng(0)
    order = rng.permutation(len(y))[:POOL]
    x, y = x[order], y[order]
    half = np.array([rng.permutation(POOL) < SIZE for _ in range(options.references // 2)])
    # Each model stands beside the one that was trained on the other half
    inside = np.stack([half, ~half], axis=1).reshape(-1, POOL)
    members = np.array([rng.permutation(POOL) < SIZE for _ in range(options.targets)])
    targets = [measure_confidence(x, y, rows, seed) for seed, rows in enumerate(members)]
    references = np.array(
        [measure_confidence(x, y, rows, 100 + seed) for seed, rows in enumerate(inside)]
    )
    print(f"{'references':>10s} {'attack':20s} {'AUC':>6s} {'TPR at 1%':>10s}")
    for m in (4, 8, 16):
        for attack in ATTACKS if m <= len(references) else ():
            curves = []
            for target, member in zip(targets, members, strict=True):
                evidence = Evidence(
                    "logit_confidence",
                    target[:, None, None],
                    y,
                    np.full(POOL, -1, dtype=np.int8),
                    references=references[:m, :, None, None],
                    inside=inside[:m],
                )
                curves.append(roc(attack.score(evidence, rng), member))
            area = np.mean([auc_value(curve) for curve in curves])
            rate = np.mean([tpr_at_fpr(curve, 0.01).value for curve in curves])
            print(f"{m:10d} {attack.name:20s} {area:6.3f} {100 * rate:9.1f}%")


if __name__ == "__main__":
    main()
