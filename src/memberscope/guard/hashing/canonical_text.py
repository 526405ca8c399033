"""Bring texts to one canonical form, so that spellings of one text are one record."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import replace

from memberscope.guard.hashing.canonical import CanonicalBatch

BLANKS = re.compile(r"\s+")


def fold_text(text: str) -> str:
    r"""Fold a text: composed characters (NFC), no difference of case, single blanks between words.

    A language model sees other tokens where case or blanks differ, but hardly learns other things
    about membership from them: variants of a text spend the budget of that text.

    >>> fold_text("  The\tCAT\nSat"), fold_text("cafe\u0301") == fold_text("CAF\u00c9")
    ('the cat sat', True)
    """
    # Folding can take composed characters apart, so that they are composed afterwards
    folded = unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold())
    return BLANKS.sub(" ", folded).strip()


def fold_text_records(records: CanonicalBatch) -> CanonicalBatch:
    """Fold the texts of records; those that are folded stay as they are.

    >>> import numpy as np
    >>> from memberscope.guard.hashing.canonical import canonicalise_records
    >>> from memberscope.wire import Batch
    >>> texts = canonicalise_records(Batch(np.array([["A  b"]], dtype=object)))
    >>> fold_text_records(texts).array.tolist()
    [['a b']]
    """
    if records.words is None:
        return records
    words, cells = records.words.copy(), records.array
    assert cells is not None
    cells = cells.copy()
    for place, word in enumerate(records.words.flat):
        if word is not None:
            words.flat[place] = cells.flat[place] = fold_text(word)
    return replace(records, array=cells, words=words)
