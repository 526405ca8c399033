"""Damped linear systems with many right-hand sides, solved from products alone; the arrays are numpy's or torch's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from memberscope.errors import TargetError

TOLERANCE, STEPS = 1e-3, 200


def conjugate_gradients(
    product: Callable[[Any], Any],
    rhs: Any,
    *,
    precondition: Callable[[Any], Any] = lambda block: block,
    tolerance: float = TOLERANCE,
    steps: int = STEPS,
) -> Any:
    """Solutions (m, p) of `product`(x) = `rhs` for all rows of `rhs` (m, p) together, each to a relative residual of `tolerance`.

    `product` is symmetric and positive definite, a map of rows, as is `precondition`, which comes near to its inverse.

    Raises:
        TargetError: Some row has not converged after `steps` steps.

    >>> import numpy as np
    >>> matrix = np.array([[2.0, 1.0], [1.0, 3.0]])
    >>> solved = conjugate_gradients(lambda block: block @ matrix, np.array([[1.0, 0.0]]), tolerance=1e-12)
    >>> bool(np.allclose(solved @ matrix, [[1.0, 0.0]]))
    True
    """
    found = 0.0 * rhs
    residual = rhs
    size = (rhs * rhs).sum(1)
    direction = precondition(residual)
    energy = (residual * direction).sum(1)
    for _ in range(steps + 1):
        left = (residual * residual).sum(1)
        if bool((left <= tolerance**2 * size).all()):
            return found
        moved = product(direction)
        curve = (direction * moved).sum(1)
        step = energy / (curve + (curve == 0))
        found = found + step[:, None] * direction
        residual = residual - step[:, None] * moved
        nearer = precondition(residual)
        before, energy = energy, (residual * nearer).sum(1)
        direction = nearer + (energy / (before + (before == 0)))[:, None] * direction
    worst = float((left / (size + (size == 0))).max()) ** 0.5
    raise TargetError(
        f"Expected inverse-Hessian products to converge to {tolerance:g}, got a relative residual of {worst:.2g} after {steps} steps. "
        f"Raise the damping."
    )
