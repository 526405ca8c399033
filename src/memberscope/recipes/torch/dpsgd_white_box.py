"""Train privately and score canaries on every noisy gradient.

This is the adversary of DP-SGD's analysis, who sees all intermediate models.

From each published mean gradient the part is subtracted that an adversary expects who knows all
records but not the coins. What is left is a sum of the canaries' own gradients, each times its coin
less a half, and noise. Its inner products with those gradients are added up over training, and the
coins are read from them by the linear estimate of least error. Canaries whose gradients resemble
each other, as natural ones' do, would otherwise hide one another. Everything needs only products of
activations and slopes.

References:
    [1] M. Nasr et al., "Tight Auditing of Differentially Private Machine Learning", USENIX Security
        2023, arXiv:2302.07956.
    [2] T. Steinke, M. Nasr, M. Jagielski, "Privacy Auditing with One (1) Training Run", NeurIPS
2023, arXiv:2305.08846.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memberscope.errors import InputError
from memberscope.recipes.torch.engines.choice import select_engine
from memberscope.recipes.torch.engines.dpsgd_stacked import (
    Network,
    add_gradient_sums,
    compute_clip_factors,
    compute_gradient_factors,
    train_private_networks,
)
from memberscope.recipes.torch.poisson_sampling import build_mechanism
from memberscope.recipes.torch.recipe import TorchRecipe
from memberscope.recipes.torch.task import (
    Task,
    build_initial_module,
    build_tensors,
    flush_denormals,
    list_member_rows,
)
from memberscope.targets import TorchTarget
from memberscope.types import Bools, Floats, Records

# Inner products among canaries change slowly: they are computed at every tenth update that is
# observed
RARELY = 10


def train_and_score_canaries(
    recipe: TorchRecipe,
    records: Records,
    canaries: Records,
    inside: Bools,
    seed: int,
    every: int = 1,
) -> tuple[TorchTarget, Floats]:
    """Train a model privately on `records` and on some `canaries`, and score the canaries.

    Those under `inside` (m,) are trained on; the scores are (m,). The adversary knows every
    intermediate model, hence every noisy gradient, all records and all candidates, how many are in,
    and the settings, but not which canaries are in nor who joins a step: scores use neither. A
    score estimates the canary's coin less a half. Every `every`-th update is observed; memory and
    time grow by the square of the number of canaries.

    Raises:
        InputError: The recipe is not private, its model is not a fully connected network, or
            nothing would be observed.

    >>> import torch
    >>> from memberscope.recipes import Privacy
    >>> rng, inside = np.random.default_rng(0), np.arange(40) % 2 == 0
    >>> def drawn(n):
    ...     return Records(rng.normal(size=(n, 60)), rng.integers(0, 2, n), np.arange(n).astype(str))
    >>> def model():
    ...     return torch.nn.Sequential(torch.nn.Linear(60, 2))
    >>> recipe = TorchRecipe(model, batch_size=10, privacy=Privacy(noise_multiplier=0.1))
    >>> model, scores = train_and_score_canaries(recipe, drawn(20), drawn(40), inside, seed=0)
    >>> bool(scores[inside].mean() > scores[~inside].mean())
    True
    """
    module = _build_checked_module(recipe, canaries, inside, every, seed)
    # Canaries come after the records, so that their positions are known
    joined = Records(
        np.concatenate([records.x, canaries.x]),
        np.concatenate([records.y, canaries.y]),
        np.arange(len(records) + len(canaries)).astype(str),
    )
    x, y = build_tensors(recipe, joined, module)
    # All records are trained on, and the canaries whose coin says so
    mask = np.concatenate([np.ones(len(records), dtype=bool), inside])
    seen = GradientSums(np.zeros(len(canaries)), np.zeros((len(canaries), len(canaries))))
    task = Task(recipe, [module], x, y, list_member_rows(mask[None]), [seed])

    def watch(number: int, net: Network, gradients: list[list[Any]]) -> None:
        # Each look costs products among all canaries
        if number % every == 0:
            seen.add(
                *_compute_inner_products(
                    task, net, gradients, len(records), seen.looks % RARELY == 0
                )
            )

    with flush_denormals():
        train_private_networks(task, watch)
    return TorchTarget(module.eval(), device=recipe.device), _estimate_coins(seen, task)


@dataclass(eq=False)
class GradientSums:
    """Sums over updates of the canaries' inner products.

    `products` (m,) with the residual of the gradient, `among` (m, m) among themselves, and the
    number of updates in each.
    """

    products: Floats
    among: Floats
    looks: int = field(default=0)
    rare: int = field(default=0)

    def add(self, products: Floats, among: Floats | None) -> None:
        """Add one more update."""
        self.products += products
        self.looks += 1
        if among is not None:
            self.among += among
            self.rare += 1


def _estimate_coins(seen: GradientSums, task: Task) -> Floats:
    """Estimate each canary's coin less a half (m,), by the linear estimate of least error."""
    mechanism, n = build_mechanism(task), task.rows.shape[1]
    # Scaled up to all observed updates, since it was computed at some of them only
    among = seen.among * (seen.looks / seen.rare)
    # The noise's variance; a small share of the trace keeps the system solvable without noise
    ridge = max((2 * n * mechanism.deviation) ** 2, 1e-4 * float(np.trace(among)) / len(among))
    return np.asarray(
        n * np.linalg.solve(among + ridge * np.eye(len(among)), seen.products), dtype=np.float64
    )


