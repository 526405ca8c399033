"""Distance to the decision boundary from labels alone, by walks towards other records or by HopSkipJump."""

from __future__ import annotations

from memberscope.signals.boundary_walk import Walk
from memberscope.signals.feature_domain import encoded
from memberscope.signals.label_oracle import budget_of, first_labels, opened, staged, stages
from memberscope.signals.measured import Measured, Progress, parameter
from memberscope.types import Records, SignalSpec, Target

QUERIES = 128


COARSE = 64  # first stage of HopSkipJump, whose iterations take some tens of queries


def boundary(target: Target, records: Records, spec: SignalSpec, progress: Progress | None = None) -> Measured:
    """Twice the log of the distance to the boundary in `Domain.unit`, (n, stages, 1), within `queries` a record.

    Parameters: `queries`, `settled`, `seed`, and `hopskipjump` = 1 for that search on continuous features.

    Raises:
        InputError: The budget is less than one query.
        UnmetNeedError: The records cannot be moved.
        TargetError: The model fails.
    """
    budget = budget_of(spec, QUERIES)
    domain, z = encoded(records.x)
    oracle = opened(target, domain, records, "boundary hopskipjump" if parameter(spec, "hopskipjump", 0) else "boundary")
    predicted = first_labels(oracle, z)
    right = predicted == records.y
    seed = int(parameter(spec, "seed", 0))
    if parameter(spec, "hopskipjump", 0):
        from memberscope.signals.hopskipjump import HopSkipJump

        plan, advance = stages(budget, COARSE), HopSkipJump(oracle, z, predicted, seed).advance
    else:
        plan, advance = stages(budget), Walk(oracle, z, predicted, seed).advance
    return staged(spec, plan, advance, oracle, right, progress)
