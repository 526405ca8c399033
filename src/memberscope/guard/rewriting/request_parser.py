"""Requests read with suspicion: what reaches the model is written anew from what was counted, and holds nothing else."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import orjson
from numpy.typing import NDArray

from memberscope.guard.refused import Refused
from memberscope.wire.batch import Batch
from memberscope.wire.json_path import Step, pick
from memberscope.wire.protocols import filled

DEEPEST = 16  # lists within lists in a record
KEYS = frozenset(("id", "inputs", "outputs", "parameters"))
FORMS = ("dataframe_split", "dataframe_records", "instances", "inputs")
UNREADABLE = "Expected a request that the protocol allows, with records of one shape. Repair it."


class Query(NamedTuple):
    """The records that a request asks about, and the body that asks the server about them and nothing else."""

    batch: Batch
    body: bytes


class Odd(ValueError):
    """A request that is not what the protocol says."""


def read_request(body: bytes) -> tuple[Any, bool]:
    """The JSON of a body, and whether it holds NaN or infinity, which only Python's own reader knows.

    Raises:
        Refused: It is none.

    >>> read_request(b'{"a": [1]}')
    ({'a': [1]}, False)
    """
    try:
        return orjson.loads(body), False
    except ValueError:
        pass
    try:
        if b"NaN" in body or b"Infinity" in body:
            return json.loads(body), True
    except (ValueError, RecursionError):
        pass
    raise Refused(400, UNREADABLE)


def written(value: Any, odd: bool) -> bytes:
    """JSON, with NaN as it came where the client sent it."""
    return json.dumps(value).encode() if odd else orjson.dumps(value)


def array_of(found: Any, text: bytes) -> NDArray[Any]:
    """Values of one shape: float64 where all are numbers, so that 1 and 1.0 are the same record; else objects.

    >>> array_of([[1, None]], b"[[1,null]]").tolist(), array_of(["a", 2], b'["a",2]').tolist()
    ([[1.0, nan]], ['a', 2.0])
    """
    if not isinstance(found, list) or not found:
        raise Odd("a list of records")
    if b'"' not in text:
        values: NDArray[Any] = np.asarray(found, dtype=np.float64)
    else:
        values = np.array(found, dtype=object)
        values = words([*values.ravel()]).reshape(values.shape)
    if values.ndim > DEEPEST or values.size == 0:
        raise Odd("records that hold something, not too deep")
    return values


def columns_of(names: Sequence[Any], rows: Any) -> Batch:
    """Named columns from rows of values."""
    if not isinstance(rows, list) or not rows or not names or not all(isinstance(name, str) for name in names):
        raise Odd("named columns")
    if len(set(names)) < len(names) or any(not isinstance(row, list) or len(row) != len(names) for row in rows):
        raise Odd("a value for each column")
    return Batch(columns=dict(zip(names, map(column_of, zip(*rows, strict=True)), strict=True)))


def column_of(values: Sequence[Any]) -> NDArray[Any]:
    """One column, as numbers or as objects."""
    if not any(isinstance(value, str) for value in values):
        found: NDArray[Any] = np.asarray(values, dtype=np.float64)
        if found.ndim != 1:
            raise Odd("one value in each cell")
        return found
    return words(values)


def words(values: Sequence[Any]) -> NDArray[Any]:
    """Values among which there are words, as objects; numbers are floats."""
    if any(isinstance(value, list | dict) for value in values):
        raise Odd("one value in each place")
    return np.array([float(value) if isinstance(value, int) else value for value in values], dtype=object)


def rows_of(found: Any, text: bytes) -> Batch:
    """Records as lists, as objects with the same keys, or as one list for each name."""
    if isinstance(found, dict):
        columns = {str(name): column_of(values) for name, values in found.items() if isinstance(values, list)}
        if (
            len(columns) < len(found)
            or not all(map(len, columns.values()))
            or len({len(column) for column in columns.values()}) != 1
        ):
            raise Odd("columns of one length")
        return Batch(columns=columns)
    if isinstance(found, list) and found and isinstance(found[0], dict):
        names = list(found[0])
        if any(not isinstance(row, dict) or len(row) != len(names) for row in found):
            raise Odd("objects with the same keys")
        return columns_of(names, [[row[name] for name in names] for row in found])
    return Batch(array_of(found, text))


def mlflow_query(document: Any, odd: bool) -> Query:
    """A request to `/invocations`: one form of the records, and nothing beside it."""
    (form,) = document
    if form not in FORMS:
        raise Odd("a form of records")
    found = document[form]
    if form == "dataframe_split":
        found = {"columns": found["columns"], "data": found["data"]}
    text = written(found, odd)
    batch = columns_of(found["columns"], found["data"]) if form == "dataframe_split" else rows_of(found, text)
    return Query(batch, orjson.dumps({form: orjson.Fragment(text)}))


def template_query(document: Any, odd: bool, template: bytes, steps: tuple[Step, ...], alone: bool) -> Query:
    """A request in templated JSON: the template with the records in their place."""
    found = pick(document, steps)
    text = written(found, odd)
    batch = rows_of([found], b"[%b]" % text) if alone else rows_of(found, text)
    return Query(batch, orjson.dumps(filled(orjson.loads(template), steps, orjson.Fragment(text))))


def v2_query(document: Any, odd: bool, outputs: Sequence[str] | None) -> Query:
    """A request of the Open Inference Protocol for `outputs` alone; None keeps the client's choice of names."""
    if not isinstance(document, dict) or not document.keys() <= KEYS:
        raise Odd("the protocol's keys")
    tensors, texts = {}, []
    for entry in document["inputs"]:
        name, values, text = tensor(entry, odd)
        if name in tensors:
            raise Odd("different names")
        tensors[name] = values
        texts.append(text)
    kept: dict[str, Any] = {"inputs": texts}
    if outputs is None:
        outputs = [entry["name"] for entry in document["outputs"] or ()] if "outputs" in document else ()
    if outputs:
        kept["outputs"] = [{"name": str(name)} for name in outputs]
    if isinstance(document.get("id"), str):
        kept["id"] = document["id"]
    content = content_type(document)
    if content is not None:
        kept["parameters"] = content
    return Query(together(tensors, content is not None and content["content_type"] == "pd"), orjson.dumps(kept))


