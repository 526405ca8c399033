"""A monitor's memory as bytes: what another worker, or the same one after a restart, goes on from."""

from __future__ import annotations

import json
from array import array
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memberscope.errors import InputError
from memberscope.guard.monitor import Monitor
from memberscope.guard.rows import SEEN, Row, Rows

FORMAT = "memberscope-monitor/1"
FAMILY = ("points", "squares", "records", "family", "number", "variants", "last", "step", "label", "evidence")


def snapshot(monitor: Monitor) -> bytes:
    """All that the monitor remembers, in safetensors; no input is in it, and neither is a key."""
    from safetensors.numpy import save

    arrays: dict[str, NDArray[Any]] = {}
    for name, rows in (("rows", monitor.rows), ("pools", monitor.pools)):
        arrays[f"{name}.who"] = np.array(list(rows.kept), dtype=np.uint64)
        arrays[f"{name}.numbers"] = stacked([row.numbers for row in rows.kept.values()], "f8", rows.width)
        arrays[f"{name}.seen"] = stacked([row.seen for row in rows.kept.values()], "u4", SEEN)
    families = monitor.families
    filled = min(families.added, families.window)
    founded = min(families.founded, families.window)
    for name in FAMILY:
        arrays[name] = np.ascontiguousarray(getattr(families, name)[: filled if name in FAMILY[:4] else founded])
    kept = {
        "format": FORMAT,
        "counts": [families.added, families.founded, families.window, monitor.queries],
        "now": monitor.now,
        "radius": families.radius,
        "clients": [[family, clients] for family, clients in families.clients.items()],
        "told": [[*key, time] for key, time in monitor.told.items()],
    }
    return bytes(save(arrays, metadata={"monitor": json.dumps(kept)}))


def restore(monitor: Monitor, data: bytes) -> None:
    """Make a fresh monitor remember what another did that had the same settings.

    Raises:
        InputError: The bytes are no snapshot, or of a monitor with other settings.

    >>> from memberscope.guard.monitor import Settings
    >>> from memberscope.guard.observations import example
    >>> first, second = Monitor(Settings({}, 0.1)), Monitor(Settings({}, 0.1))
    >>> _ = first.observe(example(20))
    >>> restore(second, snapshot(first))
    >>> snapshot(second) == snapshot(first)
    True
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        kept = json.loads(json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]["monitor"])
        arrays = load(data)
        families = monitor.families
        if kept["format"] != FORMAT or kept["radius"] != families.radius or kept["counts"][2] != families.window:
            raise ValueError("other settings")
        for name, rows in (("rows", monitor.rows), ("pools", monitor.pools)):
            fill(rows, *(arrays[f"{name}.{part}"] for part in ("who", "numbers", "seen")))
        for name in FAMILY:
            getattr(families, name)[: len(arrays[name])] = arrays[name]
        families.added, families.founded, monitor.queries = kept["counts"][0], kept["counts"][1], kept["counts"][3]
        families.slots = {int(record): slot for slot, record in enumerate(arrays["records"].tolist())}
        families.clients.update((int(family), list(clients)) for family, clients in kept["clients"])
        monitor.told = {(stream, subject): time for stream, subject, time in kept["told"]}
        monitor.now = float(kept["now"])
    except (ValueError, KeyError, TypeError, IndexError, SafetensorError) as error:
        raise InputError(
            "Expected what a monitor with these settings remembers, got something else. Start without it."
        ) from error


def fill(rows: Rows, who: NDArray[np.uint64], numbers: NDArray[Any], seen: NDArray[Any]) -> None:
    """Put clients into empty rows, in their order.

    Raises:
        ValueError: The arrays do not fit.
    """
    if numbers.shape != (len(who), rows.width) or seen.shape != (len(who), SEEN):
        raise ValueError("other widths")
    for client, own, lately in zip(who.tolist()[-rows.most :], numbers[-rows.most :], seen[-rows.most :], strict=True):
        rows.kept[client] = Row(array("d", own.tobytes()), array("I", lately.tobytes()))


def stacked(parts: list[array[Any]], kind: str, width: int) -> NDArray[Any]:
    """Rows of equal length as one array (n, width)."""
    return np.frombuffer(b"".join(part.tobytes() for part in parts), dtype=kind).reshape(len(parts), width)
