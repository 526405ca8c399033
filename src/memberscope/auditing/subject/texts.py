"""Make the subject of a text audit: check the texts of both sides, and group them by length."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memberscope.auditing.subject.subject import (
    Subject,
    attach_unit,
    check_subject,
    join_units,
    refuse_same_sides,
)
from memberscope.auditing.subject.text_hashes import hash_texts, normalise_text, read_full_text
from memberscope.auditing.subject.unit_hints import describe_independence, find_id_like_columns
from memberscope.errors import InputError
from memberscope.facts import read_target_facts
from memberscope.targets import ReferenceOutputs, StoredTokens, StoredTokenTarget
from memberscope.texts import Chat, Completion, TextRecord, read_scored_text
from memberscope.types import Ints, Records, Target

QUARTERS = 4  # groups by length


def make_text_subject(
    target: Target,
    members: Records | Sequence[TextRecord],
    non_members: Records | Sequence[TextRecord],
    *,
    unit: tuple[Any, Any] | None = None,
    notes: tuple[str, ...] = (),
) -> Subject:
    """Join the texts of members and non-members and check them.

    Each side is `Records` whose `x` holds texts, completions or chats, or a sequence of these.
    `unit` names the author or document of each member and of each non-member. Records get the group
    `length`, unless they have one of that name.

    Raises:
        InputError: A side is empty, is not made of texts, has an empty one, or holds the same texts
            as the other; ids repeat or stand on both sides; or units are too few.
    """
    inside = _make_text_records(members, "member")
    outside = _make_text_records(non_members, "non-member")
    if unit is not None:
        inside = attach_unit(inside, unit[0], "member")
        outside = attach_unit(outside, unit[1], "non-member")
    # A group that one side lacks cannot be compared
    shared = [name for name in inside.groups if name in outside.groups]
    groups = {name: np.concatenate([inside.groups[name], outside.groups[name]]) for name in shared}
    records = Records(
        np.concatenate([inside.x, outside.x]),
        np.zeros(len(inside) + len(outside), np.int64),
        np.concatenate([inside.ids, outside.ids]).astype(np.str_),
        groups,
        join_units(inside, outside),
    )
    # Units that nobody declared are looked for, since intervals would be too narrow
    if records.unit is None:
        notes = (*notes, *describe_independence(find_id_like_columns(groups)))
    notes = (*notes, *read_target_facts(target).notes)
    member = np.arange(len(records)) < len(inside)
    subject = check_subject(
        Subject(target, add_length_group(records), member, None, ("text",), notes)
    )
    keys = hash_texts([normalise_text(read_full_text(record)) for record in records.x])
    refuse_same_sides(keys, member)
    return subject


def make_token_subject(stored: StoredTokens) -> Subject:
    """Make the subject of token signals that were stored elsewhere; records are row numbers.

    Raises:
        InputError: A side is empty, ids repeat or stand on both sides, units do not fit, or the
            same texts stand on both sides.
    """
    n = len(stored)
    records = Records(
        np.arange(n), np.zeros(n, np.int64), stored.ids, dict(stored.groups), stored.unit
    )
    references = None
    if stored.reference_log_confidence is not None and stored.inside is not None:
        references = ReferenceOutputs(-stored.reference_log_confidence, stored.inside)
    notes = stored.notes
    if records.unit is None:
        notes = (*notes, *describe_independence(find_id_like_columns(records.groups)))
    subject = Subject(
        StoredTokenTarget(stored),
        add_length_group(records, stored.tokens.counts),
        stored.member,
        None,
        ("text",),
        notes,
        texts=stored.texts,
        stored_references=references,
    )
    if (texts := subject.list_texts()) is not None:
        refuse_same_sides(
            hash_texts([normalise_text(read_full_text(one)) for one in texts]), stored.member
        )
    return check_subject(subject)


def _make_text_records(side: Records | Sequence[TextRecord], kind: str) -> Records:
    """Make the records of one side, with ids such as `member:0` where there are none.

    Raises:
        InputError: There are no records, or one is not a text or has nothing to score.
    """
    given = side.x if isinstance(side, Records) else side
    if isinstance(given, (str, Completion, Chat)) or not hasattr(given, "__len__"):
        raise InputError(
            f"Expected {kind}s as Records or as a sequence of texts, got "
            f"{type(given).__name__}. Give a list."
        )
    if len(given) == 0:
        raise InputError(
            f"Expected {kind}s, got an empty set. Give at least a few hundred records."
        )
    # One by one, since numpy would take the messages of chats apart
    texts = np.empty(len(given), dtype=object)
    for place, record in enumerate(given):
        texts[place] = str(record) if isinstance(record, np.str_) else record
    _check_texts(texts, kind)
    if not isinstance(side, Records):
        ids = np.array([f"{kind}:{place}" for place in range(len(texts))], dtype=np.str_)
        return Records(texts, np.zeros(len(texts), np.int64), ids)
    if side.unit is not None:
        side = attach_unit(side, side.unit, kind)
    return replace(
        side,
        x=texts,
        y=np.zeros(len(texts), np.int64),
        ids=np.asarray(side.ids).astype(np.str_),
    )


def _check_texts(texts: NDArray[Any], kind: str) -> None:
    """Refuse records (n,) that are no texts, or that have nothing that a model was trained to write.

    Raises:
        InputError: There are such records.
    """
    for place, record in enumerate(texts):
        if not isinstance(record, (str, Completion, Chat)):
            raise InputError(
                f"Expected {kind} {place} as str, Completion or Chat, got "
                f"{type(record).__name__}. Name the column of the text, or leave the record out."
            )
        try:
            read_full_text(record).encode()
        except UnicodeEncodeError as error:
            raise InputError(
                f"Expected {kind} {place} as text that UTF-8 can write, got half of a pair of "
                f"surrogates ({error.object[error.start : error.end]!r}). Leave the record out, or "
                "read its file again."
            ) from error
    # Also a chat without messages has nothing to score
    empty = [
        place
        for place, record in enumerate(texts)
        if (isinstance(record, Chat) and not record.messages)
        or not read_scored_text(record).strip()
    ]
    if empty:
        raise InputError(
            f"Expected {kind}s with a text to score, got {len(empty)} that are empty, first at "
            f"position {empty[0]}. Leave them out."
        )


def add_length_group(records: Records, counts: Ints | None = None) -> Records:
    """Add the group `length`: the quarter of all records that a text's length falls into.

    Lengths are `counts` (n,), such as tokens, or else characters of the scored text. Records that
    have a group of that name, or are all of one length, stay as they are.

    >>> records = Records(["a", "bb", "cc", "ddd"], np.zeros(4, np.int64), np.array(list("abcd")))
    >>> add_length_group(records).groups["length"].tolist()
    ['1: up to 1 characters', '2: 2 characters', '2: 2 characters', '3: 3 characters']
    """
    if "length" in records.groups:
        return records
    unit = "characters" if counts is None else "tokens"
    lengths = measure_text_lengths(records.x) if counts is None else np.asarray(counts)
    # Equal lengths stay together, so that there may be fewer than four groups
    shares = np.arange(1, QUARTERS) / QUARTERS
    edges = np.unique(np.quantile(lengths, shares, method="inverted_cdf"))
    edges = edges[edges < lengths.max()]
    if not len(edges):
        return records
    code = np.searchsorted(edges, lengths)
    names = [
        _name_quarter(number, lengths[code == number], unit) for number in range(len(edges) + 1)
    ]
    return replace(records, groups={**records.groups, "length": np.array(names)[code]})


def measure_text_lengths(texts: Sequence[TextRecord]) -> Ints:
    """Count the characters (n,) of each record's scored text.

    >>> measure_text_lengths(["abc", Completion("2 + 2 =", " 4")]).tolist()
    [3, 2]
    """
    return np.array([len(read_scored_text(record)) for record in texts], dtype=np.int64)


def _name_quarter(number: int, lengths: Ints, unit: str) -> str:
    """Name a group of lengths (g,), so that names sort as lengths do."""
    low, high = int(lengths.min()), int(lengths.max())
    if number == 0:
        return f"1: up to {high} {unit}"
    return (
        f"{number + 1}: {high} {unit}" if low == high else f"{number + 1}: {low} to {high} {unit}"
    )
