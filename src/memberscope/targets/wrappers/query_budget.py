"""Targets that count what is sent of each record: found behind whatever stands in front of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, runtime_checkable

from memberscope.types import Target


@runtime_checkable
class Metered(Protocol):
    """What an audit tells such a target: the budget of each owner, and whom to tell how many records are answered.

    It makes batches itself, of up to `rows_a_query` records in one call; `query(x, owners=…)` says whose budget each row is of.
    """

    query_budget: int | None
    told: Callable[[int], None] | None
    rows_a_query: int


def metered(target: Target) -> Metered | None:
    """The target, or the one behind its output defences, if it counts queries; else None.

    >>> from memberscope.targets import Endpoint, FunctionTarget, HttpTarget, RestrictedTarget
    >>> from memberscope.defences import restriction
    >>> served = HttpTarget(Endpoint("http://localhost:1", model_name="m", n_classes=2))
    >>> metered(RestrictedTarget(served, restriction("top:1"))) is served, metered(FunctionTarget(len, n_classes=2))
    (True, None)
    """
    inner: object = target
    while not isinstance(inner, Metered):
        if not hasattr(inner, "target"):
            return None
        inner = inner.target
    return inner
