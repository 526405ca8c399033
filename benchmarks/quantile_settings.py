"""What fewer bins and fewer rounds change in the quantile attack, over eight targets of Adult.

Prints the processor time of each setting, and the mean change of AUC from the first with its 95%
interval. Each target has 2,000 members and 2,000 non-members; the attack learns from half of the
latter.
"""

from __future__ import annotations

import time

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from effort import flip, read_sides
from memberscope.attacks import Quantile
from memberscope.statistics import auc_value, roc
from memberscope.types import Evidence

SIDE = 2000
SETTINGS = ((255, 60), (63, 60), (63, 20))  # bins and rounds


def fit_target(place: int) -> tuple[Evidence, np.ndarray]:
    """Give what one target shows of its records, half of the non-members known, and the truth."""
    sides = read_sides(SIDE, seed=place)
    kinds = (
        RandomForestClassifier(50, min_samples_leaf=3, random_state=place),
        HistGradientBoostingClassifier(random_state=place),
        make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)),
        make_pipeline(StandardScaler(), MLPClassifier((64,), max_iter=100, random_state=place)),
    )
    x = np.concatenate([sides[0][0], sides[1][0]])
    y = np.concatenate([flip(sides[0]), flip(sides[1])])
    member = np.arange(len(x)) < SIDE
    model = kinds[place % 4].fit(x[member], y[member])
    labels = np.searchsorted(model.classes_, y)
    known = np.where(~member & (np.arange(len(x)) % 2 == 0), 0, -1).astype(np.int8)
    outputs = model.predict_proba(x)[:, None, :]
    return Evidence("probabilities", outputs, labels, known, features=x), member


def main() -> None:
    areas, seconds = np.empty((8, len(SETTINGS))), np.zeros(len(SETTINGS))
    for place in range(8):
        evidence, member = fit_target(place)
        for column, (bins, rounds) in enumerate(SETTINGS):
            started = time.process_time()
            attack = Quantile(max_bins=bins, rounds=rounds)
            scores = attack.score(evidence, np.random.default_rng(0))
            seconds[column] += time.process_time() - started
            hidden = evidence.hidden
            areas[place, column] = auc_value(roc(scores[hidden], member[hidden]))
    for (bins, rounds), area, spent in zip(SETTINGS, areas.T, seconds, strict=True):
        change = area - areas[:, 0]
        half = 2.365 * change.std(ddof=1) / len(change) ** 0.5
        print(
            f"{bins} bins, {rounds} rounds: AUC {area.mean():.4f}, change {change.mean():+.4f} +- "
            f"{half:.4f} over {len(change)} targets, {spent:.1f} s of processor"
        )


if __name__ == "__main__":
    main()
