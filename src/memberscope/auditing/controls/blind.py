"""Check by the blind control whether records alone tell members from non-members.

If they do, an attack's success may be a difference between the two samples and says nothing about
the model.

Records stand in an order that a hash of their content decides, cut into blocks; each block is
scored by classifiers that were fitted on the blocks before it. Given those, the memberships within
a block are a random draw if the two samples are alike, so the laws of its statistics are known and
the blocks' statistics are independent (a martingale; Dawid's prequential principle [1]). Ordinary
cross-fitting counts each pair of folds twice, and its intervals are too narrow by up to a factor of
1.4. Several orders are averaged; the mean of statistics varies at most as much as one of them.

References:
    [1] A. P. Dawid, "Statistical theory: the prequential approach", J. R. Statist. Soc. A 147,
        1984.
    [2] P. van Elteren, "On the combination of independent two-sample tests of Wilcoxon", Bull. Int.
Stat. Inst. 37, 1960.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from scipy.special import gammaln, ndtr, ndtri

from memberscope._parallel import map_in_parallel
from memberscope.auditing.controls.linear_walk import BLOCKS, PENALTY, predict_linear_by_block
from memberscope.auditing.documents.result import Control
from memberscope.auditing.subject.feature_matrix import (
    WIDE,
    Keys,
    average_features,
    hash_feature_rows,
    mix_keys,
    reduce_features,
)
from memberscope.statistics import auc_difference
from memberscope.types import Bools, Floats, Ints

# The chance that a clean audit fails, over both classifiers, the AUC and all rates together
ALPHA = 0.005
ALPHA_BELOW = 0.0025  # chance that a clean audit is found surely below one half
MAX_RECORDS = 20_000  # of both sides; enough to see an AUC of 0.52
ORDERS = 2  # orders by hash; each is gone through forwards and backwards
FEWEST = 8  # units a side below which nothing can be told
LEAST_Z = -2.0  # a count of none, whose p-value is 1, must not outweigh the other orders


@dataclass(frozen=True, eq=False)
class OrderedScores:
    """One classifier's scores (n,) along one order, and the block (n,) of each record.

    Scores are NaN where nothing was scored.
    """

    model: str
    scores: Floats
    block: Ints


@dataclass(frozen=True)
class FoundShare:
    """The share of members found where `fpr` of the non-members are, or the reverse.

    `kind` says of which side it is the share.
    """

    fpr: float
    value: float
    p_value: float
    kind: str = "members"


@dataclass(frozen=True)
class ClassifierResult:
    """What one classifier tells: each `FoundShare`, and the AUC.

    The AUC's standard error is that under no difference.
    """

    model: str
    auc: float
    error: float
    rates: tuple[FoundShare, ...]

    @property
    def z(self) -> float:
        """The AUC's distance from one half in standard errors."""
        return (self.auc - 0.5) / self.error


def run_blind_control(
    features: Floats | None,
    labels: Ints,
    member: Bools,
    strongest: Floats | None,
    *,
    fprs: tuple[float, ...] = (),
    unit: Ints | None = None,
) -> Control:
    """Check whether classifiers that see features (n, f) and labels (n,) only tell members.

    They are judged by AUC, and by TPR at each of `fprs`.

    `strongest` (n,) are the strongest attack's comparable scores; its leakage beyond the blind
    classifier is reported. Records of one `unit` (n,) are learned from, scored and counted
    together. Nothing is drawn at random and the order of the records does not matter. An AUC surely
    below one half passes, with `below` among the details.
    """
    if features is None:
        return Control(
            None,
            "The records were not given, so whether they alone tell members from non-members (blind control) was not checked.",
        )
    keys = hash_feature_rows(features, labels)

    def score(chosen: Ints, blocks: list[Ints]) -> list[OrderedScores]:
        return _score_along_orders(features[chosen], labels[chosen], member[chosen], blocks)

    return check_blind_scores(keys, member, score, strongest, fprs=fprs, unit=unit)


