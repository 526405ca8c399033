"""Turn a user's generator of tables into a recipe whose models are released tables."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from memberscope._digests import digest_named_arrays
from memberscope.errors import InputError
from memberscope.facts import read_recipe_facts
from memberscope.targets import ReleasedTable
from memberscope.types import Recipe, Records


@dataclass(frozen=True)
class TableRecipe:
    """Recipe that makes tables like the released one: a generator, fitted to other records.

    `recipe` is a function (records, seed) -> table. Its tables are placed in the space of the
    released table `like`, so that distances compare.

    >>> import numpy as np
    >>> released = ReleasedTable(np.eye(3))
    >>> recipe = TableRecipe(lambda records, seed: records.x, released)
    >>> recipe(Records(np.eye(3), np.zeros(3), np.array(["a", "b", "c"])), 0).signal
    'proximity'
    """

    recipe: Recipe
    like: ReleasedTable

    def __call__(self, records: Records, seed: int) -> ReleasedTable:
        """Generate a table from `records`.

        Raises:
            InputError: What was generated is no table like the released one.
        """
        found: Any = self.recipe(records, seed)
        if isinstance(found, ReleasedTable):
            found = found.table
        try:
            return self.like.make_alike(found)
        except InputError as error:
            raise InputError(
                f"Expected the recipe to return a table like the released one. {error}"
            ) from error

    @property
    def digest(self) -> str | None:
        """Hash of the generator and of the space that its tables are placed in."""
        own = read_recipe_facts(self.recipe).digest
        if own is None:
            return None
        return digest_named_arrays({"recipe": own, "like": self.like.digest})

    @property
    def reads_seed(self) -> bool:
        """Whether the generator depends on the seed."""
        return read_recipe_facts(self.recipe).reads_seed

    @property
    def threads(self) -> int:
        """CPU threads of one run of the generator."""
        return read_recipe_facts(self.recipe).threads
