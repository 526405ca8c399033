"""Choose the precision of training, and find out which ones the processor computes itself.

A processor without bfloat16 emulates it, some fifty times slower than float32.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

from memberscope.errors import InputError
from memberscope.facts import read_recipe_facts
from memberscope.types import Recipe

SIDE = 256  # of the matrices: emulated products of this size take some 20 ms
# bfloat16 never has a reason to be slower; half the speed leaves room for a busy machine
LEAST = 0.5


@dataclass(frozen=True)
class ProductRates:
    """Speed of matrix products in each precision, in GFLOP/s.

    >>> ProductRates(68.0, 1.5).is_bfloat16_fast, ProductRates(190.0, 385.0).is_bfloat16_fast
    (False, True)
    """

    float32: float
    bfloat16: float

    @property
    def is_bfloat16_fast(self) -> bool:
        """True unless bfloat16 runs at less than half the speed of float32."""
        return self.bfloat16 >= LEAST * self.float32

    def __str__(self) -> str:
        """Write both rates, as in `1.5 GFLOP/s in bfloat16 and 68 in float32`."""
        return f"{self.bfloat16:.3g} GFLOP/s in bfloat16 and {self.float32:.3g} in float32"


def measure_product_rates(
    device: str = "cpu", clock: Callable[[], float] = time.perf_counter
) -> ProductRates:
    """Measure products of two small matrices on `device`, the best of three in each precision.

    >>> rates = measure_product_rates()
    >>> rates.float32 > 0 and rates.bfloat16 > 0
    True
    """
    import torch

    ones = torch.ones(SIDE, SIDE, device=device)

    def measure(dtype: Any) -> float:
        values, best = ones.to(dtype), float("inf")
        # The first product allocates and compiles, and is never the fastest
        for _ in range(4):
            started = clock()
            # Reading one number waits for a GPU to be done
            float((values @ values)[0, 0])
            best = min(best, clock() - started)
        return 2 * SIDE**3 / max(best, 1e-9) / 1e9

    return ProductRates(measure(torch.float32), measure(torch.bfloat16))


def with_precision(recipe: Recipe, precision: str | None) -> Recipe:
    """Give the recipe another precision; leave it unchanged if `precision` is None.

    For bfloat16 the speed of its products on the recipe's device is measured first.

    Raises:
        InputError: The recipe has no precision to choose, or not this one, or the processor only
    emulates bfloat16.
    """
    if precision is None:
        return recipe
    if not (is_dataclass(recipe) and "precision" in {entry.name for entry in fields(recipe)}):
        raise InputError(
            f"Expected a TorchRecipe for a precision, got {type(recipe).__name__}. Leave out "
            "--precision."
        )
    found: Recipe = replace(recipe, precision=precision)
    if precision == "bfloat16":
        _require_fast_bfloat16(read_recipe_facts(found).device)
    return found


def _require_fast_bfloat16(device: str) -> None:
    """Refuse bfloat16 where it is emulated.

    Raises:
        InputError: Its products are far slower than those in float32.
    """
    try:
        rates = measure_product_rates(device)
    except (RuntimeError, AssertionError):
        # A device that is not there is refused in words of its own when the module is built
        return
    if not rates.is_bfloat16_fast:
        raise InputError(
            f"Expected a processor with bfloat16 for --precision bfloat16, got {device}, which "
            f"emulates it: matrix products run at {rates}. Leave out --precision."
        )
