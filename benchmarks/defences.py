"""Defences on real data: what each buys and costs to an adversary who knows it.

`python benchmarks/defences.py location30|fashion [names]` runs `defend` on 16 reference models and
prints the frontier with the seconds that each way of training took; `location30 selena:25:10` runs
SELENA alone. Pictures go to docs/ with `--write`.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from data import fashion_mnist, location30
from memberscope.auditing import Plan, Training, make_subject
from memberscope.auditing.defend.frontier import Frontier, FrontierRow
from memberscope.auditing.defend.sweep import SEARCHED, SWEPT, SweepOptions, sweep_defences
from memberscope.recipes import SGD, TorchRecipe
from memberscope.reports.frontier import format_epsilons, name_canary_kind, render_frontier
from memberscope.signals import Store
from memberscope.targets import FunctionTarget
from memberscope.types import Access, Records, ThreatModel

REFERENCES = 16
DOCS = Path(__file__).resolve().parent.parent / "docs"
TRAINED = (
    *(
        "l2:0.003",
        "dropout:0.5",
        "early_stopping",
        "smooth:0.1",
        "relaxloss:1",
        "mixup:0.4",
        "hamp:0.5:0.01+hamp_output",
    ),
    *("distill:1", "memguard:1", "dpsgd:eps=8+rate:0.05+set:batch_size=256"),
)
HIDING = ("top:1", "label")


@dataclass(frozen=True, eq=False)
class Work:
    """Members, non-members and public records, how to train, and canaries of each kind."""

    members: Records
    non_members: Records
    public: Records
    recipe: TorchRecipe
    canaries: int
    n_classes: int
    names: tuple[str, ...]


def location_mlp() -> nn.Module:
    return nn.Sequential(
        *(nn.Linear(446, 512), nn.ReLU(), nn.Linear(512, 256), nn.ReLU()),
        *(nn.Linear(256, 128), nn.ReLU(), nn.Linear(128, 30)),
    )


def fashion_mlp() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 10))


def parts_of(x: np.ndarray, y: np.ndarray, n: int) -> list[Records]:
    """Twice `n` random records, and the rest (at most 2,500)."""
    order = np.random.default_rng(0).permutation(len(y))
    cuts = (order[:n], order[n : 2 * n], order[2 * n : 2 * n + 2500])
    return [Records(x[rows], y[rows].astype(np.int64), rows.astype(str)) for rows in cuts]


def location() -> Work:
    x, y = location30()
    parts = parts_of(x.astype(np.float32), y, 1350)
    recipe = TorchRecipe(location_mlp, SGD(0.1), epochs=50, batch_size=64)
    return Work(*parts, recipe, 120, 30, (*TRAINED, *HIDING))


def fashion() -> Work:
    x, y = fashion_mnist()
    parts = parts_of(x, y, 1500)
    recipe = TorchRecipe(fashion_mlp, SGD(0.05), epochs=50, batch_size=64)
    names = tuple(name.replace("relaxloss:1", "relaxloss:0.4") for name in TRAINED)
    return Work(*parts, recipe, 120, 10, (*names, "augment:shift:2+augment:flip", *HIDING))


def swept(work: Work, names: tuple[str, ...], store: Path) -> tuple[Frontier, dict[str, float]]:
    """The frontier, and the seconds that each way of training took with its attacks."""
    nobody = FunctionTarget(
        lambda x: np.full((len(x), work.n_classes), 1 / work.n_classes), n_classes=work.n_classes
    )
    subject = make_subject(nobody, work.members, work.non_members)
    plan = Plan(
        "defences",
        ThreatModel(access=Access.LOGITS),
        SWEPT,
        references=REFERENCES,
        search_queries=SEARCHED,
    )
    marks, seconds = [time.perf_counter()], {}

    def kept(name: str, result: Any) -> None:
        marks.append(time.perf_counter())
        seconds[name] = marks[-1] - marks[-2]
        print(f"{name}: {seconds[name]:.0f} s", file=sys.stderr, flush=True)

    training = Training(work.recipe, population=work.public)
    return sweep_defences(
        plan, subject, training, SweepOptions(names, work.canaries, kept), store=Store(store)
    ), seconds


def share(entry: Any) -> str:
    """A share with its limits."""
    return (
        "–"
        if entry is None
        else f"{100 * entry.value:.1f} ({100 * entry.low:.1f}–{100 * entry.high:.1f})"
    )


def told(frontier: Frontier) -> None:
    """The frontier as a table."""
    low, worst = 100 * frontier.fpr, 100 * (frontier.canary_fpr or 0)
    print(
        f"\n| defence | accuracy, % | AUC | average TPR at {low:g}% | labels alone | worst-case "
        f"TPR at {worst:g}% | defence not known: average; worst | ε proven; measured (if Gaussian) |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for row in frontier.rows:
        print(line(row))
    print("\n" + " ".join(frontier.advice))


def line(row: FrontierRow) -> str:
    """One choice's line."""
    if row.why_not is not None or row.auc is None:
        return f"| {row.name} | did not run: {row.why_not} |"
    mark = "" if row.dominated_by else " *"
    auc = f"{row.auc.value:.3f} ({row.auc.low:.3f}–{row.auc.high:.3f})"
    return (
        f"| {row.name}{mark} | {share(row.accuracy)} | {auc} | {share(row.average)} | "
        f"{share(row.label_only)} | {share(row.worst)} "
        f"{name_canary_kind(row.worst)} | {share(row.unaware_average)}; {share(row.unaware_worst)} "
        f"| {format_epsilons(row)} |"
    )


def drawn(frontier: Frontier, picture: Path) -> None:
    """Both pictures of the frontier's page, as the browser shows them."""
    from playwright.sync_api import sync_playwright

    with tempfile.TemporaryDirectory() as folder, sync_playwright() as browsers:
        file = Path(folder) / "frontier.html"
        file.write_text(render_frontier(frontier), encoding="utf-8")
        browser = browsers.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        sheet = browser.new_page(viewport={"width": 1160, "height": 800}, device_scale_factor=1.5)
        sheet.goto(file.as_uri())
        sheet.locator(".pictures").screenshot(path=picture)
        browser.close()


def main(arguments: list[str]) -> None:
    write = "--write" in arguments
    kind, *names = [word for word in arguments if not word.startswith("--")]
    work = {"location30": location, "fashion": fashion}[kind]()
    torch.set_num_threads(2)
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        frontier, seconds = swept(work, tuple(names) or work.names, Path(folder))
    total = time.perf_counter() - started
    told(frontier)
    print(
        f"\n{kind}: {len(work.members)} members, {REFERENCES} reference models, {total:.0f} s in "
        f"all: {', '.join(f'{n} {s:.0f}' for n, s in seconds.items())}"
    )
    if write:
        drawn(frontier, DOCS / f"frontier-{kind}.png")


if __name__ == "__main__":
    main(sys.argv[1:])
