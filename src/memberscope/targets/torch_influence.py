"""Self-influence under the damped Gauss-Newton matrix of a torch module, whose inverse is never formed, nor any record's gradient.

With H = A + damping, A is nearly of low rank: its large eigenvalues, found by subspace iteration on products with A, and the
per-example norms give g'Hg and its like for every record at the price of directional derivatives. Whether the rank suffices is
tested on some records against products with H itself; if it does not, all systems are solved by conjugate gradients, which
these eigenvalues precondition. A is the mean over a fixed random part of the records given, members or not.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from memberscope.errors import UnmetNeedError
from memberscope.targets.output_error import minus_log
from memberscope.targets.solve import conjugate_gradients
from memberscope.targets.torch_gradients import batches, norms, per_example, state
from memberscope.targets.torch_open import Opened, as_inputs, error_at
from memberscope.types import Floats, Ints

DAMPING, RECORDS = 0.2, 512  # of Suri et al.; records from which the curvature is taken
RANKS = (32, 64, 128, 256)
ROUNDS, CHECKED = 3, 8  # subspace iterations; records on which the low rank is tested
ENOUGH = 1e-3  # relative residual at which a low rank is enough
ROOM = 32_000_000  # numbers held in directions, or in activations, or in gradients: 128 MB


@dataclass(frozen=True, eq=False)
class Curvature:
    """The Gauss-Newton matrix A of mean cross-entropy at the records `x`, plus `damping` times the identity."""

    opened: Opened
    x: Any
    damping: float

    @cached_property
    def shapes(self) -> dict[str, Any]:
        """Shapes of the trained parameters by name."""
        return {name: part.shape for name, part in self.opened.parameters.items()}

    @cached_property
    def passed(self) -> int:
        """Numbers that all parts of the module give out for one record."""
        counted: list[int] = []
        parts = [part for part in self.opened.module.modules() if not any(True for _ in part.children())]
        hooks = [part.register_forward_hook(lambda layer, given, out: counted.append(numbers(out))) for part in parts]
        try:
            self.opened.module(as_inputs(self.opened.module, self.x[:1], self.opened.device))
        finally:
            for hook in hooks:
                hook.remove()
        return max(1, sum(counted))

    @cached_property
    def size(self) -> int:
        """Number of trained parameters, p."""
        return sum(shape.numel() for shape in self.shapes.values())

    def undamped(self, block: Any) -> Any:
        """A times each row of `block` (m, p)."""
        import torch

        total = torch.zeros_like(block)
        for rows, _ in batches(self.x, np.zeros(len(self.x), dtype=np.int64), self.together(len(block))):
            inputs = as_inputs(self.opened.module, rows, self.opened.device)
            outputs, moved = self.pushed(inputs, block)
            total += self.pulled(inputs, weighed(outputs, moved, self.opened.signal) / len(self.x))
        return total

    def __call__(self, block: Any) -> Any:
        """H times each row of `block` (m, p)."""
        return self.undamped(block) + self.damping * block

    def pushed(self, inputs: Any, block: Any) -> tuple[Any, Any]:
        """Outputs (b, k), and their derivatives (m, b, k) in the directions `block` (m, p)."""
        from torch.func import jvp, vmap

        function, own = self.function(inputs)

        def towards(one: dict[str, Any]) -> Any:
            return jvp(function, (own,), (one,))

        outputs, moved = vmap(towards)(self.parts(block))
        return outputs[0], moved

    def pulled(self, inputs: Any, errors: Any) -> Any:
        """The gradients (m, p) of the sums of outputs times `errors` (m, b, k)."""
        import torch
        from torch.func import vjp, vmap

        function, own = self.function(inputs)
        (gradients,) = vmap(vjp(function, own)[1])(errors)
        return torch.cat([gradients[name].flatten(1) for name in self.shapes], dim=1)

    def function(self, inputs: Any) -> tuple[Any, dict[str, Any]]:
        """The outputs as a function of the trained parameters, and those."""
        from torch.func import functional_call

        own, rest = state(self.opened)
        return lambda parts: functional_call(self.opened.module, {**parts, **rest}, (inputs,)), own

    def together(self, directions: int) -> int:
        """Records that pass through the module at once in so many directions."""
        return max(1, ROOM // (max(1, directions) * self.passed))

    def parts(self, block: Any) -> dict[str, Any]:
        """Rows (m, p) as parameters of m modules, by name."""
        pieces = block.split([shape.numel() for shape in self.shapes.values()], dim=1)
        return {name: piece.unflatten(1, shape) for (name, shape), piece in zip(self.shapes.items(), pieces, strict=True)}


def numbers(out: Any) -> int:
    """Numbers in what a layer gives out: a tensor, or several."""
    return int(out.numel()) if hasattr(out, "numel") else sum(map(numbers, out)) if isinstance(out, tuple | list) else 0


def weighed(outputs: Any, moved: Any, signal: str) -> Any:
    """The expected second derivative of the loss at `outputs` (b, k) times changes `moved` (m, b, k) of them."""
    single = outputs.ndim == 1 or outputs.shape[1] == 1
    if signal == "logits":
        p = outputs.sigmoid() if single else outputs.softmax(1)
        return p * (1 - p) * moved if single else p * moved - p * (p * moved).sum(-1, keepdim=True)
    p = outputs.clamp(1e-7, 1.0)
    return moved / (p * (1 - outputs).clamp(1e-7, 1.0)) if single else moved / p


@dataclass(frozen=True, eq=False)
class LowRank:
    """Orthonormal `directions` (r, p) and the `values` (r,) of A along them: H is taken for the damping elsewhere."""

    directions: Any
    values: Any
    damping: float

    def inverse(self, block: Any) -> Any:
        """The approximate inverse of H times each row of `block` (m, p)."""
        along = block @ self.directions.T
        return (block - (along * (self.values / (self.values + self.damping))) @ self.directions) / self.damping


def low_rank(curvature: Curvature, rank: int, start: LowRank | None) -> LowRank:
    """The largest eigenvalues of A by subspace iteration, from a fixed random start or a smaller subspace."""
    import torch

    like = next(iter(curvature.opened.parameters.values()))
    drawn = np.random.default_rng(rank).standard_normal((rank, curvature.size)).astype(np.float32)
    block = torch.from_numpy(drawn).to(like)
    if start is not None:
        block[: len(start.values)] = start.directions
    for _ in range(ROUNDS):
        block = torch.linalg.qr(curvature.undamped(block).T)[0].T.contiguous()
    small = block @ curvature.undamped(block).T
    values, turned = torch.linalg.eigh((small + small.T) / 2)
    return LowRank(turned.T @ block, values.clamp(min=0.0), curvature.damping)


def influence(opened: Opened, x: Any, y: Ints, batch_size: int, chosen: dict[str, float]) -> Floats:
    """Columns (n, 4): minus the logarithm of g'H⁻¹g; the loss; |H⁻¹g|²; and (H⁻¹g)'(H⁻¹G), where G is the mean gradient.

    Raises:
        UnmetNeedError: torch.func cannot differentiate the module.
        TargetError: The solver does not converge.
    """
    rows = np.sort(np.random.default_rng(0).permutation(len(x))[: int(chosen.get("records", RECORDS))])
    curvature = Curvature(opened, x[rows], chosen.get("damping", DAMPING))
    sizes = norms(opened, x, y, batch_size)
    squares, log_size = sizes.squares.sum(axis=1), sizes.error.log_size
    try:
        near, enough = inverse_of(curvature, x, y)
        mean = mean_gradient(curvature, x, y, batch_size)
        twice = conjugate_gradients(
            curvature, conjugate_gradients(curvature, mean, precondition=near.inverse), precondition=near.inverse
        )
        found = by_projection(curvature, near, squares, x, y) if enough else by_solving(curvature, near, x, y)
        cross = np.concatenate(list(along(curvature, twice, x, y)))[:, 0]
    except (RuntimeError, NotImplementedError) as error:
        first = (str(error).splitlines() or [""])[0]
        raise UnmetNeedError(
            f"Expected a module that torch.func can differentiate, got {type(opened.module).__name__}: {first}. "
            f"Leave out attacks on influence."
        ) from error
    size = np.exp(log_size)
    columns = (minus_log(2 * log_size, found[:, :1] ** 2), -sizes.error.log_p, size**2 * found[:, 1], size * cross)
    return np.column_stack(columns)


def inverse_of(curvature: Curvature, x: Any, y: Ints) -> tuple[LowRank, bool]:
    """A low-rank inverse, and whether it solves the systems of some records to `ENOUGH`."""
    some = np.unique(np.linspace(0, len(x) - 1, CHECKED).astype(int))
    rhs = next(gradients(curvature, x[some], y[some], len(some)))
    near = None
    for rank in RANKS:
        rank = min(rank, curvature.size, max(1, ROOM // curvature.size))
        if near is not None and rank <= len(near.values):
            break
        near = low_rank(curvature, rank, near)
        left = curvature(near.inverse(rhs)) - rhs
        if bool((left.square().sum(1) <= ENOUGH**2 * rhs.square().sum(1)).all()):
            return near, True
    assert near is not None
    return near, False


def by_projection(curvature: Curvature, near: LowRank, squares: Floats, x: Any, y: Ints) -> Floats:
    """g'H⁻¹g and |H⁻¹g|², (n, 2), of unit errors from |g|² and the products of g with the low rank's directions."""
    damping, values = near.damping, near.values.double().cpu().numpy()
    kept = damping / (values + damping)
    inner = np.concatenate(list(along(curvature, near.directions, x, y))) ** 2
    found = np.column_stack([squares - inner @ (1 - kept), (squares - inner @ (1 - kept**2)) / damping]) / damping
    least = 1.0 / (float(values.max()) + damping)
    return np.asarray(np.maximum(found, squares[:, None] * np.array([least, least**2])), dtype=np.float64)


def by_solving(curvature: Curvature, near: LowRank, x: Any, y: Ints) -> Floats:
    """The same from a solution for each record, as many at a time as `ROOM` holds."""
    found = []
    for rhs in gradients(curvature, x, y, min(256, max(1, ROOM // curvature.size))):
        solved = conjugate_gradients(curvature, rhs, precondition=near.inverse)
        found.append(np.column_stack([(solved * rhs).sum(1).double().cpu(), solved.square().sum(1).double().cpu()]))
    return np.concatenate(found)


def gradients(curvature: Curvature, x: Any, y: Ints, room: int) -> Iterator[Any]:
    """Per-example gradients (b, p) of unit errors, `room` records at a time."""
    import torch

    for rows, labels in batches(x, y, room):
        found, _ = per_example(curvature.opened, rows, labels)
        yield torch.cat([found[name].flatten(1) for name in curvature.shapes], dim=1)


def along(curvature: Curvature, directions: Any, x: Any, y: Ints) -> Iterator[Floats]:
    """Products (b, r) of the gradients of unit errors with `directions` (r, p), as derivatives along them."""
    opened = curvature.opened
    for rows, labels in batches(x, y, curvature.together(len(directions))):
        outputs, moved = curvature.pushed(as_inputs(opened.module, rows, opened.device), directions)
        product = moved * error_at(opened, outputs, labels)[1]
        yield np.asarray((product.sum(-1) if product.ndim > 2 else product).T.double().cpu().numpy())


def mean_gradient(curvature: Curvature, x: Any, y: Ints, batch_size: int) -> Any:
    """The mean gradient (1, p) over all records, members or not."""
    import torch

    opened, total = curvature.opened, 0.0
    for rows, labels in batches(x, y, batch_size):
        inputs = as_inputs(opened.module, rows, opened.device)
        error, unit = error_at(opened, opened.module(inputs), labels)
        size = torch.from_numpy(np.exp(error.log_size) / len(x)).to(unit)
        total = total + curvature.pulled(inputs, (unit * (size[:, None] if unit.ndim > 1 else size))[None])
    return total
