"""LiRA and RMIA on CIFAR-10 with wide residual networks, trained on a GPU.

Beside published runs with 16 reference models.

`python benchmarks/lira_cifar10.py train cuda OUT [references] [targets] [epochs]` trains targets,
each on a half of its own, and references on a balanced design drawn apart from them. It writes what
each says of all 50,000 records into the folder OUT, first after the targets and four references,
then after every four more, so that an end before the end loses little. `… score OUT` attacks the
targets, on any machine; RMIA's population are the 10,000 test images. A WRN-28-2 [1] learns 25,000
records, in batches of 256, by SGD with momentum at a rate of 0.1 that falls along a cosine, with
weight decay 5e-4, flips and shifts of up to four pixels, as Carlini et al. do [2].

References:
    1. Zagoruyko & Komodakis: Wide residual networks. BMVC 2016 (arXiv:1605.07146).
    2. Carlini et al.: Membership inference attacks from first principles. IEEE S&P 2022
(arXiv:2112.03570).
"""

from __future__ import annotations

import sys
import tempfile
import time
from dataclasses import replace
from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import nn

from data import cifar10, cifar10_test
from memberscope.attacks import BASE, RMIA, AttackR, Calibrated, LiRA, Loss, RobustLiRA
from memberscope.recipes import (
    SGD,
    Execution,
    ReferenceFleet,
    TorchRecipe,
    TrainingJob,
    build_balanced_design,
    train_fleet,
)
from memberscope.signals import SignalRequest, Store
from memberscope.statistics import auc_interval, roc, tpr_at_fpr
from memberscope.types import Access, Attack, Evidence, Records, SignalSpec

N, VIEWS = 50_000, ("identity", "flip")
SPECS = (LiRA().needs.spec, RMIA().needs.spec, AttackR().needs.spec)
WANTED = tuple(SignalRequest(Access.LOGITS, spec) for spec in SPECS)
ATTACKS: tuple[Attack, ...] = (
    *(Loss(), LiRA("online", "fixed"), LiRA("online", "per_example"), RobustLiRA()),
    *(LiRA("offline", "fixed"), LiRA("offline", "fixed", sides="two"), RMIA(), RMIA("offline")),
    *(BASE(), Calibrated(), AttackR()),
)
# AUC and TPR at 0.1% FPR of code by Carlini et al., 16 reference models, WRN-28-2, about 91%
# accuracy
PUBLISHED = {
    "loss": (0.592, 0.001),
    "lira_fixed": (0.686, 0.059),
    "lira_per_example": (0.668, 0.017),
    "lira_offline_fixed_two_sided": (0.555, 0.030),
}


