"""Read what an ONNX file declares from its bytes, before a runtime opens it.

The format is plain protobuf.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from memberscope.errors import InputError

REAL = (1, 10, 11, 16)  # TensorProto's numbers for float, half, double and bfloat16
# Field numbers of onnx.proto: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto
MODEL_GRAPH, MODEL_FUNCTION = 7, 25
GRAPH_NODE, GRAPH_TENSOR, GRAPH_SPARSE = 1, 5, 15
FUNCTION_NODE, NODE_ATTRIBUTE = 7, 5
ATTRIBUTE_NAME, ATTRIBUTE_TENSOR, ATTRIBUTE_GRAPH, ATTRIBUTE_INTS, ATTRIBUTE_STRINGS = 1, 5, 6, 8, 9
ATTRIBUTE_TENSORS, ATTRIBUTE_GRAPHS = 10, 11
TENSOR_DIMS, TENSOR_TYPE, TENSOR_EXTERNAL = 1, 2, 13


@dataclass
class OnnxFacts:
    """Facts about an ONNX model.

    `labels` are lists of class values in the order of the outputs, `n_parameters` is the number of
    weights, and `external` are the files that hold weights.
    """

    labels: set[tuple[str, ...]] = field(default_factory=set)
    n_parameters: int = 0
    external: list[str] = field(default_factory=list)

    @property
    def classes(self) -> tuple[str, ...]:
        """Class values, if all parts of the model agree on them."""
        return next(iter(self.labels)) if len(self.labels) == 1 else ()


def read_facts(path: Path) -> OnnxFacts:
    """Read the facts about the model in `path`.

    Raises:
        InputError: The file is empty, truncated or not an ONNX model, or its weights are not beside
            it.
    """
    facts = OnnxFacts()
    try:
        # A view, so that nested messages are not copied
        _read_model(memoryview(path.read_bytes()), facts)
    except (ValueError, IndexError, RecursionError) as error:
        raise InputError(
            f"Expected a complete ONNX model, got {path}: {error}. Export it again."
        ) from error
    # Checked before the runtime opens the model, which would follow any path
    for name in facts.external:
        _find_weights_file(path, name)
    return facts


def _find_weights_file(path: Path, name: str) -> Path:
    """Find the file of weights `name` in the folder of the model.

    Raises:
        InputError: It is elsewhere or missing.
    """
    folder, file = path.resolve().parent, (path.parent / name).resolve()
    # A path out of the folder could make the runtime read any file of this machine
    if not file.is_relative_to(folder) or Path(name).is_absolute():
        raise InputError(
            f"Expected the weights of {path} beside it, got {name!r}. Export it with external data "
            "in its folder."
        )
    if not file.is_file():
        raise InputError(
            f"Expected the weights of {path} in {name!r} beside it, got no such file. Copy it "
            "there."
        )
    return file


def hash_onnx_files(path: Path, facts: OnnxFacts, read_as: str) -> str:
    """Hash how the model is read, and the contents of its file and of those with its weights."""
    hasher = hashlib.sha256(f"onnx:{read_as}:".encode())
    for file in (path, *(_find_weights_file(path, name) for name in sorted(set(facts.external)))):
        with file.open("rb") as stream:
            hasher.update(hashlib.file_digest(stream, "sha256").digest())
    return hasher.hexdigest()


def _read_model(view: memoryview, facts: OnnxFacts) -> None:
    """Collect the facts of a ModelProto.

    Raises:
        ValueError: It holds no graph, or ends in the middle.
    """
    found = False
    for number, part in _iterate_messages(view, {MODEL_GRAPH, MODEL_FUNCTION}):
        if number == MODEL_GRAPH:
            found = True
            _read_graph(part, facts)
            continue
        # Functions of the model hold nodes too, and these may hold graphs
        for _, node in _iterate_messages(part, {FUNCTION_NODE}):
            _read_node(node, facts)
    if not found:
        raise ValueError("it holds no graph")


def _read_graph(view: memoryview, facts: OnnxFacts) -> None:
    """Collect the facts of a GraphProto."""
    for number, part in _iterate_messages(view, {GRAPH_NODE, GRAPH_TENSOR, GRAPH_SPARSE}):
        if number == GRAPH_NODE:
            _read_node(part, facts)
        elif number == GRAPH_TENSOR:
            _read_tensor(part, facts)
        else:
            # Values and indices of a sparse tensor
            for _, tensor in _iterate_messages(part, {1, 2}):
                _read_tensor(tensor, facts)


def _read_node(view: memoryview, facts: OnnxFacts) -> None:
    """Collect the facts of a NodeProto: its classes and what its attributes hold."""
    for _, attribute in _iterate_messages(view, {NODE_ATTRIBUTE}):
        name, values = "", []
        for number, part in _iterate_fields(attribute):
            if number == ATTRIBUTE_INTS:
                values += [str(value) for value in _read_integers(part)]
            elif not isinstance(part, memoryview):
                continue
            elif number == ATTRIBUTE_NAME:
                name = bytes(part).decode()
            elif number == ATTRIBUTE_STRINGS:
                values.append(bytes(part).decode())
            # Branches and loops hold graphs of their own, with weights
            elif number in (ATTRIBUTE_GRAPH, ATTRIBUTE_GRAPHS):
                _read_graph(part, facts)
            elif number in (ATTRIBUTE_TENSOR, ATTRIBUTE_TENSORS):
                _read_tensor(part, facts)
        # Attributes of ONNX's own classifiers, for numbers and for words
        if name.startswith("classlabels_") and values:
            facts.labels.add(tuple(values))


def _read_tensor(view: memoryview, facts: OnnxFacts) -> None:
    """Count the weights of a TensorProto, and note the file that holds them."""
    sizes, kind = [], 0
    for number, part in _iterate_fields(view):
        if number == TENSOR_DIMS:
            sizes += _read_integers(part)
        elif number == TENSOR_TYPE:
            kind = part
        elif number == TENSOR_EXTERNAL:
            entry = {key: bytes(value).decode() for key, value in _iterate_messages(part, {1, 2})}
            # The key of external data that names the file
            if entry.get(1) == "location":
                facts.external.append(entry.get(2, ""))
    # Whole numbers are indices and shapes, not weights
    facts.n_parameters += math.prod(sizes) if kind in REAL else 0


def _iterate_messages(view: memoryview, wanted: set[int]) -> Iterator[tuple[int, memoryview]]:
    """Yield the messages in the fields `wanted`."""
    return (
        (number, part)
        for number, part in _iterate_fields(view)
        if number in wanted and isinstance(part, memoryview)
    )


def _read_integers(part: Any) -> list[int]:
    """Read the whole numbers of a repeated field, packed or one by one.

    >>> _read_integers(7), _read_integers(memoryview(bytes([3, 4])))
    ([7], [3, 4])
    """
    if not isinstance(part, memoryview):
        return [_decode_signed(part)]
    values, at = [], 0
    while at < len(part):
        value, at = _decode_varint(part, at)
        values.append(_decode_signed(value))
    return values


def _decode_signed(value: int) -> int:
    """Decode a 64-bit number in two's complement."""
    return value - 2**64 if value >= 2**63 else value


