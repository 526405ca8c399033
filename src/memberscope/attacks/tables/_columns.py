"""The columns of what a released table shows of a record, and who may read them."""

from __future__ import annotations

from memberscope.errors import UnmetNeedError
from memberscope.types import Access, Evidence, Floats, Needs

CLOSEST, DENSITY = 0, 1  # minus the logarithm of the distance, and the logarithm of the density
BESIDE = 2  # the same columns of the population stand so many further on


NEEDS = Needs(access=Access.PREDICTION, signals=("proximity",), tasks=("table",))


def read_nearness(evidence: Evidence, column: int) -> Floats:
    """Read one column (n,) of what the table shows."""
    found: Floats = evidence.target[:, 0, column]
    return found


def compare_with_population(evidence: Evidence, column: int, name: str) -> Floats:
    """Compare one column (n,) with the same of the population: the difference of logarithms.

    Raises:
        UnmetNeedError: There is no population.
    """
    if evidence.target.shape[2] <= column + BESIDE:
        raise UnmetNeedError(
            f"Expected a population for the attack {name}, got none. Give records of the same "
            "kind that nothing was made of (--population)."
        )
    return read_nearness(evidence, column) - read_nearness(evidence, column + BESIDE)
