"""Ask a model to go on with the first half of a text, and look for the second half in its answers.

It needs nothing but generated texts.

References:
    [1] S. Hallinan, J. Jung, M. Sclar, X. Lu, A. Ravichander, S. Ramnath, Y. Choi, S. P.
        Karimireddy, N. Mireshghallah, X. Ren, "The Surprising Effectiveness of Membership Inference
        with Simple N-Gram Coverage", COLM 2025, arXiv:2508.09603.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from memberscope.attacks._inputs import read_first_view, require_needs
from memberscope.attacks._reference_stats import keep_hidden_scores
from memberscope.types import Access, Evidence, Floats, Needs, SignalSpec

# Words that have to agree in a row
WORDS = 3


@dataclass(frozen=True)
class NgramCoverage:
    """Share of the word n-grams of a text's second half that the model's continuations contain [1].

    >>> evidence = Evidence("generations", np.array([0.4, 0.0])[:, None, None], np.zeros(2, dtype=int),
    ...                     np.full(2, -1, dtype=np.int8))
    >>> NgramCoverage().score(evidence, np.random.default_rng(0)).tolist()
    [0.4, 0.0]
    """

    version: ClassVar[int] = 1

    @property
    def name(self) -> str:
        """`ngram_coverage`."""
        return "ngram_coverage"

    @property
    def needs(self) -> Needs:
        """Texts that the model generates."""
        return Needs(
            Access.GENERATIONS, ("generations",), SignalSpec("generations"), tasks=("text",)
        )

    def score(self, evidence: Evidence, rng: np.random.Generator) -> Floats:
        """Give the share as (n,); NaN where not hidden.

        Raises:
            UnmetNeedError: The evidence lacks the signal.
        """
        require_needs(self, evidence)
        return keep_hidden_scores(read_first_view(evidence)[:, 0], evidence.hidden)


def split_in_halves(text: str) -> tuple[str, str]:
    """Split a text between two words into halves with the same number of words, or one more first.

    >>> split_in_halves("I came, I saw, I conquered.")
    ('I came, I', ' saw, I conquered.')
    """
    words = text.split()
    first = (len(words) + 1) // 2
    # At most so many words, and what is left with the space before it
    head = 0
    for word in words[:first]:
        head = text.index(word, head) + len(word)
    return text[:head], text[head:]


def compute_ngram_coverage(wanted: str, continuations: Sequence[str], size: int = WORDS) -> float:
    """Compute the share of the n-grams of words in `wanted` that some continuation contains.

    Case and the kind of white space do not count. A text of fewer than `size` words is one n-gram
    of all its words; one without words has a share of zero.

    >>> compute_ngram_coverage("a b c d", ["x A b c", "b c d e"]), compute_ngram_coverage("a b c d", ["c d"])
    (1.0, 0.0)
    """
    words = wanted.casefold().split()
    length = min(size, len(words))
    if not length:
        return 0.0
    given: set[tuple[str, ...]] = set()
    for text in continuations:
        given.update(_list_ngrams(text.casefold().split(), length))
    grams = _list_ngrams(words, length)
    return sum(gram in given for gram in grams) / len(grams)


def _list_ngrams(words: list[str], length: int) -> list[tuple[str, ...]]:
    """List the runs of `length` words, as often as they occur.

    >>> _list_ngrams(["a", "b", "c"], 2)
    [('a', 'b'), ('b', 'c')]
    """
    return list(zip(*(words[start:] for start in range(length)), strict=False))
