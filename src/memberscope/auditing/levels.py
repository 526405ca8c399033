"""The same answers seen at each access level: what an adversary with less access would have been given."""

from __future__ import annotations

import numpy as np

from memberscope.signals import seen_at
from memberscope.types import Access, Attack, Evidence, Floats, Ints, Signal


def levels_of(signal: Signal, declared: Access) -> tuple[Access, ...]:
    """Levels to audit, weakest first: those that `signal` can be reduced to, up to the declared one.

    >>> [level.word for level in levels_of("logits", Access.PROBABILITIES)]
    ['label', 'probabilities']
    """
    offered = {
        "labels": (Access.LABEL,),
        "loss": (Access.PROBABILITIES,),
        "probabilities": (Access.LABEL, Access.PROBABILITIES),
        "logits": (Access.LABEL, Access.PROBABILITIES, Access.LOGITS),
    }[signal]
    return tuple(level for level in offered if level <= declared)


def evidence_at(level: Access, signal: Signal, outputs: Floats, labels: Ints, features: Floats | None) -> Evidence:
    """Evidence about all records, nothing known yet, with `outputs` (n, k) reduced to what `level` returns."""
    seen, values = seen_at(level, signal, outputs)
    known = np.full(len(labels), -1, dtype=np.int8)
    return Evidence(seen, values[:, None, :], labels, known, features=features)


def runs_at(attack: Attack, level: Access) -> bool:
    """Whether an attack is worth running at `level`: where labels are enough, more detail changes nothing."""
    needed = attack.needs.access
    return needed == level if needed == Access.LABEL else needed <= level
