"""From queries to observations, and to lines of the access log."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from memberscope.guard.equipment import Equipment
from memberscope.guard.observations import Observations, line_of
from memberscope.guard.waiting import Waiting
from memberscope.targets.batches import Batch

Lines = list[tuple[Observations, str]]


def lines_of(taken: list[Waiting], equipment: Equipment, dropped: Callable[[int], None]) -> Lines:
    """Each query's observations, with the line of the log that they make; all records have one form.

    `dropped` is told how many cannot be sketched, such as records that the model's server refused too.
    """
    batch = taken[0].seen.batch if len(taken) == 1 else stacked([one.seen.batch for one in taken])
    try:
        record, point, bins = equipment.sketcher.sketch(batch)
    except Exception:  # whatever a client sent, the monitor goes on
        if len(taken) > 1:  # one of them spoils it for all
            return [found for one in taken for found in lines_of([one], equipment, dropped)]
        dropped(taken[0].seen.records)
        return []
    found, start = [], 0
    for one in taken:
        seen, n = one.seen, one.seen.records
        part = slice(start, start + n)
        client = np.full(n, int(seen.key, 16), dtype=np.uint64)
        whole = Observations(np.full(n, one.at), client, record[part], point[part], bins[part], seen.labels)
        found.append((whole, line_of(whole, kind=seen.group, key=equipment.secret.id, status=seen.status)))
        start += n
    return found


def stacked(batches: list[Batch]) -> Batch:
    """Batches of one form as one.

    >>> len(stacked([Batch(np.eye(2)), Batch(np.eye(2))]))
    4
    """
    if batches[0].columns is None:
        return Batch(np.concatenate([np.asarray(batch.array) for batch in batches]))
    names = batches[0].columns
    return Batch(columns={name: np.concatenate([(batch.columns or {})[name] for batch in batches]) for name in names})
