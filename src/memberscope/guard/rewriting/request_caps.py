"""Caps on what a request may hold, checked before anything is made of it."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from memberscope.guard.policy.tables import GuardLimits
from memberscope.guard.refused import RequestRefused

UNSCANNED = 16_384  # bytes of a body that is parsed quickly whatever it holds
SLOW_SHARE = 8  # what the slow parser, for NaN and infinity, takes longer for each value
# Values that a byte counts as: lists and objects take longer, and so do words, in two quotes each
WEIGHTS = {ord(","): 1.0, ord("["): 4.0, ord("{"): 4.0, ord('"'): 0.5}
DEEPEST = 16  # lists within lists in a record


class RequestCaps(NamedTuple):
    """Most JSON values, named columns or tensors, and records of a request."""

    values: int = 2**20
    columns: int = 16_384
    records: int = 4096

    @classmethod
    def of(cls, limits: GuardLimits) -> RequestCaps:
        """Take the caps of a policy."""
        return cls(limits.max_values, limits.max_columns, limits.max_records)

    def check_values(self, body: bytes, *, slow: bool = False) -> None:
        """Refuse (413) a body of too many values: one pass over its bytes, without parsing.

        A value comes after a comma or an opening bracket. What stands within words counts too, so
        that the number is never too low.

        >>> RequestCaps(values=5).check_values(b"[1,2," + b" " * 20_000 + b"3]")
        Traceback (most recent call last):
        memberscope.guard.refused.RequestRefused: content-too-large
        """
        if len(body) <= UNSCANNED:
            return
        most = self.values // SLOW_SHARE if slow else self.values
        view = np.frombuffer(body, dtype=np.uint8)
        found = sum(
            weight * int(np.count_nonzero(view == byte)) for byte, weight in WEIGHTS.items()
        )
        if found > most:
            raise RequestRefused("content-too-large")

    def check_columns(self, n: int) -> None:
        """Refuse (413) more named columns or tensors than are allowed."""
        if n > self.columns:
            raise RequestRefused("content-too-large")

    def check_records(self, n: int) -> None:
        """Refuse (413) more records than are allowed."""
        if n > self.records:
            raise RequestRefused("content-too-large")

    def check_form(self, found: Any) -> None:
        """Check lists of records, objects, or a list for each name, by their lengths alone.

        >>> RequestCaps(records=2).check_form({"a": [1, 2], "b": [3, 4]})
        """
        first = next(iter(found.values() if isinstance(found, dict) else found), None)
        named = found if isinstance(found, dict) else first
        rows = first if isinstance(found, dict) else found
        self.check_columns(len(named) if isinstance(named, dict) else 0)
        self.check_records(len(rows) if isinstance(rows, list) else 0)


def is_too_deep(found: Any) -> bool:
    """Tell whether lists lie too deep within first entries, without looking at the others.

    >>> is_too_deep([[1, 2]]), is_too_deep([[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]])
    (False, True)
    """
    for _ in range(DEEPEST + 1):
        if not isinstance(found, list) or not found:
            return False
        found = found[0]
    return True
