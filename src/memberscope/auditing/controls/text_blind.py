"""Check by the blind control whether texts alone tell members from non-members.

Texts of another time or source than the training's are told by their words, which then passes for
membership inference [1, 2]. Two ridge regressions read the texts. One sees all words, pairs of words
and runs of four characters, weighted by their inverse document frequency. The other sees length,
punctuation, dates and form; or where single words or levels of style surely differ between the
sides among the records learned from, these alone, so that a mark on a few members is not lost.
Both are judged as the classifiers of `controls.blind` are.

References:
    [1] M. Meeus et al., "SoK: Membership Inference Attacks on LLMs are Rushing Nowhere (and How to
        Fix It)", arXiv:2406.17975.
    [2] D. Das, J. Zhang, F. Tramèr, "Blind Baselines Beat Membership Inference Attacks for
        Foundation Models", arXiv:2406.16201.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.special import ndtri

from memberscope.auditing.controls.blind import (
    OrderedScores,
    check_blind_scores,
    score_blocks,
)
from memberscope.auditing.controls.linear_walk import PENALTY as STYLE_PENALTY
from memberscope.auditing.controls.text_features import TextFeatures, extract_text_features
from memberscope.auditing.documents.result import Control
from memberscope.auditing.subject.text_hashes import hash_texts, normalise_text, read_full_text
from memberscope.texts import TextRecord
from memberscope.types import Bools, Floats, Ints

PENALTY = 1.0  # of the squared weights of texts of length one
MOST_MARKS = 64  # words and levels that surely differ, beside the style
FEWEST_TEXTS = 5  # texts that must have a mark


def run_text_blind_control(
    texts: Sequence[TextRecord] | TextFeatures | None,
    member: Bools,
    strongest: Floats | None = None,
    *,
    fprs: tuple[float, ...] = (),
    unit: Ints | None = None,
) -> Control:
    """Check whether classifiers that see the texts (n,) only tell members.

    They are judged by AUC, and by TPR at each of `fprs`, as in `run_blind_control`, whose other
    arguments these are. `texts` are records, of which all is read, or features kept of them.
    """
    if texts is None:
        return Control(
            None,
            "The texts were not given, so whether they alone tell members from non-members (blind "
            "control) was not checked.",
        )
    # Texts that differ in case or white space only must not teach each other
    keys = (
        texts.keys
        if isinstance(texts, TextFeatures)
        else hash_texts([normalise_text(read_full_text(record)) for record in texts])
    )

    def score(chosen: Ints, blocks: list[Ints]) -> list[OrderedScores]:
        features = (
            texts.take(chosen)
            if isinstance(texts, TextFeatures)
            else extract_text_features([texts[row] for row in chosen])
        )
        return _score_texts(features, member[chosen], blocks)

    return check_blind_scores(keys, member, score, strongest, fprs=fprs, unit=unit)


def _score_texts(features: TextFeatures, member: Bools, blocks: list[Ints]) -> list[OrderedScores]:
    """Score both classifiers along each order, which has `blocks` (n,)."""
    from scipy.sparse import csr_array, hstack

    times = np.bincount(features.grams.indices, minlength=features.grams.shape[1])
    # A word of one text only says nothing of others, and most words are of one text
    weighted = weight_grams(features.grams)[:, np.flatnonzero(times > 1)]
    present = features.grams[:, np.flatnonzero(times >= FEWEST_TEXTS)]
    present.data = np.ones_like(present.data)
    marks = hstack([present, csr_array(find_style_levels(features.style))], format="csr")
    style = rank_style(features.style)

    outcome = np.where(member, 1.0, -1.0)

    def predict_by_words(before: Bools, own: Bools) -> Floats:
        scores: Floats = weighted[own] @ fit_word_weights(weighted[before], outcome[before])
        return scores

    def predict_by_style(before: Bools, own: Bools) -> Floats:
        chosen = find_marks(marks[before], member[before])
        # Dozens of columns that tell nothing would hide a mark on a few members
        inputs = marks[:, chosen].toarray() if len(chosen) else style
        weights = fit_style_weights(inputs[before], outcome[before])
        scores: Floats = inputs[own] @ weights
        return scores

    ways = {"words": predict_by_words, "style": predict_by_style}
    return [
        OrderedScores(name, score_blocks(predict, member, block), block)
        for name, predict in ways.items()
        for block in blocks
    ]


def rank_style(style: Floats) -> Floats:
    """Turn each column of `style` (n, d) into normal scores of its ranks; 0 where it is missing.

    Columns with missing entries get another that says where, so that there may be more than d.

    >>> rank_style(np.array([[3.0], [1.0], [2.0]])).round(2).ravel().tolist()
    [0.67, -0.67, 0.0]
    """
    from scipy.stats import rankdata

    there = np.isfinite(style)
    ranks = rankdata(style, axis=0, nan_policy="omit")
    shares = np.where(there, ranks / (there.sum(axis=0) + 1), 0.5)
    scores: Floats = np.hstack([ndtri(shares), there[:, ~there.all(axis=0)]])
    return scores


def find_style_levels(style: Floats) -> Any:
    """Mark where each column of `style` (n, d) lies above each of its octiles, as (n, 7 d).

    >>> find_style_levels(np.arange(4.0)[:, None])[:, 3].tolist()
    [0.0, 0.0, 1.0, 1.0]
    """
    octiles = np.arange(1, 8) / 8
    levels = []
    for column in style.T:
        there = np.isfinite(column)
        values = np.where(there, column, -np.inf)
        edges = np.quantile(column[there], octiles) if there.any() else np.full(7, np.inf)
        levels.append(values[:, None] > edges)
    return np.hstack(levels).astype(np.float32)


def weight_grams(grams: Any) -> Any:
    """Weight the counts of a sparse array (n, g) by inverse document frequency, to rows of length 1.

    >>> from scipy.sparse import csr_array
    >>> weight_grams(csr_array(np.array([[3.0, 0.0], [0.0, 0.0]]))).toarray()
    array([[1., 0.],
           [0., 0.]])
    """
    weighted = grams.copy()
    times = np.bincount(grams.indices, minlength=grams.shape[1])
    rarity = (1 + np.log((1 + len(grams.indptr) - 1) / (1 + times))).astype(grams.dtype)
    weighted.data = grams.data * rarity[grams.indices]
    sizes = np.diff(grams.indptr)
    squared = np.bincount(
        np.repeat(np.arange(len(sizes)), sizes), weighted.data**2, minlength=len(sizes)
    )
    lengths = np.sqrt(np.where(squared > 0, squared, 1.0)).astype(grams.dtype)
    weighted.data /= np.repeat(lengths, sizes)
    return weighted


def find_marks(present: Any, member: Bools) -> Ints:
    """Find the columns of `present` (n, g), 1 or 0, that surely differ between the sides.

    A column counts if its z-value would be exceeded by chance in one of all columns at most. The
    surest come first.

    >>> from scipy.sparse import csr_array
    >>> find_marks(csr_array(np.tile(np.eye(2), (30, 1))), np.arange(60) % 2 == 0).tolist()
    [0, 1]
    """
    inside, n = present[member].sum(axis=0), present.shape[0]
    total = inside + present[~member].sum(axis=0)
    # Columns that few or all texts have tell nothing, and have no spread
    seen = np.flatnonzero((total >= FEWEST_TEXTS) & (total < n))
    n_members = int(member.sum())
    n_others, share = n - n_members, total[seen] / n
    gap = inside[seen] / n_members - (total[seen] - inside[seen]) / n_others
    z = np.abs(gap) / np.sqrt(share * (1 - share) * (1 / n_members + 1 / n_others))
    order = np.argsort(-z, kind="stable")[:MOST_MARKS]
    least = -float(ndtri(0.5 / max(len(seen), 1)))
    chosen: Ints = seen[order[z[order] > least]].astype(np.int64)
    return chosen


def fit_word_weights(learned: Any, outcome: Floats) -> Floats:
    """Fit the weights (g,) of a ridge regression of an outcome (n,) on sparse texts (n, g).

    There is one equation a text, and they are solved by conjugate gradients.

    >>> from scipy.sparse import csr_array
    >>> fit_word_weights(csr_array(np.eye(2)), np.array([1.0, -1.0])).round(3).tolist()
    [0.5, -0.5]
    """
    from scipy.sparse.linalg import LinearOperator, cg

    def multiply(values: Floats) -> Floats:
        product: Floats = learned @ (learned.T @ values) + PENALTY * values
        return product

    n = learned.shape[0]
    # One type throughout, since products of two types copy the whole array each time
    aim = (outcome - outcome.mean()).astype(learned.dtype)
    system = LinearOperator((n, n), matvec=multiply, dtype=learned.dtype)
    dual, _ = cg(system, aim, rtol=1e-3, maxiter=100)
    weights: Floats = learned.T @ dual
    return weights


def fit_style_weights(inputs: Floats, outcome: Floats) -> Floats:
    """Fit the weights (d,) of a ridge regression of an outcome (n,) on standardised `inputs` (n, d).

    The weights are those of the inputs as they are; a constant is left out, since it ranks nothing.

    >>> fit_style_weights(np.array([[0.0], [2.0]] * 10), np.array([-1.0, 1.0] * 10)).round(3)
    array([0.667])
    """
    from scipy.linalg import solve

    centred = inputs - inputs.mean(axis=0)
    spread = centred.std(axis=0)
    # A constant column has no spread and gets no weight
    scale = np.where(spread > 0, spread, np.inf)
    centred = centred / scale
    products = centred.T @ centred + STYLE_PENALTY * np.eye(inputs.shape[1])
    weights: Floats = solve(products, centred.T @ (outcome - outcome.mean()), assume_a="pos")
    return weights / scale
