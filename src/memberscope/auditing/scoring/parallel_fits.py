"""Fit the attacks that take longest fold by fold in threads, so that no core waits for one attack.

Each fit has a random stream of its own, so the scores do not depend on the order of the fits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from memberscope._parallel import map_in_parallel
from memberscope.attacks import build_fold_scorers
from memberscope.auditing.scoring.crossfit import (
    FoldScores,
    list_hidden_folds,
    score_hidden_folds,
)
from memberscope.errors import UnmetNeedError
from memberscope.types import Attack, Bools, Evidence, Floats, Ints


def is_slow_to_fit(attack: Attack) -> bool:
    """Tell whether each fit trains a model on the records or on reference models' answers."""
    needs = attack.needs
    return needs.known != "none" and (needs.features or any(needs.references))


def fit_slow_attacks(
    attacks: Sequence[Attack],
    evidence: Callable[[int], Evidence],
    member: Bools,
    fold: Ints,
    seed: np.random.SeedSequence,
    *,
    pairs: Sequence[bool],
    progress: Callable[[int, int], None] | None = None,
) -> list[FoldScores]:
    """Fit each of `attacks` that is slow to fit on every set of folds that cross-fitting asks for.

    `evidence` gives what the attack at a place of the list sees; `pairs` says of each attack
    whether pairs of folds are hidden too. The answer has the hidden records' scores by attack, for
    `crossfit_attack`; nothing for attacks that are fast, and for those that cannot run.
    """
    n_folds = int(fold.max()) + 1
    scorers = build_fold_scorers(attacks)
    tasks = [
        (index, hidden)
        for index, attack in enumerate(attacks)
        if is_slow_to_fit(attack)
        for hidden in list_hidden_folds(attack, n_folds, pairs=pairs[index])
    ]

    def fit(task: tuple[int, tuple[int, ...]]) -> Floats | None:
        index, hidden = task
        try:
            return score_hidden_folds(scorers[index], evidence(index), member, fold, seed, hidden)
        # Cross-fitting raises it again, where the reason is wanted
        except UnmetNeedError:
            return None

    found: list[FoldScores] = [{} for _ in attacks]
    if not tasks:
        return found
    # Reference models' answers are many rows, so their fits take longest
    answers = map_in_parallel(
        fit, tasks, progress, long=lambda task: any(attacks[task[0]].needs.references)
    )
    for (index, hidden), scores in zip(tasks, answers, strict=True):
        if scores is not None:
            found[index][hidden] = scores
    return found
