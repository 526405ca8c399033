"""Cross-fit every attack, threshold and posterior.

Each is learned on records other than those it is used on.

Fold f is scored by the attack fitted on all other folds. The decision thresholds and the posterior
of fold f come from the other folds' records, each scored by a fit that saw neither its own fold nor
f. Attacks that learn nothing are scored once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from memberscope.attacks import build_fold_scorer
from memberscope.auditing.documents.result import (
    BALANCED,
    AttackScores,
    name_operating_point,
)
from memberscope.errors import InputError
from memberscope.statistics import (
    can_resolve_fpr,
    find_best_balanced_threshold,
    fit_likelihood_ratio,
    operating_point,
    ranks_within_fold,
    roc,
)
from memberscope.types import Attack, Bools, Evidence, Floats, Ints

# The scores (h,) of the hidden folds' records, in their order, by the folds that were hidden
FoldScores = dict[tuple[int, ...], Floats]


@dataclass(frozen=True, eq=False)
class CrossFit:
    """Scores (n,) of every record, and `elsewhere` (k, n).

    Row f of the latter has what each record scored under a fit that saw neither its fold nor fold
    f.
    """

    scores: Floats
    elsewhere: Floats | None

    def reference(self, fold: int) -> Floats:
        """Give scores (n,) outside `fold` that its thresholds may be learned from."""
        return self.scores if self.elsewhere is None else self.elsewhere[fold]


def assign_folds(
    member: Bools, n_folds: int, rng: np.random.Generator, unit: Ints | None = None
) -> Ints:
    """Draw the fold (n,) of each record, at random.

    Each has equal shares of members and of non-members. Records of one `unit` (n,) share a fold;
    the shares are then as equal as whole units allow.

    Raises:
        InputError: Some side has fewer units than there are folds.

    >>> folds = assign_folds(np.array([True] * 4 + [False] * 4), 4, np.random.default_rng(0))
    >>> sorted(folds[:4].tolist()), sorted(folds[4:].tolist())
    ([0, 1, 2, 3], [0, 1, 2, 3])
    """
    if unit is not None:
        return _assign_units(member, n_folds, rng, unit)
    fold = np.empty(len(member), dtype=np.int64)
    # Side by side, so that each fold has its share of both
    for side in (True, False):
        where = np.flatnonzero(member == side)
        fold[rng.permutation(where)] = np.arange(len(where)) % n_folds
    return fold


def _assign_units(member: Bools, n_folds: int, rng: np.random.Generator, unit: Ints) -> Ints:
    """Draw the fold (n,) of each record, unit by unit.

    The largest goes first, each into the fold with the fewest records of its side.
    """
    codes = np.unique(unit, return_inverse=True)[1]
    sizes = np.bincount(codes)
    owns_members = np.bincount(codes, weights=member) > 0
    fold_of_unit = np.empty(len(sizes), dtype=np.int64)
    for side in (True, False):
        # Shuffled before the stable sort, so that units of one size fall at random
        own = rng.permutation(np.flatnonzero(owns_members == side))
        if len(own) < n_folds:
            kind = "members" if side else "non-members"
            raise InputError(
                f"Expected at least {n_folds} units of {kind} for {n_folds} folds, got {len(own)}. "
                "Give more units."
            )
        filled = np.zeros(n_folds, dtype=np.int64)
        for number in own[np.argsort(-sizes[own], kind="stable")]:
            fold_of_unit[number] = np.argmin(filled)
            filled[fold_of_unit[number]] += sizes[number]
    return np.asarray(fold_of_unit[codes])


def _mark_known_records(
    member: Bools, fold: Ints, hidden_folds: tuple[int, ...]
) -> np.ndarray[tuple[int], np.dtype[np.int8]]:
    """Mark what the adversary is granted (n,): the truth outside `hidden_folds`, -1 inside."""
    known = member.astype(np.int8)
    known[_find_records_in(hidden_folds, fold)] = -1
    return known


def _find_records_in(folds: tuple[int, ...], fold: Ints) -> Bools:
    """Find the records (n,) whose `fold` is one of few `folds`."""
    found: Bools = fold == folds[0]
    for other in folds[1:]:
        found |= fold == other
    return found


def list_hidden_folds(attack: Attack, n_folds: int, *, pairs: bool = True) -> list[tuple[int, ...]]:
    """List the sets of folds that an attack is to score without their truth, one fit a set.

    Without `pairs`, the sets of two are left out.

    >>> from memberscope.attacks import Loss, Quantile
    >>> list_hidden_folds(Loss(), 3), list_hidden_folds(Quantile(), 3)
    ([(0, 1, 2)], [(0,), (1,), (2,), (0, 1), (0, 2), (1, 2)])
    """
    # Nothing is learned, so one pass over all records does
    if attack.needs.known == "none":
        return [tuple(range(n_folds))]
    return [(f,) for f in range(n_folds)] + (list(combinations(range(n_folds), 2)) if pairs else [])


def score_hidden_folds(
    score: Callable[[Evidence, np.random.Generator], Floats],
    evidence: Evidence,
    member: Bools,
    fold: Ints,
    seed: np.random.SeedSequence,
    hidden: tuple[int, ...],
) -> Floats:
    """Score the records (h,) of the `hidden` folds by a fit of the attack's `score` on all others.

    Raises:
        UnmetNeedError: The evidence lacks what the attack needs.
    """
    # A stream for each set of hidden folds, so that fits do not depend on each other's order
    stream = np.random.default_rng(np.random.SeedSequence([*flatten_seed(seed), *hidden]))
    known = _mark_known_records(member, fold, hidden)
    return score(replace(evidence, known=known), stream)[known < 0]


def crossfit_attack(
    attack: Attack,
    evidence: Evidence,
    member: Bools,
    fold: Ints,
    seed: np.random.SeedSequence,
    *,
    pairs: bool = True,
    fitted: FoldScores | None = None,
) -> CrossFit:
    """Score every record of `evidence`, whose own `known` is replaced, by fits that did not see it.

    Without `pairs` the fits that thresholds and posteriors are learned from are left out
    (`elsewhere` is NaN): a third of the work. What `fitted` holds is not fitted again.

    Raises:
        UnmetNeedError: The evidence lacks what the attack needs.
    """
    n_folds = int(fold.max()) + 1
    ready, score = fitted or {}, build_fold_scorer(attack)

    def scored(hidden: tuple[int, ...]) -> Floats:
        found = ready.get(hidden)
        if found is not None:
            return found
        return score_hidden_folds(score, evidence, member, fold, seed, hidden)

    if attack.needs.known == "none":
        return CrossFit(scored(tuple(range(n_folds))), None)
    scores = np.full(len(member), np.nan)
    elsewhere = np.full((n_folds, len(member)), np.nan)
    for hidden in list_hidden_folds(attack, n_folds, pairs=pairs):
        own, found = _find_records_in(hidden, fold), scored(hidden)
        if len(hidden) == 1:
            scores[own] = found
            continue
        # Each pair of folds is fitted once and serves both: f's thresholds from g, and g's from f
        first = fold[own] == hidden[0]
        elsewhere[hidden[1], fold == hidden[0]] = found[first]
        elsewhere[hidden[0], fold == hidden[1]] = found[~first]
    return CrossFit(scores, elsewhere)


def flatten_seed(seed: np.random.SeedSequence) -> list[int]:
    """Flatten the entropy and spawn key of a seed sequence, to derive further streams from."""
    entropy = seed.entropy
    base = [int(entropy)] if isinstance(entropy, int) else [int(part) for part in entropy or ()]
    return [*base, *(int(part) for part in seed.spawn_key)]


def transfer_thresholds(
    fit: CrossFit, member: Bools, fold: Ints, fprs: tuple[float, ...]
) -> dict[str, Floats]:
    """Learn the thresholds (k,) that each fold gets from the other folds.

    One for each rate they resolve, and the balanced one.
    """
    n_folds = int(fold.max()) + 1
    # The rates must be resolved for every fold, since all folds are told together
    fewest = min(int((~member & (fold != f)).sum()) for f in range(n_folds))
    resolved = [fpr for fpr in fprs if can_resolve_fpr(fpr, fewest)]
    found = {name: np.empty(n_folds) for name in (*map(name_operating_point, resolved), BALANCED)}
    for f in range(n_folds):
        others = fold != f
        curve = roc(fit.reference(f)[others], member[others])
        found[BALANCED][f] = find_best_balanced_threshold(curve)
        for fpr in resolved:
            found[name_operating_point(fpr)][f] = operating_point(curve, fpr).threshold
    return found


def estimate_posteriors(fit: CrossFit, member: Bools, fold: Ints, prior: float) -> Floats:
    """Estimate the probability of membership (n,) at `prior`.

    It is worked out from a likelihood ratio learned on the other folds.
    """
    found = np.empty(len(member))
    for f in range(int(fold.max()) + 1):
        others, own = fold != f, fold == f
        ratio = fit_likelihood_ratio(fit.reference(f)[others], member[others])
        found[own] = ratio.posterior(fit.scores[own], prior)
    return found


CrossFitter = Callable[[Attack, Evidence, Bools, Ints, np.random.SeedSequence], CrossFit]


def pool_scores(scored: AttackScores, member: Bools, fold: Ints) -> Floats:
    """Pool scores (n,) as they are, or as positions within the fold.

    Positions are for attacks fitted fold by fold, whose scores do not compare across folds.
    """
    return ranks_within_fold(scored.scores, member, fold) if scored.learned else scored.scores
