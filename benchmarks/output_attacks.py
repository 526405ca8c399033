"""Attacks on predicted numbers, forecasts and several labels: power, and LeakPro's formula beside.

`python benchmarks/output_attacks.py [adult|panel|labels]` trains 16 reference models and some
targets each, attacks the targets and prints a table of each set of models: AUC and TPR at 1% FPR,
the mean over targets, and the processor seconds of scoring one target.
"""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.special import expit
from scipy.stats import norm
from sklearn.ensemble import HistGradientBoostingRegressor, RandomForestRegressor
from sklearn.linear_model import Ridge
from sklearn.neural_network import MLPRegressor

sys.path.insert(0, str(Path(__file__).parent))
import data
from memberscope.attacks import (
    OUTPUT_ATTACKS,
    ErrorQuantile,
    LiRALabels,
    LiRAPrediction,
    LiRASeries,
    PredictionError,
    RMIAPrediction,
)
from memberscope.statistics import auc_value, roc, tpr_at_fpr
from memberscope.types import Attack, Evidence

REFERENCES, TARGETS, RECORDS = 16, 8, 2000
UNITS, WINDOWS, PAST, HORIZON, SEASON = 100, 20, 24, 12, 12
# AUC, and TPR at 1% where it is known, of an independent run on Adult (other rows, 16 references)
EXPECTED = {
    ("forest", "prediction_error"): ".734, .033",
    ("forest", "lira_error"): ".842",
    ("forest", "lira_prediction"): ".853, .184",
    ("boosting", "prediction_error"): ".618",
    ("boosting", "lira_error"): ".730",
    ("boosting", "lira_prediction"): ".736",
    ("ridge", "prediction_error"): ".515",
    ("ridge", "lira_error"): ".538",
    ("ridge", "lira_prediction"): ".535",
}
Fit = Callable[[np.ndarray, np.ndarray, int], Callable[[np.ndarray], np.ndarray]]
Scorer = Callable[[Evidence, np.random.Generator], np.ndarray]


@dataclass(frozen=True)
class Models:
    """Answers (models, n, d) of references and then targets, and who was trained into each."""

    answers: np.ndarray
    inside: np.ndarray
    truth: np.ndarray
    features: np.ndarray
    signal: str = "prediction"

    def build_evidence(self, target: int, known: bool) -> Iterator[Evidence]:
        """Evidence about one target: whole, or two halves each known once."""
        rng = np.random.default_rng(target)
        member = self.inside[REFERENCES + target]
        half = rng.random(len(member)) < 0.5
        for told in (half, ~half) if known else (np.zeros(len(member), dtype=bool),):
            yield Evidence(
                self.signal,
                self.answers[REFERENCES + target][:, None],
                self.truth,
                np.where(told, member, -1).astype(np.int8),
                references=self.answers[:REFERENCES, :, None].astype(np.float32),
                inside=self.inside[:REFERENCES],
                features=self.features,
            )


def draw_designs(n: int, seed: int) -> np.ndarray:
    """Draw who trains each model (models, n): a balanced design, and targets independent of it."""
    rng = np.random.default_rng(seed)
    references = np.argsort(rng.random((REFERENCES, n)), axis=0) < REFERENCES // 2
    return np.concatenate([references, rng.random((TARGETS, n)) < 0.5])


def train_models(x: np.ndarray, y: np.ndarray, inside: np.ndarray, fit: Fit) -> Models:
    """Train every model of a design and ask each about all records."""
    answers = [fit(x[rows], y[rows], seed)(x) for seed, rows in enumerate(inside)]
    return Models(np.stack(answers).reshape(len(inside), len(x), -1), inside, y, x)


def fit_forest(x: np.ndarray, y: np.ndarray, seed: int) -> Callable[[np.ndarray], np.ndarray]:
    """100 trees of full depth."""
    return RandomForestRegressor(100, random_state=seed).fit(x, np.squeeze(y)).predict


def fit_boosting(x: np.ndarray, y: np.ndarray, seed: int) -> Callable[[np.ndarray], np.ndarray]:
    """100 rounds of histogram boosting."""
    return HistGradientBoostingRegressor(random_state=seed).fit(x, np.squeeze(y)).predict


def fit_ridge(x: np.ndarray, y: np.ndarray, seed: int) -> Callable[[np.ndarray], np.ndarray]:
    """A linear model, which hardly overfits."""
    return Ridge().fit(x, np.squeeze(y)).predict


