"""What unlike reference models do to an audit.

Wrong architecture, training, data, size or attack classifier, on Location-30.

Five targets (MLP 446-256-30, ReLU) whose members were drawn independently; sixteen reference models
for each row, shared by the targets. Beside the attacks' results stand the fidelity and the verdict
on the references that an audit reports.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parent))
import data
from memberscope.attacks import RMIA, LiRA, Loss, Shokri
from memberscope.auditing.collect.reference_models import (
    References,
    mark_converged_models,
    measure_fidelity,
    run_reference_control,
)
from memberscope.auditing.documents.diagnostics import ReferenceFidelity
from memberscope.auditing.subject.subject import Subject
from memberscope.recipes import (
    Execution,
    ReferenceFleet,
    TrainingJob,
    build_balanced_design,
    train_fleet,
)
from memberscope.signals import SignalRequest
from memberscope.statistics import auc_interval, roc, tpr_at_fpr
from memberscope.types import Access, Attack, Evidence, Records, SignalSpec

POOL, SIZE, TARGETS, REFERENCES = 2_500, 1_250, 5, 16
ATTACKS: tuple[Attack, ...] = (
    Loss(),
    LiRA(),
    LiRA("offline"),
    RMIA(),
    RMIA("offline"),
    Shokri("statistics", max_rows=8000),
)
OUTPUTS = SignalRequest(Access.LOGITS, SignalSpec())
WANTED = tuple(dict.fromkeys(SignalRequest(Access.LOGITS, attack.needs.spec) for attack in ATTACKS))


@dataclass(frozen=True)
class Settings:
    """How a model is trained; the defaults are the target's.

    `noise` and `flips` are shares of labels and of bits changed, `first` the number of classes that
    are kept.
    """

    hidden: tuple[int, ...] = (256,)
    epochs: int = 40
    decay: float = 0.0
    noise: float = 0.0
    flips: float = 0.0
    first: int = 30
    size: int = SIZE


ROWS = {
    "like the target": Settings(),
    "no hidden layer": Settings(hidden=()),
    "three hidden layers of 512": Settings(hidden=(512, 512, 512)),
    "hidden layer of 32": Settings(hidden=(32,)),
    "a quarter of the epochs": Settings(epochs=10),
    "weight decay 0.01": Settings(decay=0.01),
    "half as many records": Settings(size=SIZE // 2),
    "10% of all bits flipped": Settings(flips=0.1),
    "20% of the labels wrong": Settings(noise=0.2),
    "the first 15 classes only": Settings(first=15),
}


def fitted(records: Records, seed: int, settings: Settings) -> torch.nn.Module:
    """A network trained by SGD with momentum on the records, changed as the settings say."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    keep = records.y < settings.first
    x, y = records.x[keep], records.y[keep]
    x = np.where(rng.random(x.shape) < settings.flips, 1 - x, x).astype(np.float32)
    y = np.where(rng.random(len(y)) < settings.noise, rng.integers(0, 30, len(y)), y)
    layers: list[torch.nn.Module] = []
    for before, after in pairwise((446, *settings.hidden, 30)):
        layers += [torch.nn.Linear(before, after), torch.nn.ReLU()]
    module = torch.nn.Sequential(*layers[:-1])
    optimiser = torch.optim.SGD(
        module.parameters(), lr=0.05, momentum=0.9, weight_decay=settings.decay
    )
    inputs, labels = torch.from_numpy(x), torch.from_numpy(y)
    for _ in range(settings.epochs):
        for batch in torch.randperm(len(inputs)).split(64):
            optimiser.zero_grad(set_to_none=True)
            torch.nn.functional.cross_entropy(module(inputs[batch]), labels[batch]).backward()
            optimiser.step()
    return module.eval()


def records() -> tuple[Records, Records]:
    """The pool, and the population that no model sees."""
    x, y = data.location30()
    order = np.random.default_rng(0).permutation(len(y))
    parts = [
        Records(x[rows], y[rows].astype(np.int64), rows.astype(str))
        for rows in (order[:POOL], order[POOL:])
    ]
    return parts[0], parts[1]


def fleet_of(settings: Settings, inside: np.ndarray, seed: int) -> ReferenceFleet:
    """One model for each row of `inside`."""
    pool, others = records()
    seeds = tuple(range(seed, seed + len(inside)))
    order = TrainingJob(
        partial(fitted, settings=settings),
        pool,
        inside,
        seeds,
        WANTED,
        "logits",
        30,
        population=others,
    )
    return train_fleet(order, None, Execution(n_jobs=2))


