"""Measure the distance to the decision boundary from labels alone, by walks or HopSkipJump."""

from __future__ import annotations

from memberscope.signals.boundary_walk import BoundaryWalk
from memberscope.signals.feature_domain import encode_in_domain
from memberscope.signals.label_oracle import (
    ask_first_labels,
    build_oracle,
    measure_in_stages,
    plan_stages,
    read_query_budget,
)
from memberscope.signals.measured import MeasuredSignal, Progress, read_parameter
from memberscope.types import Records, SignalSpec, Target

QUERIES = 128  # queries for each record unless the specification says otherwise


COARSE = 64  # first stage of HopSkipJump, whose iterations take some tens of queries


def measure_boundary(
    target: Target, records: Records, spec: SignalSpec, progress: Progress | None = None
) -> MeasuredSignal:
    """Measure twice the log of the distance to the boundary in `Domain.unit`, (n, stages, 1).

    At most `queries` are spent for each record.

    Parameters: `queries`, `settled`, `seed`, and `hopskipjump` = 1 for that search on continuous
    features.

    Raises:
        InputError: The budget is less than one query.
        UnmetNeedError: The records cannot be moved.
        TargetError: The model fails.
    """
    budget = read_query_budget(spec, QUERIES)
    domain, z = encode_in_domain(records.x)
    # Both searches count their queries apart, as each has a budget of its own
    oracle = build_oracle(
        target,
        domain,
        records,
        "boundary hopskipjump" if read_parameter(spec, "hopskipjump", 0) else "boundary",
    )
    predicted = ask_first_labels(oracle, z)
    right = predicted == records.y
    seed = int(read_parameter(spec, "seed", 0))
    if read_parameter(spec, "hopskipjump", 0):
        from memberscope.signals.hopskipjump import HopSkipJump

        plan, advance = plan_stages(budget, COARSE), HopSkipJump(oracle, z, predicted, seed).advance
    else:
        plan, advance = plan_stages(budget), BoundaryWalk(oracle, z, predicted, seed).advance
    return measure_in_stages(spec, plan, advance, oracle, right, progress)
