"""Signals that take more than one answer a record: label-only searches, and what only an open model shows.

Each is measured by one function of a target and records, the same for the audited model and for every reference model, and
deterministic: all randomness comes from the specification. Its values carry the stages of a query budget, so that leakage
can be told for every smaller budget too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, get_args

import numpy as np

from memberscope.signals.store import Store, digest_records, signal_key
from memberscope.types import Floats, Ints, Measurement, Records, SignalSpec, Target

Progress = Callable[[int, int], None]
Measure = Callable[[Target, Records, SignalSpec, Progress | None], "Measured"]


@dataclass(frozen=True, eq=False)
class Measured:
    """`values` (n, stages, d) after each stage, and the `queries` (n, stages) that each record had cost by then.

    The last stage is the signal; the others are what a smaller budget would have given. White-box signals have one stage
    and no queries.
    """

    values: Floats
    queries: Ints

    @property
    def final(self) -> Floats:
        """The signal (n, d)."""
        return self.values[:, -1]


def is_measured(spec: SignalSpec) -> bool:
    """Whether `spec` has to be measured, and cannot be read off one answer a record.

    >>> is_measured(SignalSpec()), is_measured(SignalSpec("boundary"))
    (False, True)
    """
    return spec.name in get_args(Measurement)


def budgeted(spec: SignalSpec, queries: int) -> SignalSpec:
    """The specification with a budget of `queries` a record.

    >>> budgeted(SignalSpec("boundary"), 100).parameters
    (('queries', 100.0),)
    """
    others = tuple(pair for pair in spec.parameters if pair[0] != "queries")
    return replace(spec, parameters=(*others, ("queries", float(queries))))


def measures() -> dict[str, Measure]:
    """The function that measures each signal by name; imported when asked for."""
    from memberscope.signals import gradient
    from memberscope.signals.robustness import augmentation, noise
    from memberscope.signals.search import boundary

    return {"boundary": boundary, "noise": noise, "augmentation": augmentation, **gradient.MEASURES}


def measure(
    target: Target, records: Records, spec: SignalSpec, *, store: Store | None = None, progress: Progress | None = None
) -> Measured:
    """Measure `spec` of the records under the target, or take what `store` holds for the same target, records and specification.

    Raises:
        UnmetNeedError: The target or the records do not allow it.
        TargetError: The model fails.
    """
    model = target.digest
    name = signal_key(model, digest_records(records), spec, (0, len(records))) if store and model else None
    kept = store.get_all(name) if store and name else None
    if kept is not None:
        return Measured(kept["values"], kept["queries"])
    found = measures()[spec.name](target, records, spec, progress)
    if store and name:
        arrays: dict[str, Any] = {"values": found.values, "queries": found.queries}
        store.put_all(name, arrays)
    return found


def parameter(spec: SignalSpec, name: str, default: float) -> float:
    """A parameter of the specification by name.

    >>> parameter(SignalSpec("noise", parameters=(("scale", 0.1),)), "scale", 0.2)
    0.1
    """
    return dict(spec.parameters).get(name, default)


def one_stage(values: Floats, n_queries: int = 0) -> Measured:
    """A signal (n, d) that has no smaller budget.

    >>> one_stage(np.zeros((4, 2))).values.shape
    (4, 1, 2)
    """
    return Measured(values[:, None, :], np.full((len(values), 1), n_queries, dtype=np.int64))
