"""Read text tables by pandas, where it is installed.

Most models' training data were read by it.
"""

from __future__ import annotations

import warnings
from collections.abc import Collection
from pathlib import Path
from typing import Any

from memberscope.errors import InputError
from memberscope.frames import DATE, FALSE, MISSING, TRUE
from memberscope.targets.tables.text import TextFormat, read_words, refuse_cut_lines

FIRST = 1000  # values of a column of words that are checked for dates


def read_text_by_pandas(path: Path, found: TextFormat, texts: Collection[str]) -> dict[str, Any]:
    """Read a text table; fields of the columns `texts` are kept as they are written.

    Only empty ones become missing.

    Raises:
        InputError: A line has too few or too many fields.
        UnicodeDecodeError: It is not in the encoding found.
    """
    import pandas

    own: Any = (
        {name: [""] if name in texts else sorted(MISSING) for name in found.names}
        if texts
        else sorted(MISSING)
    )
    # Columns that are to stay as written must not be parsed as dates
    dates = [name for name in found.dates if name not in texts]
    call: dict[str, Any] = {
        "sep": found.separator, "encoding": found.encoding, "decimal": found.decimal, "names": list(found.names), "header": 0, "skiprows": found.skip,
        "index_col": False, "na_values": own, "keep_default_na": False, "dtype": dict.fromkeys(texts, str),
        "true_values": list(TRUE), "false_values": list(FALSE), "parse_dates": dates or False, "date_format": "ISO8601",
    }  # fmt: skip
    if tuple(map(int, pandas.__version__.split(".")[:2])) < (3, 1):
        call["float_precision"] = "round_trip"  # later versions always read what was written
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pandas.errors.DtypeWarning)
            warnings.simplefilter("ignore", UserWarning)
            # Such as of fields that would be dropped
            warnings.simplefilter("error", pandas.errors.ParserWarning)
            frame = pandas.read_csv(path, **call)
    # A column is of one type in one part of the file and of another in the next
    except pandas.errors.DtypeWarning:
        frame = pandas.read_csv(path, low_memory=False, **call)
    except (pandas.errors.ParserError, pandas.errors.ParserWarning, EOFError, OSError) as error:
        read_words(path, found)  # says which line it is
        raise InputError(
            f"Expected a complete text table, got {path}: {str(error).strip()}. Write it again."
        ) from error
    if len(frame) and frame.iloc[:, -1].isna().any():  # pandas fills up a line that is cut
        refuse_cut_lines(path, found)
    return {name: _as_dates(frame.pop(name), skip=name in texts) for name in found.names}


def _as_dates(series: Any, *, skip: bool) -> Any:
    """Convert a column of words to dates if all are ISO 8601.

    The first ones decide whether it is tried.
    """
    if skip or not (series.dtype == object or str(series.dtype) in ("str", "string")):
        return series
    first = series.iloc[:FIRST].dropna().astype(str)
    if not len(first) or not all(DATE.match(word) for word in first):
        return series
    import pandas

    try:
        return pandas.to_datetime(series, format="ISO8601")
    except ValueError:
        return series
