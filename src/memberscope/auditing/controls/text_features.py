"""Turn texts into numbers for the blind control: style, dates, words and runs of characters.

Nothing is learned from other texts, so that the features of a text can be kept and used again.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from memberscope.auditing.subject.feature_matrix import Keys
from memberscope.auditing.subject.text_hashes import (
    hash_character_ngrams,
    hash_texts,
    hash_word_ngrams,
    normalise_text,
    read_full_text,
    split_words,
)
from memberscope.texts import TextRecord, read_scored_text
from memberscope.types import Floats, Ints

BITS = 17  # hashed columns of words and word pairs, and as many of runs of four characters
HEAD, TAIL = 4_000, 1_000  # characters of a long text whose words are counted, at either end
MARKS = ".,;:!?'\"([{</\\-_=*#$%`\n\t\r"
YEAR = re.compile(r"(?<!\d)(?:1[5-9]\d\d|20\d\d)(?!\d)")
YEAR_STEPS = (1500, 1900, 1950, 1980, 1990, 2000, 2005, 2010, 2015, 2020, 2025, 2100)
FIGURES = re.compile(r"\d[\d.:/-]*")
# What dates look like among the figures of a text
DATES = {
    "numbers": re.compile(r"\d+"),
    "iso_dates": re.compile(r"(?<!\d)\d{4}-\d\d-\d\d(?!\d)"),
    "short_dates": re.compile(r"(?<!\d)\d{1,2}[/.]\d{1,2}[/.]\d{2,4}(?!\d)"),
    "times": re.compile(r"(?<!\d)\d{1,2}:\d\d(?!\d)"),
}
# What dates, addresses and templates look like; months with a capital, since "may" is a verb
FORMS = {
    "months": re.compile(
        r"\b(?:J(?:an|un|ul)|Feb|Mar|A(?:pr|ug)|May|Sep|Oct|Nov|Dec)"
        r"(?:uary|ruary|ch|il|e|y|ust|t|tember|ober|ember)?\b"
    ),
    "weekdays": re.compile(r"(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day"),
    "addresses": re.compile(r"://|@|www\."),
    "tags": re.compile(r"</?[a-zA-Z][^<>]*>|&#?\w+;"),
    "sentences": re.compile(r"[.!?](?=\s|$)"),
}


@dataclass(frozen=True, eq=False)
class TextFeatures:
    """Features of n texts: `style` (n, d) as numbers, and `grams` (n, 2^18), a sparse array.

    The entries of `grams` are 1 + log(count) of hashed words, pairs of words, and runs of four
    characters. `keys` (n,) are equal where texts are, apart from case and white space.
    """

    style: Floats
    grams: Any
    keys: Keys

    def __len__(self) -> int:
        return len(self.keys)

    def take(self, rows: Ints) -> TextFeatures:
        """Take the texts at positions `rows`."""
        return TextFeatures(self.style[rows], self.grams[rows], self.keys[rows])


def extract_text_features(texts: Sequence[TextRecord]) -> TextFeatures:
    """Extract the features of texts, from all that each record says.

    >>> features = extract_text_features(["In May 1999.", "In  may 1999."])
    >>> len(features), bool(features.keys[0] == features.keys[1])
    (2, True)
    """
    full = [read_full_text(record) for record in texts]
    scored = np.array([len(read_scored_text(record)) for record in texts], dtype=np.float64)
    style = np.array([_measure_style(text) for text in full]).reshape(len(full), -1)
    keys = hash_texts([normalise_text(text) for text in full])
    return TextFeatures(np.column_stack([style, np.log1p(scored)]), _count_grams(full), keys)


def _measure_style(text: str) -> list[float]:
    """Measure the length, the punctuation, the dates and the form of a text, as numbers (d,)."""
    n, words = max(len(text), 1), text.split()
    raw = text.encode("utf-8", "surrogatepass")
    # Dates are looked for among figures only, which are a small part of a text
    figures = " ".join(FIGURES.findall(text))
    found = [len(pattern.findall(figures)) for pattern in DATES.values()]
    found += [len(pattern.findall(text)) for pattern in FORMS.values()]
    years = [int(year) for year in YEAR.findall(figures)]
    # Ends tell texts that were cut or wrapped in a template
    ends = [
        float(test(end))
        for end in (text[:1], text[-1:])
        for test in (str.isupper, str.isalpha, str.isdigit, str.isspace)
    ]
    return [
        np.log1p(len(text)),
        np.log1p(len(words)),
        n / max(len(words), 1),
        len(set(words)) / max(len(words), 1),
        len(zlib.compress(raw, 1)) / max(len(raw), 1),
        len(raw) / n,
        sum(map(str.isupper, text)) / n,
        (len(text) - sum(map(len, words))) / n,
        *(text.count(mark) / n for mark in MARKS),
        *np.log1p(found),
        np.log1p(len(years)),
        min(years, default=np.nan),
        max(years, default=np.nan),
        *np.log1p(np.histogram(years, YEAR_STEPS)[0]),
        *ends,
    ]


def _count_grams(texts: Sequence[str]) -> Any:
    """Count hashed words, pairs of words and runs of characters of texts, as (n, 2^18)."""
    from scipy.sparse import csr_array

    columns, counts, ends = [], [], [0]
    shift = np.uint64(64 - BITS)
    for text in texts:
        if len(text) > HEAD + TAIL:
            text = f"{text[:HEAD]} {text[-TAIL:]}"
        words = split_words(text)
        by_word = [hash_word_ngrams(words, 1) >> shift, hash_word_ngrams(words, 2) >> shift]
        # Runs of characters keep case and white space, which templates differ in
        by_run = (hash_character_ngrams(text, 4) >> shift) + np.uint64(2**BITS)
        own, times = np.unique(np.concatenate([*by_word, by_run]), return_counts=True)
        columns.append(own.astype(np.int32))
        counts.append((1 + np.log(times)).astype(np.float32))
        ends.append(ends[-1] + len(own))
    if not columns:
        return csr_array((0, 2 ** (BITS + 1)), dtype=np.float32)
    data = (np.concatenate(counts), np.concatenate(columns), np.array(ends, np.int64))
    return csr_array(data, shape=(len(texts), 2 ** (BITS + 1)))
