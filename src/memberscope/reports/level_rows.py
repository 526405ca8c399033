"""Levels of access whose rows are the same, shown once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from memberscope.reports.select import Place

Cells = tuple[str, ...]


def merge_levels(
    rows: Mapping[Place, Sequence[Cells]],
) -> list[tuple[list[Place], Sequence[Cells]]]:
    """Merge the levels whose rows all stand among those of another level.

    The order is that of the levels, and within an entry the one whose rows are shown comes first.

    >>> from memberscope.auditing.documents import format_level
    >>> label, two, three = ("label", None), ("probabilities", "top:2"), ("probabilities", None)
    >>> rows = {label: [("AUC", ".6")], two: [("AUC", ".7")], three: [("TPR", ".1"), ("AUC", ".7")]}
    >>> [[format_level(*place) for place in places] for places, _ in merge_levels(rows)]
    [['label'], ['probabilities', 'probabilities top:2']]
    """
    found: dict[Place, list[Place]] = {}
    # The level with most rows first, so that the others have what they may join
    for place in sorted(rows, key=lambda place: -len(rows[place])):
        same = (kept for kept in found if set(rows[place]) <= set(rows[kept]))
        home = next(same, None) if rows[place] else None
        found.setdefault(home or place, []).append(place)
    return [(found[place], rows[place]) for place in rows if place in found]


def name_levels(places: Sequence[Place]) -> str:
    """Name levels that are shown as one.

    >>> name_levels([("probabilities", None), ("probabilities", "round:2"), ("label", None)])
    'probabilities, also round:2; label'
    >>> name_levels([("probabilities", "top:1"), ("probabilities", "top:3")])
    'probabilities top:1, top:3'
    """
    by_access: dict[str, list[str | None]] = {}
    for access, restriction in places:
        by_access.setdefault(access, []).append(restriction)
    words = []
    for access, every in by_access.items():
        named = ", ".join(name for name in every if name is not None)
        if None not in every:
            words.append(f"{access} {named}")
        else:
            words.append(f"{access}, also {named}" if named else access)
    return "; ".join(words)
