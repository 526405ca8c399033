"""Bound epsilon, and measure exposure and extraction, by text canaries in one training run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from memberscope.auditing.documents.comparison import ValueWithLimits
from memberscope.auditing.documents.diagnostics import ExtractionSummary
from memberscope.auditing.estimates.epsilon_bounds import EpsilonBound, compute_privacy_bounds
from memberscope.auditing.estimates.extraction import estimate_extraction
from memberscope.errors import InputError
from memberscope.recipes import TextCanary
from memberscope.statistics import (
    ExposureSummary,
    Interval,
    auc_interval,
    can_resolve_fpr,
    roc,
    summarise_exposure,
    tpr_at_fpr,
)
from memberscope.texts import TokenSignals
from memberscope.types import Bools, Floats

FORMAT = "memberscope-canary-scores/1"
FPRS = (0.1, 0.01)
FEWEST = 10
FEWEST_FOR_BOUND = 20


@dataclass(frozen=True)
class RepeatedCanaries:
    """What is found of canaries that were in `repetitions` times: `n_inside` of them.

    They are compared with all canaries left out. `bounds` on epsilon come from the coins of this
    class alone, of which `n_outside` left a canary out; they are about groups of `repetitions`
    records, and empty where there are too few canaries.
    """

    repetitions: int
    n_inside: int
    n_outside: int
    auc: Interval
    tpr: dict[float, Interval]
    exposure: ExposureSummary
    extraction: ExtractionSummary
    bounds: list[EpsilonBound]


@dataclass(frozen=True)
class TextCanaryScores:
    """What the canaries of one run show, by how often they were in.

    `statistic` says in words what each canary was scored by.
    """

    statistic: str
    n_outside: int
    confidence: float
    classes: tuple[RepeatedCanaries, ...]

    def find_record_bounds(self) -> list[EpsilonBound]:
        """Find the bounds that are about single records: those of canaries that were in once."""
        return next((row.bounds for row in self.classes if row.repetitions == 1), [])

    def build_document(self) -> dict[str, Any]:
        """Build the content of scores.json."""
        rows = []
        for row in self.classes:
            found = asdict(row)
            found["auc"] = _write_interval(row.auc)
            found["tpr"] = [{"fpr": fpr, **_write_interval(v)} for fpr, v in row.tpr.items()]
            found["exposure"]["median"] = _write_interval(row.exposure.median)
            rows.append(found)
        about = {"statistic": self.statistic, "n_outside": self.n_outside}
        return {"format": FORMAT, **about, "confidence": self.confidence, "classes": rows}


def score_text_canaries(
    canaries: Sequence[TextCanary],
    tokens: TokenSignals,
    *,
    delta: float = 1e-5,
    confidence: float = 0.95,
) -> TextCanaryScores:
    """Score text canaries by what the trained model says of their tokens.

    Each is scored by the mean log-probability of its own tokens, without its prefix; less that of
    the model before training where `tokens` hold its `base`.

    Raises:
        InputError: There are fewer than ten canaries, all coins fell alike, or tokens are missing.
    """
    inside = np.array([one.inside for one in canaries], dtype=bool)
    if len(canaries) < FEWEST or inside.all() or not inside.any():
        raise InputError(
            f"Expected at least {FEWEST} canaries, some in and some out, got {len(canaries)} with "
            f"{int(inside.sum())} in. Draw more canaries, and train again."
        )
    own = cut_canary_tokens(canaries, tokens)
    scores = own.mean_log_probability()
    statistic = "mean log-probability of the canary's own tokens"
    if own.base is not None:
        scores = scores - own.sum_tokens(own.base) / own.counts
        statistic += ", less that of the model before training"
    repetitions = np.array([one.repetitions for one in canaries])
    rows = [
        _score_class(
            int(k), repetitions == k, inside, scores, own, delta=delta, confidence=confidence
        )
        for k in np.unique(repetitions[inside])
    ]
    return TextCanaryScores(statistic, int((~inside).sum()), confidence, tuple(rows))


def cut_canary_tokens(canaries: Sequence[TextCanary], tokens: TokenSignals) -> TokenSignals:
    """Cut the signals of each canary to its own tokens, without an end token that follows.

    Raises:
        InputError: Tokens are missing, so that the model reads canaries otherwise or cuts them.
    """
    if len(tokens) != len(canaries):
        raise InputError(
            f"Expected token signals of {len(canaries)} canaries, got {len(tokens)}. Score all of "
            "them."
        )
    wanted = np.array([one.tokens for one in canaries])
    fewer = int((tokens.counts < wanted).sum())
    if fewer:
        raise InputError(
            f"Expected the tokens of each canary as export counted them, got fewer of {fewer} of "
            f"{len(canaries)}: the model has another tokenizer, or cuts texts. Score with the "
            "tokenizer and context of the training."
        )
    place = np.arange(int(tokens.offsets[-1]))
    kept = place < np.repeat(tokens.offsets[:-1] + wanted, tokens.counts)
    offsets = np.concatenate([[0], np.cumsum(wanted)]).astype(np.int64)
    base = None if tokens.base is None else tokens.base[kept]
    return TokenSignals(offsets, np.asarray(tokens.log_probability)[kept], base=base)


def _score_class(
    repetitions: int,
    chosen: Bools,
    inside: Bools,
    scores: Floats,
    own: TokenSignals,
    *,
    delta: float,
    confidence: float,
) -> RepeatedCanaries:
    """Score the canaries of one class, in against all that were left out."""
    mine, compared = chosen & inside, (chosen & inside) | ~inside
    # Whatever their class, canaries left out are alike, since the model saw none of them
    curve = roc(scores[compared], inside[compared])
    n_outside = int((~inside).sum())
    coins = inside[chosen]
    has_bound = len(coins) >= FEWEST_FOR_BOUND and not coins.all()
    return RepeatedCanaries(
        repetitions,
        int(mine.sum()),
        int((chosen & ~inside).sum()),
        auc_interval(scores[compared], inside[compared], confidence=confidence),
        {
            fpr: tpr_at_fpr(curve, fpr, confidence)
            for fpr in FPRS
            if can_resolve_fpr(fpr, n_outside)
        },
        summarise_exposure(scores[mine], scores[~inside], confidence),
        estimate_extraction(own.take(compared), inside[compared], confidence=confidence),
        compute_privacy_bounds(scores[chosen], coins, delta, confidence) if has_bound else [],
    )


def _write_interval(interval: Interval) -> dict[str, Any]:
    """Write an interval as an object."""
    return {**asdict(ValueWithLimits(*interval[:3])), "method": interval.method}


def describe_group_bounds(bounds: list[EpsilonBound], repetitions: int) -> list[EpsilonBound]:
    """Say in the assumptions of bounds that they are about groups of records, where they are.

    >>> describe_group_bounds([], 4)
    []
    """
    if repetitions == 1:
        return bounds
    about = f", for groups of {repetitions} records: a single record's epsilon may be smaller"
    return [replace(bound, assumes=bound.assumes + about) for bound in bounds]
