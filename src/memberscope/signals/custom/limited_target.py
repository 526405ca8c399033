"""Measure a signal of somebody's own on a target, as an adversary with its access sees that."""

from __future__ import annotations

from typing import Any

import numpy as np

from memberscope.errors import MemberscopeError, UnmetNeedError
from memberscope.facts import read_target_facts
from memberscope.frames import count_rows
from memberscope.signals.collect import predict_labels
from memberscope.signals.measured import MeasuredSignal, Progress, build_single_stage
from memberscope.signals.reduce import restrict_to_access
from memberscope.targets.wrappers import find_metered_target
from memberscope.types import Access, Floats, OneNumberSignal, Records, Signal, SignalSpec, Target


class LimitedTarget:
    """A target that answers no more than one level of access, and only so often.

    `asked` counts the records that were sent.
    """

    def __init__(self, target: Target, records: Records, own: OneNumberSignal) -> None:
        """Limit `target` to the access and the queries a record that `own` declares."""
        self.access, self.n_classes, self.digest = own.access, target.n_classes, target.digest
        self.n_parameters = target.n_parameters
        self.asked = 0
        self._target, self._records, self._own = target, records, own

    @property
    def signal(self) -> Signal:
        """What the columns of `query` are."""
        if self.access == Access.LABEL:
            return "labels"
        seen = self._target.signal
        return "probabilities" if seen == "logits" and self.access < Access.LOGITS else seen

    def query(self, x: Any) -> Floats:
        """Query the outputs (n, k) for the records `x`, reduced to the declared access.

        Raises:
            UnmetNeedError: More is asked than the signal declares.
        """
        n, count = len(self._records), count_rows(x)
        self.asked += count
        if self.asked > self._own.queries * n:
            raise UnmetNeedError(
                f"Expected at most {self._own.queries} queries a record, as the signal "
                f"{self._own.name} declares, got {self.asked} for {n} records. Declare more "
                "queries."
            )
        facts = read_target_facts(self._target)
        if self.access == Access.LABEL and facts.predict is not None:
            return predict_labels(self._target, x)[:, None].astype(np.float64)
        whose: dict[str, Any] = {}
        # An endpoint's budget is counted by record, which only whole passes tell apart
        if find_metered_target(self._target) is not None:
            if count != n:
                raise UnmetNeedError(
                    f"Expected all {n} records in each query of an endpoint, got {count}. Query "
                    "the records as they are given."
                )
            whose["owners"] = self._records.ids.tolist()
        outputs = np.asarray(self._target.query(x, **whose), dtype=np.float64)
        return restrict_to_access(self.access, self._target.signal, outputs)[1]


def measure_custom(
    target: Target, records: Records, spec: SignalSpec, progress: Progress | None = None
) -> MeasuredSignal:
    """Measure the signal `spec.own` of the records, (n, 1, 1), and count its queries.

    Raises:
        UnmetNeedError: It raises, or gives something else than one finite number a record.
    """
    own = spec.own
    if own is None:
        raise UnmetNeedError(
            "Expected the code of a custom signal, got only its name. Give the signal itself."
        )
    limited = None if own.access == Access.WHITE_BOX else LimitedTarget(target, records, own)
    try:
        found = own.measure_records(limited or target, records)
    except MemberscopeError:
        raise
    # Whatever it raises, the rest of the audit goes on
    except Exception as error:
        first = (str(error).splitlines() or [""])[0]
        raise UnmetNeedError(
            f"Expected the signal {own.name} of {len(records)} records, got "
            f"{type(error).__name__}: {first}. Call its measure on a target to see why."
        ) from error
    if progress:
        progress(len(records), len(records))
    asked = 0 if limited is None else -(-limited.asked // max(len(records), 1))
    return build_single_stage(found[:, None], asked)
