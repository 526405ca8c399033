"""Controls: false alarms over clean audits, detection of a marked minority.

Agreement over seeds and orders, Adult.

Run `python benchmarks/controls.py [clean audits] [marked audits] [folder of the data]`; 400 and 100
by default.
"""

from __future__ import annotations

import csv
import gzip
import os
import sys
from pathlib import Path

import numpy as np

from memberscope.attacks import ATTACKS
from memberscope.auditing.controls.blind import run_blind_control
from memberscope.auditing.controls.direction import run_direction_control
from memberscope.auditing.controls.fitted import run_fitted_control
from memberscope.auditing.controls.overlap import run_overlap_control
from memberscope.auditing.documents.result import AttackScores, AuditArrays
from memberscope.auditing.scoring.null_control import run_null_control
from memberscope.auditing.subject.duplicates import find_overlap
from memberscope.statistics import clopper_pearson
from memberscope.types import Evidence

FPRS = (0.01,)
SEVEN = ("age", "workclass", "education", "marital_status", "occupation", "race", "sex")


def clean(seed: int, n: int) -> dict[str, bool]:
    """Which controls raise an alarm on `n` + `n` records without any difference.

    Of a model that knows its classes.
    """
    rng = np.random.default_rng([seed, n])
    member, labels = np.arange(2 * n) < n, rng.integers(0, 5, 2 * n)
    x = np.column_stack([rng.normal(size=(2 * n, 6)), rng.integers(0, 3, (2 * n, 3))])
    outputs = rng.normal(size=(2 * n, 5))
    outputs[np.arange(2 * n), labels] += 1.5
    p = np.exp(outputs) / np.exp(outputs).sum(axis=1, keepdims=True)
    own = p[np.arange(2 * n), labels]
    predicted = p.argmax(axis=1)
    ids = np.array([f"{seed}-{i}" for i in range(2 * n)])
    scores = {"gap": (predicted == labels).astype(float), "loss": np.log(own), "confidence": own}
    parts = tuple(
        AttackScores(name, "probabilities", False, values, {}) for name, values in scores.items()
    )
    arrays = AuditArrays(ids, member, labels, np.arange(2 * n) % 5, parts)
    others = Evidence("logits", outputs[n:, None, :], labels[n:], np.full(n, -1, np.int8))
    blind = run_blind_control(x, labels, member, None, fprs=FPRS)
    found = {
        "blind": blind,
        "null": run_null_control(
            ATTACKS, lambda attack: others, ids[n:], 5, np.random.SeedSequence(seed)
        ),
        "direction": run_direction_control(arrays, predicted == labels, blind),
        "overlap": run_overlap_control(find_overlap(np.round(x[:, 5:], 0), member), member),
        "fitted": run_fitted_control(predicted, p, labels, member),
    }
    return {name: control.passed is False for name, control in found.items()}


def marked(seed: int, n: int) -> bool:
    """Whether a mark on one member in twenty is noticed."""
    rng = np.random.default_rng([seed, n, 1])
    x, member = rng.normal(size=(2 * n, 10)), np.arange(2 * n) < n
    x[:, 0] = 0
    x[: n // 20, 0] = 1
    return run_blind_control(x, rng.integers(0, 3, 2 * n), member, None, fprs=FPRS).passed is False


def agreement(n: int = 800) -> int:
    """Of 20 orders of the records of a borderline split, those with the outcome of the first."""
    rng = np.random.default_rng(4)
    x, y, member = rng.normal(size=(2 * n, 6)), rng.integers(0, 3, 2 * n), np.arange(2 * n) < n
    x[:n, 0] += 0.17
    outcomes = []
    for seed in range(20):
        order = np.random.default_rng(seed).permutation(2 * n)
        outcomes.append(run_blind_control(x[order], y[order], member[order], None, fprs=FPRS))
    print(
        f"borderline split: p = {outcomes[0].details['p_value']:.3g} against "
        f"{outcomes[0].details['alpha']}"
    )
    return sum(outcome.details == outcomes[0].details for outcome in outcomes)


def adult(path: Path) -> None:
    """Equal records of seven columns of Adult in random halves.

    And with a tenth of the non-members copied.
    """
    with gzip.open(path, "rt", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    x = np.column_stack(
        [np.unique([row[name] for row in rows], return_inverse=True)[1] for name in SEVEN]
    ).astype(float)
    for n in (2000, len(x) // 2):
        half = x[np.random.default_rng(0).permutation(len(x))[: 2 * n]]
        member = np.arange(2 * n) < n
        plain = find_overlap(half, member)
        half[n : n + n // 10] = half[np.random.default_rng(1).permutation(n)[: n // 10]]
        copied = find_overlap(half, member)
        value = sum(part.value for part in copied.surplus)
        print(
            f"Adult {n} + {n}: {len(plain.exact) / n:.0%} of non-members equal a member, excess "
            f"{plain.excess}; "
            f"with {n // 10} copies: {value:.0f}, at most {copied.excess}",
            flush=True,
        )


def main() -> None:
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 400
    marks = int(sys.argv[2]) if len(sys.argv) > 2 else 100
    totals: dict[str, int] = {}
    for seed in range(runs):
        alarms = clean(seed, 300)
        for name, alarm in {**alarms, "any": any(alarms.values())}.items():
            totals[name] = totals.get(name, 0) + alarm
    for name, count in totals.items():
        low, high = clopper_pearson(count, runs, 0.95)
        print(
            f"{name}: {count} false alarms in {runs} clean audits of 300 + 300 ({float(low):.2%} "
            f"to {float(high):.2%})",
            flush=True,
        )
    for n in (1000, 2000):
        seen = sum(marked(seed, n) for seed in range(marks))
        print(f"a mark on 5% of {n} members is noticed in {seen} of {marks} audits", flush=True)
    print(f"same outcome in {agreement()} of 20 orders")
    path = (
        Path(
            sys.argv[3]
            if len(sys.argv) > 3
            else os.environ.get("MEMBERSCOPE_DATA", "../shared/data")
        )
        / "adult.csv.gz"
    )
    if path.is_file():
        adult(path)
    else:
        print(f"Adult was not compared: no {path}")


if __name__ == "__main__":
    main()
