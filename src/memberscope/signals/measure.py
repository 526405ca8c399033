"""Measure signals that take more than one answer for each record.

They are label-only searches, and what only white-box access shows.

Each is measured by one function of a target and records, the same for the audited model and for
every reference model, and deterministic: all randomness comes from the specification. Its values
carry the stages of a query budget, so that leakage is known for every smaller budget too.
"""

from __future__ import annotations

from typing import Any

from memberscope.signals.measured import Measure, MeasuredSignal, Progress
from memberscope.signals.store import Store, build_signal_key, digest_records
from memberscope.types import Records, SignalSpec, Target


def _load_measures() -> dict[str, Measure]:
    """Give the function that measures each signal, by name.

    They are imported when needed.
    """
    from memberscope.signals import white_box as gradient
    from memberscope.signals.boundary import measure_boundary
    from memberscope.signals.custom import measure_custom
    from memberscope.signals.perturbation import measure_augmentation, measure_noise
    from memberscope.signals.texts import measure_generations, measure_token_features

    return {
        "boundary": measure_boundary,
        "noise": measure_noise,
        "augmentation": measure_augmentation,
        "custom": measure_custom,
        "generations": measure_generations,
        "token_features": measure_token_features,
        **gradient.MEASURES,
    }


def measure_signal(
    target: Target,
    records: Records,
    spec: SignalSpec,
    *,
    store: Store | None = None,
    progress: Progress | None = None,
) -> MeasuredSignal:
    """Measure `spec` of the records under the target.

    What `store` holds for the same target, records and specification is reused.

    Raises:
        UnmetNeedError: The target or the records do not allow it.
        TargetError: The model fails.
    """
    # Without a digest the target cannot be told from another one, and nothing is stored
    model = target.digest if store else None
    name = (
        build_signal_key(model, digest_records(records), spec, (0, len(records)))
        if store and model
        else None
    )
    kept = store.get_all(name) if store and name else None
    if kept is not None:
        return MeasuredSignal(kept["values"], kept["queries"])
    found = _load_measures()[spec.name](target, records, spec, progress)
    if store and name:
        arrays: dict[str, Any] = {"values": found.values, "queries": found.queries}
        store.put_all(name, arrays)
    return found
