"""Read Universal Binary JSON as XGBoost writes it, into what `json.loads` would give.

Nothing in it can run code.
"""

from __future__ import annotations

from typing import Any

import numpy as np

DEEPEST = 64  # objects within objects; a model has about eight
# Marks of UBJSON and the big-endian types that they announce
NUMBERS: dict[int, np.dtype[Any]] = {
    ord(mark): np.dtype(kind)
    for mark, kind in {
        "i": ">i1",
        "U": ">u1",
        "I": ">i2",
        "l": ">i4",
        "L": ">i8",
        "d": ">f4",
        "D": ">f8",
    }.items()
}
WORDS = {ord("T"): True, ord("F"): False, ord("Z"): None}


def read_ubjson(content: bytes) -> Any:
    """Read one value; arrays of numbers become arrays of their type.

    Raises:
        ValueError: It is not UBJSON, or cut, or nested too deeply, or an object repeats a name.

    >>> read_ubjson(b"{L" + bytes([0] * 7 + [1]) + b"a[$U#i" + bytes([2, 7, 8]) + b"}")
    {'a': array([7, 8], dtype=uint8)}
    """
    reader = _Reader(content)
    value = reader.value(reader.mark(), DEEPEST)
    # Another reader could take what follows for the model
    if reader.at != len(content):
        raise ValueError("something follows the model")
    return value


class _Reader:
    """A position in the bytes, which moves on as values are read."""

    def __init__(self, content: bytes) -> None:
        self.content, self.at = content, 0

    def take(self, size: int) -> bytes:
        """Take the next bytes.

        Raises:
            ValueError: There are not as many left.
        """
        if size < 0 or self.at + size > len(self.content):
            raise ValueError("it is cut")
        self.at += size
        return self.content[self.at - size : self.at]

    def mark(self) -> int:
        """Take the next byte, which says what follows."""
        return self.take(1)[0]

    def value(self, mark: int, depth: int) -> Any:
        """Read the value that a mark announces."""
        if depth < 0:
            raise ValueError("it is nested too deeply")
        if mark in NUMBERS:
            kind = NUMBERS[mark]
            return np.frombuffer(self.take(kind.itemsize), kind)[0].item()
        if mark in WORDS:
            return WORDS[mark]
        if mark == ord("S"):
            return self.take(self.length(self.mark())).decode("utf-8")
        if mark == ord("{"):
            return self.members(depth)
        if mark == ord("["):
            return self.elements(depth)
        raise ValueError(f"it holds the unknown mark {bytes([mark])!r}")

    def length(self, mark: int) -> int:
        """Read a count, which a number of any whole type gives."""
        found = self.value(mark, 0)
        if type(found) is not int or found < 0:
            raise ValueError("a length is not a whole number")
        return found

    def members(self, depth: int) -> dict[str, object]:
        """Read the members of an object, up to its end."""
        found: dict[str, object] = {}
        while (mark := self.mark()) != ord("}"):
            name = self.take(self.length(mark)).decode("utf-8")
            # Two readers could otherwise see two different models in one file
            if name in found:
                raise ValueError(f"{name} occurs twice")
            found[name] = self.value(self.mark(), depth - 1)
        return found

    def elements(self, depth: int) -> Any:
        """Read the elements of an array: up to its end, or so many, or so many of one type."""
        mark = self.mark()
        if mark == ord("$"):
            kind = self.mark()
            if kind not in NUMBERS or self.mark() != ord("#"):
                raise ValueError("an array is of no known type")
            size = self.length(self.mark())
            numbers = np.frombuffer(self.take(size * NUMBERS[kind].itemsize), NUMBERS[kind])
            # In the byte order of this machine, which numpy computes with
            return numbers.astype(NUMBERS[kind].newbyteorder("="))
        if mark == ord("#"):
            size = self.length(self.mark())
            return [self.value(self.mark(), depth - 1) for _ in range(size)]
        found = []
        while mark != ord("]"):
            found.append(self.value(mark, depth - 1))
            mark = self.mark()
        return found