def check_blind_scores(
    keys: Keys,
    member: Bools,
    score: Callable[[Ints, list[Ints]], list[OrderedScores]],
    strongest: Floats | None,
    *,
    fprs: tuple[float, ...] = (),
    unit: Ints | None = None,
) -> Control:
    """Check whether the classifiers of `score` tell members, as `run_blind_control` says.

    `keys` (n,) are hashes of the records. `score` gets the positions (c,) of the records that are
    looked at and several orders, each as the block (c,) of every record, and scores the records
    along each order, by classifiers that never see the blocks to come.
    """
    # The order follows from content, so that shuffling the input changes nothing
    code, unit_keys, unit_member = _number_units(keys, member, unit)
    # Units are what is drawn at random, so they are counted, not records
    if min(int(unit_member.sum()), int((~unit_member).sum())) < FEWEST:
        return Control(
            None, f"The blind control needs {FEWEST} records, or units of records, on each side."
        )
    # Each order hashes the keys with another number, so the orders are unrelated
    places = [
        mix_keys(unit_keys ^ mix_keys(np.full(len(unit_keys), order + 1, np.uint64)))
        for order in range(ORDERS)
    ]
    # The first in the first order are kept, which is a random draw that anyone can repeat
    chosen = _subsample_records(places[0][code], keys, member)
    n_given, code = len(member), code[chosen]
    # Inverting the keys turns an order round
    blocks = [_assign_blocks(way) for place in places for way in (place[code], ~place[code])]
    walks = score(chosen, blocks)
    found = [
        _summarise_classifier([w for w in walks if w.model == name], member[chosen], code, fprs)
        for name in dict.fromkeys(walk.model for walk in walks)
    ]
    control = _judge_classifiers(found, member[chosen])
    if len(chosen) < n_given:
        control.details["drawn_from"] = n_given
    # How far the attack goes beyond the records alone is told, not judged
    if strongest is not None:
        scores = _average_positions(walks, member[chosen])
        beyond = auc_difference(strongest[chosen], scores, member[chosen], 0.95)
        control.details["beyond_blind"] = {
            "auc_difference": beyond.value,
            "low": beyond.low,
            "high": beyond.high,
        }
    return control


def _number_units(keys: Keys, member: Bools, unit: Ints | None) -> tuple[Ints, Keys, Bools]:
    """Number each record's unit (n,), and give a key (u,) and the side (u,) of each unit.

    Keys follow from content alone.

    Units that are equal within a side are told apart by counting them, so that copies are spread
    over the blocks.
    """
    # Without units each record is its own
    if unit is None:
        code, own, side = np.arange(len(keys)), keys, member
    else:
        code = np.unique(unit, return_inverse=True)[1].astype(np.int64)
        own = np.zeros(int(code.max()) + 1, dtype=np.uint64)
        # A sum does not depend on the order of a unit's records
        np.add.at(own, code, mix_keys(keys))
        side = np.zeros(len(own), dtype=bool)
        side[code[member]] = True
    # Equal units of one side lie next to each other, to be counted
    order = np.lexsort((own, side))
    fresh = np.append(
        True, (own[order][1:] != own[order][:-1]) | (side[order][1:] != side[order][:-1])
    )
    start = np.maximum.accumulate(np.where(fresh, np.arange(len(own)), 0))
    count = np.empty(len(own), dtype=np.uint64)
    count[order] = (np.arange(len(own)) - start).astype(np.uint64)
    return code, mix_keys(own + mix_keys(count)), side


