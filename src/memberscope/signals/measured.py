"""Hold a measured signal, and read the parameters of its specification."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import get_args

import numpy as np

from memberscope.types import Floats, Ints, Measurement, Records, SignalSpec, Target

Progress = Callable[[int, int], None]


@dataclass(frozen=True, eq=False)
class MeasuredSignal:
    """Values of a signal after each stage, and the queries they cost.

    It has `values` (n, stages, d), and `queries` (n, stages) that each record had cost by then. The
    last stage is the signal; the others are what a smaller budget would have given. White-box
    signals have one stage and no queries.
    """

    values: Floats
    queries: Ints

    @property
    def final(self) -> Floats:
        """Signal (n, d) at the whole budget."""
        return self.values[:, -1]


def is_measured(spec: SignalSpec) -> bool:
    """Check whether `spec` has to be measured, and cannot be read from one answer a record.

    >>> is_measured(SignalSpec()), is_measured(SignalSpec("boundary"))
    (False, True)
    """
    return spec.name in get_args(Measurement)


def with_query_budget(spec: SignalSpec, queries: int) -> SignalSpec:
    """Give the specification with a budget of `queries` for each record.

    >>> with_query_budget(SignalSpec("boundary"), 100).parameters
    (('queries', 100.0),)
    """
    others = tuple(pair for pair in spec.parameters if pair[0] != "queries")
    return replace(spec, parameters=(*others, ("queries", float(queries))))


def read_parameter(spec: SignalSpec, name: str, default: float) -> float:
    """Read a parameter of the specification by name.

    >>> read_parameter(SignalSpec("noise", parameters=(("scale", 0.1),)), "scale", 0.2)
    0.1
    """
    return dict(spec.parameters).get(name, default)


def build_single_stage(values: Floats, n_queries: int = 0) -> MeasuredSignal:
    """Build a signal (n, d) that has no smaller budget.

    >>> build_single_stage(np.zeros((4, 2))).values.shape
    (4, 1, 2)
    """
    return MeasuredSignal(values[:, None, :], np.full((len(values), 1), n_queries, dtype=np.int64))


Measure = Callable[[Target, Records, SignalSpec, Progress | None], "MeasuredSignal"]
