"""Training reference models: W1 (Location-30, MLP) and W2 (CIFAR-10.

Small CNN) against a plain PyTorch loop, in one run.

`python benchmarks/training.py w1|w2 [device]`. A model's work is counted from its matrix products
and convolutions, forward and backward; the peak is that of a large square product on all cores.
Seconds of ours include measuring, starting processes and observing all records under each model.
bfloat16 is left out where the processor only emulates it.

`python benchmarks/training.py stacks` compares W1's engine alone, by processor time.
"""

from __future__ import annotations

import sys
import time
from dataclasses import replace

import numpy as np
import torch
from torch import nn

from aims import judge
from data import cifar10, location30
from memberscope.attacks import LiRA
from memberscope.recipes import (
    SGD,
    Execution,
    ProductRates,
    TorchRecipe,
    TrainingJob,
    build_balanced_design,
    measure_product_rates,
    train_fleet,
)
from memberscope.signals import SignalRequest, reduce_outputs
from memberscope.statistics import auc_value, roc
from memberscope.types import Access, Evidence, Records, SignalSpec

WANTED = SignalRequest(Access.LOGITS, SignalSpec("logit_confidence"))
# Times the plain loop on a processor, by workload and precision
AIMS = {"W1": {"float32": 1.5, "bfloat16": 2.6}, "W2": {"float32": 1.2, "bfloat16": 2.5}}


def mlp() -> nn.Module:
    return nn.Sequential(
        *(nn.Linear(446, 512), nn.ReLU(), nn.Linear(512, 256), nn.ReLU()),
        *(nn.Linear(256, 128), nn.ReLU(), nn.Linear(128, 30)),
    )


def cnn() -> nn.Module:
    blocks = [
        (nn.Conv2d(a, b, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2))
        for a, b in ((3, 32), (32, 64), (64, 128))
    ]
    return nn.Sequential(
        *(layer for block in blocks for layer in block), nn.Flatten(), nn.Linear(2048, 10)
    )


def flop_a_record(model: nn.Module, x: torch.Tensor) -> float:
    """Operations of one record, forward and backward.

    Two a product and weight, thrice except for the first layer's input.
    """
    counts: list[float] = []

    def count(layer: nn.Module, given: tuple[torch.Tensor, ...], out: torch.Tensor) -> None:
        inner = layer.weight[0].numel()
        counts.append(2.0 * inner * out[0].numel())

    hooks = [
        part.register_forward_hook(count)
        for part in model.modules()
        if isinstance(part, nn.Linear | nn.Conv2d)
    ]
    model(x[:1])
    for hook in hooks:
        hook.remove()
    return 3 * sum(counts) - counts[0]


def gemm_peak(dtype: torch.dtype, device: str) -> float:
    """GFLOP/s of a product of two 4096 x 4096 matrices, the best of five."""
    a = torch.randn(4096, 4096, device=device).to(dtype)
    best = 0.0
    for _ in range(6):
        started = time.perf_counter()
        a @ a
        if device != "cpu":
            torch.cuda.synchronize()
        best = max(best, 2 * 4096**3 / (time.perf_counter() - started) / 1e9)
    return best


def plain_loop(
    recipe: TorchRecipe, pool: Records, inside: np.ndarray
) -> tuple[float, list[nn.Module]]:
    """Seconds, and the models, of the loop that people write.

    Tensors in memory, autograd, one model after another.
    """
    x, y = (torch.from_numpy(part).to(recipe.device) for part in (pool.x, pool.y))
    models = []
    started = time.perf_counter()
    for i, own in enumerate(inside):
        torch.manual_seed(i)
        model = recipe.model().to(recipe.device)
        optimiser = torch.optim.SGD(model.parameters(), recipe.optimiser.lr, momentum=0.9)
        rows = torch.from_numpy(np.flatnonzero(own)).to(recipe.device)
        for _ in range(recipe.epochs):
            shuffled = rows[torch.randperm(len(rows), device=recipe.device)]
            for start in range(0, len(rows), recipe.batch_size):
                batch = shuffled[start : start + recipe.batch_size]
                optimiser.zero_grad()
                nn.functional.cross_entropy(model(x[batch]), y[batch]).backward()
                optimiser.step()
        models.append(model)
    if recipe.device != "cpu":
        torch.cuda.synchronize()
    return time.perf_counter() - started, models


def confidence(model: nn.Module, pool: Records, device: str) -> np.ndarray:
    """Logit-scaled confidence (n, 1, 1) of the pool under a model."""
    with torch.inference_mode():
        parts = [
            model(part.to(device)).cpu().double().numpy()
            for part in torch.from_numpy(pool.x).split(1024)
        ]
    return reduce_outputs(WANTED, "logits", np.concatenate(parts), pool.y)[1][:, None]


def lira_auc(
    order: TrainingJob, references: np.ndarray, target: np.ndarray, member: np.ndarray
) -> float:
    """AUC of online LiRA, fixed variance.

    On a target whose members were drawn apart from the references'.
    """
    hidden = np.full(len(order.pool), -1, dtype=np.int8)
    evidence = Evidence(
        "logit_confidence", target, order.pool.y, hidden, references=references, inside=order.inside
    )
    return auc_value(roc(LiRA("online", "fixed").score(evidence, np.random.default_rng(0)), member))


def make_order(recipe: TorchRecipe, pool: Records, n_models: int, size: int) -> TrainingJob:
    inside = build_balanced_design(len(pool), size, n_models, np.random.default_rng(0))
    return TrainingJob(
        recipe, pool, inside, tuple(range(n_models)), (WANTED,), "logits", int(pool.y.max()) + 1
    )


