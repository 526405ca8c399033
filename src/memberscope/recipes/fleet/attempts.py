"""Train and observe models one job at a time.

One that fails is left out with its reason and does not end the others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from numpy.typing import NDArray

from memberscope.errors import InputError, MemberscopeError, TargetError
from memberscope.recipes.fleet.observe_model import Observation, train_models
from memberscope.recipes.fleet.observers import select_observer
from memberscope.types import Bools, Recipe, Records, Target, Task

ENOUGH = 3  # models that failed alike, none having succeeded, after which no more are tried
Found = TypeVar("Found")
Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Failure:
    """Why a model could not be trained or observed, in a sentence.

    `is_input` is true if the recipe returned something unusable.
    """

    why: str
    is_input: bool = False

    def error(self) -> MemberscopeError:
        """Give the failure as the error that it was."""
        return InputError(self.why) if self.is_input else TargetError(self.why)


def attempt_models(
    look: Observation,
    recipe: Recipe,
    pool: Records,
    inside: Bools,
    seeds: Sequence[int],
    *,
    population: Records | None = None,
    also: Callable[[Target], Arrays] | None = None,
) -> list[Arrays | Failure]:
    """Train a model for each row of `inside` (b, n) and observe it.

    `also` gives what else is kept of each. Failures stand in their models' places.

    Models that cannot be trained together are trained one by one.

    Raises:
        InputError: What is `also` kept cannot be.
    """
    observe = select_observer(look.task)

    def observed(model: Target, row: Bools) -> Arrays | Failure:
        found = _catch_failure(lambda: observe(look, model, pool, row, population))
        # Outside the attempt: weights that cannot be kept are the user's to decide on
        return found if isinstance(found, Failure) or also is None else found | also(model)

    together = _catch_failure(lambda: train_models(recipe, pool, inside, seeds, look.task))
    models: list[Target | Failure]
    # Whatever fails for a stack may work for its models alone, such as one that needs less memory
    if not isinstance(together, Failure):
        models = list(together)
    # Alone it would fail in the same way
    elif len(seeds) == 1:
        models = [together]
    else:
        models = [
            _train_alone(recipe, pool, row, seed, look.task)
            for row, seed in zip(inside, seeds, strict=True)
        ]
    return [
        model if isinstance(model, Failure) else observed(model, row)
        for model, row in zip(models, inside, strict=True)
    ]


def _train_alone(
    recipe: Recipe, pool: Records, row: Bools, seed: int, task: Task
) -> Target | Failure:
    """Train one model of a task, or say why it could not be trained."""
    return _catch_failure(lambda: train_models(recipe, pool, row[None], [seed], task)[0])


def _catch_failure(work: Callable[[], Found]) -> Found | Failure:
    """Do the work, or say why it failed."""
    try:
        return work()
    except MemberscopeError as error:
        return Failure(str(error), isinstance(error, InputError))
    except Exception as error:
        first = (str(error).splitlines() or [""])[0]
        return Failure(
            f"Expected the recipe's model to answer, got {type(error).__name__}: {first}. Query "
            "one yourself to see why."
        )


def is_training_hopeless(failures: Mapping[int, Failure], n_succeeded: int, n_models: int) -> bool:
    """Check whether further models need not be tried.

    True if none succeeded and enough failed with the same words.

    >>> is_training_hopeless({0: Failure("a"), 1: Failure("a"), 2: Failure("a")}, 0, 16)
    True
    """
    # Different reasons may be chance, such as a full memory
    alike = len({failure.why for failure in failures.values()}) == 1
    return n_succeeded == 0 and (len(failures) == n_models or (alike and len(failures) >= ENOUGH))
