"""Bring records to one canonical form, from which budgets, sketches and fingerprints are made.

Two requests that the model's server turns into the same input are the same record, however they
were written: as a frame or an array, with 1, 1.0, 1e0 or true, with -0.0, with null or NaN, or with
digits that the server's type of numbers cuts off.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from memberscope.errors import MemberscopeError
from memberscope.frames import is_missing
from memberscope.wire import Batch

# Stands in the formats of files whose hashes depend on the canonical form
CANONICAL_VERSION = 2
Dtype = Literal["float64", "float32", "float16", "int64", "int32", "int16", "int8", "uint8", "bool"]
Coercion = Literal["strict", "numbers"]
# Records of a lower sum of squares hold no number that single precision does not have
SAFE_SQUARES = 1e70
NOTHING = np.array(None, dtype=object)
# A word that begins with none of these, once blanks are left out, is no number
BEGINNINGS = frozenset("+-.0123456789iInN")


class UnreadableRecord(MemberscopeError):
    """A record cannot be brought to the canonical form.

    `misplaced` says that it has other columns, or another number of values, than was declared.
    """

    exit_code = 2

    def __init__(self, sentence: str, *, misplaced: bool = False) -> None:
        super().__init__(sentence)
        self.misplaced = misplaced


@dataclass(frozen=True)
class RecordForm:
    """What the model's server makes of a record.

    `columns` are the names in their order, and `width` the number of values; without both, any are
    taken. `numeric` are the places of columns that hold numbers alone. `dtypes` are what the server
    casts numbers to, one for all columns or one for each. Under `coercion` "strict", a number that
    was written as a word is refused in a numeric column; under "numbers" it is that number.

    >>> RecordForm(columns=("age", "pay")).size
    2
    """

    columns: tuple[str, ...] = ()
    width: int | None = None
    numeric: tuple[int, ...] = ()
    dtypes: tuple[Dtype, ...] = ("float32",)
    coercion: Coercion = "strict"

    @cached_property
    def size(self) -> int | None:
        """Number of values of a record, None where any number goes."""
        return len(self.columns) or self.width

    @cached_property
    def precision(self) -> np.dtype[Any]:
        """Type in which all numbers of a record are kept."""
        short = set(self.dtypes) <= {"float32", "float16"}
        return np.dtype(np.float32 if short else np.float64)

    @cached_property
    def zero(self) -> NDArray[Any]:
        """Zero of that type: adding a number of another type takes several times as long."""
        return np.zeros((), dtype=self.precision)

    @cached_property
    def is_plain(self) -> bool:
        """Whether all numbers are cast to the type in which they are kept, and to no other."""
        return {*self.dtypes} in ({"float32"}, {"float64"})


UNDECLARED = RecordForm()


@dataclass(frozen=True, eq=False)
class CanonicalBatch(Batch):
    """Records (n, d) in canonical form.

    `numbers` (n, d) has NaN where a value is missing or a word. `words` (n, d) has None where there
    is a number or nothing, and is itself None where no record has words. `array` (n, d) has both:
    numbers alone or, where there are words, objects.
    """

    numbers: NDArray[Any] = field(default_factory=lambda: np.zeros((0, 0), np.float32))
    words: NDArray[Any] | None = None

    def __reduce__(self) -> tuple[type[Batch], tuple[NDArray[Any] | None]]:
        # Another process gets the records once, and finds the words again
        return Batch, (self.array,)

    @property
    def wordy(self) -> NDArray[np.bool_]:
        """Which columns (d,) hold a word."""
        if self.words is None:
            return np.zeros(self.numbers.shape[1], dtype=bool)
        return np.asarray(np.not_equal(self.words, NOTHING).any(axis=0))

    def list_cells(self, place: int) -> list[str]:
        """Write the values (n,) of one column as text.

        >>> canonicalise_records(Batch(np.array([["7"], ["a"], [None]], dtype=object))).list_cells(0)
        ['7.0', "'a'", 'None']
        """
        numbers = self.numbers[:, place].tolist()
        words = [None] * len(numbers) if self.words is None else self.words[:, place].tolist()
        # repr keeps words apart from numbers
        return [
            repr(word if word is not None else None if number != number else number)
            for number, word in zip(numbers, words, strict=True)
        ]


def canonicalise_records(batch: Batch, form: RecordForm = UNDECLARED) -> CanonicalBatch:
    """Bring records to canonical form; those that are in it stay as they are.

    Columns are put in the order of `form`, or of their names where it has none. Numbers are cast as
    the model's server casts them. Words that read as numbers are numbers.

    Raises:
        UnreadableRecord: There are other columns or another number of values than `form` has, a
            word in a numeric column, or a number that a column's type does not have.

    >>> rows = Batch(np.array([[0.1, -0.0], [float(np.float32(0.1)), 0.0]]))
    >>> len(set(encode_canonical_records(canonicalise_records(rows))))
    1
    """
    if isinstance(batch, CanonicalBatch):
        return batch
    if batch.columns is not None:
        return _canonicalise_columns(_order_columns(batch.columns, form), form)
    array = np.asarray(batch.array)
    if array.ndim == 0 or array.dtype.kind not in "biufOUSmM":
        raise UnreadableRecord(
            f"Expected records as an array of numbers or words, got {array.dtype} of shape "
            f"{array.shape}. Check them."
        )
    flat = array.reshape(len(array), -1)
    # Rows of a table are flat: a server could take what is nested for several records
    if form.columns and array.ndim > 2:
        raise UnreadableRecord(
            f"Expected rows of {len(form.columns)} columns, got records of shape "
            f"{array.shape[1:]}. Check the records.",
            misplaced=True,
        )
    _require_width(flat.shape[1], form)
    if array.dtype.kind in "biuf":
        return _build_canonical_batch(_cast_numbers(flat, form), None)
    if 0 < len(form.numeric) < flat.shape[1]:
        return _canonicalise_columns(list(flat.T), form)
    # All columns are alike, and may be as many as an image has
    is_numeric = bool(form.numeric)
    numbers, words = _split_words(flat.ravel(), form, is_numeric)
    held = None if words is None else words.reshape(flat.shape)
    return _build_canonical_batch(_cast_numbers(numbers.reshape(flat.shape), form), held)


def encode_canonical_records(batch: CanonicalBatch) -> list[bytes]:
    """Encode each record as bytes that tell it from others, alone or together with others."""
    data = np.ascontiguousarray(batch.numbers).tobytes()
    size = batch.numbers.shape[1] * batch.numbers.itemsize
    rows = [data[start : start + size] for start in range(0, len(data), size)]
    if batch.words is not None:
        parts: list[list[bytes]] = [[row] for row in rows]
        for row, place in np.argwhere(np.not_equal(batch.words, NOTHING)).tolist():
            text = batch.words[row, place].encode(errors="surrogatepass")
            # With its place and length, no word can be taken for two
            parts[row].append(b"%d:%d:%b" % (place, len(text), text))
        rows = [b"".join(part) for part in parts]
    return rows


def _order_columns(columns: Mapping[str, NDArray[Any]], form: RecordForm) -> list[NDArray[Any]]:
    """List the columns in their order, each (n,)."""
    if not form.columns and form.width is not None:
        raise UnreadableRecord(
            f"Expected records of {form.width} values without names, got named columns. Name the "
            "columns in [serving].",
            misplaced=True,
        )
    if form.columns and columns.keys() != set(form.columns):
        raise UnreadableRecord(
            f"Expected the columns {', '.join(form.columns)}, got others. Check the records.",
            misplaced=True,
        )
    return [columns[name] for name in form.columns or sorted(columns)]


def _require_width(width: int, form: RecordForm) -> None:
    """Refuse records with another number of values.

    Raises:
        UnreadableRecord: They have.
    """
    if form.size is not None and width != form.size:
        raise UnreadableRecord(
            f"Expected {form.size} features, got {width}. Check the records.", misplaced=True
        )


def _canonicalise_columns(columns: Sequence[NDArray[Any]], form: RecordForm) -> CanonicalBatch:
    """Bring columns, each (n,), to canonical form; some may hold words."""
    if all(column.dtype.kind in "biuf" for column in columns):
        together = np.array(columns, dtype=np.float64).T
        return _build_canonical_batch(_cast_numbers(together, form), None)
    numbers = np.empty((len(columns[0]), len(columns)))
    words: NDArray[Any] | None = None
    for place, column in enumerate(columns):
        if column.dtype.kind in "biuf":
            numbers[:, place] = column
            continue
        numbers[:, place], held = _split_words(column, form, place in form.numeric)
        if held is not None:
            words = np.full(numbers.shape, None, dtype=object) if words is None else words
            words[:, place] = held
    return _build_canonical_batch(_cast_numbers(numbers, form), words)


def _build_canonical_batch(numbers: NDArray[Any], words: NDArray[Any] | None) -> CanonicalBatch:
    """Build the batch, and the array that other processes get of it."""
    if words is None:
        return CanonicalBatch(array=numbers, numbers=numbers)
    cells = numbers.astype(object)
    cells[np.isnan(numbers)] = None
    where = np.not_equal(words, NOTHING)
    cells[where] = words[where]
    return CanonicalBatch(array=cells, numbers=numbers, words=words)


def _split_words(
    values: NDArray[Any], form: RecordForm, is_numeric: bool
) -> tuple[NDArray[np.float64], NDArray[Any] | None]:
    """Split values (n,) into numbers, NaN elsewhere, and words; None where there are none.

    Raises:
        UnreadableRecord: There is a word in a numeric column, or a number beyond all measure.
    """
    numbers = [np.nan] * len(values)
    words: list[str | None] = [None] * len(values)
    is_strict = is_numeric and form.coercion == "strict"
    found = False
    for place, value in enumerate(_list_plain_values(values)):
        if isinstance(value, str):
            number = read_number_word(value)
            if is_strict or (is_numeric and number is None):
                raise UnreadableRecord(
                    "Expected a number in a column of numbers, got a word. Send numbers."
                )
            if number is None:
                words[place], found = value, True
            else:
                numbers[place] = number
        elif value is not None:
            numbers[place] = _convert_to_float(value)
    if not found:
        return np.array(numbers), None
    held = np.empty(len(values), dtype=object)
    held[:] = words
    return np.array(numbers), held


def _list_plain_values(values: NDArray[Any]) -> list[Any]:
    """List values (n,) as numbers, text, and None for what is missing."""
    if values.dtype.kind in "mM":
        return [None if text == "NaT" else text for text in values.astype(str).tolist()]
    return [
        value
        if isinstance(value, str | float | int)
        else value.decode(errors="replace")
        if isinstance(value, bytes)
        else None
        if is_missing(value)
        else value
        if isinstance(value, np.number | np.bool_)
        else str(value)
        for value in values.tolist()
    ]


def read_number_word(word: str) -> float | None:
    """Read a word as a number, as Python, NumPy and pydantic do; None where it is none.

    >>> read_number_word(" 3_9.0 "), read_number_word("nan"), read_number_word("cook")
    (39.0, nan, None)
    """
    text = word.strip()
    # Digits of other scripts are digits to Python too
    if not text or not (text[0] in BEGINNINGS or text[0].isdecimal()):
        return None
    try:
        return float(text)
    except ValueError:
        return None


def _convert_to_float(value: Any) -> float:
    """Convert a number.

    Raises:
        UnreadableRecord: It is a whole number that no float is near to.
    """
    try:
        return float(value)
    except OverflowError:
        raise UnreadableRecord(
            "Expected numbers below 1e308, got a larger one. Check the records."
        ) from None


def _cast_numbers(values: NDArray[Any], form: RecordForm) -> NDArray[Any]:
    """Cast numbers (n, d) as the server does; there is one zero, and one NaN for what is missing."""
    # Whole numbers go by way of double precision, as those in JSON do
    if values.dtype.kind in "biu":
        values = values.astype(np.float64)
    # Below this nothing is missing or too large; written so that NaN is left to what follows
    if form.is_plain and values.dtype.char == "d" and np.vdot(values, values) < SAFE_SQUARES:
        cast: NDArray[Any] = values.astype(form.precision, order="C")
        # Adding zero makes -0.0 into 0.0
        cast += form.zero
        return cast
    # What is beyond the type becomes infinite
    with np.errstate(over="ignore", invalid="ignore"):
        if not form.is_plain:
            values = _cast_by_column(values, form)
        found = values.astype(form.precision, order="C")
        found += form.zero
        # The sum of squares is NaN where any value is, and takes less time than the least value
        squares = np.vdot(found, found)
    if squares != squares:
        # NaN has many bit patterns
        found[np.isnan(found)] = np.nan
    return found


def _cast_by_column(values: NDArray[Any], form: RecordForm) -> NDArray[Any]:
    """Cast floats (n, d) to the types of their columns and back to floats."""
    kinds = set(form.dtypes)
    if len(kinds) == 1:
        return _cast_to_dtype(values, form.dtypes[0])
    cast = np.empty(values.shape)
    for kind in kinds:
        places = [place for place, dtype in enumerate(form.dtypes) if dtype == kind]
        cast[:, places] = _cast_to_dtype(values[:, places], kind)
    return cast


def _cast_to_dtype(values: NDArray[Any], dtype: Dtype) -> NDArray[Any]:
    """Cast floats (n, d) to one type and back to floats.

    Raises:
        UnreadableRecord: A whole number is missing or out of range, where casts differ.
    """
    if dtype.startswith("float"):
        return np.asarray(values, dtype=dtype)
    if dtype == "bool":
        return np.where(np.isnan(values), np.nan, values != 0)
    limits = np.iinfo(dtype)
    whole: NDArray[Any] = np.trunc(values)
    # Written so that NaN is caught too; the upper limit itself may be no float
    if not ((whole >= float(limits.min)) & (whole < float(limits.max) + 1)).all():
        raise UnreadableRecord(
            f"Expected numbers that {dtype} has, got one missing or out of range. Check the "
            "records."
        )
    return whole
