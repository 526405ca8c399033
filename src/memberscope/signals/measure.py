"""Signals that take more than one answer a record: label-only searches, and what only an open model shows.

Each is measured by one function of a target and records, the same for the audited model and for every reference model, and
deterministic: all randomness comes from the specification. Its values carry the stages of a query budget, so that leakage
can be told for every smaller budget too.
"""

from __future__ import annotations

from typing import Any

from memberscope.signals.measured import Measure, Measured, Progress
from memberscope.signals.store import Store, digest_records, signal_key
from memberscope.types import Records, SignalSpec, Target


def measures() -> dict[str, Measure]:
    """The function that measures each signal by name; imported when asked for."""
    from memberscope.signals import white_box as gradient
    from memberscope.signals.boundary import boundary
    from memberscope.signals.perturbation import augmentation, noise

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
