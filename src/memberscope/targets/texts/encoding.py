"""Turn the records of a text audit into token ids, and find which of the tokens are scored."""

from __future__ import annotations

import hashlib
import re
import reprlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from memberscope.errors import InputError
from memberscope.texts import Chat, Completion, TextRecord
from memberscope.types import Ints

Long = Literal["truncate", "windows"]
# How chat templates and instructions mark turns; a tokenizer that does not know a mark splits it
MARKS = re.compile(r"<\|[A-Za-z0-9_]{2,30}\|>|</?s>|\[/?INST\]|<(?:start|end)_of_turn>")
ENDLESS = 10**6  # a tokenizer without a longest text says a number far beyond this


@dataclass(frozen=True, eq=False)
class EncodedRecord:
    """Token ids of one record.

    `body` is the text, between what the tokenizer puts before and after it; tokens of the body are
    scored from position `first`.
    """

    prefix: list[int]
    body: list[int]
    suffix: list[int]
    first: int


@dataclass(frozen=True, eq=False)
class Window:
    """Token ids `ids` (t,) of one call of a model, of which `begin` up to `end` are scored.

    Their values belong at `place` among all tokens of all records.
    """

    ids: list[int]
    begin: int
    end: int
    place: int


@dataclass(frozen=True, eq=False)
class EncodedTexts:
    """Windows of n records; record i owns the scored tokens `offsets[i]` up to `offsets[i + 1]`."""

    windows: list[Window]
    offsets: Ints


@dataclass(eq=False)
class TextCounts:
    """Counts over the different texts that were encoded, for the notes of a result."""

    texts: set[bytes] = field(default_factory=set)
    long: int = 0
    tokens: int = 0
    unknown: int = 0
    marked: int = 0
    mark: str = ""


