"""Per-example gradient norms of 5,000 Location-30 records under W1's MLP.

A loop of backward passes, `torch.func.vmap`, closed forms.

`python benchmarks/gradients.py`. Each way runs in a process of its own, which tells how much its
memory grew beyond the model and the records. The norms are compared with the loop's.
"""

from __future__ import annotations

import multiprocessing
import resource
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from aims import judge
from data import location30
from memberscope.targets import TorchTarget
from memberscope.targets.white_box.torch_access import hold_module_open
from memberscope.targets.white_box.torch_gradients import measure_norms_by_vmap
from memberscope.types import SignalSpec
from training import mlp

N, BATCH = 5_000, 1024
AIM = 50  # times faster than the loop, in closed form


def by_loop(module: nn.Module, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The loop that people write."""
    found = np.empty(len(x))
    for i, (row, label) in enumerate(zip(torch.from_numpy(x), torch.from_numpy(y), strict=True)):
        module.zero_grad(set_to_none=True)
        nn.functional.cross_entropy(module(row[None]), label[None]).backward()
        found[i] = float(sum(part.grad.square().sum() for part in module.parameters())) ** 0.5
    return found


def vectorised(module: nn.Module, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Per-example gradients of some records at a time, then their norms."""
    with hold_module_open(module, "logits", "cpu") as open_module:
        parts = list(measure_norms_by_vmap(open_module, x, y))
    squares = np.concatenate([part.squares.sum(axis=1) for part in parts])
    return np.exp(np.concatenate([part.error.log_size for part in parts])) * np.sqrt(squares)


def closed(module: nn.Module, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """What an audit does, the check of two records against backward passes included."""
    return np.exp(
        -TorchTarget(module, batch_size=BATCH).inside(x, y, SignalSpec("gradient_norm"))[:, 0]
    )


def measured(
    way: Callable[[nn.Module, np.ndarray, np.ndarray], np.ndarray],
) -> tuple[float, float, float, np.ndarray]:
    """Seconds by the clock and of processors (the best of five if short).

    Megabytes that the process grew by, and the norms.
    """
    x, y = location30()
    x, y = np.ascontiguousarray(x[:N], dtype=np.float32), y[:N].astype(np.int64)
    torch.manual_seed(0)
    module = mlp()
    way(module, x[:4], y[:4])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    best, busy = np.inf, np.inf
    for _ in range(5):
        started, used = time.perf_counter(), time.process_time()
        norms = way(module, x, y)
        best, busy = min(best, time.perf_counter() - started), min(busy, time.process_time() - used)
        if best > 3:
            break
    return best, busy, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024, norms


def main() -> None:
    found = {}
    for way in (by_loop, vectorised, closed):
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            found[way.__name__] = pool.apply(measured, (way,))
    slowest, busiest, _, truth = found["by_loop"]
    parameters = sum(part.numel() for part in mlp().parameters())
    print(
        f"{N:,} records, {parameters:,} parameters: all gradients together are "
        f"{4 * N * parameters / 2**20:,.0f} MB"
    )
    for name, (seconds, busy, grown, norms) in found.items():
        error = float(np.max(np.abs(norms / truth - 1)))
        print(
            f"{name}: {seconds:.3f} s ({busy:.3f} s of processors), {slowest / seconds:.0f} x "
            f"({busiest / busy:.0f} x) the loop",
            end=", ",
        )
        aim = AIM if name == "closed" else None
        verdict = judge(f"{name}, times the loop", slowest / seconds, at_least=aim)
        print(f"{grown:.0f} MB more, largest relative difference {error:.1e} {verdict}")


if __name__ == "__main__":
    main()
