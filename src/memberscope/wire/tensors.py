"""Encode and decode tensors of the Open Inference Protocol."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memberscope.errors import InputError, TargetError
from memberscope.frames import is_missing
from memberscope.wire.batch import as_json

# The protocol's datatypes and numpy's codes for them
TYPES = {
    **{f"FP{8 * size}": f"f{size}" for size in (2, 4, 8)},
    **{f"INT{8 * size}": f"i{size}" for size in (1, 2, 4, 8)},
    **{f"UINT{8 * size}": f"u{size}" for size in (1, 2, 4, 8)},
    "BOOL": "b1",
}


@dataclass(frozen=True)
class Tensor:
    """Input that a server wants: name, datatype, and shape with -1 where any size goes.

    >>> Tensor("input-0", "FP32", (-1, 4)).fitted(np.zeros((2, 2, 2))).shape
    (2, 4)
    """

    name: str
    datatype: str | None = None
    shape: tuple[int, ...] = ()

    def fitted(self, values: NDArray[Any]) -> NDArray[Any]:
        """Convert records (n, …) to this tensor's datatype and shape.

        Raises:
            InputError: They have another number of values, or values that the datatype has not.
        """
        inner = self.shape[1:]
        # A dimension of any size says nothing to check or to fill
        if inner and all(size > 0 for size in inner):
            if prod(values.shape[1:]) != prod(inner):
                raise InputError(
                    f"Expected records of shape {list(inner)} for the input {self.name!r}, got "
                    f"{list(values.shape[1:])}. "
                    f"Check which columns the model gets."
                )
            values = values.reshape(len(values), *inner)
        kind = TYPES.get(self.datatype or "")
        if kind is None:
            # Unknown datatypes, such as BYTES, take the values as they are
            return values
        cast = values.astype(kind)
        # A cast to whole numbers would cut off what is behind the point
        if kind[0] in "iu" and not np.array_equal(cast, values):
            raise InputError(
                f"Expected whole numbers for the input {self.name!r}, got others. Encode them as "
                "the model wants."
            )
        return cast


def read_input_tensors(metadata: Any) -> tuple[Tensor, ...]:
    """Read the inputs that a server's metadata names; none if it names none.

    >>> read_input_tensors({"inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}]})
    (Tensor(name='x', datatype='FP32', shape=(-1, 4)),)
    """
    inputs = metadata.get("inputs") if isinstance(metadata, dict) else None
    found = []
    for entry in inputs or ():
        if isinstance(entry, dict) and entry.get("name"):
            shape = entry.get("shape") or ()
            found.append(
                Tensor(
                    str(entry["name"]), entry.get("datatype"), tuple(int(size) for size in shape)
                )
            )
    return tuple(found)


def build_tensor_document(name: str, values: NDArray[Any], wanted: Tensor | None) -> dict[str, Any]:
    """Build a tensor's document, its data flat in row-major order.

    Raises:
        InputError: A number is missing or infinite, which a tensor cannot say, or the values do not
            fit.

    >>> build_tensor_document("job", np.array([["cook"]], dtype=object), None)
    {'name': 'job', 'shape': [1, 1], 'datatype': 'BYTES', 'data': ['cook'], 'parameters':
    {'content_type': 'str'}}
    """
    values = wanted.fitted(values) if wanted else values
    if values.dtype.kind == "O" and not any(is_missing(value) for value in values.ravel()):
        # Without missing values, objects become numbers or text of one type
        values = np.array([as_json(value) for value in values.ravel()]).reshape(values.shape)
    if values.dtype.kind == "O" or (values.dtype.kind == "f" and not np.isfinite(values).all()):
        raise InputError(
            f"Expected a finite value of {name!r} in each record, got one missing or infinite. "
            "Fill it in, or leave the record out."
        )
    found = {
        "name": name,
        "shape": list(values.shape),
        "datatype": _find_datatype(values),
        "data": values.ravel().tolist(),
    }
    return found | ({"parameters": {"content_type": "str"}} if found["datatype"] == "BYTES" else {})


def _find_datatype(values: NDArray[Any]) -> str:
    """Find the protocol's datatype of an array.

    >>> _find_datatype(np.zeros(1, dtype=np.float32)), _find_datatype(np.array(["a"]))
    ('FP32', 'BYTES')
    """
    kind = f"{values.dtype.kind}{values.dtype.itemsize}"
    return next((name for name, code in TYPES.items() if code == kind), "BYTES")


def read_tensor_array(entry: Any) -> NDArray[Any]:
    """Read the array (n, …) of a tensor's document, flat or nested.

    Raises:
        TargetError: Its data are not what its shape says.
    """
    try:
        # Whole numbers in JSON are still floats where the datatype says so
        numbers = np.float64 if str(entry.get("datatype")).startswith("FP") else None
        values = np.array(entry["data"], dtype=numbers)
        if entry.get("datatype") == "BYTES":
            values = values.astype(object)
        return values.reshape([int(size) for size in entry["shape"]])
    except (KeyError, TypeError, ValueError, AttributeError):
        shape = entry.get("shape") if isinstance(entry, dict) else None
        raise TargetError(
            f"Expected the data of an output to fill its shape {shape}, got something else. Make the "
            "server send as many values as the shape has."
        ) from None
