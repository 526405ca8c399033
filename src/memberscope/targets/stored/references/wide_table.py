"""Read reference models from wide tables: columns of each model beside the target's."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memberscope.errors import InputError
from memberscope.targets.stored.labels import read_member
from memberscope.targets.stored.references.arrays import SignalArrays
from memberscope.targets.tables.columns import convert_to_numbers

SIDE, ANSWER = "inside_", "reference_"


def split_wide_columns(found: SignalArrays, path: Path) -> SignalArrays:
    """Split the columns `reference_NAME` and `inside_NAME` of a table from the target's.

    A model with an output a class has `reference_NAME_p0`, `reference_NAME_p1` and so on.

    Raises:
        InputError: A model lacks one or the other, or models have other outputs.

    >>> columns = {name: np.array([0, 1]) for name in ("member", "reference_a", "inside_a")}
    >>> split_wide_columns(SignalArrays(columns), Path("s.csv")).references.tolist()
    [[0.0, 1.0]]
    """
    columns = dict(found.columns)
    names = [name.removeprefix(SIDE) for name in columns if name.startswith(SIDE)]
    if not names:
        lone = [name for name in columns if name.startswith(ANSWER)]
        if lone:
            raise InputError(
                f"Expected {SIDE}{lone[0].removeprefix(ANSWER)} beside {lone[0]} in {path}, which "
                "says whom the model was trained on, got none. Add it for each reference model."
            )
        return found
    answers = {name: _find_answer_columns(columns, name) for name in names}
    outputs = {name: [column.rpartition("_")[2] for column in answers[name]] for name in names}
    for name in names:
        if not answers[name]:
            raise InputError(
                f"Expected {ANSWER}{name} beside {SIDE}{name} in {path}, got none. Add the model's "
                "answers, or leave the column out."
            )
        if len(answers[name]) != len(answers[names[0]]) or (
            len(answers[name]) > 1 and outputs[name] != outputs[names[0]]
        ):
            raise InputError(
                f"Expected the same outputs of each reference model in {path}, got "
                f"{', '.join(answers[names[0]])} and {', '.join(answers[name])}. Give the same "
                "columns for all."
            )
    parts = [
        np.column_stack([convert_to_numbers(columns[column], column, path) for column in chosen])
        for chosen in answers.values()
    ]
    values = np.stack(parts)
    inside = np.stack(
        [read_member(np.asarray(columns[SIDE + name]), SIDE + name, path) for name in names]
    )
    used = {SIDE + name for name in names} | {column for row in answers.values() for column in row}
    return replace(
        found,
        columns={name: column for name, column in columns.items() if name not in used},
        references=values[:, :, 0] if values.shape[2] == 1 else values,
        inside=inside,
        names=tuple(names),
    )


def _find_answer_columns(columns: Mapping[str, NDArray[Any]], name: str) -> list[str]:
    """Find the columns of a model's answers, those of classes by their number."""
    if ANSWER + name in columns:
        return [ANSWER + name]
    pattern = re.compile(re.escape(ANSWER + name) + r"_[pz](\d+)")
    found = [(int(match[1]), one) for one in columns if (match := pattern.fullmatch(one))]
    return [one for _, one in sorted(found)]
