"""Answer which records of a collection were used, as a list with a limit on what is wrong in it."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

import numpy as np
from numpy.typing import NDArray

from memberscope._text import format_percentage
from memberscope.auditing.sets.answer import SetAnswer
from memberscope.auditing.sets.evidence import SetEvidence
from memberscope.auditing.sets.settings import SetSettings
from memberscope.auditing.sets.withheld import ASSUMPTION, COUNTER
from memberscope.statistics.sets import NamedUnits, build_unit_features, name_units
from memberscope.types import Floats, Ints


@dataclass(frozen=True, eq=False)
class NamedRecords:
    """The records (k,) of the units that were named, with each unit's p-value.

    `unit` (k,) numbers the units, None where each record is its own.
    """

    ids: NDArray[np.str_]
    p_values: Floats
    unit: Ints | None


def answer_list(
    evidence: SetEvidence, settings: SetSettings, rng: np.random.Generator
) -> tuple[SetAnswer, NamedRecords]:
    """Name units of the collection at the false-discovery rate, and list their records."""
    features = build_unit_features(evidence.scores, evidence.member, evidence.unit, by_rank=True)
    found = name_units(features, settings.fdr, rng)
    named, suspect = int(found.named.sum()), features.sizes[0]
    answer = SetAnswer(
        question="list",
        value=float(named),
        low=None,
        high=None,
        p_value=None,
        power=(),
        decision="YES" if named else "NOT_SHOWN",
        statement=_state_list(evidence, found, settings),
        assumption=f"{ASSUMPTION} {COUNTER}",
        withheld=None,
        n_suspect=evidence.sizes[0],
        n_held_out=evidence.sizes[1],
        n_units=None if evidence.unit is None else suspect,
        method=(
            f"conformal p-values among {found.n_ranked_among} held-out {evidence.noun}s "
            "(arXiv:2104.08279), weights of the scores learned from the other held-out ones "
            f"(arXiv:2208.06685); Benjamini-Hochberg at {settings.fdr:g}"
        ),
    )
    return answer, _list_records(evidence, found)


def _list_records(evidence: SetEvidence, found: NamedUnits) -> NamedRecords:
    """List the records of the named units, the smallest p-values first."""
    names = np.arange(len(evidence.member)) if evidence.unit is None else evidence.unit
    chosen = np.flatnonzero(np.isin(names, found.units[found.named]))
    # Units of the collection stand in the order of their numbers
    p_values = found.p_values[np.searchsorted(found.units, names[chosen])]
    order = np.argsort(p_values, kind="stable")
    rows = chosen[order]
    return NamedRecords(
        evidence.arrays.ids[rows],
        p_values[order],
        None if evidence.unit is None else evidence.unit[rows],
    )


def _state_list(evidence: SetEvidence, found: NamedUnits, settings: SetSettings) -> str:
    """State how many are named, and how many of such lists are wrong."""
    named, suspect = int(found.named.sum()), len(found.named)
    noun, many = evidence.noun, evidence.noun + "s"
    rate = format_percentage(settings.fdr)
    if named:
        return (
            f"{named} of the {suspect} {many} of this collection are named as used in training. Of "
            f"lists made like this one, on average at most {rate} of the {many} named were not used. "
            f"The rate is that of the list: it says nothing of a single {noun}, and a {noun} that is "
            "not named may have been used."
        )
    least = ceil(suspect / (settings.fdr * (1 + found.n_ranked_among)))
    return (
        f"No {noun} of this collection can be named as used at a false-discovery rate of {rate}. "
        f"That is no evidence that none was: with {found.n_ranked_among} held-out {many} to compare "
        f"with, at least {min(least, suspect)} {many} must stand out from all of them before any is "
        "named."
    )