def tensor(entry: Any, odd: bool) -> tuple[str, NDArray[Any], dict[str, Any]]:
    """One input: its name, its values (n, …), and its document for the server."""
    name, shape, kind = entry["name"], entry["shape"], entry["datatype"]
    if "parameters" in entry and "binary_data_size" in (entry["parameters"] or {}):
        raise Refused(415, "Expected JSON without the binary tensor extension, got it. Send the data as JSON.")
    if not (isinstance(name, str) and isinstance(kind, str) and isinstance(shape, list) and shape):
        raise Odd("name, datatype and shape")
    for size in shape:
        if type(size) is not int or size < 1:
            raise Odd("a shape of positive sizes")
    text = written(entry["data"], odd)
    values = array_of(entry["data"], text)
    if values.dtype == object and kind != "BYTES":
        raise Odd("numbers")
    if values.shape != tuple(shape) and values.ndim != 1:
        raise Odd("data that are flat, or of the shape")
    document: dict[str, Any] = {"name": name, "shape": shape, "datatype": kind, "data": orjson.Fragment(text)}
    content = content_type(entry)
    if content is not None:
        document["parameters"] = content
    return name, values.reshape(shape), document


def content_type(entry: Any) -> dict[str, str] | None:
    """The one parameter that is passed on: how the values are meant to be read."""
    if "parameters" not in entry:
        return None
    found = (entry["parameters"] or {}).get("content_type")
    return {"content_type": found} if isinstance(found, str) else None


def together(tensors: dict[str, NDArray[Any]], frame: bool) -> Batch:
    """One tensor as an array; several, or those of a data frame, as columns, or side by side where some are wider."""
    if len(tensors) == 1 and not frame:
        return Batch(next(iter(tensors.values())))
    if len({len(values) for values in tensors.values()}) != 1:
        raise Odd("as many records in each input")
    flat = {name: values.reshape(len(values), -1) for name, values in tensors.items()}
    if all(values.shape[1] == 1 for values in flat.values()):
        return Batch(columns={name: values[:, 0] for name, values in flat.items()})
    return Batch(np.hstack(list(flat.values())))


def in_order(batch: Batch, names: Sequence[str]) -> Batch:
    """The records with their columns as declared in `names`, whatever their order was or whether they had names; else sorted by name.

    So one record is the same record however it is written.

    >>> list(in_order(Batch(np.eye(2)), ["b", "a"]).columns)
    ['b', 'a']
    """
    if batch.columns is None:
        if not names:
            return batch
        array = np.asarray(batch.array)
        if array.ndim != 2 or array.shape[1] != len(names):
            raise Odd("as many columns as declared")
        return Batch(columns={name: array[:, place] for place, name in enumerate(names)})
    if names and set(names) != set(batch.columns):
        raise Odd("the declared columns")
    return Batch(columns={name: batch.columns[name] for name in names or sorted(batch.columns)})
