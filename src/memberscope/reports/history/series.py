"""Tell apart audits of different models that stand under one name.

A trend joins the audits of a name that have the model or the records in common: releases on the same
records, or one model on several. An audit that shares neither begins a series of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from memberscope.reports.history.past_audit import PastAudit

SHARED = ("model", "records")


@dataclass(frozen=True)
class PlacedAudit:
    """A past audit with the number of its series, from 1, within its name.

    `changed` names what differs from the audit before it in the series: `model`, `records` or both.
    A comparison stands in series 0.
    """

    entry: PastAudit
    series: int
    changed: tuple[str, ...]


def place_audits(entries: Iterable[PastAudit]) -> list[PlacedAudit]:
    """Give each audit, the oldest first, its place in a series of its name."""
    homes: dict[tuple[str, str, str], int] = {}
    latest: dict[tuple[str, int], dict[str, str]] = {}
    counts: dict[str, int] = {}
    found = []
    for entry in entries:
        if entry.kind == "comparison":
            found.append(PlacedAudit(entry, 0, ()))
            continue
        own = [(entry.model, kind, entry.digests.get(kind, "")) for kind in SHARED]
        series = next((homes[key] for key in own if key[2] and key in homes), None)
        if series is None:
            series = counts[entry.model] = counts.get(entry.model, 0) + 1
        homes.update(dict.fromkeys(own, series))
        before = latest.get((entry.model, series), entry.digests)
        latest[entry.model, series] = entry.digests
        changed = (kind for kind in SHARED if before.get(kind) != entry.digests.get(kind))
        found.append(PlacedAudit(entry, series, tuple(changed)))
    return found


def describe_shared_names(placed: Sequence[PlacedAudit]) -> list[str]:
    """Say, a sentence each, which names stand for several models."""
    counts: dict[str, int] = {}
    for audit in placed:
        counts[audit.entry.model] = max(audit.series, counts.get(audit.entry.model, 0))
    return [
        f"The name {name!r} stands for {count} different models: their audits have neither the "
        "model nor the records in common and are shown as separate series. Give each model a name "
        "of its own with --title."
        for name, count in counts.items()
        if count > 1
    ]
