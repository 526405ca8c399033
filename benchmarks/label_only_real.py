"""Label-only attacks on real data (Location-30, CIFAR-10, Fashion-MNIST.

Adult) beside the gap attack and full confidences.

Prints the tables of docs/label-only.md. Every attack sees top labels alone; `lira_…` have 16
reference models, trained like the target on random halves of the records.
"""

from __future__ import annotations

import csv
import gzip
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from sklearn.compose import make_column_transformer
from sklearn.ensemble import RandomForestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder
from torch import nn

import label_only
from data import FOLDER, cifar10, fashion_mnist, location30
from label_only import mlp, trained
from memberscope.attacks import RMIA, Augmentation, Boundary, LiRA, Noise, RobustLiRA
from memberscope.errors import UnmetNeedError
from memberscope.signals import MeasuredSignal, SignalRequest, measure_signal, reduce_outputs
from memberscope.signals.boundary_walk import FLOOR
from memberscope.statistics import auc_difference, auc_interval, auc_value, roc, tpr_at_fpr
from memberscope.targets import TorchTarget, wrap
from memberscope.types import Access, Evidence, Records, SignalSpec, Target

REFERENCES = 16
FLOORS = (-6.0, -4.0, -3.0, -2.0)
STRENGTHS = (0.25, 0.5, 1.0, 1.5, 2.0, 3.0)
ALONE = (Boundary(), Boundary("hopskipjump"), Noise(), Augmentation())


@dataclass(frozen=True)
class Scene:
    """Records, half of them members of the target, and how models are trained on some of them."""

    name: str
    records: Records
    member: np.ndarray
    train: Callable[[np.ndarray, int], Target]


def cnn() -> nn.Module:
    return nn.Sequential(
        *(
            nn.Conv2d(1, 16, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1),
            nn.ReLU(),
        ),
        *(nn.MaxPool2d(2), nn.Flatten(), nn.Linear(1568, 64), nn.ReLU(), nn.Linear(64, 10)),
    )


def network(
    make: Callable[[], nn.Module], x: np.ndarray, y: np.ndarray, epochs: int
) -> Callable[[np.ndarray, int], Target]:
    """Training of a network on the records of a mask (n,)."""

    def train(inside: np.ndarray, seed: int) -> Target:
        torch.manual_seed(seed)
        return TorchTarget(
            trained(make(), x[inside], y[inside], epochs), n_classes=int(y.max()) + 1
        )

    return train


