"""What each level of access gives.

The same model audited at every level, on Location-30 and on CIFAR-10.

`python benchmarks/access.py` prints the tables of docs/access.md, and `python benchmarks/access.py
location30 noise:0.5` those of one model at the restrictions named and at full probabilities alone.
"""

from __future__ import annotations

import sys
from itertools import pairwise
from typing import Any

import numpy as np
import torch

from data import cifar10, location30
from memberscope import audit
from memberscope.auditing import Plan, Result
from memberscope.auditing.documents.access_levels import format_level
from memberscope.recipes import SGD, TorchRecipe
from memberscope.reports.select import (
    find_estimate,
    format_interval,
    list_levels,
)
from memberscope.types import Access, Estimate, Records, ThreatModel

RESTRICTIONS = ("top:1", "top:3", "round:1", "round:2", "temperature:4", "noise:0.5")
LABELS = ("gap", "boundary", "noise", "augmentation", "lira_boundary")
OUTPUTS = (
    "loss",
    "confidence",
    "entropy",
    "modified_entropy",
    "margin",
    "logit",
    "lira",
    "lira_robust",
    "rmia",
    "base",
)
INSIDE = (
    "gradient_norm",
    "self_influence",
    "nasr_gradients",
    "lira_gradient_norm",
    "rmia_gradient_norm",
)
REFERENCES, FPR = 8, 0.01


def perceptron() -> torch.nn.Module:
    """Location-30: 446-512-256-128-30."""
    sizes = (446, 512, 256, 128)
    hidden = [part for a, b in pairwise(sizes) for part in (torch.nn.Linear(a, b), torch.nn.ReLU())]
    return torch.nn.Sequential(*hidden, torch.nn.Linear(128, 30))


def convolutions() -> torch.nn.Module:
    """CIFAR-10: three blocks of convolution and pooling."""
    blocks = [
        (torch.nn.Conv2d(a, b, 3, padding=1), torch.nn.ReLU(), torch.nn.MaxPool2d(2))
        for a, b in ((3, 16), (16, 32), (32, 64))
    ]
    return torch.nn.Sequential(
        *(layer for block in blocks for layer in block),
        torch.nn.Flatten(),
        torch.nn.Linear(1024, 10),
    )


CASES: dict[str, tuple[Any, TorchRecipe, int]] = {
    "location30": (location30, TorchRecipe(perceptron, epochs=50, optimiser=SGD(0.05)), 1000),
    "cifar10": (
        lambda: cifar10(2000),
        TorchRecipe(convolutions, epochs=40, batch_size=32, optimiser=SGD(0.02)),
        1000,
    ),
}


def audited(name: str, restrictions: tuple[str, ...] = ()) -> Result:
    """Train one target on `n` records and audit it with `n` others at every level.

    Or at `restrictions` of its probabilities alone.
    """
    load, recipe, n = CASES[name]
    x, y = load()
    order = np.random.default_rng(0).permutation(len(y))[: 2 * n]
    x, y = x[order], y[order]
    target = recipe(Records(x[:n], y[:n], np.arange(n).astype(str)), 0)
    access, inside = (Access.PROBABILITIES, ()) if restrictions else (Access.WHITE_BOX, INSIDE)
    threat = ThreatModel(access, query_budget=128)
    plan = Plan(
        attacks=(*LABELS, *OUTPUTS, *inside),
        restrictions=restrictions or RESTRICTIONS,
        references=REFERENCES,
        fprs=(0.1, FPR),
    )
    return audit(target, (x[:n], y[:n]), (x[n:], y[n:]), plan=plan, threat=threat, recipe=recipe)


def table(result: Result) -> None:
    """One row a level: the strongest attack, its limits, its precision and its queries.

    And the share of the leakage it recovers.
    """
    prior = result.plan.threat.prior
    whole = find_estimate(result, attack="strongest", level=("probabilities", None), metric="auc")
    assert whole is not None
    print(
        "\n| one query returns | AUC | share of the leakage at full probabilities | TPR at 1% FPR "
        "| precision at 1% | queries |"
    )
    print("| --- | --- | --- | --- | --- | --- |")
    for level in list_levels(result):
        auc = find_estimate(result, attack="strongest", level=level, metric="auc")
        tpr = find_estimate(result, attack="strongest", level=level, metric="tpr", fpr=FPR)
        ppv = find_estimate(
            result, attack="strongest", level=level, metric="ppv", fpr=FPR, prior=prior
        )
        assert auc is not None and tpr is not None and ppv is not None
        cells = [
            format_level(*level),
            f"{format_interval(auc, rate=False)} {auc.reaching_attack}",
            share(auc, whole),
        ]
        print(
            "| "
            + " | ".join(
                [
                    *cells,
                    f"{format_interval(tpr)} {tpr.reaching_attack}",
                    format_interval(ppv),
                    str(auc.queries),
                ]
            )
            + " |"
        )


def share(auc: Estimate, whole: Estimate) -> str:
    """What an AUC is above chance over the same of `whole`.

    The limits combine those of both, which is wide, since they share records.
    """
    low, value, high = (
        max(a - 0.5, 0.0) / (b - 0.5)
        for a, b in ((auc.low, whole.high), (auc.value, whole.value), (auc.high, whole.low))
    )
    return f"{value:.0%} ({low:.0%} to {high:.0%})"


def attacks(result: Result) -> None:
    """AUC of each attack at the labels alone, and of those on outputs at each level."""
    print("\n| attack | level | AUC | TPR at 1% FPR | queries a record, at most |")
    print("| --- | --- | --- | --- | --- |")
    for name in (*LABELS, "loss", "lira", "rmia", *INSIDE):
        for level in list_levels(result):
            auc = find_estimate(result, attack=name, level=level, metric="auc")
            tpr = find_estimate(
                result, attack=name, level=level, metric="tpr", fpr=FPR, threshold="best"
            )
            if auc is not None:
                found = "not resolved" if tpr is None else format_interval(tpr)
                print(
                    f"| {name} | {format_level(*level)} | {format_interval(auc, rate=False)} | "
                    f"{found} | {auc.queries} |"
                )


def budgets(result: Result) -> None:
    """AUC of label-only searches by queries a record."""
    print("\n| search | queries a record, at most | AUC |\n| --- | --- | --- |")
    for entry in result.budgets:
        if entry.metric == "auc":
            print(f"| {entry.attack} | {entry.queries} | {format_interval(entry, rate=False)} |")


def main() -> None:
    named, words = [word for word in sys.argv[1:] if word in CASES], sys.argv[1:]
    for name in named or CASES:
        result = audited(name, tuple(word for word in words if word not in CASES))
        accuracy = [
            format_interval(getattr(result.diagnostics, side))
            for side in ("train_accuracy", "test_accuracy")
        ]
        print(
            f"\n## {name}\n\nAccuracy: members {accuracy[0]}, non-members {accuracy[1]}; "
            f"{REFERENCES} reference models."
        )
        table(result)
        attacks(result)
        budgets(result)
        print(f"\nQueries: {result.diagnostics.searches}")
        print({name: control.passed for name, control in result.controls.items()})
        if (tried := result.controls.get("inversion")) is not None:
            print(tried.why)
        for entry in result.not_run:
            print(f"not run: {entry.attack} ({entry.access}): {entry.why}")


if __name__ == "__main__":
    main()