class Block(nn.Module):
    """Two convolutions with normalisation and ReLU before each, and a short cut."""

    def __init__(self, given: int, made: int, stride: int) -> None:
        super().__init__()
        self.first, self.second = nn.BatchNorm2d(given), nn.BatchNorm2d(made)
        self.into = nn.Conv2d(given, made, 3, stride, 1, bias=False)
        self.onto = nn.Conv2d(made, made, 3, 1, 1, bias=False)
        self.short = (
            nn.Conv2d(given, made, 1, stride, bias=False) if given != made or stride > 1 else None
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The block's output."""
        ready = torch.relu(self.first(x))
        kept = x if self.short is None else self.short(ready)
        return kept + self.onto(torch.relu(self.second(self.into(ready))))


def wide_resnet(depth: int = 28, width: int = 2) -> nn.Module:
    """WRN-`depth`-`width` for images of 32 x 32 pixels scaled to [0, 1]."""
    sizes = (16, 16 * width, 32 * width, 64 * width)
    stages = [
        (a, b, i, block)
        for i, (a, b) in enumerate(pairwise(sizes))
        for block in range((depth - 4) // 6)
    ]
    blocks = [Block(b if block else a, b, 2 if i and not block else 1) for a, b, i, block in stages]
    last = (
        nn.BatchNorm2d(sizes[-1]),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(sizes[-1], 10),
    )
    return nn.Sequential(
        nn.BatchNorm2d(3, affine=False), nn.Conv2d(3, 16, 3, 1, 1, bias=False), *blocks, *last
    )


def order_of(device: str, n_references: int, n_targets: int, epochs: int) -> TrainingJob:
    """Targets, each on a half of its own, then references on a balanced design."""
    x, y = cifar10(N)
    pool = Records(x, y, np.arange(N).astype(str))
    rng = np.random.default_rng(
        [1, n_references, n_targets]
    )  # the order of the images is drawn from another seed
    own = [rng.permutation(N) < N // 2 for _ in range(n_targets)]
    inside = np.vstack([*own, build_balanced_design(N, N // 2, n_references, rng)])
    recipe = TorchRecipe(
        wide_resnet,
        SGD(0.1, nesterov=True),
        schedule="cosine",
        epochs=epochs,
        batch_size=256,
        weight_decay=5e-4,
        augmentation=("flip", "shift:4"),
        precision="bfloat16",
        device=device,
    )
    x, y = cifar10_test()
    others = Records(x, y, np.arange(len(y)).astype(str))
    return TrainingJob(
        recipe,
        pool,
        inside,
        tuple(range(len(inside))),
        WANTED,
        "logits",
        10,
        views=VIEWS,
        population=others,
    )


def trained(
    device: str, out: str, n_references: int = 16, n_targets: int = 4, epochs: int = 100
) -> None:
    """Train all models, and write the answers of those that are done."""
    order, folder = order_of(device, n_references, n_targets, epochs), Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as kept:
        for done in range(n_targets + 4, n_targets + n_references + 4, 4):
            part = replace(order, inside=order.inside[:done], seeds=order.seeds[:done])
            fleet = train_fleet(part, Store(Path(kept)), Execution())
            own = np.stack([fleet.train_accuracy, fleet.held_out_accuracy])
            shown = f"accuracy on own records {own[0].mean():.4f}, on new ones {own[1].mean():.4f}, the least {own[1].min():.4f}"
            print(
                f"{len(part.inside)} models after {time.perf_counter() - started:.0f} s: {shown}",
                flush=True,
            )
            written(folder, part, fleet, n_targets)


def written(folder: Path, order: TrainingJob, fleet: ReferenceFleet, n_targets: int) -> None:
    """The answers of all models, a file a signal."""
    inside, own = (
        np.packbits(order.inside, axis=1),
        np.stack([fleet.train_accuracy, fleet.held_out_accuracy]),
    )
    np.savez(
        folder / "models.npz", inside=inside, y=order.pool.y, accuracies=own, targets=n_targets
    )
    for i, wanted in enumerate(WANTED):
        np.save(folder / f"pool{i}.npy", fleet.observed[wanted])
    np.save(folder / "population1.npy", fleet.population[WANTED[1]])


def scored(out: str) -> None:
    """Print each attack on each target: AUC, TPR at 1% and at 0.1%, each with its 95% limits."""
    folder = Path(out)
    with np.load(folder / "models.npz") as stored:
        inside = np.unpackbits(stored["inside"], axis=1)[:, :N].astype(bool)
        y, own, n_targets = stored["y"], stored["accuracies"], int(stored["targets"])
    seen = {spec: np.load(folder / f"pool{i}.npy") for i, spec in enumerate(SPECS)}
    others = np.load(folder / "population1.npy")
    print(
        f"{len(inside) - n_targets} references: accuracy {own[0].mean():.4f} on own records, "
        f"{own[1].mean():.4f} on new ones"
    )
    for attack in ATTACKS:
        there = PUBLISHED.get(attack.name)
        print(
            f"{attack.name}"
            + (
                f" (published, 16 references: AUC {there[0]:.3f}, TPR at 0.1% {there[1]:.3f})"
                if there
                else ""
            )
        )
        for target in range(n_targets):
            scores = attack.score(
                evidence_of(attack, seen, others, y, (inside, n_targets, target)),
                np.random.default_rng(0),
            )
            curve = roc(scores, inside[target])
            found = (
                auc_interval(scores, inside[target]),
                tpr_at_fpr(curve, 0.01),
                tpr_at_fpr(curve, 0.001),
            )
            shown = ", ".join("{:.4f} [{:.4f}, {:.4f}]".format(*interval[:3]) for interval in found)
            print(f"    target {target}: {shown}")


Place = tuple[
    np.ndarray, int, int
]  # who is in which model (m, n), how many of these are targets, and which target


def evidence_of(
    attack: Attack,
    seen: dict[SignalSpec, np.ndarray],
    others: np.ndarray,
    y: np.ndarray,
    place: Place,
) -> Evidence:
    """One target's answers with those of the references, in the signal that the attack reads.

    And the population's for RMIA.
    """
    spec = attack.needs.spec
    if spec.name == "outputs":
        return evidence("loss", -seen[SPECS[2]][:, :, :1], y, place)
    found = evidence(spec.name, seen[spec], y, place)
    labels = cifar10_labels()
    blank = np.zeros((len(place[0]), len(labels)), dtype=bool)
    return (
        replace(found, population=evidence(spec.name, others, labels, (blank, *place[1:])))
        if spec == SPECS[1]
        else found
    )


def evidence(signal: str, values: np.ndarray, y: np.ndarray, place: Place) -> Evidence:
    """The target's row of the answers (m, n, views, 1) beside those of the references."""
    inside, n_targets, target = place
    hidden = np.full(len(y), -1, dtype=np.int8)
    return Evidence(
        signal, values[target], y, hidden, references=values[n_targets:], inside=inside[n_targets:]
    )


@cache
def cifar10_labels() -> np.ndarray:
    """Labels of the test images."""
    return cifar10_test()[1]


def main() -> None:
    what, *rest = sys.argv[1:]
    if what == "train":
        trained(rest[0], rest[1], *(int(number) for number in rest[2:]))
    else:
        scored(rest[0])


if __name__ == "__main__":
    main()