def _subsample_records(place: Keys, keys: Keys, member: Bools) -> Ints:
    """Choose positions of at most `MAX_RECORDS` records, in an order that follows from content.

    Each side may fill its half and what the other side leaves.
    """
    sides = []
    for side in (True, False):
        where = np.flatnonzero(member == side)
        # Larger sides are cut alike, so that neither crowds out the other
        most = max(MAX_RECORDS // 2, MAX_RECORDS - (len(member) - len(where)))
        sides.append(where[np.lexsort((keys[where], place[where]))][:most])
    both = np.concatenate(sides)
    return both[np.lexsort((member[both], keys[both], place[both]))].astype(np.int64)


def _score_along_orders(
    features: Floats, labels: Ints, member: Bools, blocks: list[Ints]
) -> list[OrderedScores]:
    """Score a linear model and boosted trees along each order, which has `blocks` (n,)."""
    # The linear model takes no missing values and reads labels only as indicators
    wide = np.column_stack(
        [np.nan_to_num(features - average_features(features)), _encode_labels(labels)]
    )
    # Trees take missing values, but many columns would make them slow
    narrow = np.column_stack([reduce_features(features, np.random.default_rng(0)), labels])
    walks = [(name, block) for name in ("linear", "trees") for block in blocks]

    def score(walk: tuple[str, Ints]) -> OrderedScores:
        name, block = walk
        if name == "trees":
            scores = _predict_by_block(_make_tree_model, narrow, member, block)
        # Sums of products spare copies of many columns; few columns cost little either way
        elif WIDE < wide.shape[1] <= int((block == 0).sum()):
            scores = predict_linear_by_block(wide, member, block)
        else:
            scores = _predict_by_block(_make_linear_model, wide, member, block)
        return OrderedScores(name, scores, block)

    return map_in_parallel(score, walks, long=lambda walk: walk[0] == "trees")


def _assign_blocks(place: Keys) -> Ints:
    """Assign each record's block (n,) by its place (n,).

    0 for the first third of the different places, then `BLOCKS` equal parts.
    """
    # Equal records share a place and so a block: one must not teach the other
    values, inverse = np.unique(place, return_inverse=True)
    share = (np.arange(len(values)) + 0.5) / len(values)
    block = np.where(
        share < 1 / 3,
        0,
        1 + np.minimum((share - 1 / 3) * 1.5 * BLOCKS, BLOCKS - 1).astype(np.int64),
    )
    return block[inverse].astype(np.int64)


def _encode_labels(labels: Ints) -> Floats:
    """Encode labels (n,) as indicator columns (n, k) of at most a hundred classes.

    There are none beyond that.
    """
    values = np.unique(labels)
    if len(values) > 100:
        return np.empty((len(labels), 0))
    columns: Floats = (labels[:, None] == values).astype(np.float64)
    return columns


def _predict_by_block(make: Any, inputs: Floats, member: Bools, block: Ints) -> Floats:
    """Predict log-odds (n,) of membership, each block's from a model fitted on those before it."""

    def predict(before: Bools, own: Bools) -> Floats:
        learned, asked = inputs[before], inputs[own]
        # Trees cannot bin a column that is missing throughout
        known = ~np.isnan(learned).all(axis=0)
        if not known.all():
            learned, asked = learned[:, known], asked[:, known]
        scores: Floats = make().fit(learned, member[before]).decision_function(asked)
        return scores

    return score_blocks(predict, member, block)


def score_blocks(predict: Callable[[Bools, Bools], Floats], member: Bools, block: Ints) -> Floats:
    """Score the records (n,) of each block by what was learned from the blocks before it.

    `predict` gets the masks (n,) of the records before a block and of its own, and scores these.
    """
    scores = np.full(len(member), np.nan)
    for b in range(1, BLOCKS + 1):
        before, own = block < b, block == b
        # A classifier needs both sides to learn from; other blocks stay unscored
        if own.any() and 0 < member[before].sum() < before.sum():
            scores[own] = predict(before, own)
    return scores


def _make_linear_model() -> Any:
    """Make a ridge classifier on standardised inputs."""
    from sklearn.linear_model import RidgeClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), RidgeClassifier(alpha=PENALTY))


def _make_tree_model() -> Any:
    """Make a small boosted-tree classifier, deterministic.

    Leaves are small enough for a mark on a few records.
    """
    from sklearn.ensemble import HistGradientBoostingClassifier

    return HistGradientBoostingClassifier(
        max_iter=30, max_leaf_nodes=8, min_samples_leaf=10, learning_rate=0.12, early_stopping=False
    )


def _summarise_classifier(
    walks: list[OrderedScores], member: Bools, code: Ints, fprs: tuple[float, ...]
) -> ClassifierResult:
    """Summarise one classifier's AUC and shares found at `fprs` over its walks.

    Units `code` (n,) count once.
    """
    sides = [_split_blocks_by_side(walk, member, code) for walk in walks]
    aucs, errors = zip(*(stratified_auc(blocks) for blocks in sides), strict=True)
    # Turned round, the same count finds marks that only non-members carry
    mirrored = [[(-outside, -inside) for inside, outside in blocks] for blocks in sides]
    rates = [
        _measure_found_share(every, fpr, kind)
        for every, kind in ((sides, "members"), (mirrored, "non-members"))
        for fpr in fprs
    ]
    return ClassifierResult(
        walks[0].model, float(np.mean(aucs)), float(np.mean(errors)), tuple(rates)
    )