def scene(name: str, x: Any, y: np.ndarray, train: Callable[[np.ndarray, int], Target]) -> Scene:
    """Half of the records, drawn at random, are members."""
    records = Records(x, y.astype(np.int64), np.arange(len(y)).astype(np.str_))
    return Scene(name, records, np.random.default_rng(1).permutation(len(y)) < len(y) // 2, train)


def location() -> Scene:
    """2,000 records, the MLP 446-512-256-128-30."""
    x, y = location30()
    rows = np.random.default_rng(0).permutation(len(y))[:2000]
    return scene(
        "Location-30, MLP", x[rows], y[rows], network(mlp, x[rows], y[rows].astype(np.int64), 50)
    )


def cifar() -> Scene:
    """2,000 images, a small convolutional network."""
    x, y = cifar10(2000)
    return scene("CIFAR-10 (JPEG quality 75), CNN", x, y, network(label_only.cnn, x, y, 40))


def fashion() -> Scene:
    """2,000 images, a small convolutional network."""
    x, y = fashion_mnist()
    rows = np.random.default_rng(0).permutation(len(y))[:2000]
    return scene("Fashion-MNIST, CNN", x[rows], y[rows], network(cnn, x[rows], y[rows], 40))


def adult() -> Scene:
    """4,000 records as a data frame of words and numbers, a random forest of 100 trees."""
    with gzip.open(FOLDER / "adult.csv.gz", "rt", encoding="utf-8") as stream:
        table = (
            pd.DataFrame(list(csv.DictReader(stream)))
            .sample(4000, random_state=0)
            .drop(columns="split")
        )
    y = (table.pop("income") == ">50K").to_numpy().astype(np.int64)
    numbers = ["age", "fnlwgt", "education_num", "capital_gain", "capital_loss", "hours_per_week"]
    x = table.astype(dict.fromkeys(numbers, "int64")).reset_index(drop=True)
    words = [name for name in x.columns if name not in numbers]

    def train(inside: np.ndarray, seed: int) -> Target:
        encode = make_column_transformer(
            (OneHotEncoder(handle_unknown="ignore"), words), remainder="passthrough"
        )
        forest = RandomForestClassifier(100, random_state=seed)
        return wrap(make_pipeline(encode, forest).fit(x[inside], y[inside]))

    return scene("Adult, random forest", x, y, train)


def confidence(target: Target, records: Records) -> np.ndarray:
    """Logit-scaled confidence (n,), which labels do not show."""
    access = Access.LOGITS if target.signal == "logits" else Access.PROBABILITIES
    wanted = SignalRequest(access, SignalSpec("logit_confidence"))
    return reduce_outputs(wanted, target.signal, target.query(records.x), records.y)[1][
        :, 0
    ].astype(float)


def line(name: str, scores: np.ndarray, queries: float, scene: Scene, gap: np.ndarray) -> None:
    """One row: AUC, TPR at 1% and 0.1%, and the paired difference in AUC from the gap attack.

    Each with its 95% interval.
    """
    curve = roc(scores, scene.member)
    area, change = auc_interval(scores, scene.member), auc_difference(scores, gap, scene.member)
    cells = [f"{area.value:.3f} [{area.low:.3f}, {area.high:.3f}]"]
    cells += [
        f"{f.value:.3f} [{f.low:.3f}, {f.high:.3f}]"
        for f in (tpr_at_fpr(curve, rate) for rate in (0.01, 0.001))
    ]
    cells += [f"{change.value:+.3f} [{change.low:+.3f}, {change.high:+.3f}]"]
    print(f"| {name} | {queries:.1f} | " + " | ".join(cells) + " |", flush=True)


def curve_of(name: str, found: MeasuredSignal, member: np.ndarray) -> str:
    """AUC at each stage of the budget."""
    stages = zip(found.values[:, :, 0].T, found.queries.T, strict=True)
    return f"{name}: " + ", ".join(
        f"{q.mean():.0f} queries {auc_interval(v, member).value:.3f}" for v, q in stages
    )


def show(scene: Scene, n_references: int) -> None:
    """Train, attack and print one scene."""
    records, member = scene.records, scene.member
    target = scene.train(member, 0)
    sure = confidence(target, records)
    outputs = target.query(records.x)
    gap = (outputs.argmax(axis=1) == records.y).astype(float)
    print(
        f"\n**{scene.name}**: accuracy {gap[member].mean():.3f} on members, "
        f"{gap[~member].mean():.3f} on others.\n"
    )
    print(
        "| attack | queries a record | AUC | TPR at 1% FPR | TPR at 0.1% FPR | AUC minus the gap's "
        "|\n" + "| --- " * 6 + "|"
    )
    line("`gap`", gap, 1, scene, gap)
    line("confidence (not label-only)", sure, 1, scene, gap)
    curves = []
    for attack in ALONE:
        try:
            found = measure_signal(target, records, attack.needs.spec)
        except UnmetNeedError:
            continue
        line(f"`{attack.name}`", found.final[:, 0], found.queries[:, -1].mean(), scene, gap)
        curves.append(curve_of(f"`{attack.name}`", found, member))
    if n_references:
        with_references(scene, target, gap, n_references)
    print("\nAUC over the budget: " + "; ".join(curves) + ".", flush=True)


def with_references(scene: Scene, target: Target, gap: np.ndarray, n_references: int) -> None:
    """LiRA and RMIA on label-only signals and on confidences, from the same reference models."""
    records = scene.records
    rng = np.random.default_rng(7)
    halves = np.argsort(rng.random((n_references // 2, len(records))), axis=1) < len(records) // 2
    inside = np.concatenate([halves, ~halves])
    models = [scene.train(row, 100 + i) for i, row in enumerate(inside)]
    hidden = np.full(len(records), -1, dtype=np.int8)
    for signal in ("boundary", "noise", "logit_confidence"):
        values, queries = [], 1.0
        for model in (*models, target):
            if signal == "logit_confidence":
                values.append(confidence(model, records))
            else:
                found = measure_signal(model, records, SignalSpec(signal))
                values.append(found.final[:, 0])
                queries = found.queries[:, -1].mean()
        seen = np.array(values)[:, :, None, None]
        evidence = Evidence(
            signal, seen[-1], records.y, hidden, references=seen[:-1], inside=inside
        )
        attacks = (LiRA(signal=signal), LiRA("offline", signal=signal), RobustLiRA(signal))
        attacks += () if signal == "logit_confidence" else (RMIA(signal=signal),)
        for attack in attacks:
            name = f"`{attack.name}`" + (
                " (not label-only)" if signal == "logit_confidence" else ""
            )
            line(name, attack.score(evidence, rng), queries, scene, gap)
        if signal == "boundary":
            floors(seen, evidence, scene.member)


def floors(seen: np.ndarray, evidence: Evidence, member: np.ndarray) -> None:
    """AUC of LiRA where wrong labels, which `boundary` puts at its floor, are put elsewhere."""
    for floor in FLOORS:
        moved = np.where(seen <= FLOOR, floor, seen)
        at = replace(evidence, target=moved[-1], references=moved[:-1])
        found = [
            roc(LiRA(mode, signal="boundary").score(at, np.random.default_rng(0)), member)
            for mode in ("online", "offline")
        ]
        print(
            f"| wrong labels at {floor:g} | | "
            + ", ".join(f"{auc_value(curve):.3f}" for curve in found)
            + " (online, offline) | | | |"
        )


def strengths() -> None:
    """Noise of one fixed strength for all records beside the search for each record's own.

    On 1,000 Location-30 records.
    """
    x, y = location30()
    rows = np.random.default_rng(0).permutation(len(y))[:1000]
    here = scene(
        "Location-30", x[rows], y[rows], network(mlp, x[rows], y[rows].astype(np.int64), 50)
    )
    target = here.train(here.member, 0)
    print("\n| strength of noise | queries a record, at most | AUC |\n| --- | --- | --- |")
    searches = [("sought for each record", {"queries": n}) for n in (64, 128)]
    for name, more in [
        *((f"{s:g} for all", {"queries": 64, "scale": s}) for s in STRENGTHS),
        *searches,
    ]:
        spec = SignalSpec("noise", parameters=tuple(sorted({"settled": 2.0, **more}.items())))
        area = auc_interval(measure_signal(target, here.records, spec).final[:, 0], here.member)
        print(
            f"| {name} | {more['queries']} | {area.value:.3f} [{area.low:.3f}, {area.high:.3f}] |",
            flush=True,
        )


def main() -> None:
    if "strengths" in sys.argv[1:]:
        return strengths()
    scenes = {
        "location": (location, REFERENCES),
        "cifar": (cifar, 0),
        "fashion": (fashion, 0),
        "adult": (adult, 0),
    }
    for name in sys.argv[1:] or scenes:
        make, n_references = scenes[name]
        show(make(), n_references)


if __name__ == "__main__":
    main()
