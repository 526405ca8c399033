"""Read texts for controls that look at the records alone, and hash their words and parts.

A hash depends on the characters alone, neither on the process nor on other texts.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from hashlib import blake2b
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memberscope.auditing.subject.feature_matrix import Keys, mix_keys
from memberscope.texts import Chat, Completion, TextRecord
from memberscope.types import Ints

Codes = NDArray[np.uint32]
# Chinese and Japanese have no blanks between words, so that each character stands for a word
WORD = re.compile(r"[^\W\u3040-\u30ff\u3400-\u9fff]+|[\u3040-\u30ff\u3400-\u9fff]")
MULTIPLIER = 0x9E3779B97F4A7C15  # odd, so that it has an inverse modulo 2^64


def read_full_text(record: TextRecord) -> str:
    """Read all that a record says: prompt and completion, or every message with its role.

    >>> read_full_text(Completion("2 + 2 =", " 4"))
    '2 + 2 = 4'
    """
    if isinstance(record, Completion):
        return record.prompt + record.completion
    if isinstance(record, Chat):
        return "\n".join(f"{role}: {content}" for role, content in record.messages)
    return record


def normalise_text(text: str) -> str:
    """Fold case and turn every run of white space into one blank, without any at the ends.

    >>> normalise_text("  Two   WORDS ")
    'two words'
    """
    return " ".join(text.casefold().split())


def split_words(text: str) -> str:
    """Separate the words of a text by one blank each, in lower case and without punctuation.

    >>> split_words("Don't stop, 2024!")
    'don t stop 2024'
    """
    return " ".join(WORD.findall(text.casefold()))


def hash_texts(texts: Sequence[str]) -> Keys:
    """Hash each text (n,); two different ones share a hash with a probability of about 2^-64.

    >>> keys = hash_texts(["a", "b", "a"])
    >>> bool(keys[0] == keys[2]), bool(keys[0] == keys[1])
    (True, False)
    """
    digests = b"".join(
        blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest() for text in texts
    )
    return np.frombuffer(digests, "<u8").astype(np.uint64)


def hash_character_ngrams(text: str, length: int) -> Keys:
    """Hash every run of `length` characters, or the whole of a shorter text.

    >>> len(hash_character_ngrams("abcabc", 3)), len(np.unique(hash_character_ngrams("abcabc", 3)))
    (4, 3)
    """
    codes = _read_codes(text)
    starts = np.arange(max(len(codes) - length, 0) + 1)
    return _hash_spans(codes, starts, np.minimum(starts + length, len(codes)))


def hash_word_ngrams(words: str, length: int) -> Keys:
    """Hash every run of `length` words of a text as `split_words` gives it; none if it has fewer.

    >>> len(hash_word_ngrams("to be or not to be", 2))
    5
    """
    codes = _read_codes(words)
    blanks = np.flatnonzero(codes == ord(" "))
    starts = np.concatenate([[0], blanks + 1])
    ends = np.append(blanks, len(codes))
    # An empty text has no words
    if not len(codes) or len(starts) < length:
        return np.zeros(0, np.uint64)
    return _hash_spans(codes, starts[: len(starts) - length + 1], ends[length - 1 :])


def _read_codes(text: str) -> Codes:
    """Read the characters of a text as numbers (c,)."""
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4")


def _hash_spans(codes: Codes, starts: Ints, ends: NDArray[Any]) -> Keys:
    """Hash the characters from each of `starts` (s,) up to each of `ends` (s,).

    The hash is a polynomial modulo 2^64, of which running sums give every span at once.
    """
    powers, inverses = _tabulate_powers(max(len(codes), 1).bit_length())
    sums = np.zeros(len(codes) + 1, np.uint64)
    # No character counts as zero, which would not be told from none
    np.cumsum((codes.astype(np.uint64) + np.uint64(1)) * powers[: len(codes)], out=sums[1:])
    return mix_keys((sums[ends] - sums[starts]) * inverses[starts])


@lru_cache(maxsize=32)
def _tabulate_powers(bits: int) -> tuple[Keys, Keys]:
    """Tabulate the first 2^bits powers of the multiplier and of its inverse, modulo 2^64."""
    tables = []
    for base in (MULTIPLIER, pow(MULTIPLIER, -1, 2**64)):
        table = np.full(2**bits, base, np.uint64)
        table[0] = 1
        tables.append(np.multiply.accumulate(table))
    return tables[0], tables[1]
