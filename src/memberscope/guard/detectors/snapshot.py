"""Save and restore a monitor's memory, for another worker or after a restart."""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterable
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memberscope._files import parse_json
from memberscope.errors import InputError
from memberscope.guard.detectors.client_history import SEEN, ClientRow, ClientRows
from memberscope.guard.detectors.monitor import Monitor
from memberscope.guard.sketching.observations import BINS

FORMAT = "memberscope-monitor/3"
KINDS = {"f4": "F32", "f8": "F64", "i8": "I64", "u8": "U64"}
Buffer = Any  # bytes or an array
FAMILY = (
    "points",
    "squares",
    "records",
    "family",
    "number",
    "variants",
    "last",
    "step",
    "label",
    "evidence",
)


def take_snapshot(monitor: Monitor) -> bytes:
    """Save a monitor's memory as safetensors, without inputs or keys."""
    families = monitor.families
    # Only places that were ever used are saved
    filled, founded = (min(n, families.window) for n in (families.added, families.founded))
    parts: dict[str, tuple[str, tuple[int, ...], Iterable[Buffer]]] = {}
    for name, rows in (("rows", monitor.rows), ("pools", monitor.pools)):
        n, kept_rows = len(rows), rows.kept
        parts[f"{name}.who"] = "U64", (n,), [array("Q", kept_rows)]
        parts[f"{name}.numbers"] = (
            "F64",
            (n, rows.width),
            (row.numbers for row in kept_rows.values()),
        )
        parts[f"{name}.seen"] = "U16", (n, SEEN), (row.seen for row in kept_rows.values())
        parts[f"{name}.lately"] = (
            "U8",
            (n, BINS * rows.held),
            (row.walked() for row in kept_rows.values()),
        )
    for name in FAMILY:
        # The first four are kept for each record, the others for each family
        values = np.ascontiguousarray(
            getattr(families, name)[: filled if name in FAMILY[:4] else founded]
        )
        parts[name] = KINDS[values.dtype.str[1:]], values.shape, [values.tobytes()]
    kept = {
        "format": FORMAT,
        "counts": [families.added, families.founded, families.window, monitor.queries],
        "now": monitor.now,
        "radius": families.radius,
        "clients": [[family, clients] for family, clients in families.clients.items()],
        "told": [[*key, time] for key, time in monitor.told.items()],
    }
    return _encode_safetensors(parts, {"monitor": json.dumps(kept)})


def _encode_safetensors(
    parts: dict[str, tuple[str, tuple[int, ...], Iterable[Buffer]]], metadata: dict[str, str]
) -> bytes:
    """Encode arrays as safetensors, each by its kind, shape and pieces.

    There are never two copies of what may be large.
    """
    head: dict[str, object] = {"__metadata__": metadata}
    end = 0
    for name, (kind, shape, _) in parts.items():
        begin, end = end, end + int(np.prod(shape)) * int(kind[1:]) // 8
        head[name] = {"dtype": kind, "shape": list(shape), "data_offsets": [begin, end]}
    text = json.dumps(head).encode()
    # Blanks after the head align the arrays, as safetensors wants it
    text += b" " * (-len(text) % 8)
    return b"".join(
        chain([len(text).to_bytes(8, "little"), text], *(pieces for _, _, pieces in parts.values()))
    )


def restore_monitor(monitor: Monitor, data: bytes) -> None:
    """Make a fresh monitor remember what another did that had the same settings.

    Raises:
        InputError: The bytes are no snapshot, or of a monitor with other settings.

    >>> from memberscope.guard.detectors.monitor import DetectorSettings
    >>> from memberscope.guard.sketching.observations import make_example_observations
    >>> first, second = Monitor(DetectorSettings({}, 0.1)), Monitor(DetectorSettings({}, 0.1))
    >>> _ = first.observe(make_example_observations(20))
    >>> restore_monitor(second, take_snapshot(first))
    >>> take_snapshot(second) == take_snapshot(first)
    True
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        # The library gives arrays without their metadata, which stand in the head
        kept = parse_json(
            parse_json(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]["monitor"]
        )
        arrays = load(data)
        families = monitor.families
        if kept["format"] != FORMAT:
            raise InputError(
                f"Expected memory of this version ({FORMAT}), got {str(kept['format'])[:40]!r}. "
                "Start without it."
            )
        # With another radius the same records would be of other families
        if kept["radius"] != families.radius or kept["counts"][2] != families.window:
            raise ValueError("other settings")
        for name, rows in (("rows", monitor.rows), ("pools", monitor.pools)):
            _fill_client_rows(
                rows, *(arrays[f"{name}.{part}"] for part in ("who", "numbers", "seen", "lately"))
            )
        for name in FAMILY:
            getattr(families, name)[: len(arrays[name])] = arrays[name]
        families.added, families.founded, monitor.queries = (
            kept["counts"][0],
            kept["counts"][1],
            kept["counts"][3],
        )
        families.slots = {
            int(record): slot for slot, record in enumerate(arrays["records"].tolist())
        }
        # A family whose place was taken since has no clients to remember
        known = ((int(family), list(clients)) for family, clients in kept["clients"])
        families.clients = {
            family: clients
            for family, clients in known
            if families.number[family % families.window] == family
        }
        monitor.told = {(stream, subject): time for stream, subject, time in kept["told"]}
        monitor.now = float(kept["now"])
    except (ValueError, KeyError, TypeError, IndexError, SafetensorError) as error:
        raise InputError(
            "Expected what a monitor with these settings remembers, got something else. Start "
            "without it."
        ) from error


def _fill_client_rows(
    rows: ClientRows,
    who: NDArray[np.uint64],
    numbers: NDArray[Any],
    seen: NDArray[Any],
    lately: NDArray[Any],
) -> None:
    """Put clients into empty rows, in their order.

    Raises:
        ValueError: The arrays do not fit.
    """
    if (
        numbers.shape != (len(who), rows.width)
        or seen.shape != (len(who), SEEN)
        or lately.shape != (len(who), BINS * rows.held)
    ):
        raise ValueError("other widths")
    columns = (who.tolist(), numbers, seen, lately)
    # The clients seen last, where this monitor keeps fewer
    for client, own, asked, last in zip(*(column[-rows.most :] for column in columns), strict=True):
        place = int.from_bytes(last.tobytes(), "little")
        rows.kept[client] = ClientRow(
            array("d", own.tobytes()), array("H", asked.tobytes()), rows.held, place
        )
