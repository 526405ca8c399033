"""Do parameters tell more than outputs? White-box attacks against those on the loss and the logit.

On the same records.

`python benchmarks/white_box.py location30|cifar10 [targets] [references]`; with 0 references the
attacks that need them are left out. Targets are trained on random halves of a pool; reference
models on a balanced design drawn apart from them. Attacks that learn from known records are
cross-fitted in two folds and ranked within them.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import nn

from data import cifar10, location30
from memberscope.attacks import (
    IHA,
    RMIA,
    GradientNorm,
    LiRA,
    Logit,
    Loss,
    ModifiedEntropy,
    Nasr,
    SelfInfluence,
)
from memberscope.recipes import SGD, TorchRecipe, build_balanced_design
from memberscope.signals import SignalRequest, measure_signal, reduce_outputs
from memberscope.statistics import auc_difference, auc_interval, roc, tpr_at_fpr
from memberscope.statistics.fold_ranks import ranks_within_fold
from memberscope.types import Access, Attack, Evidence, Floats, Records, SignalSpec

FPRS, RESAMPLES, RATE = (0.01, 0.001), 500, 0.05
OURS: tuple[
    tuple[Attack, Attack], ...
] = (  # an attack inside, and the one on outputs that it has to beat
    *((attack, Logit()) for attack in (GradientNorm(), SelfInfluence(), IHA(RATE, momentum=0.9))),
    *((Nasr(given), Nasr("outputs")) for given in ("both", "gradients", "activations")),
    (GradientNorm("per_class"), Logit("per_class")),
    (LiRA(signal="gradient_norm"), LiRA()),
    (LiRA("offline", signal="gradient_norm"), LiRA("offline")),
    (RMIA(signal="gradient_norm"), RMIA()),
    (RMIA("offline", signal="gradient_norm"), RMIA("offline")),
)
BASELINES: tuple[Attack, ...] = (
    Loss(),
    ModifiedEntropy(),
    Logit(),
    Logit("per_class"),
    Nasr("outputs"),
    LiRA(),
    LiRA("offline"),
    RMIA(),
    RMIA("offline"),
)


def mlp() -> nn.Module:
    """W1's network."""
    widths = (446, 512, 256, 128)
    hidden = [part for a, b in pairwise(widths) for part in (nn.Linear(a, b), nn.ReLU())]
    return nn.Sequential(*hidden, nn.Linear(128, 30))


def cnn() -> nn.Module:
    """Half as wide as W2's network."""
    blocks = [
        (nn.Conv2d(a, b, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2))
        for a, b in ((3, 16), (16, 32), (32, 64))
    ]
    return nn.Sequential(
        *(layer for block in blocks for layer in block), nn.Flatten(), nn.Linear(1024, 10)
    )


@dataclass(frozen=True, eq=False)
class Seen:
    """What is kept of the models.

    Signals (m, n, d) by specification, and who was in which (m, n).
    """

    signals: dict[SignalSpec, np.ndarray]
    inside: np.ndarray
    accuracy: tuple[float, float]


def observed(
    recipe: TorchRecipe,
    pool: Records,
    inside: np.ndarray,
    first: int,
    specs: tuple[SignalSpec, ...],
) -> Seen:
    """Train a model on each row of `inside` and keep the signals."""
    found: dict[SignalSpec, list[np.ndarray]] = {spec: [] for spec in specs}
    right = []
    seeds = [first + number for number in range(len(inside))]
    for number, (own, target) in enumerate(
        zip(inside, recipe.many(pool, inside, seeds), strict=True)
    ):
        started = time.perf_counter()
        outputs = target.query(pool.x)
        for spec in specs:
            if spec.name in ("outputs", "logit_confidence", "log_confidence"):
                values = reduce_outputs(
                    SignalRequest(Access.LOGITS, spec), "logits", outputs, pool.y
                )[1]
            else:
                values = measure_signal(target, pool, spec).final
            found[spec].append(values)
        hit = outputs.argmax(axis=1) == pool.y
        right.append((hit[own].mean(), hit[~own].mean()))
        print(
            f"model {number} observed in {time.perf_counter() - started:.1f} s",
            file=sys.stderr,
            flush=True,
        )
    accuracy = np.mean(right, axis=0)
    return Seen(
        {spec: np.stack(values) for spec, values in found.items()},
        inside,
        (accuracy[0], accuracy[1]),
    )


def scores_of(
    attack: Attack, targets: Seen, model: int, references: Seen, labels: np.ndarray
) -> Floats:
    """The attack's scores (n,) of all records.

    What learns is fitted on one half and scores the other.
    """
    spec = attack.needs.spec
    signal = "logits" if spec.name == "outputs" else spec.name
    hidden = np.full(len(labels), -1, dtype=np.int8)
    evidence = Evidence(signal, targets.signals[spec][model][:, None, :], labels, hidden)
    if sum(attack.needs.references):
        inside, values = references.inside, references.signals[spec][:, :, None, :]
        evidence = Evidence(
            signal, evidence.target, labels, hidden, references=values, inside=inside
        )
    if attack.needs.known == "none":
        return attack.score(evidence, np.random.default_rng(0))
    member, fold = targets.inside[model], np.random.default_rng(1).permutation(len(labels)) % 2
    scores = np.empty(len(labels))
    for part in (0, 1):
        known = np.where(fold == part, -1, member).astype(np.int8)
        scored = attack.score(
            Evidence(signal, evidence.target, labels, known), np.random.default_rng(0)
        )
        scores[fold == part] = scored[fold == part]
    return ranks_within_fold(scores, member, fold)


