"""Parse requests strictly.

What reaches the model is written anew from what was counted, and holds nothing else.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import chain
from operator import itemgetter
from typing import Any, NamedTuple

import numpy as np
import orjson
from numpy.typing import NDArray

from memberscope.guard.refused import RequestRefused
from memberscope.guard.rewriting.request_caps import DEEPEST, RequestCaps, is_too_deep
from memberscope.wire import Batch, Step, cast_tensor_values, fill_template, pick_value

KEYS = frozenset(("id", "inputs", "outputs", "parameters"))
CAPS = RequestCaps()
NUMBERS = {int, float, bool, type(None)}
FORMS = ("dataframe_split", "dataframe_records", "instances", "inputs")


class ParsedQuery(NamedTuple):
    """Records of a request, and the body that asks the server about them and nothing else.

    `streams` says that the answer is asked for in parts.
    """

    batch: Batch
    body: bytes
    streams: bool = False


class MalformedRequest(ValueError):
    """Raised for a request that is not what the protocol says."""


def read_request(body: bytes, caps: RequestCaps = CAPS) -> tuple[Any, bool]:
    """Parse the JSON of a body, and tell whether it holds NaN or infinity.

    Only Python's own parser accepts those.

    Raises:
        RequestRefused: It is none, or holds more values than allowed.

    >>> read_request(b'{"a": [1]}')
    ({'a': [1]}, False)
    """
    caps.check_values(body)
    try:
        return orjson.loads(body), False
    except ValueError:
        pass
    try:
        # The slow parser runs only for bodies that could need it
        if b"NaN" in body or b"Infinity" in body:
            caps.check_values(body, slow=True)
            return json.loads(body), True
    except (ValueError, RecursionError):
        pass
    raise RequestRefused("malformed-request")


def _encode_json_value(value: Any, odd: bool) -> bytes:
    """Encode as JSON, with NaN as it came where the client sent it."""
    return json.dumps(value).encode() if odd else orjson.dumps(value)


def _parse_record_array(found: Any, text: bytes) -> NDArray[Any]:
    """Build an array of one shape: float64 where all are numbers, else objects.

    1 and 1.0 are then the same record.

    >>> _parse_record_array([[1, None]], b"[[1,null]]").tolist(), _parse_record_array(["a", 2], b'["a",2]').tolist()
    ([[1.0, nan]], ['a', 2.0])
    """
    if not isinstance(found, list) or not found or is_too_deep(found):
        raise MalformedRequest("a list of records, not too deep")
    # Without a quote there is no word, so that all are numbers or null
    if b'"' not in text:
        values: NDArray[Any] = np.asarray(found, dtype=np.float64)
    else:
        values = np.array(found, dtype=object)
        values = _convert_words([*values.ravel()]).reshape(values.shape)
    # Such records are mistakes or attempts to exhaust what handles them
    if values.ndim > DEEPEST or values.size == 0:
        raise MalformedRequest("records that hold something, not too deep")
    return values


def _parse_record_columns(names: Sequence[Any], rows: Any) -> Batch:
    """Parse named columns from rows of values."""
    if (
        not isinstance(rows, list)
        or not rows
        or not names
        or not all(isinstance(name, str) for name in names)
    ):
        raise MalformedRequest("named columns")
    if len(set(names)) < len(names) or any(
        not isinstance(row, list | tuple) or len(row) != len(names) for row in rows
    ):
        raise MalformedRequest("a value for each column")
    columns = zip(*rows, strict=True)
    # Numbers alone are converted at once, which is faster than one column after the other
    if not set(map(type, chain.from_iterable(rows))) - NUMBERS:
        values: NDArray[Any] = np.asarray(rows, dtype=np.float64)
        return Batch(columns=dict(zip(names, values.T, strict=True)))
    return Batch(columns=dict(zip(names, map(_parse_record_column, columns), strict=True)))


def _parse_record_column(values: Sequence[Any]) -> NDArray[Any]:
    """Build one column, as numbers or as objects."""
    if str not in set(map(type, values)):
        found: NDArray[Any] = np.asarray(values, dtype=np.float64)
        if found.ndim != 1:
            raise MalformedRequest("one value in each cell")
        return found
    return _convert_words(values)


def _convert_words(values: Sequence[Any]) -> NDArray[Any]:
    """Build an object array of values with words among them; numbers are floats."""
    kinds = set(map(type, values))
    if kinds & {list, dict}:
        raise MalformedRequest("one value in each place")
    if kinds & {int, bool}:
        values = [float(value) if isinstance(value, int) else value for value in values]
    return np.array(values, dtype=object)


def _parse_request_records(found: Any, text: bytes) -> Batch:
    """Read records from lists, from objects with the same keys, or from a list for each name."""
    if isinstance(found, dict):
        # A list for each name
        columns = {
            str(name): _parse_record_column(values)
            for name, values in found.items()
            if isinstance(values, list)
        }
        if (
            len(columns) < len(found)
            or not all(map(len, columns.values()))
            or len({len(column) for column in columns.values()}) != 1
        ):
            raise MalformedRequest("columns of one length")
        return Batch(columns=columns)
    if isinstance(found, list) and found and isinstance(found[0], dict):
        # The first record's keys name the columns of all
        names = list(found[0])
        if any(not isinstance(row, dict) or len(row) != len(names) for row in found):
            raise MalformedRequest("objects with the same keys")
        pick = itemgetter(*names) if len(names) > 1 else lambda row: (row[names[0]],)
        return _parse_record_columns(names, [*map(pick, found)])
    return Batch(_parse_record_array(found, text))


def parse_mlflow_query(document: Any, odd: bool, caps: RequestCaps = CAPS) -> ParsedQuery:
    """Parse a request to `/invocations`: one form of the records, and nothing beside it."""
    # One key alone: unpacking fails for more, which is a malformed request
    (form,) = document
    if form not in FORMS:
        raise MalformedRequest("a form of records")
    found = document[form]
    if form == "dataframe_split":
        # Other keys, such as an index, do not reach the model
        found = {"columns": found["columns"], "data": found["data"]}
        caps.check_columns(len(found["columns"]))
        caps.check_records(len(found["data"]))
    else:
        caps.check_form(found)
    text = _encode_json_value(found, odd)
    batch = (
        _parse_record_columns(found["columns"], found["data"])
        if form == "dataframe_split"
        else _parse_request_records(found, text)
    )
    return ParsedQuery(batch, orjson.dumps({form: orjson.Fragment(text)}))


def parse_template_query(
    document: Any,
    odd: bool,
    template: tuple[bytes, tuple[Step, ...], bool],
    caps: RequestCaps = CAPS,
) -> ParsedQuery:
    """Parse a request in templated JSON: the template with the records in their place.

    `template` has its text, where the records stand in it, and whether one record stands alone.
    """
    written, steps, alone = template
    found = pick_value(document, steps)
    if not alone:
        caps.check_form(found)
    text = _encode_json_value(found, odd)
    batch = (
        _parse_request_records([found], b"[%b]" % text)
        if alone
        else _parse_request_records(found, text)
    )
    return ParsedQuery(
        batch, orjson.dumps(fill_template(orjson.loads(written), steps, orjson.Fragment(text)))
    )


def parse_v2_query(
    document: Any, odd: bool, outputs: Sequence[str] | None, caps: RequestCaps = CAPS
) -> ParsedQuery:
    """Parse a request of the Open Inference Protocol and ask for `outputs` alone.

    None keeps the client's choice of names.
    """
    if not isinstance(document, dict) or not document.keys() <= KEYS:
        raise MalformedRequest("the protocol's keys")
    caps.check_columns(len(document["inputs"]))
    tensors, texts = {}, []
    for entry in document["inputs"]:
        name, values, text = _parse_tensor(entry, odd, caps)
        if name in tensors:
            raise MalformedRequest("different names")
        tensors[name] = values
        texts.append(text)
    # The body is written anew from what was read, key by key
    kept: dict[str, object] = {"inputs": texts}
    if outputs is None:
        outputs = (
            [entry["name"] for entry in document["outputs"] or ()] if "outputs" in document else ()
        )
    if outputs:
        kept["outputs"] = [{"name": str(name)} for name in outputs]
    if isinstance(document.get("id"), str):
        kept["id"] = document["id"]
    content = _read_content_type(document)
    if content is not None:
        kept["parameters"] = content
    return ParsedQuery(
        _join_input_tensors(tensors, content is not None and content["content_type"] == "pd"),
        orjson.dumps(kept),
    )


def _parse_tensor(
    entry: Any, odd: bool, caps: RequestCaps
) -> tuple[str, NDArray[Any], dict[str, object]]:
    """Parse one input: its name, its values (n, …), and its document for the server."""
    name, shape, kind = entry["name"], entry["shape"], entry["datatype"]
    if "parameters" in entry and "binary_data_size" in (entry["parameters"] or {}):
        # Binary data follow the JSON and are not read, so that nothing would count them
        raise RequestRefused("unsupported-tensor-encoding")
    if not (isinstance(name, str) and isinstance(kind, str) and isinstance(shape, list) and shape):
        raise MalformedRequest("name, datatype and shape")
    for size in shape:
        # Not isinstance, for which True is a number too
        if type(size) is not int or size < 1:
            raise MalformedRequest("a shape of positive sizes")
    if isinstance(entry["data"], list):
        caps.check_records(min(shape[0], len(entry["data"])))
    text = _encode_json_value(entry["data"], odd)
    values = _parse_record_array(entry["data"], text)
    if kind != "BYTES":
        if values.dtype == object:
            raise MalformedRequest("numbers")
        # The server casts to the datatype that the client names: 0.1 as FP16 is another number
        values = cast_tensor_values(values, kind)
    # Data may be flat or nested as the shape says; else two readers could see different records
    if values.shape != tuple(shape) and values.ndim != 1:
        raise MalformedRequest("data that are flat, or of the shape")
    document: dict[str, object] = {
        "name": name,
        "shape": shape,
        "datatype": kind,
        "data": orjson.Fragment(text),
    }
    content = _read_content_type(entry)
    if content is not None and content["content_type"] == "base64":
        # The server decodes what would be read here as words
        raise RequestRefused("unsupported-tensor-encoding")
    if content is not None:
        document["parameters"] = content
    return name, values.reshape(shape), document


def _read_content_type(entry: Any) -> dict[str, str] | None:
    """Read `content_type`, the one parameter that is passed on."""
    if "parameters" not in entry:
        return None
    found = (entry["parameters"] or {}).get("content_type")
    return {"content_type": found} if isinstance(found, str) else None


def _join_input_tensors(tensors: dict[str, NDArray[Any]], frame: bool) -> Batch:
    """Join one tensor as an array; several, or those of a data frame, as columns.

    Where some are wider they stand side by side.
    """
    # A data frame of one column is still a column with a name
    if len(tensors) == 1 and not frame:
        return Batch(next(iter(tensors.values())))
    if len({len(values) for values in tensors.values()}) != 1:
        raise MalformedRequest("as many records in each input")
    flat = {name: values.reshape(len(values), -1) for name, values in tensors.items()}
    if all(values.shape[1] == 1 for values in flat.values()):
        return Batch(columns={name: values[:, 0] for name, values in flat.items()})
    # By name, as the server takes them whatever their order
    return Batch(np.hstack([flat[name] for name in sorted(flat)]))
