"""MemGuard's own evidence again, beside attacks that know the label.

And what a guarded query costs.

`python benchmarks/memguard.py location30 [targets]`: the paper's target on Location-30, defended at
its budgets. Records are a seeded permutation, since the published shuffle is not at hand: [0:1000]
members, [1000:2000] the others that the defence is fitted to,
[2000:3000] the others that attacks are judged on, [3000:3500] members of the adversary's shadow
model, [3500:4000] the others that its MemGuard is fitted to, [4000:4500] the others that attacks
learn from. `python benchmarks/memguard.py speed`: milliseconds a query.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import torch
from joblib import Parallel, delayed
from torch import nn

import data
from aims import judge
from memberscope._numerics import softmax
from memberscope.attacks import Confidence, Entropy, Gap, ModifiedEntropy
from memberscope.outputs.hamp_output import HampOutput
from memberscope.outputs.memguard import MemGuard
from memberscope.recipes import SGD, Steps, TorchRecipe
from memberscope.signals import restrict_to_access
from memberscope.statistics import auc_interval, clopper_pearson
from memberscope.types import Access, Attack, Evidence, OutputDefence, Records

PUBLISHED = {1.0: 0.50, 0.7: 0.52, 0.5: 0.55, 0.3: 0.62, 0.1: 0.69, 0.0: 0.73}
AIM = 5.0  # milliseconds of one query: "a few"
KNOWN: tuple[Attack, ...] = (
    Confidence("per_class"),
    Entropy("per_class"),
    ModifiedEntropy("per_class"),
)
RANKED: tuple[Attack, ...] = (Confidence(), Entropy(), ModifiedEntropy())
SHADOW, HIDDEN = (slice(3000, 3500), slice(4000, 4500)), (slice(0, 1000), slice(2000, 3000))
MEMBER = np.arange(2000) < 1000
# Of the target's defence, and of the adversary's own copy
KEY, OWN_KEY = bytes(range(32)), bytes(range(32, 64))
Network = Callable[[np.ndarray], np.ndarray]
Guards = tuple[OutputDefence, OutputDefence]
Judged = tuple[float, float, float]
Scores = tuple[dict[str, np.ndarray], dict[str, np.ndarray]]


def network(widths: tuple[int, ...]) -> nn.Module:
    """Rectified layers with Glorot's initial weights."""
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        layer = nn.Linear(before, after)
        nn.init.xavier_uniform_(layer.weight)
        nn.init.zeros_(layer.bias)
        layers += [layer, nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def target_network() -> nn.Module:
    """The audited model's."""
    return network((446, 1024, 512, 256, 128, 30))


def attack_network() -> nn.Module:
    """The attack's, on sorted scores."""
    return network((30, 512, 256, 128, 2))


TARGET = TorchRecipe(
    target_network, SGD(0.01, momentum=0.0), Steps((150,)), epochs=200, batch_size=64
)
ATTACK = TorchRecipe(
    attack_network, SGD(0.01, momentum=0.0), Steps((300,)), epochs=400, batch_size=64
)


@dataclass(frozen=True, eq=False)
class Models:
    """Answers (5010, 30) of the target and of the adversary's shadow model about all records in order, and their labels (5010,).

    `random` holds the answers (1000, 30) of both about random inputs.
    """

    target: np.ndarray
    shadow: np.ndarray
    labels: np.ndarray
    random: tuple[np.ndarray, np.ndarray]


def trained(seed: int) -> Models:
    """The two models of one permutation."""
    x, y = data.location30()
    order = np.random.default_rng(seed).permutation(len(y))
    x, y = x[order], y[order].astype(np.int64)

    def model(rows: slice, seed: int) -> Network:
        fitted = TARGET(Records(x[rows], y[rows], np.arange(len(y[rows])).astype(str)), seed)
        return lambda records: softmax(fitted.query(records))

    target, shadow = model(HIDDEN[0], seed), model(SHADOW[0], 100 + seed)
    inputs = np.random.default_rng(seed).integers(0, 2, (1000, x.shape[1])).astype(np.float32)
    return Models(target(x), shadow(x), y, (target(inputs), shadow(inputs)))


def both(values: np.ndarray, parts: tuple[slice, slice]) -> np.ndarray:
    """Members' rows, then the others'."""
    return np.concatenate([values[part] for part in parts])


def network_attack(learned: np.ndarray, seed: int) -> Network:
    """Log-odds (n,) by a network that learned from the shadow's answers, members first.

    It sees no label.
    """
    inputs, member = (
        np.sort(learned, axis=1).astype(np.float32),
        (np.arange(len(learned)) < len(learned) // 2).astype(np.int64),
    )
    attack = ATTACK(Records(inputs, member, np.arange(len(inputs)).astype(str)), seed)
    return lambda asked: (
        attack.query(np.sort(asked, axis=1).astype(np.float32)) @ np.array([-1.0, 1.0])
    )


def known_scores(
    attack: Attack, models: Models, learned: np.ndarray, asked: np.ndarray
) -> np.ndarray:
    """Scores (n,) with thresholds per class from the shadow's answers.

    At least 0 is called a member.
    """
    labels = np.concatenate([both(models.labels, SHADOW), both(models.labels, HIDDEN)])
    member = np.arange(len(learned)) < len(learned) // 2
    known = np.concatenate([member, np.full(len(asked), -1)]).astype(np.int8)
    evidence = Evidence(
        "probabilities", np.concatenate([learned, asked])[:, None, :], labels, known
    )
    return attack.score(evidence, np.random.default_rng(0))[len(learned) :]


def gap_scores(models: Models, asked: np.ndarray) -> np.ndarray:
    """Whether the label is right, less a half."""
    signal, values = restrict_to_access(Access.LABEL, "probabilities", asked)
    evidence = Evidence(
        signal,
        values[:, None, :],
        both(models.labels, HIDDEN),
        np.full(len(asked), -1, dtype=np.int8),
    )
    return Gap().score(evidence, np.random.default_rng(0)) - 0.5


def network_scores(learned: np.ndarray, asked: np.ndarray, seed: int) -> np.ndarray:
    """Scores (n,) of one set of answers by a network that learned from another."""
    return network_attack(learned, seed)(asked)


def attacked(models: Models, guards: dict[str, Guards], seed: int) -> dict[str, Scores]:
    """Every attack's scores (2000,) against the target behind each first guard.

    The adversary's shadow stands behind the second.

    First those that call at least 0 a member, thresholds per class; then those without thresholds.
    """
    unguarded = both(models.shadow, SHADOW)
    answers = {
        name: (pair[1](unguarded), pair[0](both(models.target, HIDDEN)))
        for name, pair in guards.items()
    }
    plain = network_attack(unguarded, seed)
    adapted = Parallel(n_jobs=2)(
        delayed(network_scores)(learned, asked, seed) for learned, asked in answers.values()
    )
    scores = {}
    for (name, (learned, asked)), adaptive in zip(answers.items(), adapted, strict=True):
        found = {
            "network, undefended shadow": plain(asked),
            "network, defended shadow": adaptive,
            "gap": gap_scores(models, asked),
        }
        called = {
            attack.name.removesuffix("_per_class"): known_scores(attack, models, learned, asked)
            for attack in KNOWN
        }
        ranked = {attack.name: known_scores(attack, models, learned, asked) for attack in RANKED}
        scores[name] = (found | called, found | ranked)
    return scores


def accuracy(scores: np.ndarray) -> Judged:
    """Share of right calls with its 95% interval (Clopper and Pearson).

    As many members as others.
    """
    right = int(((scores >= 0) == MEMBER).sum())
    found = clopper_pearson(right, len(scores))
    return right / len(scores), found[0], found[1]


def area(scores: np.ndarray) -> Judged:
    """AUC with its 95% interval (DeLong)."""
    found = auc_interval(scores, MEMBER)
    return found.value, found.low, found.high


def table(title: str, rows: dict[str, list[Scores]], of: Callable[[np.ndarray], Judged]) -> None:
    """One row a defence: means over the targets of values and of their limits."""
    kind = 0 if of is accuracy else 1
    names = list(next(iter(rows.values()))[0][kind])
    print(
        f"\n{title}\n\n| defence | published | "
        + " | ".join(names)
        + " |\n| --- | --- |"
        + " --- |" * len(names)
    )
    for defence, targets in rows.items():
        budget = float(defence.split(":")[1]) if ":" in defence else None
        cells = [
            f"`{defence}`",
            f"{PUBLISHED[budget]:.2f}" if budget in PUBLISHED and of is accuracy else "",
        ]
        for name in names:
            value, low, high = np.mean([of(scores[kind][name]) for scores in targets], axis=0)
            cells.append(f"{value:.3f} [{low:.3f}, {high:.3f}]")
        print("| " + " | ".join(cells) + " |")


def location30(n_targets: int) -> None:
    """Print both tables."""
    rows: dict[str, list[Scores]] = {}
    for seed in range(n_targets):
        started = time.perf_counter()
        models = trained(seed)
        right = models.target.argmax(axis=1) == models.labels
        print(
            f"target {seed}: accuracy {right[:1000].mean():.3f} on members, "
            f"{right[2000:3000].mean():.3f} on others",
            end="; ",
        )
        guard = MemGuard(1.0, key=KEY).fit(models.target[:2000], MEMBER)
        own = MemGuard(1.0, key=OWN_KEY).fit(models.shadow[3000:4000], np.arange(1000) < 500)
        asked = both(models.target, HIDDEN)
        chance = guard.classifier.odds(asked) > 0  # type: ignore[union-attr]
        length = guard.noisy(asked)[1]
        print(
            f"the defence's classifier {(chance == MEMBER).mean():.3f}; noise found for "
            f"{(length > 0).mean():.3f}",
            end=", ",
        )
        print(
            f"mean L1 {length[:1000].mean():.3f} on members and {length[1000:].mean():.3f} on "
            "others",
            flush=True,
        )
        changes = [{"distortion": budget} for budget in PUBLISHED] + [{"stop": "crossed"}]
        pairs = [(replace(guard, **changed), replace(own, **changed)) for changed in changes]
        guards: dict[str, Guards] = {pair[0].name: pair for pair in pairs}
        hamp = [
            HampOutput(key=key).fit(random, np.zeros(len(random), dtype=bool))
            for key, random in zip((KEY, OWN_KEY), models.random, strict=True)
        ]
        guards["hamp_output"] = (hamp[0], hamp[1])
        for name, scores in attacked(models, guards, seed).items():
            rows.setdefault(name, []).append(scores)
        print(f"{time.perf_counter() - started:.0f} s", file=sys.stderr, flush=True)
    table("Accuracy (half are members), thresholds from the shadow:", rows, accuracy)
    table("AUC:", rows, area)


def speed() -> None:
    """Print milliseconds a query."""
    print(
        f"{torch.get_num_threads()} thread(s)\n\n| classes | one query | 256 together, each | "
        "alone as together | |\n| --- | --- | --- | --- | --- |"
    )
    for k in (30, 100):
        rng = np.random.default_rng(0)
        member = np.arange(2000) < 1000
        logits = rng.normal(size=(2000, k)) * 2
        logits[np.arange(2000), rng.integers(0, k, 2000)] += np.where(member, 12.0, 7.0)
        answers = softmax(logits)
        guard = MemGuard(1.0, key=KEY).fit(answers, member)
        asked = answers[np.random.default_rng(1).permutation(2000)[:256]]
        alone, times = [], []
        for row in asked:
            started = time.perf_counter()
            alone.append(guard(row[None]))
            times.append(1e3 * (time.perf_counter() - started))
        started = time.perf_counter()
        together = guard(asked)
        each = 1e3 * (time.perf_counter() - started) / len(asked)
        same = "the same" if np.array_equal(together, np.concatenate(alone)) else "differ"
        cell = f"{np.median(times):.1f} ms (95%: {np.quantile(times, 0.95):.1f})"
        verdict = judge(f"one query of {k} classes", float(np.median(times)), "ms", at_most=AIM)
        print(f"| {k} | {cell} | {each:.2f} ms | {same} | {verdict} |", flush=True)


def main() -> None:
    torch.set_flush_denormal(True)
    if sys.argv[1:2] == ["speed"]:
        speed()
    else:
        location30(int([*sys.argv[2:], "2"][0]))


if __name__ == "__main__":
    main()