def _measure_found_share(
    sides: list[list[tuple[Floats, Floats]]], fpr: float, kind: str
) -> FoundShare:
    """Measure the share of one kind beyond the threshold at `fpr` of the other over walks.

    The share comes with its p-value.
    """
    found = [estimate_found_share(blocks, fpr) for blocks in sides]
    # Walks share records, so their z-values are averaged and not added: the mean varies no more
    # than one. The floor on p keeps z finite.
    z = float(np.mean([max(LEAST_Z, -float(ndtri(max(p, 1e-300)))) for _, p in found]))
    return FoundShare(fpr, float(np.mean([value for value, _ in found])), float(ndtr(-z)), kind)


def _split_blocks_by_side(
    walk: OrderedScores, member: Bools, code: Ints
) -> list[tuple[Floats, Floats]]:
    """Split the scores by side, of units in each block that has both.

    A unit's score is its records' mean.
    """
    seen = np.isfinite(walk.scores)
    _, first, inverse = np.unique(code[seen], return_index=True, return_inverse=True)
    scores = np.bincount(inverse, walk.scores[seen]) / np.bincount(inverse)
    side, block = member[seen][first], walk.block[seen][first]
    pairs = [
        (scores[side & (block == b)], scores[~side & (block == b)]) for b in range(1, BLOCKS + 1)
    ]
    return [(inside, outside) for inside, outside in pairs if len(inside) and len(outside)]


def stratified_auc(blocks: list[tuple[Floats, Floats]]) -> tuple[float, float]:
    """Average the AUC of the blocks with van Elteren's weights.

    The standard error given is that of sides that are alike (ties counted).
    """
    weights, values, variances = [], [], []
    for inside, outside in blocks:
        n1, n0 = len(inside), len(outside)
        ordered = np.sort(outside)
        # The sum of both searches counts a tie as one half, after the division by two
        below = np.searchsorted(ordered, inside, "left") + np.searchsorted(ordered, inside, "right")
        ties = np.unique(np.concatenate([inside, outside]), return_counts=True)[1].astype(
            np.float64
        )
        n = n1 + n0
        # Ties lower the variance of a rank statistic
        spread = (n + 1) - float((ties**3 - ties).sum()) / (n * max(n - 1, 1))
        weights.append(n1 * n0 / (n + 1))
        values.append(float(below.mean()) / (2 * n0))
        variances.append(max(spread, 1e-12) / (12 * n1 * n0))
    # Nothing was scored, so no difference is claimed
    if not blocks:
        return 0.5, 1.0
    share = np.array(weights) / sum(weights)
    return float(share @ np.array(values)), float(share**2 @ np.array(variances)) ** 0.5


def estimate_found_share(blocks: list[tuple[Floats, Floats]], fpr: float) -> tuple[float, float]:
    """Estimate the share of members above each block's threshold at `fpr`.

    Ties are broken by coins. With its p-value if the sides are alike.
    """
    total, members, law = 0.0, 0, np.ones(1)
    for inside, outside in blocks:
        # The slack keeps a product such as 0.1 * 30 from losing a rank by rounding
        rank = min(int(fpr * len(outside) + 1e-9) + 1, len(outside))
        total += count_expected_above(inside, outside, rank)
        members += len(inside)
        # Blocks are independent, so the law of their sum is a convolution
        law = np.convolve(law, compute_null_distribution(len(inside), len(outside), rank))
        # The far tail is cut, which is added to the p-value again below
        law = law[: int(np.searchsorted(np.cumsum(law), 1 - 1e-14)) + 1]
    at_least = float(law[int(total + 1e-9) :].sum())
    return total / max(members, 1), min(1.0, at_least + 1e-14)


def count_expected_above(inside: Floats, outside: Floats, rank: int) -> float:
    """Count the members expected above the `rank`-th highest non-member, ties broken at random.

    >>> count_expected_above(np.array([3.0, 2.0, 2.0, 0.0]), np.array([2.0, 1.0]), 1)
    2.0
    """
    level = np.sort(outside)[-rank]
    higher, tied = int((outside > level).sum()), int((outside == level).sum())
    return float((inside > level).sum() + (rank - higher) / (tied + 1) * (inside == level).sum())


