"""SELENA: distil a model from teachers that did not see the record they answer about.

References:
    [1] X. Tang et al., "Mitigating Membership Inference Attacks by Self-Distillation Through a
        Novel Ensemble Architecture", USENIX Security 2022, arXiv:2110.08324.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from memberscope._numerics import softmax
from memberscope.defences._students import StudentRecipe
from memberscope.defences.regularization import require_torch_recipe
from memberscope.errors import InputError
from memberscope.targets import TorchTarget
from memberscope.types import Bools, Floats, Recipe, Records


@dataclass(frozen=True)
class Selena:
    """Train `k` models, each record left out of `l` of them, and a student.

    The student learns each record's mean answer of the `l` models without it [1].

    >>> Selena(5, 2).name
    'selena:5:2'
    """

    k: int = 25
    l: int = 10  # noqa: E741

    def __post_init__(self) -> None:
        if not 0 < self.l < self.k:
            raise InputError(
                f"Expected 0 < l < k, got l = {self.l} and k = {self.k}. Give for example "
                "selena:25:10."
            )

    @property
    def name(self) -> str:
        """Name `selena:k:l`."""
        return f"selena:{self.k}:{self.l}"

    def __call__(self, recipe: Recipe) -> SelenaRecipe:
        """Give the recipe of the student."""
        return SelenaRecipe(require_torch_recipe(recipe, self.name), self.k, self.l)


@dataclass(frozen=True, eq=False)
class SelenaRecipe(StudentRecipe):
    """Train `k` models and their student, all as `base` says.

    The `k` models are trained in stacks of the base's size.
    """

    k: int
    l: int  # noqa: E741

    @property
    def digest(self) -> str | None:
        """Hash of the base's digest and both numbers."""
        inner = self.base.digest
        return (
            None
            if inner is None
            else hashlib.sha256(f"selena:1:{inner}:{self.k}:{self.l}".encode()).hexdigest()
        )

    def many(self, pool: Records, inside: Bools, seeds: Sequence[int]) -> Iterator[TorchTarget]:
        """Train a student for each row of `inside` (b, n), one after another.

        Raises:
            InputError: A model has fewer records than there are models to leave them out of.
        """
        for row, seed in zip(inside, seeds, strict=True):
            yield next(self.base.many(pool, row[None], [seed], self.taught(pool, row, seed)[None]))

    def taught(self, pool: Records, row: Bools, seed: int) -> Floats:
        """Compute what the student learns (n, k) of each record under `row` (n,).

        It is the mean answer of the models that did not see the record.
        """
        members = np.flatnonzero(row)
        if len(members) < 2 * self.k:
            raise InputError(
                f"Expected at least {2 * self.k} records for SELENA with k = {self.k}, got "
                f"{len(members)}. Lower k, as in selena:10:4, or give more records."
            )
        # A stream of its own, so that the teachers' seeds do not change the split
        rng = np.random.default_rng([seed, 5])
        out = draw_exclusions(len(members), self.k, self.l, rng)
        inside = np.zeros((self.k, len(row)), dtype=bool)
        inside[:, members] = ~out.T
        seeds = [int(value) for value in rng.integers(0, 2**31 - 1, self.k)]
        # Answers are summed stack by stack: all teachers at once need not fit in memory
        total, step = None, self.base.stack or self.k
        for start in range(0, self.k, step):
            part = slice(start, start + step)
            for model, absent in zip(
                self.base.many(pool, inside[part], seeds[part]), out.T[part], strict=True
            ):
                answers = softmax(model.query(pool.x[members]))
                total = np.zeros((len(row), answers.shape[1])) if total is None else total
                # Only from teachers that did not see the record
                total[members] += answers * absent[:, None]
        assert total is not None
        return np.asarray(total / self.l, dtype=np.float64)

    def tuned(self, pool: Records, size: int, n_models: int) -> tuple[SelenaRecipe, dict[str, Any]]:
        """Choose the stacks of the teachers by measurement."""
        # Teachers are smaller, each without the share l / k of the records, and k times as many
        base, choice = self.base.tuned(
            pool, max(2, size * (self.k - self.l) // self.k), self.k * n_models
        )
        return replace(self, base=base), choice | {
            "note": f"{self.k} teachers a model: {choice['note']}"
        }


def draw_exclusions(n: int, k: int, l: int, rng: np.random.Generator) -> Bools:  # noqa: E741
    """Choose which models (n, k) each record is left out of.

    `l` models are drawn at random among those that leave out fewest so far. The models' sizes then
    differ by one at most, so that they train together.

    >>> draw_exclusions(10, 5, 2, np.random.default_rng(0)).sum(axis=0).tolist()
    [4, 4, 4, 4, 4]
    """
    counts, found = np.zeros(k, dtype=np.int64), np.zeros((n, k), dtype=bool)
    for record in rng.permutation(n):
        # The last key counts most: fewest records left out first, ties at random
        chosen = np.lexsort((rng.random(k), counts))[:l]
        found[record, chosen] = True
        counts[chosen] += 1
    return found