def evidence_of(
    attack: Attack, targets: ReferenceFleet, model: int, references: ReferenceFleet
) -> Evidence:
    """What the attack sees of one target.

    An attack that learns is given the even rows and scores the odd ones.
    """
    wanted, (pool, others) = SignalRequest(Access.LOGITS, attack.needs.spec), records()
    signal = "logits" if wanted == OUTPUTS else wanted.spec.name
    known = (
        np.where(np.arange(POOL) % 2 > 0, -1, 0)
        if attack.needs.known != "none"
        else np.full(POOL, -1)
    )
    nowhere = np.zeros((REFERENCES, len(others)), dtype=bool)
    hidden = np.full(len(others), -1, dtype=np.int8)
    refs = references.population[wanted]
    outside = Evidence(
        signal, targets.population[wanted][model], others.y, hidden, references=refs, inside=nowhere
    )
    own, refs = targets.observed[wanted][model], references.observed[wanted]
    seen = Evidence(
        signal, own, pool.y, known.astype(np.int8), references=refs, inside=references.inside
    )
    return replace(seen, population=outside)


def numbers(scores: np.ndarray, member: np.ndarray) -> list[float]:
    """AUC and TPR at 1%, each with its 95% limits, over the records that were scored."""
    rows = ~np.isnan(scores)
    found = (
        auc_interval(scores[rows], member[rows]),
        tpr_at_fpr(roc(scores[rows], member[rows]), 0.01),
    )
    return [value for interval in found for value in interval[:3]]


def cell(values: list[list[float]], *, limits: bool = True) -> str:
    """Mean AUC over targets with the mean of their limits, and mean TPR at 1% with its own."""
    mean = np.mean(values, axis=0)
    auc, tpr = (f"{mean[i]:.3f} [{mean[i + 1]:.3f}, {mean[i + 2]:.3f}]" for i in (0, 3))
    return f"{auc}; {tpr}" if limits else f"{mean[0]:.3f}; {mean[3]:.3f}"


def judged(
    targets: ReferenceFleet, model: int, references: ReferenceFleet
) -> tuple[ReferenceFidelity, bool]:
    """The fidelity that an audit of this target reports.

    And whether its control of the references passes.
    """
    pool, _ = records()
    observed = targets.observed[OUTPUTS][model][:, 0].astype(np.float64)
    target: Any = SimpleNamespace(signal="logits")
    subject = Subject(target, pool, targets.inside[model], None, tuple(map(str, range(30))))
    everyone = np.ones(len(references), dtype=bool)
    good = mark_converged_models(references.train_accuracy, float(targets.train_accuracy[model]))
    passed = run_reference_control(
        References(references, good, {}, observed, None, 0), subject, 0.95
    ).passed
    return measure_fidelity(References(references, everyone, {}, observed, None, 0), subject), bool(
        passed
    )


def line(name: str, targets: ReferenceFleet, references: ReferenceFleet) -> str:
    """One row: fidelity, the control, and the attacks with all sixteen references.

    Whatever the control says.
    """
    found = [judged(targets, model, references) for model in range(TARGETS)]
    mean = {
        key: np.mean([getattr(entry[0], key) for entry in found])
        for key in ("agreement", "calibration_distance")
    }
    gaps = [entry[0].held_out_accuracy - entry[0].target_held_out_accuracy for entry in found]
    trained = np.mean([entry[0]["train_accuracy"] for entry in found])
    passed = sum(entry[1] for entry in found)
    cells = [
        name,
        f"{trained:.3f}",
        f"{np.mean(gaps):+.3f}",
        *(f"{value:.3f}" for value in mean.values()),
    ]
    cells.append(f"passed {passed} of {TARGETS}")
    for attack in ATTACKS[1:]:
        rows = []
        for model in range(TARGETS):
            scores = attack.score(
                evidence_of(attack, targets, model, references), np.random.default_rng(model)
            )
            rows.append(numbers(scores, targets.inside[model]))
        cells.append(cell(rows))
    return "| " + " | ".join(cells) + " |"