@lru_cache(maxsize=256)
def compute_null_distribution(n_members: int, n_others: int, rank: int) -> Floats:
    """Compute the probabilities of 0, 1, … members above the `rank`-th highest of the others.

    All are in random order.

    >>> compute_null_distribution(1, 1, 1).round(6).tolist()
    [0.5, 0.5]
    """
    # Logarithms, since the binomials overflow at thousands of records
    m = np.arange(n_members + 1)

    def choose(n: Any, k: Any) -> Any:
        return gammaln(n + 1.0) - gammaln(k + 1.0) - gammaln(n - k + 1.0)

    log = choose(m + rank - 1, m) + choose(n_members - m + n_others - rank, n_members - m)
    law = np.exp(log - choose(n_members + n_others, n_members))
    scaled: Floats = law / law.sum()
    return scaled


def _judge_classifiers(found: list[ClassifierResult], member: Bools) -> Control:
    """Fail if some statistic of some classifier is surely above chance.

    All of them are counted in the correction.
    """
    n_tests = sum(1 + len(entry.rates) for entry in found)
    tests = [(float(ndtr(-entry.z)), entry, None) for entry in found]
    tests += [(rate.p_value, entry, rate) for entry in found for rate in entry.rates]  # type: ignore[misc]
    p_value, chief, rate = min(tests, key=lambda test: test[0])
    # The sharper classifier is told, whichever test decided
    sharper = max(found, key=lambda entry: entry.z)
    reach = -float(ndtri(ALPHA / n_tests))
    low, high = (
        max(0.0, sharper.auc - reach * sharper.error),
        min(1.0, sharper.auc + reach * sharper.error),
    )
    # What an audit of this size notices with a probability of 80%
    smallest = min(1.0, 0.5 + (reach + float(ndtri(0.8))) * sharper.error)
    lowest = min(found, key=lambda entry: entry.z)
    corrected = min(1.0, p_value * n_tests)
    details: dict[str, object] = {
        "n_members": int(member.sum()),
        "n_non_members": int((~member).sum()),
        "confidence": 1 - 2 * ALPHA / n_tests,
        "p_value": corrected,
        "alpha": ALPHA,
        "classifier": chief.model,
        "tpr": [
            {"fpr": entry.fpr, "tpr": entry.value, "p_value": entry.p_value, "of": entry.kind}
            for entry in chief.rates
        ],
        # Below one half is a test of its own, on both classifiers
        "below": bool(float(ndtr(lowest.z)) * len(found) < ALPHA_BELOW),
        "lowest_auc": lowest.auc,
    }
    passed = corrected >= ALPHA
    where = f"AUC {sharper.auc:.3f} ({low:.3f} to {high:.3f})"
    # Name the rate only where it, and not the AUC, is what failed
    if rate is not None and not passed:
        where = (
            f"it finds {100 * rate.value:.3g}% of the {rate.kind} where it errs on "
            f"{100 * rate.fpr:g}% of the others (by chance with a probability of {corrected:.1g}); "
            f"{where}"
        )
    if passed:
        why = (
            "A classifier that never asks the model does not tell members from non-members: "
            f"{where}, where 0.5 is guessing. With so many records it notices an AUC of "
            f"{smallest:.3f} or more with a probability of 80%."
        )
    else:
        why = f"A classifier that never asks the model tells members from non-members: {where}. The two samples differ."
    return Control(passed, why, sharper.auc, low, high, smallest, details)


def _average_positions(walks: list[OrderedScores], member: Bools) -> Floats:
    """Average each record's position (n,) among the non-members of its block.

    Over all walks that scored it.
    """
    # Positions among non-members compare across blocks, whose models differ
    total, times = np.zeros(len(member)), np.zeros(len(member))
    for walk in walks:
        for b in range(1, BLOCKS + 1):
            own = np.flatnonzero((walk.block == b) & np.isfinite(walk.scores))
            others = np.sort(walk.scores[own[~member[own]]])
            if not len(others):
                continue
            below = np.searchsorted(others, walk.scores[own], "left") + np.searchsorted(
                others, walk.scores[own], "right"
            )
            total[own] += below / (2 * len(others))
            times[own] += 1
    # A record that was never scored stands in the middle, which tells nothing
    mean: Floats = np.where(times > 0, total / np.maximum(times, 1), 0.5)
    return mean
