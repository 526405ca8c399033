"""Fit output defences to a model as part of its recipe.

Each trained model answers through its own fitted defence.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from memberscope._numerics import softmax
from memberscope.errors import InputError
from memberscope.facts import read_recipe_facts
from memberscope.recipes import as_recipe
from memberscope.recipes.fleet import PLAIN, select_records, train_models
from memberscope.signals import digest_records, encode_in_domain
from memberscope.targets import RestrictedTarget
from memberscope.types import Bools, Floats, OutputDefence, Recipe, Records, Target

N_RANDOM = 1000  # inputs drawn at random for a defence that is fitted to answers about such inputs


@dataclass(frozen=True, eq=False)
class BehindOutputs:
    """Fit the output defence `output` to each model that is trained.

    The model then answers through it. The defence is fitted to answers about the model's own
    records and about `reserve`, which trains no model and is not audited, or with `at_random` to
    answers about inputs drawn at random from the records' domain.
    """

    output: OutputDefence
    reserve: Records | None = None
    at_random: bool = False

    @property
    def name(self) -> str:
        """Name of the output defence."""
        return self.output.name

    def __call__(self, recipe: Recipe) -> BehindOutputsRecipe:
        """Wrap a recipe, so that its models answer through the defence.

        Raises:
            InputError: There are no records to fit the defence to.
        """
        if self.reserve is None and not self.at_random:
            raise InputError(
                f"Expected records that train no model to fit {self.name} to, got none. Give "
                f"`reserve` records, or leave out {self.name}."
            )
        return BehindOutputsRecipe(as_recipe(recipe), self)


@dataclass(frozen=True, eq=False)
class BehindOutputsRecipe:
    """Train as `base` says, and put the fitted defence in front of the model."""

    base: Recipe
    how: BehindOutputs

    @property
    def digest(self) -> str | None:
        """Hash of the base's digest, the defence's name and what it is fitted to."""
        inner, reserve = read_recipe_facts(self.base).digest, self.how.reserve
        text = f"answering:1:{inner}:{self.how.name}:{self.how.at_random}:{digest_records(reserve) if reserve else None}"
        return None if inner is None else hashlib.sha256(text.encode()).hexdigest()

    @property
    def stack(self) -> int | None:
        """Number of models trained together."""
        return read_recipe_facts(self.base).stack

    @property
    def threads(self) -> int:
        """CPU threads of one training job."""
        return read_recipe_facts(self.base).threads

    @property
    def device(self) -> str:
        """Device on which models are trained."""
        return read_recipe_facts(self.base).device

    def __call__(self, records: Records, seed: int) -> RestrictedTarget:
        """Train a model on `records` and put its own defence in front of it."""
        return next(self.many(records, np.ones((1, len(records)), dtype=bool), [seed]))

    def many(
        self, pool: Records, inside: Bools, seeds: Sequence[int]
    ) -> Iterator[RestrictedTarget]:
        """Train a model for each row of `inside` (b, n), each behind its own defence."""
        models = train_models(self.base, pool, inside, seeds)
        for model, row, seed in zip(models, inside, seeds, strict=True):
            answering = RestrictedTarget(model, self.fitted(model, pool, row, seed))
            # The answers are restricted already: nothing is left to be applied to them
            answering.restriction = None
            yield answering

    def fitted(self, model: Target, pool: Records, row: Bools, seed: int) -> OutputDefence:
        """Fit the defence to `model`, which was trained on the records under `row` (n,)."""
        if self.how.at_random:
            outputs = _query_probabilities(
                model, _draw_random_inputs(pool.x, np.random.default_rng([seed, 6]))
            )
            # Nobody is a member among inputs drawn at random
            return self.how.output.fit(outputs, np.zeros(len(outputs), dtype=bool))
        assert self.how.reserve is not None
        # The model's own records against records that no model has seen
        sides = [
            _query_probabilities(model, select_records(pool, row).x),
            _query_probabilities(model, self.how.reserve.x),
        ]
        return self.how.output.fit(
            np.concatenate(sides), np.repeat([True, False], [len(side) for side in sides])
        )

    def tuned(
        self, pool: Records, size: int, n_models: int
    ) -> tuple[BehindOutputsRecipe, dict[str, Any]]:
        """Choose the base's settings by measurement."""
        tuned = read_recipe_facts(self.base).tuned
        if tuned is None:
            return self, dict(PLAIN)
        base, choice = tuned(pool, size, n_models)
        return replace(self, base=base), choice

    def chosen(self, choice: dict[str, Any]) -> BehindOutputsRecipe:
        """Apply an earlier choice to the base."""
        chosen = read_recipe_facts(self.base).chosen
        # A base without settings to choose stays as it is
        return self if chosen is None else replace(self, base=chosen(choice))


def _query_probabilities(model: Target, x: Any) -> Floats:
    """Query the model for probabilities (n, k)."""
    outputs = np.asarray(model.query(x), dtype=np.float64)
    return softmax(outputs) if model.signal == "logits" else outputs


def _draw_random_inputs(x: Any, rng: np.random.Generator) -> Any:
    """Draw inputs at random, each feature independently of the others.

    Levels of a category are equally likely, numbers are uniform over their range.

    >>> _draw_random_inputs(np.array([[0.0, 5.0], [1.0, 7.0], [1.0, 6.5]]), np.random.default_rng(0)).shape
    (1000, 2)
    """
    domain, z = encode_in_domain(x)
    drawn = rng.uniform(domain.low, domain.high, (N_RANDOM, z.shape[1]))
    for j in np.flatnonzero(domain.discrete):
        # Each level as likely as the others, however often the records have it
        drawn[:, j] = rng.choice(np.unique(z[:, j]), N_RANDOM)
    return domain.decode(domain.inside(drawn))
