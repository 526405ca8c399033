"""From queries to observations, and to lines of the access log."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from memberscope.guard.equipment import Equipment
from memberscope.guard.exchange import Exchange
from memberscope.guard.observations import Observations, line_of
from memberscope.guard.waiting import Piece

Lines = list[tuple[Observations, str]]


def lines_of(piece: Piece, equipment: Equipment, exchange: Exchange, dropped: Callable[[int], None]) -> Lines:
    """Each query's observations, with the line of the log that they make; `exchange` reads answers that passed as they were.

    `dropped` is told how many cannot be sketched, such as records that the model's server refused too.
    """
    try:
        record, point, bins = equipment.sketcher.sketch(piece.batch)
    except Exception:  # whatever a client sent, the monitor goes on
        if len(piece.asked) > 1:  # one of them spoils it for all
            return [found for one in piece.alone() for found in lines_of(one, equipment, exchange, dropped)]
        dropped(len(piece.labels))
        return []
    found, start = [], 0
    for one in piece.asked:
        part = slice(start, start + one.records)
        labels = exchange.tops(one.answer, one.records) if one.answer else piece.labels[part]
        client = np.full(one.records, int(one.key, 16), dtype=np.uint64)
        whole = Observations(np.full(one.records, one.at), client, record[part], point[part], bins[part], labels)
        found.append((whole, line_of(whole, kind=one.group, key=equipment.secret.id, status=one.status)))
        start = part.stop
    return found
