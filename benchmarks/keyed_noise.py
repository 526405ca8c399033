"""Undo the noise in a forest's answers: with a public seed, and with a secret key.

`python benchmarks/keyed_noise.py`: 400 members and 400 others whose labels are drawn by coins, a
forest of 20 trees that remembers its members, and the AUC of the true class's probability.
"""

from __future__ import annotations

import os

import numpy as np
from sklearn.datasets import make_classification
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import roc_auc_score

from memberscope.outputs import OutputNoise, find_recovery

N, TREES, SCALES = 400, 20, (0.03, 0.1, 0.3, 0.5, 1.0)


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

    print(f"Without noise: AUC {area(plain)}\n")
    print("| noise | AUC | with the seed 0 | with a secret key |\n|---|---|---|---|")
    for scale in SCALES:
        public = OutputNoise(scale, seed=0)(plain)
        secret = OutputNoise(scale, key=os.urandom(32))(plain)
        cells = (area(secret), undone(public, scale), undone(secret, scale))
        print(f"| `noise:{scale:g}` | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
