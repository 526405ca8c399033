"""Texts as records, and what a language model says about their tokens.

A record of a text audit is a text, a `Completion` of which only the second part was trained on, or
a `Chat`. `TokenSignals` holds what one query shows of each token, for all records, without padding.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from memberscope.errors import InputError

Floats = NDArray[np.float64]
# What a token signal may hold beside the log-probability of each token
TokenPart = Literal["moments", "top", "base", "lowercase", "recall"]


@dataclass(frozen=True, order=True)
class Completion:
    """A prompt, which the model is given, and the completion that it was trained to write.

    Only tokens of the completion are scored.

    >>> Completion("Capital of France?", " Paris").completion
    ' Paris'
    """

    prompt: str
    completion: str


@dataclass(frozen=True, order=True)
class Chat:
    """Messages as pairs of role and content, to which the tokenizer's chat template is applied.

    Only the tokens of the last message are scored if its role is `assistant`, else all tokens.

    >>> Chat((("user", "Hello"), ("assistant", "Good morning"))).messages[-1][0]
    'assistant'
    """

    messages: tuple[tuple[str, str], ...]


TextRecord = str | Completion | Chat


def read_scored_text(record: TextRecord) -> str:
    """Read the part of a record that the model was trained to write.

    >>> read_scored_text(Completion("2 + 2 =", " 4"))
    ' 4'
    """
    if isinstance(record, Completion):
        return record.completion
    if isinstance(record, Chat):
        role, content = record.messages[-1]
        if role == "assistant":
            return content
        return "\n".join(text for _, text in record.messages)
    return record


def list_texts(x: Any) -> list[TextRecord] | None:
    """List the records of a text audit; None where the inputs are something else.

    A classifier of texts has them in the same form, so only its task tells both apart.

    >>> list_texts(np.array(["a text"], dtype=object)), list_texts(np.arange(2))
    (['a text'], None)
    """
    if not isinstance(x, np.ndarray) or x.ndim != 1 or x.dtype != object or not len(x):
        return None
    found = x.tolist()
    return found if isinstance(found[0], str | Completion | Chat) else None


@dataclass(frozen=True, eq=False)
class TokenSignals:
    """What a model says about the tokens of n records, t tokens in all.

    Record i owns the tokens `offsets[i]` up to `offsets[i + 1]`; only scored tokens are there, so
    that neither prompts nor padding nor a first token without a prediction count.

    Attributes:
        offsets: Where each record's tokens begin, (n + 1,), the first 0 and the last t.
        log_probability: Log-probability (t,) of each token given those before it, in nats.
        mean: Expected log-probability (t,) under the model's own distribution, if known.
        variance: Variance (t,) of the log-probability under that distribution, if known.
        is_top: Whether the token was the model's most probable one (t,), if known.
        base: Log-probability (t,) of the same tokens under the base model, if there is one.
        n_bytes: Bytes (n,) of each record's scored text in UTF-8.
        zlib_bytes: Bytes (n,) of the same text compressed with zlib.
        copies: Mean log-probability (n,) of a changed copy of each record, by its name:
            `lowercase`, or `recall` for the record after a prefix of known non-members.

    >>> signals = TokenSignals(np.array([0, 2, 3]), np.array([-1.0, -3.0, -0.5]))
    >>> signals.mean_log_probability().tolist(), signals.counts.tolist()
    ([-2.0, -0.5], [2, 1])
    """

    offsets: NDArray[np.int64]
    log_probability: NDArray[Any]
    mean: NDArray[Any] | None = None
    variance: NDArray[Any] | None = None
    is_top: NDArray[np.bool_] | None = None
    base: NDArray[Any] | None = None
    n_bytes: NDArray[np.int64] | None = None
    zlib_bytes: NDArray[np.int64] | None = None
    copies: Mapping[str, Floats] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def counts(self) -> NDArray[np.int64]:
        """Scored tokens (n,) of each record."""
        return np.diff(self.offsets)

    def sum_tokens(self, values: NDArray[Any]) -> Floats:
        """Sum values (t,) over the tokens of each record, as (n,)."""
        totals: Floats = np.add.reduceat(np.asarray(values, np.float64), self.offsets[:-1])
        return totals

    def mean_log_probability(self) -> Floats:
        """Give the mean log-probability (n,) of each record's tokens: minus the loss, in nats."""
        return self.sum_tokens(self.log_probability) / self.counts

    def has_part(self, part: TokenPart) -> bool:
        """Tell whether these signals hold a part.

        >>> TokenSignals(np.array([0, 1]), np.array([-1.0])).has_part("top")
        False
        """
        if part == "moments":
            return self.mean is not None and self.variance is not None
        if part == "top":
            return self.is_top is not None
        if part == "base":
            return self.base is not None
        return part in self.copies

    def take(self, rows: Any) -> TokenSignals:
        """Take the records at positions, or under a mask, or of a slice `rows`."""
        chosen = np.arange(len(self))[rows]
        counts = self.counts[chosen]
        offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        # Position of each kept token among all tokens
        where = np.repeat(self.offsets[chosen] - offsets[:-1], counts) + np.arange(offsets[-1])
        kept: dict[str, Any] = {
            name: None if (values := getattr(self, name)) is None else values[where]
            for name in TOKEN_ARRAYS
        }
        for name in ("n_bytes", "zlib_bytes"):
            values = getattr(self, name)
            kept[name] = None if values is None else values[chosen]
        copies = {name: values[chosen] for name, values in self.copies.items()}
        return replace(self, offsets=offsets, copies=copies, **kept)


# Arrays of TokenSignals with one entry a token
TOKEN_ARRAYS = ("log_probability", "mean", "variance", "is_top", "base")


def join_token_signals(parts: Sequence[TokenSignals]) -> TokenSignals:
    """Join the signals of consecutive records.

    Raises:
        InputError: There are none.

    >>> one = TokenSignals(np.array([0, 2]), np.array([-1.0, -3.0]))
    >>> join_token_signals([one, one]).offsets.tolist()
    [0, 2, 4]
    """
    if not parts:
        raise InputError("Expected token signals to join, got none. Give at least one record.")
    counts = np.concatenate([part.counts for part in parts])

    def join(name: str) -> Any:
        values = [getattr(part, name) for part in parts]
        # What one part lacks is unknown of all
        return None if any(value is None for value in values) else np.concatenate(values)

    names = set(parts[0].copies).intersection(*(part.copies for part in parts))
    return TokenSignals(
        offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        **{name: join(name) for name in (*TOKEN_ARRAYS, "n_bytes", "zlib_bytes")},
        copies={name: np.concatenate([part.copies[name] for part in parts]) for name in names},
    )