def _build_checked_module(
    recipe: TorchRecipe, canaries: Records, inside: Bools, every: int, seed: int
) -> Any:
    """Build the module with its first weights.

    Raises:
        InputError: The recipe, the canaries or the module do not allow it.
    """
    if recipe.privacy is None:
        raise InputError(
            "Expected a recipe with privacy, got one without. Give TorchRecipe(..., "
            "privacy=Privacy(...))."
        )
    if np.shape(inside) != (len(canaries),) or np.asarray(inside).dtype != bool:
        raise InputError(
            f"Expected one truth value for each canary, {len(canaries)} in all, got shape "
            f"{np.shape(inside)} of {np.asarray(inside).dtype}. Give `inside` as booleans."
        )
    if every < 1:
        raise InputError(
            f"Expected every >= 1, got every={every}. Give every=1 to observe each update."
        )
    module = build_initial_module(recipe, seed)
    # Only this engine keeps the factors of each record's gradient
    if select_engine(recipe, module) is not train_private_networks:
        raise InputError(
            "Expected a fully connected network, all its layers trained, to score canaries from "
            "inside, got another module. Score canaries from outside instead, by privacy_bounds "
            "on the trained model's losses."
        )
    return module


def _compute_inner_products(
    task: Task, net: Network, gradients: list[list[Any]], n_known: int, rarely: bool
) -> tuple[Floats, NDArray[Any] | None]:
    """Compute inner products (m,) of canaries' clipped gradients with the gradient's residual.

    With `rarely`, those among the canaries (m, m) are computed too.
    """
    import torch

    inputs = task.x.reshape(1, len(task.x), net.width).to(gradients[0][0].dtype)
    factors = compute_gradient_factors(net, inputs, task.y[None], task.recipe.label_smoothing)
    assert task.recipe.privacy is not None, "only private training is watched"
    scale = compute_clip_factors(net, factors, task.recipe.privacy.max_grad_norm)
    # The chance of joining a step, over the expected size of a batch
    chance = torch.full_like(scale, 1.0 / task.rows.shape[1])
    # A canary joins only if its coin put it in
    chance[:, n_known:] /= 2
    # The part that is expected minus the gradient: its sign is turned below
    surprise = [[-value for value in values] for values in gradients]
    add_gradient_sums(surprise, factors, scale * chance)
    found, among = torch.zeros_like(scale[0, n_known:]), None
    for values, a, d in zip(surprise, factors.seen, factors.slopes, strict=True):
        a, d = a[0, n_known:], (d * scale[..., None])[0, n_known:]
        found -= ((a @ values[0][0] + (values[1][0] if len(values) == 2 else 0)) * d).sum(-1)
        if rarely:
            # Each gradient is an outer product; with a bias its input has one more entry, a one
            own = (a @ a.T + (len(values) - 1)) * (d @ d.T)
            among = own if among is None else among + own
    return _convert_to_float64(found), None if among is None else _convert_to_float64(among)


def _convert_to_float64(tensor: Any) -> Floats:
    """Convert a tensor to an array of float64."""
    return np.asarray(tensor.double().cpu().numpy(), dtype=np.float64)