def classifiers() -> dict[str, Any]:
    """Attack classifiers in the place of the boosted trees."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.tree import DecisionTreeClassifier

    return {
        "logistic regression": make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)),
        "one unpruned tree": DecisionTreeClassifier(random_state=0),
        "nearest neighbour": make_pipeline(StandardScaler(), KNeighborsClassifier(1)),
    }


def classifier_scores(attack: Shokri, model: Any, evidence: Evidence) -> np.ndarray:
    """Scores of another classifier on what the attack's own is given, one for all classes."""
    rng = np.random.default_rng(0)
    inputs, _, inside = attack.sample(evidence, rng)
    scores = np.full(POOL, np.nan)
    rows = np.flatnonzero(evidence.hidden)
    seen = Evidence(
        evidence.signal,
        evidence.target[rows],
        evidence.labels[rows],
        np.full(len(rows), -1, dtype=np.int8),
    )
    scores[rows] = model.fit(inputs, inside).predict_proba(attack.features(seen))[:, 1]
    return scores


def classifier_table(targets: ReferenceFleet, references: ReferenceFleet) -> list[str]:
    """Shokri's attack with other inputs and classifiers, references like the target."""
    lines = ["| attack classifier | given | AUC; TPR at 1% FPR |", "| --- | --- | --- |"]
    given = {
        "outputs": "all log-probabilities",
        "statistics": "loss, logit, margin, entropy, correctness, class",
    }
    for kind, words in given.items():
        attack = Shokri(kind, max_rows=8000)
        evidence = [evidence_of(attack, targets, model, references) for model in range(TARGETS)]
        name = "boosted trees, one a class" if kind == "outputs" else "boosted trees"
        scores = {name: [attack.score(seen, np.random.default_rng(0)) for seen in evidence]}
        scores |= {
            name: [classifier_scores(attack, model, seen) for seen in evidence]
            for name, model in classifiers().items()
        }
        for name, found in scores.items():
            rows = [numbers(values, targets.inside[model]) for model, values in enumerate(found)]
            lines.append(f"| {name} | {words} | {cell(rows)} |")
            print(lines[-1], flush=True)
    return lines


TEXT = """# References unlike the target

Written by `python benchmarks/fidelity.py`: Location-30, five targets of 1,250 members and 1,250 non-members (MLP 446-256-30, ReLU, SGD
with momentum, 40 epochs), sixteen reference models a row. Cells are AUC; TPR at 1% FPR: means over the targets, in brackets the
means of their 95% limits. Without references the loss has {loss}.

Accuracy gap, agreement and calibration distance are what an audit reports of its references: their accuracy on new records minus
the target's, the share of equal top classes, and the difference in overconfidence. "Passed" counts the targets for which the
audit's control of the references does not object; the figures are with all sixteen whatever it says, whereas an audit
would leave out those that did not learn and be inconclusive. Shokri's attack is given half of the records and scored on the others.

"""

CLASSIFIERS = """
## The wrong attack classifier

References like the target, 8,000 pairs of a model and a record to learn from.

"""

READING = """
Reading: what an unlike reference costs is mostly detection, that is, a false all-clear; a row below the first is leakage that the
audit did not see. The control objects where references learned their own records badly; where they learned them, it
is the reported fidelity that tells. An attack classifier that decides in few steps ties its scores and loses the low rates first.
"""


def main() -> None:
    torch.set_num_threads(1)
    rng = np.random.default_rng(1)
    targets = fleet_of(
        Settings(), np.stack([rng.permutation(POOL) < SIZE for _ in range(TARGETS)]), 100
    )
    loss = [
        numbers(
            Loss().score(evidence_of(Loss(), targets, model, targets), rng), targets.inside[model]
        )
        for model in range(TARGETS)
    ]
    head = [
        "references",
        "training accuracy",
        "accuracy gap",
        "agreement",
        "calibration distance",
        "control",
    ]
    head += [f"`{attack.name}`" for attack in ATTACKS[1:]]
    lines, like = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)], None
    for number, (name, settings) in enumerate(ROWS.items()):
        design = build_balanced_design(POOL, settings.size, REFERENCES, np.random.default_rng(2))
        references = fleet_of(settings, design, 1000 * (number + 1))
        like = like or references
        lines.append(line(name, targets, references))
        print(lines[-1], flush=True)
    text = TEXT.format(loss=cell(loss)) + "\n".join(lines) + "\n" + CLASSIFIERS
    text += "\n".join(classifier_table(targets, like)) + "\n" + READING
    (Path(__file__).resolve().parent.parent / "docs" / "fidelity.md").write_text(
        text, encoding="utf-8"
    )
    print(text)


if __name__ == "__main__":
    main()
