"""Run records through an onnxruntime session.

They are given as its inputs take them, in batches of a size that it allows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memberscope.errors import InputError
from memberscope.frames import (
    cast_values,
    is_frame,
    make_dense_array,
    name_columns,
    reshape_values,
    select_columns,
)
from memberscope.targets.answers.output_kind import PROBES, make_probe_records

# Element types of ONNX, and the types of numpy that the runtime takes for them
TYPES = {
    "float": "float32",
    "double": "float64",
    "float16": "float16",
    "bool": "bool",
    "string": "O",
}
TYPES |= {f"{sign}int{bits}": f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)}
Feeds = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Input:
    """One input: its name, numpy type, and records in a batch (None is any number).

    `shape` are the dimensions of a record (None is any number).
    """

    name: str
    dtype: np.dtype[Any]
    batch: int | None
    shape: tuple[int | None, ...] | None


def read_session_inputs(session: Any) -> tuple[Input, ...]:
    """Read what a session takes: one tensor of records, or one tensor for each column.

    Raises:
        InputError: It takes something else.
    """
    found = []
    for entry in session.get_inputs():
        word = entry.type.removeprefix("tensor(").removesuffix(")")
        if word not in TYPES:
            raise InputError(
                f"Expected tensors as inputs of the ONNX model, got {entry.type} for "
                f"{entry.name!r}. Export it again with tensors."
            )
        # Named dimensions, and those of 0 or -1, may have any size
        sizes = tuple(size if isinstance(size, int) and size > 0 else None for size in entry.shape)
        found.append(
            Input(
                entry.name,
                np.dtype(TYPES[word]),
                sizes[0] if sizes else None,
                sizes[1:] if sizes else None,
            )
        )
    # Several inputs are columns of a table, and each then has one value a record
    wide = [entry.name for entry in found if entry.shape not in (None, (), (1,), (None,))]
    if not found or (len(found) > 1 and wide):
        raise InputError(
            "Expected one input of records, or one a column, got "
            f"{', '.join(entry.name for entry in found) or 'none'}. Export the model with a single "
            "input."
        )
    return tuple(found)


def build_feeds(inputs: Sequence[Input], x: Any) -> Feeds:
    """Build the arrays (n, ...) that the inputs take from the records `x`.

    Raises:
        InputError: A column is missing, or shape or type do not fit.
    """
    if len(inputs) == 1 and not (
        # A frame with that column gives this column alone
        is_frame(x) and inputs[0].name in name_columns(x) and inputs[0].shape in ((), (1,))
    ):
        columns = [make_dense_array(x)]
    else:
        columns = select_columns(x, [entry.name for entry in inputs], "ONNX model")
    feeds = {}
    for entry, column in zip(inputs, columns, strict=True):
        fitting = column if entry.shape is None else reshape_values(column, entry.shape, entry.name)
        feeds[entry.name] = cast_values(fitting, entry.dtype, entry.name)
    return feeds


def run_batches(
    session: Any, inputs: Sequence[Input], feeds: Feeds, names: Sequence[str], size: int
) -> Iterator[dict[str, object]]:
    """Yield the answers of one batch of `size` after another, by name.

    Where the model fixes the size, the last batch is padded.
    """
    n = len(next(iter(feeds.values())))
    # Exported for batches of one size: it must be kept to, or the runtime refuses
    fixed = inputs[0].batch
    step = fixed or size
    for start in range(0, n, step):
        batch = {name: values[start : start + step] for name, values in feeds.items()}
        rows = min(step, n - start)
        if fixed and rows < fixed:
            batch = {name: _pad_batch(values, fixed) for name, values in batch.items()}
        yield {
            name: answer[:rows]
            for name, answer in zip(names, session.run(list(names), batch), strict=True)
        }


def _pad_batch(values: NDArray[Any], n: int) -> NDArray[Any]:
    """Pad `values` (r, ...) with its last row up to `n` rows.

    >>> _pad_batch(np.array([[1], [2]]), 3).tolist()
    [[1], [2], [2]]
    """
    return np.concatenate([values, np.repeat(values[-1:], n - len(values), axis=0)])


def join_answers(parts: Sequence[Any]) -> Any:
    """Join the answers of all batches: lists of dictionaries, or arrays."""
    return (
        [row for part in parts for row in part]
        if isinstance(parts[0], list)
        else np.concatenate(parts)
    )


def probe_session(session: Any, inputs: Sequence[Input], size: int) -> Mapping[str, Any]:
    """Run the session on made-up records.

    Give no answers where a dimension is not known, or the model does not take such records.
    """
    feeds: Feeds = {}
    for entry in inputs:
        made = (
            None
            if entry.shape is None
            else make_probe_records(entry.shape, entry.dtype.kind, PROBES)
        )
        # One unknown dimension is enough: all inputs are needed for an answer
        if made is None:
            return {}
        feeds[entry.name] = made.astype(entry.dtype)
    names = [entry.name for entry in session.get_outputs()]
    try:
        found = list(run_batches(session, inputs, feeds, names, size))
        return {name: join_answers([batch[name] for batch in found]) for name in names}
    # The runtime's errors have no common base; made-up records may be refused for any reason
    except Exception:
        return {}