def ours(order: TrainingJob, member: np.ndarray) -> tuple[float, str]:
    """Seconds of a fleet, and what it chose and reached in words."""
    started = time.perf_counter()
    fleet = train_fleet(order, None, Execution())
    seconds = time.perf_counter() - started
    target = next(order.recipe.many(order.pool, member[None], [999])).module
    auc = lira_auc(
        order, fleet.observed[WANTED], confidence(target, order.pool, order.recipe.device), member
    )
    choice = (
        "engine {engine}, stack {stack}, {processes} process(es) of {threads} thread(s)".format(
            **fleet.choice
        )
    )
    accuracy = f"accuracy {fleet.train_accuracy.mean():.3f} / {fleet.held_out_accuracy.mean():.3f}"
    return seconds, f"{accuracy}, LiRA AUC {auc:.3f}; {choice}"


def list_precisions(rates: ProductRates) -> dict[str, str | None]:
    """Precisions to train in, each with the reason why it is left out, or None."""
    fast = rates.is_bfloat16_fast
    return {"float32": None, "bfloat16": None if fast else f"not on this processor ({rates})"}


def run(name: str, recipe: TorchRecipe, pool: Records, size: int, counts: tuple[int, ...]) -> None:
    """Print one workload; the plain loop trains `counts[0]` models and the target."""
    flop = flop_a_record(recipe.model(), torch.from_numpy(pool.x)) * size * recipe.epochs
    # A large product would take minutes where bfloat16 is emulated: a small one tells
    precisions = list_precisions(measure_product_rates(recipe.device))
    peaks = {
        dtype: gemm_peak(getattr(torch, dtype), recipe.device)
        for dtype, why_not in precisions.items()
        if why_not is None
    }
    shown = ", ".join(f"{peak:.0f} GFLOP/s {dtype}" for dtype, peak in peaks.items())
    print(f"{name}: {flop / 1e9:.0f} GFLOP a model; peak of a matrix product {shown}", flush=True)
    member = build_balanced_design(len(pool), size, 1, np.random.default_rng(99))[0]
    order = make_order(recipe, pool, counts[0], size)
    seconds, models = plain_loop(recipe, pool, np.vstack([order.inside, member]))
    plain = seconds / (counts[0] + 1)
    seen = np.stack([confidence(model, pool, recipe.device) for model in models])
    auc = lira_auc(order, seen[:-1], seen[-1], member)
    print(
        f"plain loop, {counts[0]} models: {plain * counts[0]:.1f} s, {flop / plain / 1e9:.0f} "
        f"GFLOP/s; LiRA AUC {auc:.3f}",
        flush=True,
    )
    for precision, why_not in precisions.items():
        if why_not is not None:
            print(f"{precision}: {why_not}", flush=True)
            continue
        for n_models in counts:
            seconds, reached = ours(
                make_order(replace(recipe, precision=precision), pool, n_models, size), member
            )
            rate, ratio = flop * n_models / seconds / 1e9, plain * n_models / seconds
            aim = AIMS[name][precision] if recipe.device == "cpu" else None
            figure = f"{name}, {precision}, {n_models} models: times the plain loop"
            part = f"{rate:.0f} GFLOP/s, {rate / peaks[precision]:.0%} of the peak, {ratio:.2f} x the plain loop {judge(figure, ratio, at_least=aim)}"
            print(f"{precision}, {n_models} models: {seconds:.1f} s, {reached}; {part}", flush=True)


def compare_engines(recipe: TorchRecipe, pool: Records, size: int, rounds: int = 5) -> None:
    """Print how many times faster than the plain loop each stack is, on one thread.

    The ways alternate in this process, and processor time is taken: other programs add little to
    it. Nothing is started, chosen or observed.
    """
    torch.set_num_threads(1)
    inside = build_balanced_design(len(pool), size, 8, np.random.default_rng(0))
    seconds: dict[int, list[float]] = {}
    # The first round loads libraries and is not counted
    for _ in range(rounds + 1):
        for stack in (0, 1, 4, 8):
            started = time.process_time()
            if stack:
                fixed = replace(recipe, engine="matrices", stack=stack)
                fixed.many(pool, inside[:stack], range(stack))
            else:
                plain_loop(recipe, pool, inside[:1])
            seconds.setdefault(stack, []).append((time.process_time() - started) / max(stack, 1))
    plain = np.array(seconds.pop(0)[1:])
    print(f"plain loop: {np.median(plain):.2f} s a model (no aim)")
    for stack, found in seconds.items():
        ratios = np.sort(plain / found[1:])
        print(
            f"stacks of {stack}: {np.median(ratios):.2f} x the plain loop, {ratios[0]:.2f} to "
            f"{ratios[-1]:.2f} in {rounds} rounds "
            f"{judge(f'stacks of {stack}', np.median(ratios), at_least=AIMS['W1']['float32'])}"
        )


def main() -> None:
    name, device = sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else "cpu"
    x, y = location30() if name != "w2" else cifar10(10_000)
    pool = Records(np.ascontiguousarray(x, dtype=np.float32), y, np.arange(len(y)).astype(str))
    if name == "stacks":
        compare_engines(TorchRecipe(mlp, SGD(0.05), epochs=2, batch_size=128), pool, 2505)
    elif name == "w1":
        run(
            "W1",
            TorchRecipe(mlp, SGD(0.05), epochs=50, batch_size=128, device=device),
            pool,
            2505,
            (16, 64),
        )
    else:
        run(
            "W2",
            TorchRecipe(cnn, SGD(0.05), epochs=10, batch_size=128, device=device),
            pool,
            5000,
            (8,),
        )


if __name__ == "__main__":
    main()