def resampled(scores: Floats, member: np.ndarray, fpr: float) -> np.ndarray:
    """TPR at `fpr` (b,) of `RESAMPLES` stratified resamples.

    The same records are drawn for every attack, and the first draw is all.
    """
    rng, draws = np.random.default_rng(0), []
    for rows in (np.flatnonzero(member), np.flatnonzero(~member)):
        order = rows[np.argsort(-scores[rows], kind="stable")]
        counts = np.zeros((RESAMPLES + 1, len(member)), dtype=np.int64)
        counts[0, rows] = 1
        for b in range(1, RESAMPLES + 1):
            counts[b, rows] = np.bincount(
                rng.integers(0, len(rows), len(rows)), minlength=len(rows)
            )
        draws.append((scores[order], np.cumsum(counts[:, order], axis=1)))
    (inside, above), (outside, accused) = draws
    limit = outside[
        np.argmax(accused > int(fpr * len(outside) + 1e-9), axis=1)
    ]  # the strictest threshold that accuses one too many
    place = np.searchsorted(-inside, -limit, side="left")  # members that score more
    return np.where(place > 0, above[np.arange(len(above)), place - 1], 0) / len(inside)


def tpr_difference(
    first: Floats, second: Floats, member: np.ndarray, fpr: float
) -> tuple[float, float, float]:
    """Difference of TPR at `fpr` with 95% limits.

    From resampling the records that both attacks scored.
    """
    difference = resampled(first, member, fpr) - resampled(second, member, fpr)
    low, high = np.quantile(difference[1:], (0.025, 0.975))
    return float(difference[0]), float(low), float(high)


def run(name: str, recipe: TorchRecipe, pool: Records, n_targets: int, n_references: int) -> None:
    """Print the table of one data set."""
    n, rng = len(pool), np.random.default_rng(0)
    every = {attack.name: attack for attack in (*BASELINES, *(pair[0] for pair in OURS))}.values()
    attacks = tuple(attack for attack in every if n_references or not sum(attack.needs.references))
    plain = tuple({attack.needs.spec for attack in attacks})
    shared = tuple({attack.needs.spec for attack in attacks if sum(attack.needs.references)})
    halves = np.stack([rng.permutation(n) < n // 2 for _ in range(n_targets)])
    targets = observed(recipe, pool, halves, 10_000, plain)
    references = (
        observed(recipe, pool, build_balanced_design(n, n // 2, n_references, rng), 0, shared)
        if n_references
        else targets
    )
    print(
        f"{name}: {n_targets} targets and {n_references} reference models, half of {n:,} records "
        "each; accuracy of the targets",
        end=" ",
    )
    print(
        f"{targets.accuracy[0]:.3f} on members, {targets.accuracy[1]:.3f} on others.\n", flush=True
    )
    scores = {
        attack.name: [scores_of(attack, targets, t, references, pool.y) for t in range(n_targets)]
        for attack in attacks
    }
    against = {mine.name: other.name for mine, other in OURS}
    cells = [
        "attack",
        "AUC",
        "TPR at 1% FPR",
        "TPR at 0.1% FPR",
        "against",
        "AUC",
        "TPR at 1%",
        "TPR at 0.1%",
    ]
    print("| " + " | ".join(cells) + " |\n|" + " --- |" * len(cells))
    for attack in attacks:
        print(line(attack.name, scores, targets.inside, against.get(attack.name)), flush=True)


def line(name: str, scores: dict[str, list[Floats]], inside: np.ndarray, other: str | None) -> str:
    """One row: means over the targets of values and of their 95% limits.

    And of the differences to the attack on outputs.
    """

    def cell(of: Callable[[int], tuple[float, ...]]) -> str:
        value, low, high = np.mean([tuple(of(t))[:3] for t in range(len(inside))], axis=0)
        return f"{value:.3f} [{low:.3f}, {high:.3f}]"

    own = scores[name]
    cells = [cell(lambda t: auc_interval(own[t], inside[t]))]
    cells += [cell(lambda t, fpr=fpr: tpr_at_fpr(roc(own[t], inside[t]), fpr)) for fpr in FPRS]
    if other is None:
        return f"| `{name}` | " + " | ".join(cells) + " | | | | |"
    base = scores[other]
    cells += [f"`{other}`", cell(lambda t: auc_difference(own[t], base[t], inside[t]))]
    cells += [
        cell(lambda t, fpr=fpr: tpr_difference(own[t], base[t], inside[t], fpr)) for fpr in FPRS
    ]
    return f"| `{name}` | " + " | ".join(cells) + " |"


def main() -> None:
    name = sys.argv[1]
    torch.set_flush_denormal(True)
    if name == "location30":
        x, y = location30()
        recipe = TorchRecipe(mlp, SGD(RATE), epochs=50, batch_size=128)
    else:
        x, y = cifar10(5_000)
        recipe = TorchRecipe(cnn, SGD(RATE), epochs=20, batch_size=128)
    pool = Records(
        np.ascontiguousarray(x, dtype=np.float32), y.astype(np.int64), np.arange(len(y)).astype(str)
    )
    n_targets, n_references = map(int, [*sys.argv[2:], *("3", "12")[len(sys.argv) - 2 :]])
    run(name, recipe, pool, n_targets, n_references)


if __name__ == "__main__":
    main()
