"""The subject of a text audit: what is joined, and what is refused in one sentence."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from language_models import draw_texts, make_text_target

from memberscope.auditing.subject.shared_units import settle_units
from memberscope.auditing.subject.subject import take_records
from memberscope.auditing.subject.texts import make_text_subject
from memberscope.errors import InputError
from memberscope.texts import Chat, Completion
from memberscope.types import Records

INSIDE, OUTSIDE = draw_texts(30, 1), draw_texts(20, 2)


def _make(inside=INSIDE, outside=OUTSIDE, **options):
    return make_text_subject(make_text_target(), inside, outside, **options)


def _records(texts, kind: str) -> Records:
    x = np.empty(len(texts), dtype=object)
    x[:] = texts
    ids = np.array([f"{kind}-{row}" for row in range(len(texts))])
    return Records(x, np.zeros(len(texts), np.int64), ids)


def test_texts_become_records_without_classes_and_features():
    subject = _make(notes=("said before",))
    assert subject.records.x.dtype == object and subject.records.x.tolist() == INSIDE + OUTSIDE
    assert subject.member.sum() == 30 and not subject.records.y.any()
    assert subject.features is None and subject.class_names == ("text",)
    assert subject.records.ids[[0, 30]].tolist() == ["member:0", "non-member:0"]
    assert "said before" in subject.notes and "length" in subject.records.groups


def test_completions_and_chats_stay_whole_and_can_be_taken():
    chats = [Chat((("user", text[:9]), ("assistant", text))) for text in INSIDE]
    subject = _make(chats, [Completion("Say: ", text) for text in OUTSIDE])
    some = take_records(subject, np.array([1, 30]))
    assert some.records.x.tolist() == [chats[1], Completion("Say: ", OUTSIDE[0])]
    assert some.records.groups["length"].shape == (2,)


def test_groups_ids_and_units_of_records_are_kept():
    inside, outside = _records(INSIDE, "a"), _records(OUTSIDE, "b")
    inside = replace(inside, groups={"site": np.repeat("x", 30), "own": np.repeat("y", 30)})
    outside = replace(outside, groups={"site": np.repeat("x", 20)})
    authors = np.arange(30) // 2, 100 + np.arange(20) // 2
    subject = _make(inside, outside, unit=authors)
    assert set(subject.records.groups) == {"site", "length"}
    assert subject.records.ids[0] == "a-0" and subject.unit_codes.max() == 24


@pytest.mark.parametrize(
    ("inside", "outside", "said"),
    [
        pytest.param([], OUTSIDE, "Expected members, got an empty set", id="no members"),
        pytest.param(INSIDE, "a text", "sequence of texts, got str", id="a text alone"),
        pytest.param(
            [*INSIDE, " \n"], OUTSIDE, "1 that are empty, first at position 30", id="empty"
        ),
        pytest.param([*INSIDE, None], OUTSIDE, "member 30 as str, .* got NoneType", id="none"),
        pytest.param([*INSIDE, Completion("asked", "")], OUTSIDE, "empty", id="no completion"),
        pytest.param([*INSIDE, Chat(())], OUTSIDE, "empty", id="chat without messages"),
        pytest.param(INSIDE, [t.upper() for t in INSIDE[::-1]], "the same 30 records", id="same"),
        pytest.param(_records(INSIDE, "a"), _records(OUTSIDE, "a"), "both sides", id="same ids"),
    ],
)
def test_bad_sides_are_refused(inside, outside, said):
    with pytest.raises(InputError, match=said):
        _make(inside, outside)


def test_units_on_both_sides_or_of_one_side_are_refused():
    subject = _make(unit=(np.arange(30), np.arange(20)))
    with pytest.raises(InputError, match="20 on both sides with 40 records: '0', '1', '10'"):
        settle_units(subject, drop=False)
    with pytest.raises(InputError, match="units"):
        _make(replace(_records(INSIDE, "a"), unit=np.arange(30).astype(str)))


def test_half_of_a_surrogate_pair_is_refused():
    with pytest.raises(InputError, match="that UTF-8 can write"):
        _make([*INSIDE, "a \ud800 b"])
