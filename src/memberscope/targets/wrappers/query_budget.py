"""Find targets that count what is sent of each record, behind whatever wraps them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, runtime_checkable

from memberscope.facts import read_target_facts
from memberscope.types import Target


@runtime_checkable
class MeteredTarget(Protocol):
    """Target that counts queries.

    The audit sets the budget of each owner, and `told`, which is called with how many records are
    answered.

    It makes batches itself, of up to `rows_a_query` records in one call; `query(x, owners=…)` says
    whose budget each row is of.
    """

    query_budget: int | None
    told: Callable[[int], None] | None
    rows_a_query: int


def find_metered_target(target: Target) -> MeteredTarget | None:
    """Find the target that counts queries: this one, or one behind its output defences.

    Give None if there is none.

    >>> from memberscope.wire import Endpoint
    >>> from memberscope.targets import FunctionTarget, HttpTarget, RestrictedTarget
    >>> from memberscope.outputs import parse_restriction
    >>> served = HttpTarget(Endpoint("http://localhost:1", model_name="m", n_classes=2))
    >>> find_metered_target(RestrictedTarget(served, parse_restriction("top:1"))) is served, find_metered_target(FunctionTarget(len, n_classes=2))
    (True, None)
    """
    inner: Target | None = target
    # Defences may stand one behind the other
    while inner is not None and not isinstance(inner, MeteredTarget):
        inner = read_target_facts(inner).target
    return inner
