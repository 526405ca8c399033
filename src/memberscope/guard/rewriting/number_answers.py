"""Read predicted numbers, or a probability of each label, and write them anew in the same form."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import expit

from memberscope.types import Floats, OutputDefence


@dataclass(frozen=True)
class NumberForm:
    """Form of one record's numbers: their `shape`, () for a bare number, or the `keys` of an object."""

    shape: tuple[int, ...] = ()
    keys: tuple[str, ...] | None = None

    @classmethod
    def of(cls, answers: Any) -> NumberForm:
        """Find the form of the first of `answers`, of which there is at least one.

        >>> NumberForm.of([3.5, 4.0]), NumberForm.of([{"low": 1.0, "high": 2.0}]).keys
        (NumberForm(shape=(), keys=None), ('low', 'high'))
        """
        first = answers[0]
        if isinstance(first, dict):
            return cls((len(first),), tuple(map(str, first)))
        return cls(np.shape(first))

    def write(self, outputs: Floats) -> Any:
        """Write outputs (n, d) as a list of records' answers, or an array of them.

        >>> NumberForm().write(np.array([[3.5], [4.0]])).tolist()
        [3.5, 4.0]
        >>> NumberForm((2,), ("low", "high")).write(np.array([[1.0, 2.0]]))
        [{'low': 1.0, 'high': 2.0}]
        """
        if self.keys is not None:
            return [dict(zip(self.keys, row, strict=True)) for row in outputs.tolist()]
        return np.ascontiguousarray(outputs.reshape(len(outputs), *self.shape))

    def write_tensor(self, name: str, outputs: Floats) -> dict[str, object]:
        """Write outputs (n, d) as a tensor of the Open Inference Protocol.

        >>> NumberForm((1,)).write_tensor("y", np.array([[3.5]]))["shape"]
        [1, 1]
        """
        shape = [len(outputs), *self.shape]
        return {"name": name, "shape": shape, "datatype": "FP64", "data": outputs.ravel()}


def defend_numbers(outputs: Floats, level: str, defence: OutputDefence) -> Floats:
    """Apply `defence` to predicted numbers (n, d), or to labels whose logits became probabilities.

    >>> from memberscope.outputs import parse_restriction
    >>> defend_numbers(np.array([[3.26]]), "probabilities", parse_restriction("decimals:1")).tolist()
    [[3.3]]
    """
    return np.asarray(defence(expit(outputs) if level == "logits" else outputs), dtype=np.float64)