def fit_network(x: np.ndarray, y: np.ndarray, seed: int) -> Callable[[np.ndarray], np.ndarray]:
    """64 hidden units, 200 epochs without stopping early."""
    network = MLPRegressor(
        hidden_layer_sizes=(64,),
        max_iter=200,
        learning_rate_init=0.005,
        random_state=seed,
        tol=0.0,
        n_iter_no_change=1000,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is meant to stop by its number of epochs
        return network.fit(x, y).predict


def read_adult() -> tuple[np.ndarray, np.ndarray]:
    """2,000 rows of Adult: age, and all else but the sampling weight, standardised."""
    x, _, _ = data.adult()
    x = x[np.random.default_rng(0).permutation(len(x))[:RECORDS]]
    rest = np.delete(x, [0, 2], axis=1)
    return (rest - rest.mean(axis=0)) / rest.std(axis=0), x[:, :1]


def draw_panel(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw windows of AR(1) courses, each unit with a level, a season and a memory of its own.

    Give the past, the future and the unit of each window.
    """
    rng = np.random.default_rng(seed)
    length = WINDOWS * (PAST + HORIZON)
    memory, size = rng.uniform(0.3, 0.9, UNITS), rng.uniform(0.5, 2.0, UNITS)
    phase, level = rng.uniform(0, 2 * np.pi, UNITS), 2 * rng.standard_normal(UNITS)
    noise = np.zeros((UNITS, length))
    for step in range(1, length):
        noise[:, step] = memory * noise[:, step - 1] + rng.standard_normal(UNITS)
    turn = 2 * np.pi * np.arange(length) / SEASON
    course = level[:, None] + size[:, None] * np.sin(turn + phase[:, None]) + noise
    windows = course.reshape(UNITS * WINDOWS, PAST + HORIZON)
    return windows[:, :PAST], windows[:, PAST:], np.repeat(np.arange(UNITS), WINDOWS)


def plant_labels(n: int, labels: int, shift: float, seed: int) -> Models:
    """Models with `labels` labels a record whose logits rise by `shift` where they saw it.

    One label in two is rare; the difficulty of each record and label is the same for all models.
    """
    rng = np.random.default_rng(seed)
    truth = (rng.random((n, labels)) < np.where(np.arange(labels) % 2, 0.1, 0.5)).astype(int)
    inside = draw_designs(n, seed)
    logit = 2 * rng.standard_normal((n, labels)) + rng.standard_normal((len(inside), n, labels))
    logit += shift * inside[:, :, None]
    p = expit(np.where(truth > 0, logit, -logit))
    return Models(p, inside, truth, np.zeros((n, 0)), "label_probabilities")


def score_like_leakpro(evidence: Evidence, rng: np.random.Generator) -> np.ndarray:
    """LiRA on five errors taken as independent, a record at a time, as LeakPro 2026 publishes it.

    The spread of each error is that over all records and models of a side; the seasonality is the
    norm of the Fourier transform of the whole error, which is the root of the squared error again.
    """
    truth = evidence.labels
    models = np.concatenate([evidence.references[:, :, 0], evidence.target[None, :, 0]])
    horizon = truth.shape[1]
    powers = np.vander(np.arange(horizon) / horizon, 4, increasing=True)
    coefficients = np.linalg.pinv(powers)
    found = []
    for outputs in models:
        error = outputs - truth
        found.append(
            [
                (error**2).mean(axis=1),
                np.abs(error).mean(axis=1),
                (np.abs(error) / (np.abs(outputs) + np.abs(truth) + 1e-30)).mean(axis=1),
                np.linalg.norm(error @ coefficients.T, axis=1),
                np.linalg.norm(np.fft.fft(error, axis=1), axis=1),
            ]
        )
    signals = np.array(found).transpose(2, 0, 1)
    references, target, inside = signals[:, :-1], signals[:, -1], evidence.inside.T
    deviation = [references[side].std(axis=0) + 1e-30 for side in (inside, ~inside)]
    scores = np.empty(len(truth))
    for record, (own, saw) in enumerate(zip(references, inside, strict=True)):
        ratio = norm.logpdf(target[record], own[saw].mean(axis=0), deviation[0])
        ratio -= norm.logpdf(target[record], own[~saw].mean(axis=0), deviation[1])
        scores[record] = ratio.sum()
    return scores


def measure_scorer(models: Models, scorer: Scorer, known: bool) -> tuple[np.ndarray, float]:
    """Measure AUC and TPR at 1% (targets x parts, 2), and seconds a target."""
    rows, spent = [], 0.0
    for target in range(TARGETS):
        member = models.inside[REFERENCES + target]
        for evidence in models.build_evidence(target, known):
            start = time.process_time()
            scores = scorer(evidence, np.random.default_rng(0))
            spent += time.process_time() - start
            curve = roc(scores[evidence.hidden], member[evidence.hidden])
            rows.append((auc_value(curve), tpr_at_fpr(curve, 0.01).value))
    return np.array(rows), spent / TARGETS


def print_table(title: str, models: Models, scorers: dict[str, Scorer], known: set[str]) -> None:
    """Print a line for each attack."""
    print(f"\n**{title}**\n\n| attack | AUC | TPR at 1% FPR | seconds | elsewhere |")
    print("| --- | --- | --- | --- | --- |")
    for name, scorer in scorers.items():
        found, seconds = measure_scorer(models, scorer, name in known)
        (area, rate), (spread, _) = found.mean(axis=0), found.std(axis=0, ddof=1)
        there = EXPECTED.get((title.split()[0], name), "")
        print(
            f"| `{name}` | {area:.3f} ± {spread:.3f} | {rate:.3f} | {seconds:.3f} | {there} |",
            flush=True,
        )


def list_scorers(task: str) -> dict[str, Scorer]:
    """List the attacks of a task by name."""
    return {one.name: one.score for one in OUTPUT_ATTACKS if task in one.needs.tasks}


def run_adult() -> None:
    """Age from the rest of Adult, by three models."""
    x, y = read_adult()
    inside = draw_designs(len(x), 1)
    # LiRA on the squared error, as a number whose side is lost
    scorers = {"lira_error": LiRASeries(errors=("mse",)).score} | list_scorers("regression")
    scorers |= {RMIAPrediction(density="laplace").name: RMIAPrediction(density="laplace").score}
    for name, fit in (("forest", fit_forest), ("boosting", fit_boosting), ("ridge", fit_ridge)):
        models = train_models(x, y, inside, fit)
        print_table(f"{name} on Adult", models, scorers, {ErrorQuantile().name})


def run_panel() -> None:
    """Twelve steps ahead of AR(1) courses, by a network; membership is the unit's."""
    past, future, unit = draw_panel(2)
    inside = draw_designs(UNITS, 2)[:, unit]
    models = train_models(past, future, inside, fit_network)
    scorers = list_scorers("forecast")
    others: tuple[Attack, ...] = (
        LiRAPrediction(covariance="diagonal"),
        LiRASeries(errors=("mse",)),
        LiRASeries(errors=("mse", "mae", "smape", "trend", "seasonality")),
    )
    scorers |= {one.name: one.score for one in others}
    scorers["LeakPro's formula"] = score_like_leakpro
    print_table("network on a panel", models, scorers, {ErrorQuantile().name})
    # The units, whose windows are scored together by their mean
    member = models.inside[REFERENCES:, :: len(unit) // UNITS]
    for attack in (PredictionError(), LiRAPrediction()):
        areas = []
        for target in range(TARGETS):
            (evidence,) = models.build_evidence(target, known=False)
            scores = attack.score(evidence, np.random.default_rng(0)).reshape(UNITS, -1)
            areas.append(auc_value(roc(scores.mean(axis=1), member[target])))
        print(f"\nUnits by `{attack.name}`: AUC {np.mean(areas):.3f}.")


def run_labels() -> None:
    """Planted models of ten labels, and of ten that tell nothing."""
    scorers = list_scorers("multilabel")
    scorers |= {LiRALabels(covariance="shrunk").name: LiRALabels(covariance="shrunk").score}
    for title, shift in (("planted, ten labels", 0.5), ("null, ten labels", 0.0)):
        print_table(title, plant_labels(RECORDS, 10, shift, 3), scorers, set())


RUNS = {"adult": run_adult, "panel": run_panel, "labels": run_labels}

if __name__ == "__main__":
    for chosen in sys.argv[1:] or RUNS:
        RUNS[chosen]()
