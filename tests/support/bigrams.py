"""A language model of word pairs fitted by counting, whose probabilities are known exactly."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import Any

import numpy as np

from memberscope.texts import Completion, TextRecord


def fit_bigrams(
    texts: Iterable[str], n_words: int, smoothing: float = 1.0
) -> Callable[[list[TextRecord]], list[Any]]:
    """Fit by counting: p(b after a) = (count(a, b) + smoothing) / (count(a) + smoothing n_words).

    With `smoothing` 0 it is the share of pairs; every scored pair must have been seen then. The
    function gives the log-probabilities of all words but a text's first, or of a completion's.
    """
    pairs: Counter[tuple[str, str]] = Counter()
    firsts: Counter[str] = Counter()
    for text in texts:
        words = text.split()
        pairs.update(pairwise(words))
        firsts.update(words[:-1])

    def score(records: list[TextRecord]) -> list[Any]:
        found = []
        for record in records:
            prompt = record.prompt.split() if isinstance(record, Completion) else []
            own = record.completion if isinstance(record, Completion) else str(record)
            words = prompt + own.split()
            start = max(len(prompt), 1)
            before = zip(words[start - 1 :], words[start:], strict=False)
            found.append(
                np.array(
                    [
                        np.log((pairs[a, b] + smoothing) / (firsts[a] + smoothing * n_words))
                        for a, b in before
                    ]
                )
            )
        return found

    return score
