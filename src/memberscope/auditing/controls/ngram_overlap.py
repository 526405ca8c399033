"""Measure how many of a text's word n-grams stand in the members' texts.

A non-member that consists of members' phrases is partly trained on: many attacks that seem to find
members find such texts, and what counts as a member is no longer clear [1]. N-grams are runs of
seven words in lower case, without punctuation: long enough that chance finds few, and short enough
that a text of one or two sentences has some; runs of 13, also used in [1], would leave short texts
without any.

References:
    [1] M. Duan et al., "Do Membership Inference Attacks Work on Large Language Models?", COLM 2024,
        arXiv:2402.07841.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np

from memberscope.auditing.documents.result import Control
from memberscope.auditing.subject.feature_matrix import Keys
from memberscope.auditing.subject.text_hashes import (
    hash_word_ngrams,
    read_full_text,
    split_words,
)
from memberscope.texts import TextRecord
from memberscope.types import Bools, Floats, Ints

WORDS = 7
MOST_NGRAMS = 20_000_000  # of the members; of more, those with the smallest hashes are looked for
HIGH = 0.2  # share of a text's n-grams beyond which members' phrases are a part of it
NEARLY_ALL = 0.8
COMMON = 0.05  # share of the non-members beyond which there is a warning


@dataclass(frozen=True)
class NgramOverlap:
    """How much of the non-members' n-grams stands in the members' texts.

    Of `n_non_members` only those long enough for an n-gram are counted. `median`, `above_high` and
    `above_nearly_all` are the median share of n-grams found, and the shares of non-members with
    more than 20% and 80%. `median_of_members` and `members_above_high` say the same of each member
    and the *other* members' texts, which is what exchangeable sides have in common.
    """

    words: int
    n_non_members: int
    median: float
    above_high: float
    above_nearly_all: float
    median_of_members: float
    members_above_high: float


def measure_ngram_shares(
    texts: Sequence[TextRecord],
    member: Bools,
    *,
    unit: Ints | None = None,
    words: int = WORDS,
) -> Floats:
    """Measure the share (n,) of each text's n-grams that stand in texts of members.

    A member's own text, and those of its `unit` (n,), do not count for it. NaN where a text has no
    n-gram.

    >>> texts = ["one two three four", "two three four five", "six seven eight nine"]
    >>> measure_ngram_shares(texts, np.array([True, False, False]), words=3)
    array([0. , 0.5, 0. ])
    """
    code = np.arange(len(texts)) if unit is None else np.unique(unit, return_inverse=True)[1]
    plain = [read_full_text(record) for record in texts]
    # Fewer n-grams of very many, the same ones in all texts, keep the memory bounded
    several = 1 + sum(len(plain[row]) for row in np.flatnonzero(member)) // (6 * MOST_NGRAMS)
    kept = [_hash_text_ngrams(text, words, several) for text in plain]
    inside = np.flatnonzero(member)
    known, n_units = _count_units(
        np.concatenate([kept[row] for row in inside] or [np.zeros(0, np.uint64)]),
        np.repeat(code[inside], [len(kept[row]) for row in inside]),
    )
    shares = np.full(len(texts), np.nan)
    for row, hashes in enumerate(kept):
        if len(hashes) and len(known):
            place = np.minimum(np.searchsorted(known, hashes), len(known) - 1)
            times = np.where(known[place] == hashes, n_units[place], 0)
            # A member finds its own n-grams, so that another unit must have them too
            shares[row] = float(np.mean(times > int(member[row])))
    return shares


def _hash_text_ngrams(text: str, words: int, several: int) -> Keys:
    """Hash the different n-grams of a text, or one in `several` of them."""
    hashes = np.unique(hash_word_ngrams(split_words(text), words))
    return hashes if several == 1 else hashes[hashes % np.uint64(several) == 0]


def _count_units(hashes: Keys, code: Ints) -> tuple[Keys, Ints]:
    """Count the different units `code` (h,) of each hash; gives sorted hashes (k,) and counts."""
    order = np.lexsort((code, hashes))
    hashes, code = hashes[order], code[order]
    fresh = np.ones(len(hashes), dtype=bool)
    fresh[1:] = (hashes[1:] != hashes[:-1]) | (code[1:] != code[:-1])
    known, counts = np.unique(hashes[fresh], return_counts=True)
    return known, counts.astype(np.int64)


def summarise_ngram_shares(
    shares: Floats, member: Bools, *, words: int = WORDS
) -> NgramOverlap | None:
    """Summarise the shares (n,) of `measure_ngram_shares`; None if no non-member has an n-gram."""
    outside, inside = shares[~member], shares[member]
    outside, inside = outside[np.isfinite(outside)], inside[np.isfinite(inside)]
    if not len(outside) or not len(inside):
        return None
    return NgramOverlap(
        words,
        len(outside),
        float(np.median(outside)),
        float((outside > HIGH).mean()),
        float((outside > NEARLY_ALL).mean()),
        float(np.median(inside)),
        float((inside > HIGH).mean()),
    )


def describe_ngram_overlap(found: NgramOverlap | None) -> list[str]:
    """Describe non-members made of members' phrases in a warning; nothing where they are few.

    >>> describe_ngram_overlap(NgramOverlap(7, 100, 0.0, 0.01, 0.0, 0.0, 0.0))
    []
    """
    if found is None or found.above_high <= COMMON:
        return []
    return [
        f"Of {found.n_non_members} non-members, {found.above_high:.0%} have more than {HIGH:.0%} of "
        f"their runs of {found.words} words in members' texts ({found.above_nearly_all:.0%} more "
        f"than {NEARLY_ALL:.0%}; of the members, {found.members_above_high:.0%} share as much with "
        "other members). Such texts were trained on in part: many hits are members' phrases in "
        "non-members, and leakage is understated."
    ]


def add_ngram_overlap(
    control: Control, texts: Sequence[TextRecord], member: Bools, unit: Ints | None = None
) -> Control:
    """Add the overlap of n-grams to the overlap control, as its detail `ngrams` and any warning.

    The outcome stays: phrases in common are in the nature of some texts.
    """
    found = summarise_ngram_shares(measure_ngram_shares(texts, member, unit=unit), member)
    if found is None:
        return control
    why = " ".join([control.why, *describe_ngram_overlap(found)])
    return replace(control, why=why, details={**control.details, "ngrams": asdict(found)})