@dataclass(eq=False)
class TextEncoder:
    """How records become token ids: special tokens, the longest text, and what is scored.

    Attributes:
        tokenizer: A tokenizer of transformers.
        bos: Whether a text begins with the BOS token; None leaves it to the tokenizer.
        longest: Most tokens that the model takes, None for any number.
        long: What is done with a longer text: cut after so many tokens, or read in windows.
        completion_only: Whether the tokens of prompts are left out of the score.
        vocabulary: Token ids that the model knows, counted from 0.
        predicts_next: Whether a token is predicted from those before it: then the first one has no
            prediction, and the tokenizer's last special tokens are scored too.
    """

    tokenizer: Any
    bos: bool | None = None
    longest: int | None = None
    long: Long = "truncate"
    completion_only: bool = True
    vocabulary: int | None = None
    predicts_next: bool = True
    _seen: TextCounts = field(default_factory=TextCounts)

    def __post_init__(self) -> None:
        """Find out which special tokens the tokenizer adds.

        Raises:
            InputError: There is no BOS token, though one is asked for, or an option is unknown.
        """
        if self.long not in ("truncate", "windows"):
            raise InputError(
                f"Expected long as truncate or windows, got {self.long!r}. Name one of these."
            )
        if self.longest is not None and self.longest < 2:
            raise InputError(
                f"Expected max_length of at least 2 tokens, got {self.longest}. Raise it."
            )
        self.prefix, self.suffix = _find_special_tokens(self.tokenizer)
        if self.bos is not None:
            begin = getattr(self.tokenizer, "bos_token_id", None)
            if self.bos and begin is None:
                raise InputError(
                    "Expected a tokenizer with a BOS token, got one without. Leave out bos=True, "
                    "or set tokenizer.bos_token to the token that training put first."
                )
            self.prefix = [int(begin or 0)] if self.bos else []

    @property
    def identity(self) -> str:
        """What must agree between models whose token values are compared, by name."""
        template = getattr(self.tokenizer, "chat_template", None)
        return "; ".join(
            (
                f"tokenizer={hash_tokenizer(self.tokenizer)}",
                f"before={self.prefix}",
                f"after={self.suffix if self.predicts_next else []}",
                f"chat template={_hash_text(str(template)) if template else 'none'}",
                f"longest={self.longest}",
                f"long={self.long}",
                f"scored={'completions' if self.completion_only else 'all'}",
            )
        )

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences on how many of the texts asked so far were long or held unknown tokens."""
        seen, n, notes = self._seen, len(self._seen.texts), []
        if seen.long:
            done = (
                f"cut after {self.longest} tokens"
                if self.long == "truncate"
                else f"read in windows of {self.longest} tokens that overlap by half"
            )
            notes.append(
                f"{seen.long} of {n} texts asked are longer than the {self.longest} "
                f"tokens that the model takes; they were {done}."
            )
        if seen.unknown:
            notes.append(
                f"{seen.unknown} of {seen.tokens} tokens are ones that the tokenizer does not know; check "
                "that it is the model's own."
            )
        if seen.marked:
            notes.append(
                f"{seen.marked} of {n} texts asked hold marks such as {seen.mark!r}, which the tokenizer does "
                "not know as a special token and reads letter by letter. Use the tokenizer of the "
                "training, or give chats as messages."
            )
        return tuple(notes)

    def encode(self, x: Any) -> EncodedTexts:
        """Encode the records `x` (n,).

        Raises:
            InputError: A record is empty or too short, has no token to score, or needs a chat
                template or a vocabulary that is not there.
        """
        windows: list[Window] = []
        ends = [0]
        for record in x:
            encoded = self.encode_record(record)
            place = ends[-1]
            for window in self._cut_windows(encoded, place):
                windows.append(window)
                place += window.end - window.begin
            if place == ends[-1]:
                raise InputError(self._explain_no_token(encoded, record))
            ends.append(place)
        return EncodedTexts(windows, np.array(ends, np.int64))

    def encode_record(self, record: TextRecord) -> EncodedRecord:
        """Encode one record.

        Raises:
            InputError: It is empty or no text, or needs a chat template that is not there.
        """
        prefix, suffix = self.prefix, self.suffix
        if isinstance(record, Chat):
            text, boundary = self._render_chat(record)
            # The template writes the special tokens itself
            prefix, suffix = (prefix if self.bos else []), []
        elif isinstance(record, Completion):
            text, boundary = record.prompt + record.completion, len(record.prompt)
        else:
            text, boundary = record, 0
        if not isinstance(text, str) or not text[boundary:]:
            raise InputError(
                f"Expected text to score in each record, got {_show_record(record)}. Leave the "
                "record out."
            )
        ids, first = self._tokenize(text, boundary)
        if prefix and ids[: len(prefix)] == prefix:
            prefix = []
        self._check_ids(ids, record)
        self._remember(text, ids)
        return EncodedRecord(prefix, ids, suffix, first if self.completion_only else 0)

    def count_tokens(self, x: Any) -> Ints:
        """Count the tokens (n,) that a model reads for each of the records `x`, once each."""
        encoded = self.encode(x)
        counts = np.zeros(len(encoded.offsets) - 1, np.int64)
        owners = np.searchsorted(encoded.offsets, [w.place for w in encoded.windows], "right") - 1
        np.add.at(counts, owners, [len(w.ids) for w in encoded.windows])
        return counts

    def _render_chat(self, chat: Chat) -> tuple[str, int]:
        """Render a chat by the template, and find where its scored part begins.

        Raises:
            InputError: There is no template, or it does not take these messages.
        """
        if not getattr(self.tokenizer, "chat_template", None):
            raise InputError(
                "Expected a tokenizer with a chat template for records that are chats, got one "
                "without. Set tokenizer.chat_template to that of the training, or give prompts and "
                "completions."
            )
        messages = [{"role": role, "content": content} for role, content in chat.messages]
        try:
            whole = self.tokenizer.apply_chat_template(messages, tokenize=False)
            if messages[-1]["role"] != "assistant" or not messages[:-1]:
                return whole, 0
            before = self.tokenizer.apply_chat_template(
                messages[:-1], tokenize=False, add_generation_prompt=True
            )
        except Exception as error:  # templates raise errors of their own
            first = (str(error).splitlines() or [type(error).__name__])[0]
            raise InputError(
                f"Expected messages that the tokenizer's chat template takes, got: {first}. Check "
                "the order of their roles."
            ) from error
        # Templates may write earlier turns in another way once there is an answer
        return whole, _count_common(whole, before)

    def _tokenize(self, text: str, boundary: int) -> tuple[list[int], int]:
        """Tokenize a text, and find the first token with a character from `boundary` on.

        Prompt and completion are tokenized together, as in training; a token that holds characters
        of both is scored.
        """
        fast = getattr(self.tokenizer, "is_fast", False)
        # Longer than the model takes is handled here, without the tokenizer's warning
        found = self.tokenizer(
            text,
            add_special_tokens=False,
            return_offsets_mapping=fast and boundary > 0,
            verbose=False,
        )
        ids = list(found["input_ids"])
        if not boundary:
            return ids, 0
        if fast:
            ends = [end for _, end in found["offset_mapping"]]
            return ids, next((k for k, end in enumerate(ends) if end > boundary), len(ids))
        alone = self.tokenizer(text[:boundary], add_special_tokens=False, verbose=False)
        # Up to the first token that the completion changes or adds
        return ids, _count_common(ids, list(alone["input_ids"]))

    def _cut_windows(self, record: EncodedRecord, place: int) -> Iterator[Window]:
        """Cut a record into the windows that a model is called with, the first at `place`."""
        before, after = record.prefix, record.suffix
        longest = self.longest or len(before) + len(record.body) + len(after)
        room = max(1, longest - len(before) - len(after))
        body = record.body[:room] if self.long == "truncate" else record.body
        if self.predicts_next:
            # Special tokens count like others, but for the first, which nothing predicts
            ids = [*before, *body, *after]
            around: tuple[list[int], list[int]] = ([], [])
            start = max(len(before) + record.first, 1)
            room = longest
        else:
            ids, around, start = body, (before, after), record.first
        step = max(1, room // 2)
        while start < len(ids):
            # The first window is filled; later ones read half a window again as context
            stop = min(room if start < room else start + step, len(ids))
            low = max(0, stop - room)
            shift = len(around[0]) - low
            yield Window(
                [*around[0], *ids[low:stop], *around[1]], start + shift, stop + shift, place
            )
            place += stop - start
            start = stop

    def _explain_no_token(self, encoded: EncodedRecord, record: TextRecord) -> str:
        """Say why a record has no token to score."""
        if self.longest is not None and encoded.first >= self.longest:
            return (
                f"Expected a prompt shorter than the {self.longest} tokens that the model takes, "
                f"got {encoded.first} tokens in {_show_record(record)}. Use long='windows', or a "
                "shorter prompt or prefix, or leave the record out."
            )
        advice = "add bos=True if training put a BOS token first, or leave the record out"
        return (
            f"Expected at least two tokens in each record, got {len(encoded.body)} in "
            f"{_show_record(record)}: the first token has no prediction. Either {advice}."
        )

    def _check_ids(self, ids: list[int], record: TextRecord) -> None:
        """Refuse token ids that the model has no embedding for.

        Raises:
            InputError: There are such.
        """
        if self.vocabulary is not None and ids and max(ids) >= self.vocabulary:
            token = self.tokenizer.convert_ids_to_tokens(max(ids))
            raise InputError(
                f"Expected token ids below {self.vocabulary}, as many as the model knows, got "
                f"{max(ids)} ({token!r}) in {_show_record(record)}. Give the tokenizer that the "
                "model was trained with, or resize its embeddings."
            )

    def _remember(self, text: str, ids: list[int]) -> None:
        """Remember once of each text whether it is long and holds what the tokenizer lacks."""
        # As hashes, since the texts may be more than the memory holds
        key = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=12).digest()
        seen = self._seen
        if key in seen.texts:
            return
        seen.texts.add(key)
        n = len(ids) + len(self.prefix) + len(self.suffix)
        seen.long += self.longest is not None and n > self.longest
        unknown = getattr(self.tokenizer, "unk_token_id", None)
        seen.unknown += 0 if unknown is None else ids.count(unknown)
        seen.tokens += len(ids)
        marks = MARKS.findall(text) if "<" in text or "[" in text else ()
        mark = next((one for one in marks if not self._has_token(one)), "")
        seen.marked, seen.mark = seen.marked + bool(mark), seen.mark or mark

    def _has_token(self, mark: str) -> bool:
        """Tell whether the tokenizer knows a mark as one token."""
        found = self.tokenizer.convert_tokens_to_ids(mark)
        return found is not None and found != getattr(self.tokenizer, "unk_token_id", None)


def _count_common(one: Sequence[Any], other: Sequence[Any]) -> int:
    """Count how many entries two sequences begin with in common."""
    n = min(len(one), len(other))
    return next((k for k in range(n) if one[k] != other[k]), n)


def _show_record(record: TextRecord) -> str:
    """Show the beginning of a record in a message."""
    return reprlib.repr(record)


def find_longest(tokenizer: Any, config: Any) -> int | None:
    """Find the most tokens that a model takes; None if nothing says so.

    >>> from types import SimpleNamespace as Some
    >>> find_longest(Some(model_max_length=10**30), Some(max_position_embeddings=64, model_type=""))
    64
    """
    said = [getattr(tokenizer, "model_max_length", None)]
    said += [getattr(config, name, None) for name in ("max_position_embeddings", "n_positions")]
    # Models of RoBERTa's family number their positions from behind the padding token's
    shift = config.pad_token_id + 1 if "roberta" in config.model_type else 0
    found = [int(n) - (shift if k else 0) for k, n in enumerate(said) if n and n < ENDLESS]
    return min(found, default=None)


def hash_tokenizer(tokenizer: Any) -> str:
    """Hash what decides how a tokenizer splits texts: its state, or else its vocabulary."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None and hasattr(backend, "to_str"):
        # Padding and truncation are states of the last call, and change nothing here
        state = re.sub(
            r'"(truncation|padding)":(\{[^{}]*(\{[^{}]*\})?[^{}]*\}|null),?', "", backend.to_str()
        )
        return _hash_text(state)
    return _hash_text(str(sorted(tokenizer.get_vocab().items())))


def _find_special_tokens(tokenizer: Any) -> tuple[list[int], list[int]]:
    """Find which tokens the tokenizer puts before and after a text."""
    inner = list(tokenizer("a", add_special_tokens=False)["input_ids"])
    outer = list(tokenizer("a")["input_ids"])
    for start in range(len(outer) - len(inner) + 1):
        if outer[start : start + len(inner)] == inner:
            return outer[:start], outer[start + len(inner) :]
    return [], []


def _hash_text(text: str) -> str:
    """Hash a text, shortened to what can be read in a message."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]
