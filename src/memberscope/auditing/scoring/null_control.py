"""Run the null control: the whole path again on non-members alone.

They are split in two by a hash of their id, which must look like chance.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from memberscope._parallel import map_in_parallel
from memberscope.auditing.documents.result import AuditArrays, Control
from memberscope.auditing.scoring import crossfit as fitting
from memberscope.auditing.scoring.parallel_fits import fit_slow_attacks
from memberscope.errors import UnmetNeedError
from memberscope.statistics import auc_interval, find_distinct_rankings, ranks_within_fold
from memberscope.types import Attack, Bools, Evidence, Floats, Ints

ALPHA = 0.005  # chance that a clean audit fails this control, over all its attacks
SMALLEST = 40  # non-members below which the control cannot run


def choose_pseudo_members(
    ids: np.ndarray[tuple[int], np.dtype[np.str_]], unit: Ints | None = None
) -> Bools:
    """Choose half of the ids (n,) by a hash of the id.

    The same records give the same split.

    A `unit` (n,) goes as a whole, by the smallest id in it.
    """
    if unit is not None:
        code = np.unique(unit, return_inverse=True)[1]
        order = np.argsort(ids, kind="stable")
        first = np.unique(code[order], return_index=True)[1]
        chosen: Bools = choose_pseudo_members(ids[order][first])[code]
        return chosen
    # A salt of its own, so that no other split by hash is repeated
    ranks = [hashlib.sha256(f"null-control:{name}".encode()).digest() for name in ids]
    order = np.array(sorted(range(len(ids)), key=ranks.__getitem__), dtype=np.int64)
    chosen = np.zeros(len(ids), dtype=bool)
    chosen[order[: len(ids) // 2]] = True
    return chosen


def find_pseudo_members(arrays: AuditArrays) -> Bools:
    """Find the pseudo members of an audit (n,): those that were kept, or that follow from its ids."""
    if arrays.null_draw is not None:
        return arrays.null_draw
    outside = ~arrays.member
    unit = None if arrays.unit is None else arrays.unit[outside]
    found = np.zeros(len(outside), dtype=bool)
    found[outside] = choose_pseudo_members(arrays.ids[outside], unit)
    return found


def run_null_control(
    attacks: tuple[Attack, ...],
    evidence: Callable[[Attack], Evidence],
    ids: np.ndarray[tuple[int], np.dtype[np.str_]],
    n_folds: int,
    seed: np.random.SeedSequence,
    *,
    unit: Ints | None = None,
) -> Control:
    """Cross-fit every attack on non-members alone, half of them called members.

    The AUCs must look like chance. `evidence` gives the non-members' for each attack.

    Records of one `unit` (n,) are on the same side, in the same fold, and counted together.
    """
    if len(ids) < SMALLEST:
        return Control(None, f"Only {len(ids)} non-members; the null control needs {SMALLEST}.")
    truth = choose_pseudo_members(ids, unit)
    # Each fold needs a unit of either side
    if (
        unit is not None
        and min(len(np.unique(unit[truth])), len(np.unique(unit[~truth]))) < n_folds
    ):
        return Control(
            None, f"Too few units among the non-members; the null control needs {2 * n_folds}."
        )
    fold = fitting.assign_folds(truth, n_folds, np.random.default_rng(seed), unit)

    fitted = fit_slow_attacks(
        attacks,
        lambda index: evidence(attacks[index]),
        truth,
        fold,
        seed,
        pairs=[False] * len(attacks),
    )

    def pooled(index: int) -> Floats | None:
        attack = attacks[index]
        try:
            # Neither thresholds nor posteriors are read here, so fits of pairs are spared
            fit = fitting.crossfit_attack(
                attack, evidence(attack), truth, fold, seed, pairs=False, fitted=fitted[index]
            )
        # An attack that cannot run here is no failure of the control
        except UnmetNeedError:
            return None
        # Fits of different folds do not compare, so learned attacks give positions within the fold
        return fit.scores if fit.elsewhere is None else ranks_within_fold(fit.scores, truth, fold)

    answers = zip(
        attacks,
        map_in_parallel(pooled, range(len(attacks))),
        strict=True,
    )
    scored = {attack.name: scores for attack, scores in answers if scores is not None}
    if not scored:
        return Control(None, "No attack ran on the non-members.")
    return judge_null_scores(scored, truth, unit)


def judge_null_scores(
    scored: dict[str, Floats], truth: Bools, unit: Ints | None = None, *, tests: int | None = None
) -> Control:
    """Fail if some attack's AUC differs from one half.

    `ALPHA` is shared among attacks that rank differently, or among `tests`.
    """
    names = list(scored)
    distinct = [names[index] for index in find_distinct_rankings(list(scored.values()))]
    confidence = 1 - ALPHA / (tests or len(distinct))
    intervals = {name: auc_interval(scored[name], truth, confidence, unit) for name in distinct}
    # A pass tells how far the furthest attack was from chance
    worst = max(distinct, key=lambda name: abs(intervals[name].value - 0.5))
    broken = [name for name in distinct if not intervals[name].low <= 0.5 <= intervals[name].high]
    shown = broken[0] if broken else worst
    interval = intervals[shown]
    found = f"AUC {interval.value:.3f} ({interval.low:.3f} to {interval.high:.3f}) of {shown}"
    if broken:
        why = (
            f"The attacks find a difference between two random halves of the non-members ({found}), "
            "where there is none: the audit itself leaks, so its numbers mean nothing."
        )
    else:
        many = (
            f"All {len(distinct)} attacks that rank records differently" if distinct[1:] else shown
        )
        why = (
            f"{many} could not tell two random halves of the non-members apart, as it should be; "
            f"furthest from guessing (0.5) is {found}."
        )
    details = {"confidence": confidence, "attacks": len(distinct), "furthest": shown}
    return Control(not broken, why, interval.value, interval.low, interval.high, None, details)


def select_non_member_evidence(evidence: Evidence, member: Bools) -> Evidence:
    """Select the evidence about non-members alone.

    Where they follow the members, reference signals stay where they lie.
    """
    keep: Any = ~member
    first = int(np.argmax(keep))
    # A slice does not copy, which an index array would
    if keep[first:].all():
        keep = slice(first, None)
    return replace(
        evidence,
        target=evidence.target[keep],
        labels=evidence.labels[keep],
        known=evidence.known[keep],
        references=None if evidence.references is None else evidence.references[:, keep],
        inside=None if evidence.inside is None else evidence.inside[:, keep],
        features=None if evidence.features is None else evidence.features[keep],
        tokens=None if evidence.tokens is None else evidence.tokens.take(keep),
    )
