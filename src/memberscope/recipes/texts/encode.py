"""Turn texts into the sequences of tokens that a model is trained on."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from memberscope.errors import InputError
from memberscope.recipes.texts.settings import FineTuning
from memberscope.texts import Chat, Completion, TextRecord
from memberscope.types import Records


@dataclass(frozen=True)
class Sequence:
    """Tokens of a text, of which those from position `start` on are learned.

    >>> Sequence((1, 7, 9), 1).n_learned
    2
    """

    ids: tuple[int, ...]
    start: int

    @property
    def n_learned(self) -> int:
        """Number of tokens that are predicted and learned."""
        return max(len(self.ids) - self.start, 0)


def encode_records(tokenizer: Any, records: Records, settings: FineTuning) -> list[Sequence]:
    """Encode the texts of records for training.

    Raises:
        InputError: There are no texts, a text leaves no token to learn, or the chat template is
    missing.
    """
    if records.x is None or len(records) == 0:
        raise InputError(
            "Expected texts to train on, got none. Give the records of the audit, not only stored "
            "signals."
        )
    found = [
        encode_text(tokenizer, record, settings) for record in _iterate_texts(records)
    ]
    short = [str(records.ids[i]) for i, entry in enumerate(found) if not entry.n_learned]
    if short:
        raise InputError(
            f"Expected at least one token to learn in each text, got none in {len(short)}, such as "
            f"{short[0]}. Leave these out, or raise max_length."
        )
    return found


def _iterate_texts(records: Records) -> Iterable[TextRecord]:
    """Yield the texts.

    Raises:
        InputError: A record is no text.
    """
    for i, record in enumerate(records.x):
        if not isinstance(record, str | Completion | Chat):
            raise InputError(
                f"Expected texts, completions or chats to train a language model on, got "
                f"{type(record).__name__} in record {records.ids[i]}. Give an array of texts."
            )
        yield record


def encode_text(tokenizer: Any, record: TextRecord, settings: FineTuning) -> Sequence:
    """Encode one text as the tokenizer does, with the special tokens that it adds itself.

    Raises:
        InputError: It is a chat, and the tokenizer has no chat template.
    """
    text, n_given = _render_text(tokenizer, record)
    # A template writes its special tokens itself
    added = not isinstance(record, Chat)
    ids = _tokenize_text(tokenizer, text, added)
    start = 1
    if n_given and settings.completion_only:
        start = max(1, _count_given_tokens(tokenizer, text, n_given, added))
    if settings.append_eos and tokenizer.eos_token_id is not None:
        ids = [*ids, tokenizer.eos_token_id]
    return Sequence(tuple(ids[: settings.max_length]), start)


def _render_text(tokenizer: Any, record: TextRecord) -> tuple[str, int]:
    """Write a record as one text; give it with the number of characters that are only given."""
    if isinstance(record, str):
        return record, 0
    if isinstance(record, Completion):
        return record.prompt + record.completion, len(record.prompt)
    if getattr(tokenizer, "chat_template", None) is None:
        raise InputError(
            "Expected a tokenizer with a chat template for chats, got one without. Set its "
            "chat_template, or give texts."
        )
    messages = [{"role": role, "content": content} for role, content in record.messages]
    text = str(tokenizer.apply_chat_template(messages, tokenize=False))
    if messages[-1]["role"] != "assistant":
        return text, 0
    given = tokenizer.apply_chat_template(
        messages[:-1], tokenize=False, add_generation_prompt=True
    )
    return text, len(given) if text.startswith(given) else 0


def _tokenize_text(tokenizer: Any, text: str, added: bool) -> list[int]:
    """Tokenise a text, without the warning that it is longer than the context."""
    return list(tokenizer(text, add_special_tokens=added, verbose=False)["input_ids"])


def _count_given_tokens(tokenizer: Any, text: str, n_given: int, added: bool) -> int:
    """Count the tokens that end within the first `n_given` characters.

    A token that reaches over the border is learned.
    """
    if not getattr(tokenizer, "is_fast", False):
        return len(_tokenize_text(tokenizer, text[:n_given], added))
    ends = tokenizer(
        text, add_special_tokens=added, return_offsets_mapping=True, verbose=False
    )["offset_mapping"]
    return next((i for i, (_, end) in enumerate(ends) if end > n_given), len(ends))
