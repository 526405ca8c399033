"""Pack arrays beside a message as raw bytes, described by their type and shape."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Numbers, truth values, texts of fixed width and dates: types whose bytes are their values
RAW = re.compile(r"[<>|=][biufUSmM][0-9]{1,9}(\[[0-9a-zA-Z]{1,8}\])?")
OBJECTS = "json"  # what describes an array of objects, whose values are written out
DEEPEST = 32  # axes of an array, as in numpy

Buffer = bytes | bytearray | memoryview


class PackedArrays:
    """Collect the bytes of arrays in order; each description stands in the message."""

    def __init__(self) -> None:
        self.parts: list[Buffer] = []

    def add(self, values: Any) -> list[Any]:
        """Add an array, and give its description: type and shape.

        Raises:
            TypeError: It holds objects that are no JSON.
        """
        array = np.asarray(values)
        if array.dtype.kind == "O":
            # Python's own encoder, as orjson knows neither NaN nor numbers beyond 64 bits
            text = json.dumps(array.ravel().tolist(), default=_convert_scalar).encode()
            self.parts.append(text)
            return [OBJECTS, list(array.shape)]
        flat = np.ascontiguousarray(array).reshape(-1)
        self.parts.append(flat.view(np.uint8).data if flat.size and flat.itemsize else b"")
        return [array.dtype.str, list(array.shape)]

    def add_bytes(self, data: bytes | bytearray) -> None:
        """Add bytes as they are."""
        self.parts.append(data)


def _convert_scalar(value: Any) -> Any:
    """Convert a number of numpy for JSON.

    Raises:
        TypeError: It is none.
    """
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"no JSON: {type(value).__name__}")


def unpack_array(described: Sequence[Any], parts: Iterator[bytearray]) -> NDArray[Any]:
    """Unpack the next array; `described` is its type and shape. Raw ones may be written to.

    Raises:
        ValueError, TypeError, StopIteration: It is not what the description says.

    >>> packed = PackedArrays()
    >>> described = packed.add(np.array([[1.5, 2.5]]))
    >>> unpack_array(described, iter([bytearray(packed.parts[0])])).tolist()
    [[1.5, 2.5]]
    """
    kind, shape = described
    if len(shape) > DEEPEST or any(type(size) is not int or size < 0 for size in shape):
        raise ValueError("a shape of sizes")
    data = next(parts)
    if kind == OBJECTS:
        values = json.loads(data)
        if not isinstance(values, list):
            raise ValueError("a list of values")
        found = np.empty(len(values), dtype=object)
        # One by one, as lists among them would become further axes
        for place, value in enumerate(values):
            found[place] = value
        return found.reshape(shape)
    if not isinstance(kind, str) or not RAW.fullmatch(kind):
        raise ValueError("a type of raw values")
    dtype = np.dtype(kind)
    return np.frombuffer(data, dtype=dtype).reshape(shape) if data else np.empty(shape, dtype)
