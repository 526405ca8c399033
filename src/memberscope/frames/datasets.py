"""Read labelled records from torch's data sets and loaders, in the order of the data set."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memberscope.errors import InputError
from memberscope.frames.column_values import as_numpy
from memberscope.frames.several_inputs import Inputs

LABELS = ("label", "labels", "y", "target", "targets")  # keys of a batch that may hold its labels


def read_dataset(side: Any) -> Any:
    """Read the pair (x, y) of a torch data set, subset or loader of labelled records.

    Anything else is returned unchanged. A loader's records come in the order of its data set,
    whatever it shuffles, repeats or drops at the end.

    Raises:
        InputError: It does not give records with labels.

    >>> from torch.utils.data import DataLoader, TensorDataset
    >>> import torch
    >>> x, y = read_dataset(DataLoader(TensorDataset(torch.eye(3), torch.arange(3)), shuffle=True))
    >>> x.shape, y.tolist()
    ((3, 3), [0, 1, 2])
    """
    # Without torch imported by the caller nothing can be a torch data set, and importing it is slow
    data = getattr(sys.modules.get("torch.utils"), "data", None)
    if data is None or not isinstance(side, data.Dataset | data.DataLoader):
        return side
    if isinstance(side, data.DataLoader):
        return _read_batches(_batches_of(side))
    # Without positions the loader's own rules apply
    if isinstance(side, data.IterableDataset) or not hasattr(side, "__len__"):
        return _read_batches(data.DataLoader(side, batch_size=256))
    return _read_batches(data.DataLoader(side, batch_size=256, collate_fn=_collate_rows))


def _batches_of(loader: Any) -> Iterable[Any]:
    """Give the batches of a loader in the order of its data set.

    A loader without a data set by position gives them in its own order.
    """
    from torch.utils.data import DataLoader, RandomSampler, SequentialSampler, Subset

    dataset = loader.dataset
    if (
        loader.batch_size is None
        or not hasattr(dataset, "__getitem__")
        or not hasattr(dataset, "__len__")
    ):
        return loader  # type: ignore[no-any-return]
    # A sampler may choose some of the records: those, each once, in the data set's order
    if not isinstance(loader.sampler, RandomSampler | SequentialSampler):
        dataset = Subset(dataset, sorted({int(index) for index in loader.sampler}))
    # The loader's own way of collating, which may pad or rename
    return DataLoader(dataset, batch_size=loader.batch_size, collate_fn=loader.collate_fn)


def _collate_rows(rows: list[Any]) -> Any:
    """Collate one batch by torch's rules; images and arrays of numpy are accepted too."""
    from torch.utils.data import default_collate

    def prepared(part: Any) -> Any:
        if isinstance(part, Mapping):
            return {name: prepared(value) for name, value in part.items()}
        if isinstance(part, tuple | list):
            return tuple(prepared(value) for value in part)
        # An image of Pillow
        return np.array(part) if hasattr(part, "getbands") else part

    return default_collate([prepared(row) for row in rows])


def _read_batches(batches: Iterable[Any]) -> tuple[Any, NDArray[Any]]:
    """Join all records and labels of some batches, as arrays."""
    pairs = [_pair_of(batch) for batch in batches]
    if not pairs:
        raise InputError(
            "Expected a data set with records, got an empty one. Give at least a few hundred "
            "records."
        )
    parts = [first for first, _ in pairs]
    labels = np.concatenate([np.atleast_1d(as_numpy(second)) for _, second in pairs])
    if isinstance(parts[0], Mapping):
        names = tuple(map(str, parts[0]))
        return Inputs(
            tuple(_join_inputs([part[name] for part in parts]) for name in names), names
        ), labels
    if isinstance(parts[0], tuple | list):
        return Inputs(
            tuple(_join_inputs(list(column)) for column in zip(*parts, strict=True))
        ), labels
    return _join_inputs(parts), labels


def _join_inputs(arrays: list[Any]) -> NDArray[Any]:
    """Join the same input of all batches into one array.

    Raises:
        InputError: The records have different shapes.
    """
    try:
        return np.concatenate([as_numpy(array) for array in arrays])
    except ValueError as error:
        raise InputError(
            f"Expected records of one shape in the data set, got different ones ({error}). Pad or "
            "resize them."
        ) from error


def _pair_of(batch: Any) -> tuple[Any, Any]:
    """Give the inputs and the labels of a batch.

    Raises:
        InputError: It has no labels.
    """
    if isinstance(batch, Mapping):
        name = next((key for key in LABELS if key in batch), None)
        # Without a shape an entry is no input, such as a name or a path
        rest = {
            key: value for key, value in batch.items() if key != name and hasattr(value, "shape")
        }
        if name is not None and rest:
            return (rest if len(rest) > 1 else next(iter(rest.values()))), batch[name]
    if isinstance(batch, list | tuple) and len(batch) >= 2:
        # Labels come last by torch's convention
        *inputs, labels = batch
        return (tuple(inputs) if len(inputs) > 1 else inputs[0]), labels
    got = (
        f"a mapping of {', '.join(map(str, batch))}"
        if isinstance(batch, Mapping)
        else f"a {type(batch).__name__}"
    )
    raise InputError(
        f"Expected a data set that gives records with their labels, got {got}. Give a pair (x, y) "
        "instead."
    )
