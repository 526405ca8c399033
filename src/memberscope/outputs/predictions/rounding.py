"""Round predicted numbers, or the probabilities of labels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from memberscope.errors import InputError
from memberscope.outputs._bases import Stateless
from memberscope.outputs.predictions._base import PartOfNumbers
from memberscope.types import Floats

MOST = 15  # digits that a float holds


@dataclass(frozen=True)
class Decimals(PartOfNumbers, Stateless):
    """Round to `decimals` after the point; a negative number rounds to tens, hundreds and so on.

    >>> Decimals(-1)(np.array([[38.2, 41.0]])).tolist(), Decimals(1)(np.array([[0.26]])).tolist()
    ([[40.0, 40.0]], [[0.3]])
    """

    decimals: int = 1

    def __post_init__(self) -> None:
        """Refuse a number of decimals that no float has.

        Raises:
            InputError: It is outside -15 to 15.
        """
        if abs(self.decimals) > MOST:
            raise InputError(
                f"Expected -15 to 15 decimals in decimals:d, got {self.decimals}. Give decimals:1."
            )

    @property
    def name(self) -> str:
        """Name `decimals:d`."""
        return f"decimals:{self.decimals}"

    def __call__(self, outputs: Floats) -> Floats:
        """Answer (n, d), rounded."""
        # Adding zero turns a negative zero, which would show a sign, into zero
        return np.asarray(np.round(outputs, self.decimals) + 0.0, dtype=np.float64)


@dataclass(frozen=True)
class Digits(PartOfNumbers, Stateless):
    """Round to `digits` significant digits, whatever the size of the number.

    >>> Digits(2)(np.array([[1234.0, 0.01234, 0.0]])).tolist()
    [[1200.0, 0.012, 0.0]]
    """

    digits: int = 2

    def __post_init__(self) -> None:
        """Refuse a number of digits that no float has.

        Raises:
            InputError: It is outside 1 to 15.
        """
        if not 1 <= self.digits <= MOST:
            raise InputError(
                f"Expected 1 to 15 significant digits in digits:d, got {self.digits}. Give "
                "digits:2."
            )

    @property
    def name(self) -> str:
        """Name `digits:d`."""
        return f"digits:{self.digits}"

    def __call__(self, outputs: Floats) -> Floats:
        """Answer (n, d), rounded."""
        # Decimal digits as they are written, which a division by a power of ten would not give
        written = [float(f"{value:.{self.digits - 1}e}") for value in np.ravel(outputs)]
        return np.array(written, dtype=np.float64).reshape(np.shape(outputs)) + 0.0