def _decode_varint(view: memoryview, at: int) -> tuple[int, int]:
    """Decode the number at a position, and give where it ends."""
    value = shift = 0
    while True:
        byte = view[at]
        # Seven bits a byte, the lowest first; the eighth says whether more follow
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
        # A longer number is damage, and would let a hostile file loop
        if shift > 63:
            raise ValueError("it is not protobuf")


def _iterate_fields(view: memoryview) -> Iterator[tuple[int, Any]]:
    """Yield number and content of each field.

    Whole numbers are int, everything with a length is a view.

    Raises:
        ValueError: The message ends in the middle of a field.

    >>> list(_iterate_fields(memoryview(bytes([0x08, 0x05]))))
    [(1, 5)]
    """
    at = 0
    while at < len(view):
        key, at = _decode_varint(view, at)
        # The lowest three bits say how the value is written
        number, kind = key >> 3, key & 7
        if kind == 0:
            value, at = _decode_varint(view, at)
            yield number, value
            continue
        # 64 bits, a length, or 32 bits; groups are not used by ONNX
        if kind not in (1, 2, 5) or number == 0:
            raise ValueError("it is not protobuf")
        length, at = _decode_varint(view, at) if kind == 2 else (8 if kind == 1 else 4, at)
        if at + length > len(view):
            raise ValueError("it ends in the middle")
        yield number, view[at : at + length]
        at += length
