"""Hold what is audited: a target, its records, and which of them were members.

It is checked once, before anything is paid for.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memberscope import _check
from memberscope.auditing.subject.feature_matrix import (
    Keys,
    build_feature_matrix,
    hash_feature_rows,
)
from memberscope.auditing.subject.labels import (
    count_from_zero,
    find_label_copies,
    has_position_labels,
    read_named_labels,
    read_whole_labels,
)
from memberscope.auditing.subject.unit_hints import (
    IdLike,
    collect_columns,
    describe_independence,
    find_id_like_columns,
)
from memberscope.errors import InputError
from memberscope.facts import read_target_facts
from memberscope.frames import choose_rows as chosen_rows
from memberscope.frames import count_rows, is_frame, name_columns, read_dataset, read_inputs
from memberscope.recipes import check_design
from memberscope.signals import arrange_labels
from memberscope.targets import (
    ReferenceOutputs,
    StoredSignals,
    describe_dependent_design,
    read_class_names,
    refuse_other_records,
    resolve_n_classes,
)
from memberscope.targets.tables import read_unit_names, stack_as_fitted
from memberscope.texts import TextRecord, list_texts
from memberscope.types import OUTPUT_SIGNALS, Bools, Floats, Ints, Records, Target

Pair = tuple[Any, Any]
FEWEST_UNITS = (
    10  # a side; an interval over fewer clusters rests on a guess about their distribution
)
LEAST_SIDE = 2  # reference models with a record, and without it, from which a spread follows
MOST_UNMATCHED = 0.1  # share of records that may be left out because they have fewer
FEW_DIFFERENT = 10  # different records below which two sides may hold the same ones by chance


@dataclass(frozen=True, eq=False)
class Subject:
    """A target with all its records, members first.

    `member` (n,) and `features` (n, f) go with `records`.

    `class_names` has one name a class; `notes` are sentences for the reader, such as what was
    trusted when loading. `copies` (n,) are records inserted beside near-duplicates that share their
    membership: the blind control would know one from the other. `answers` (n, k) are stored signals
    whose records are not at hand. `texts` (n,) are those of stored token signals, whose records
    are row numbers, and `stored_references` models that were trained elsewhere. `dropped_units`
    counts units that stood on both sides, and their records, which were left out.
    """

    target: Target
    records: Records
    member: Bools
    features: Floats | None
    class_names: tuple[str, ...]
    notes: tuple[str, ...] = ()
    copies: Bools | None = None
    answers: Floats | None = None
    texts: NDArray[Any] | None = None
    stored_references: ReferenceOutputs | None = None
    dropped_units: tuple[int, int] = (0, 0)

    def list_texts(self) -> list[TextRecord] | None:
        """List the texts of the records; None where there are none or they are not at hand."""
        return list_texts(self.records.x if self.texts is None else self.texts)

    @property
    def class_codes(self) -> Ints:
        """Class (n,) of each record; 0 for all where a model predicts something else."""
        if self.target.signal in OUTPUT_SIGNALS:
            return np.zeros(len(self.records), np.int64)
        return self.records.y

    @property
    def unit_codes(self) -> Ints | None:
        """Numbers (n,) from 0 of the people or documents that records belong to.

        None where each record stands for itself.
        """
        unit = self.records.unit
        return None if unit is None else np.unique(unit, return_inverse=True)[1].astype(np.int64)


def make_subject(
    target: Target,
    members: Records | Pair,
    non_members: Records | Pair,
    *,
    class_names: Sequence[str] | None = None,
    notes: tuple[str, ...] = (),
    unit: tuple[Any, Any] | None = None,
    id_like: tuple[IdLike, ...] | None = None,
) -> Subject:
    """Join members and non-members and check them.

    `unit` names the person or document of each member and of each non-member.

    Without units, columns that look like ids of people are noted: those `id_like`, or else found
    among what the model gets and groups.

    Raises:
        InputError: A side is empty, ids repeat or stand on both sides, or labels are out of range.
    """
    members, non_members = read_dataset(members), read_dataset(non_members)
    lookup = read_class_names(target)
    # One reading of the labels for both sides, or members and non-members could differ by it
    by_position = lookup is not None and has_position_labels(members, non_members, lookup)
    inside, outside = (
        make_records(side, kind, None if by_position else lookup)
        for side, kind in ((members, "member"), (non_members, "non-member"))
    )
    # Sides are checked before anything is joined, so that the message names the side
    _check_sides(inside, outside)
    if unit is not None:
        inside, outside = (
            attach_unit(inside, unit[0], "member"),
            attach_unit(outside, unit[1], "non-member"),
        )
    # Stored signals have no inputs to stack
    x = (
        None
        if inside.x is None or outside.x is None
        else stack_as_fitted(target, inside.x, outside.x)
    )
    # A group that one side lacks cannot be compared
    shared = [name for name in inside.groups if name in outside.groups]
    groups = {name: np.concatenate([inside.groups[name], outside.groups[name]]) for name in shared}
    ids = np.concatenate([inside.ids, outside.ids]).astype(np.str_)
    member = np.arange(len(ids)) < len(inside)
    y = np.concatenate([inside.y, outside.y])
    # The target may learn its number of classes from what it is given
    target = resolve_n_classes(target, x, max(len(class_names or ()), int(y.max()) + 1))
    y, class_names, said = count_from_zero(y, target.n_classes, class_names)
    records = Records(x, y, ids, groups, join_units(inside, outside))
    features = build_feature_matrix(x)
    said += find_label_copies(features, y, name_columns(x) if is_frame(x) else ())
    notes = (*notes, *read_target_facts(target).notes, *said)
    names = tuple(class_names or (str(k) for k in range(target.n_classes)))
    # Units that nobody declared are looked for, since intervals would be too narrow
    if records.unit is None:
        found = find_id_like_columns(collect_columns(x) | groups) if id_like is None else id_like
        notes = (*notes, *describe_independence(found))
    return check_subject(Subject(target, records, member, features, names, notes))


def require_named_units(unit: str | None, subject: Subject) -> None:
    """Refuse a plan that names the column of a `unit` for records that have none.

    Raises:
        InputError: The records have no units.
    """
    if unit is not None and subject.records.unit is None:
        raise InputError(
            f"Expected records with units, since the plan names {unit!r}, got none. Give "
            "Records(unit=...) or read_signals(unit=...)."
        )


def attach_unit(side: Records, unit: Any, kind: str) -> Records:
    """Attach the person or document (n,) of each record to a side.

    Raises:
        InputError: There are more or fewer than records, or some record has none.
    """
    values = np.asarray(unit)
    _check.check_same_length(**{f"{kind} records": range(len(side)), f"{kind} units": values})
    return replace(side, unit=read_unit_names(values, "unit", f"the {kind}s"))


def join_units(
    inside: Records, outside: Records
) -> np.ndarray[tuple[int], np.dtype[np.str_]] | None:
    """Join the units of both sides; None where neither side has any.

    Raises:
        InputError: One side only has units.
    """
    if inside.unit is None and outside.unit is None:
        return None
    if inside.unit is None or outside.unit is None:
        without = "members" if inside.unit is None else "non-members"
        raise InputError(
            f"Expected units of members and of non-members, got none of the {without}. Give both."
        )
    return np.concatenate([inside.unit, outside.unit]).astype(np.str_)


def order_signals(signals: StoredSignals, target: Target) -> Subject:
    """Make a subject from stored signals; the model is asked by row number."""
    n = len(signals.labels)
    answers = None
    # Without the records, equal answers are the only sign that both sides are the same
    if signals.features is None:
        answers = signals.outputs.reshape(n, -1).astype(np.float64)
        refuse_same_sides(hash_feature_rows(answers, signals.labels), signals.member)
    records = Records(np.arange(n), signals.labels, signals.ids, dict(signals.groups), signals.unit)
    names = signals.classes or tuple(str(k) for k in range(target.n_classes))
    notes = () if signals.unit is not None else describe_independence(signals.id_like)
    notes = (*signals.notes, *notes)
    found = signals.references
    if found is not None:
        # Once more, since signals may be made in Python as well
        refuse_other_records(found, signals.member, signals.outputs.reshape(n, -1).shape[1])
        if signals.unit is not None:
            check_design(found.inside, n, signals.unit)
        told = describe_dependent_design(found.inside, signals.member)
        notes = notes if told is None else (*notes, told)
    return Subject(
        target,
        records,
        signals.member,
        signals.features,
        names,
        notes,
        answers=answers,
        stored_references=found,
    )


def drop_unmatched_records(subject: Subject) -> Subject:
    """Leave out the few records of which stored references know one side only.

    Models that were trained by coins leave some records to fewer than two models with or without
    them. Which ones follows from the references alone, so that nothing is learned of membership.
    """
    found = subject.stored_references
    if found is None or len(found) < 2 * LEAST_SIDE:
        return subject
    counts = found.inside.sum(axis=0)
    keep = np.flatnonzero((counts >= LEAST_SIDE) & (counts <= len(found) - LEAST_SIDE))
    n = len(subject.records)
    # Where many lack them, attacks say so themselves; other records would be another audit
    if len(keep) == n or n - len(keep) > MOST_UNMATCHED * n:
        return subject
    note = (
        f"Left out {n - len(keep)} of {n} records that fewer than {LEAST_SIDE} reference models were "
        "trained with, or without."
    )
    return replace(take_records(subject, keep), notes=(*subject.notes, note))


def check_subject(subject: Subject) -> Subject:
    """Check the records of a subject, and give it back.

    Raises:
        InputError: A side is empty, ids repeat, units are too few, or only one class is present.
    """
    records, member = subject.records, subject.member
    _check.check_same_length(labels=records.y, ids=records.ids, member=member)
    # The cheapest mistakes first
    n_members = int(member.sum())
    if n_members == 0 or n_members == len(member):
        kind = "members" if n_members == 0 else "non-members"
        raise InputError(
            f"Expected records of both kinds, got no {kind}. Give at least a few hundred of each."
        )
    _refuse_repeated_ids(records.ids, member)
    if records.unit is not None:
        require_units(records.unit, member)
    # Same ids were refused; the same records may still stand on both sides under others
    if subject.features is not None:
        keys = hash_feature_rows(list_known_columns(subject), subject.class_codes)
        refuse_same_sides(keys, member)
    # Losses and real outputs need no classes, all other signals do
    if subject.target.signal not in ("loss", *OUTPUT_SIGNALS) and len(np.unique(records.y)) < 2:
        raise InputError(
            f"Expected records of at least two classes, got only class {int(records.y[0])}. Give "
            "the other classes too."
        )
    return subject


def list_known_columns(subject: Subject) -> Floats:
    """List what is known of each record (n, f) beside its class.

    These are its features, and the true numbers or labels of models that predict these.
    """
    assert subject.features is not None
    if subject.target.signal not in OUTPUT_SIGNALS:
        return subject.features
    truth = arrange_labels(subject.target.signal, subject.records.y)
    return np.column_stack([subject.features, truth.astype(np.float64)])


def require_units(unit: np.ndarray[tuple[int], np.dtype[np.str_]], member: Bools) -> None:
    """Refuse units (n,) that nobody named, or that are too few.

    Units on both sides are left to `settle_units`, which may drop them.

    Raises:
        InputError: There are such units.
    """
    _check.check_same_length(units=unit, member=member)
    if (unit == "").any():
        raise InputError(
            f"Expected the unit of each record, got none of {int((unit == '').sum())} records. "
            "Fill the column, or leave them out."
        )
    for kind, side in (("members", member), ("non-members", ~member)):
        if (n_units := len(np.unique(unit[side]))) < FEWEST_UNITS:
            raise InputError(
                f"Expected at least {FEWEST_UNITS} units of {kind}, got {n_units}. So few say "
                "nothing of others; give more units."
            )


def _refuse_repeated_ids(ids: np.ndarray[tuple[int], np.dtype[np.str_]], member: Bools) -> None:
    """Refuse ids that repeat within a side or stand on both.

    The message has their number and the first of them.

    Raises:
        InputError: Some id repeats.
    """
    # An id on both sides is the graver mistake, so it is told first
    both = np.intersect1d(ids[member], ids[~member])
    if len(both):
        raise InputError(
            f"Expected ids that are members or non-members, got {len(both)} ids on both sides, "
            f"first {str(both[0])!r}. "
            f"Take them out of one side, or give ids that tell the records apart."
        )
    values, counts = np.unique(ids, return_counts=True)
    if (counts > 1).any():
        raise InputError(
            f"Expected unique ids, got {int((counts > 1).sum())} repeated ids, first "
            f"{str(values[counts > 1][0])!r}. "
            f"Remove the duplicates or leave out the id column."
        )


def refuse_same_sides(keys: Keys, member: Bools) -> None:
    """Refuse sides that hold the same records, whatever their ids and order.

    Equal `keys` (n,) are equal records. Tables of a handful of different records may agree by
    chance, and pass.

    Raises:
        InputError: Both sides hold the same records, equally often.
    """
    # Sorted, the order does not matter and each record counts as often as it is there
    inside, outside = np.sort(keys[member]), np.sort(keys[~member])
    if len(inside) != len(outside) or (inside != outside).any():
        return
    if len(np.unique(inside)) < min(FEW_DIFFERENT, len(inside)):
        return
    raise InputError(
        f"Expected non-members that the model was not trained on, got the same {len(inside)} "
        "records as members and as "
        f"non-members. Give a hold-out instead of the training records."
    )


def _check_sides(inside: Records, outside: Records) -> None:
    """Refuse an empty side.

    Raises:
        InputError: One side has no records.
    """
    for name, side in (("members", inside), ("non-members", outside)):
        if len(side) == 0:
            raise InputError(
                f"Expected {name}, got an empty set. Give at least a few hundred records."
            )


def make_records(
    side: Records | Pair, prefix: str, classes: tuple[str, ...] | None = None
) -> Records:
    """Take records as they are, or make them from a pair (x, y) with ids such as `member:0`.

    The labels of a pair are among the model's own `classes` where these are given, else 0-based.

    Raises:
        InputError: The pair is not two things of one length, or labels are not whole numbers.
    """
    # Loaders and datasets are read into pairs or records first
    side = read_dataset(side)
    if isinstance(side, Records):
        if side.unit is not None:
            side = attach_unit(side, side.unit, prefix)
        x = read_inputs(side.x, len(side))
        return replace(
            side,
            x=x,
            y=read_whole_labels(side.y),
            ids=np.asarray(side.ids).astype(np.str_),
        )
    if not (isinstance(side, tuple) and len(side) == 2):
        raise InputError(
            f"Expected {prefix}s as (x, y) or Records, got {type(side).__name__}. Pass a pair."
        )
    x, y = side
    labels = read_whole_labels(y) if classes is None else read_named_labels(y, classes)
    x = read_inputs(x, len(labels))
    # Some inputs have no length to check, such as dictionaries of arrays
    if is_frame(x) or (hasattr(x, "__len__") and not isinstance(x, dict)) or hasattr(x, "shape"):
        _check.check_same_length(
            **{f"{prefix} records": range(count_rows(x)), f"{prefix} labels": labels}
        )
    ids = np.array([f"{prefix}:{i}" for i in range(len(labels))], dtype=np.str_)
    return Records(x, labels, ids)


def take_records(subject: Subject, keep: Ints) -> Subject:
    """Keep only the records at positions `keep`."""
    records = subject.records
    x = records.x
    if x is not None:
        x = chosen_rows(x, keep)
    groups = {name: values[keep] for name, values in records.groups.items()}
    features = None if subject.features is None else subject.features[keep]
    unit = None if records.unit is None else records.unit[keep]
    chosen = Records(x, records.y[keep], records.ids[keep], groups, unit)
    copies = None if subject.copies is None else subject.copies[keep]
    answers = None if subject.answers is None else subject.answers[keep]
    stored = subject.stored_references
    if stored is not None:
        stored = stored.take(keep)
    return replace(
        subject,
        records=chosen,
        member=subject.member[keep],
        features=features,
        copies=copies,
        answers=answers,
        texts=None if subject.texts is None else subject.texts[keep],
        stored_references=stored,
    )


def encode_groups(subject: Subject) -> tuple[dict[str, Ints], dict[str, tuple[str, ...]]]:
    """Encode every group as codes (n,) and value names, the class first."""
    labels, names = subject.class_codes, list(subject.class_names)
    codes: dict[str, Ints] = {"class": labels}
    values: dict[str, tuple[str, ...]] = {"class": tuple(names)}
    groups: Mapping[str, np.ndarray[Any, Any]] = subject.records.groups
    for name, column in groups.items():
        found, inverse = np.unique(np.asarray(column).astype(np.str_), return_inverse=True)
        # A column called class must not take the place of the label
        key = name if name != "class" else "group class"
        codes[key], values[key] = inverse.astype(np.int64), tuple(str(value) for value in found)
    return codes, values


def hash_ids(
    ids: np.ndarray[tuple[int], np.dtype[np.str_]], places: Ints | None = None
) -> list[str]:
    """Hash ids, or those at `places` (k,), to stand for them in a report.

    The key is made of all the ids together, and is not stored.

    >>> ids = np.array(["a", "b", "c"])
    >>> hash_ids(ids, np.array([2])) == hash_ids(ids)[2:]
    True
    """
    # Without the other ids, nobody can test a guess against a hash
    key = hashlib.sha256("\n".join(sorted(ids.tolist())).encode()).digest()
    # In one call, which takes a third of the time of an object for each id
    chosen = ids if places is None else ids[places]
    return [hmac.digest(key, str(name).encode(), "sha256").hex()[:12] for name in chosen]
