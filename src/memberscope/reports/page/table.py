"""Hold the tables of the page as data, so that one template writes all of them.

On a phone each value stands on a line of its own with the name of its column before it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from memberscope.reports.select import NumberWithLimits, format_interval
from memberscope.types import Estimate


@dataclass(frozen=True)
class Cell:
    """A value of a table: its text, and what stands beside it.

    `note` is a smaller line below it and `tag` the verdict whose colour it has. `code` is for what
    is copied. `drawn` (in [0, 1]) is shown as a strip with its limits, too.
    """

    text: str
    note: str = ""
    tag: str = ""
    code: bool = False
    drawn: NumberWithLimits | None = None


Row = tuple[Cell | str, ...]


@dataclass(frozen=True)
class Table:
    """A table: caption, names of its columns and its rows, the name of each row first.

    The first `shown` rows are open (None: all of them) and the others folded.
    """

    caption: str
    head: Sequence[str]
    rows: Sequence[Row]
    shown: int | None = None

    @property
    def open_rows(self) -> Sequence[Row]:
        """The rows that are seen at once."""
        return self.rows[: self.shown]

    @property
    def folded_rows(self) -> Sequence[Row]:
        """The rows that a reader opens."""
        return [] if self.shown is None else self.rows[self.shown :]


def format_estimate(
    entry: NumberWithLimits | None, *, rate: bool = True, missing: str = "too few records"
) -> str:
    """Format an estimate with its interval for a table, or say that there is none.

    >>> format_estimate(None)
    'too few records'
    """
    return missing if entry is None else format_interval(entry, rate=rate)


def format_measured(entry: Estimate) -> str:
    """Format an estimate as its metric is written: a percentage, or a plain number.

    >>> found = Estimate("loss", "label", "auc", 0.6, 0.55, 0.65, 0.95, "", 9, 9, 1)
    >>> format_measured(found)
    '0.600 (0.550 to 0.650)'
    """
    return format_interval(entry, rate=entry.metric not in ("auc", "epsilon_lower"))
