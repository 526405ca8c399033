"""Whole audits of models without a task of their own, by one number a record that the user computes.

A survival model by the log-likelihood of a record's time, censored or not, and a ranking model by
that of a query's order. Both are trained here, with eight reference models, and are known to leak
in the one case and to have seen nobody in the other.
"""

from __future__ import annotations

import json

import numpy as np
import pytest
from commands import run_command
from scipy.optimize import minimize

from memberscope.recipes import build_balanced_design

FEATURES, N, MODELS = 100, 600, 8
DOCUMENTS = 6  # of a query


def draw_survival(rng):
    """Features, times and whether the event was seen; the hazard depends on the features."""
    x = rng.normal(size=(N, FEATURES))
    times = rng.exponential(np.exp(-x[:, 0]))
    ends = rng.exponential(2.0, size=N)
    return x, np.minimum(times, ends), times <= ends


def measure_survival(weights, data):
    """Log-likelihood (n,) of each record's time under an exponential hazard."""
    x, time, seen = data
    rate = x @ weights[:-1] + weights[-1]
    return seen * rate - np.exp(np.clip(rate, -30, 30)) * time


def differentiate_survival(weights, data):
    """The gradient of its sum."""
    x, time, seen = data
    rate = np.clip(x @ weights[:-1] + weights[-1], -30, 30)
    slope = seen - np.exp(rate) * time
    return np.append(x.T @ slope, slope.sum())


def draw_ranking(rng):
    """Documents (n, k, f) of queries, in the order that a reader chose: the first is the best."""
    x = rng.normal(size=(N, DOCUMENTS, FEATURES))
    liked = x[:, :, 0] + rng.gumbel(size=(N, DOCUMENTS))
    order = np.argsort(-liked, axis=1)
    return (np.take_along_axis(x, order[:, :, None], axis=1),)


def measure_ranking(weights, data):
    """Log-likelihood (n,) of each query's order (Plackett and Luce)."""
    scores = data[0] @ weights[:-1]
    rest = np.logaddexp.accumulate(scores[:, ::-1], axis=1)[:, ::-1]
    return (scores - rest).sum(axis=1)


def differentiate_ranking(weights, data):
    """The gradient of its sum."""
    x = data[0]
    scores = x @ weights[:-1]
    found = np.zeros(FEATURES)
    for k in range(DOCUMENTS):
        rest = scores[:, k:] - scores[:, k:].max(axis=1, keepdims=True)
        share = np.exp(rest) / np.exp(rest).sum(axis=1, keepdims=True)
        found += (x[:, k] - (share[:, :, None] * x[:, k:]).sum(axis=1)).sum(axis=0)
    return np.append(found, 0.0)


KINDS = {
    "survival": (draw_survival, measure_survival, differentiate_survival),
    "ranking": (draw_ranking, measure_ranking, differentiate_ranking),
}


def fit(kind, data, rows):
    """Fit a model to some rows by maximum likelihood, with a trace of weight decay."""
    _, measure, differentiate = KINDS[kind]
    part = tuple(column[rows] for column in data)
    return minimize(
        lambda w: 1e-3 * w @ w - measure(w, part).sum(),
        np.zeros(FEATURES + 1),
        jac=lambda w: 2e-3 * w - differentiate(w, part),
    ).x


def write_signals(kind, path, *, used):
    """Write the numbers of a target and of references; the target saw its members only if `used`."""
    rng = np.random.default_rng(0)
    draw, measure, _ = KINDS[kind]
    data, other = draw(rng), draw(np.random.default_rng(1))
    member, inside = rng.permutation(N) < N // 2, build_balanced_design(N, N // 2, MODELS, rng)
    weights = [fit(kind, data if used else other, member)]
    weights += [fit(kind, data, row) for row in inside]
    numbers = np.array([measure(w, data) for w in weights])
    arrays = {"likelihood": numbers[0], "references": numbers[1:], "inside": inside}
    np.savez(path, member=member, ids=np.arange(N), **arrays)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("used", [True, False])
def test_models_that_rank_or_predict_survival_are_audited(tmp_path, kind, used):
    write_signals(kind, tmp_path / "numbers.npz", used=used)
    words = ("--signals", "numbers.npz", "--number", "likelihood", "--higher", "member")
    done = run_command("audit", *words, "--assume-exchangeable", "--out", "o", cwd=tmp_path)
    assert done.returncode == 0 and "Traceback" not in done.stderr
    result = json.loads((tmp_path / "o" / "result.json").read_text(encoding="utf-8"))
    areas = {
        entry["attack"]: entry
        for entry in result["estimates"]
        if entry["metric"] == "auc" and entry["group"] is None
    }
    assert {"lira", "lira_robust", "rmia", "base", "attack_r"} <= areas.keys()
    control = result["controls"]["references"]
    strongest = areas["strongest"]
    if used:
        assert control["passed"], control["why"]
        assert areas["lira"]["value"] > areas["loss"]["value"] + 0.03
        assert strongest["low"] > 0.6
    else:
        assert strongest["low"] < 0.5 < strongest["high"]
