"""Check that canaries reach the training: the tokenizer, the context and the mask of prompts."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from memberscope.errors import InputError
from memberscope.texts import Completion, TextRecord, read_scored_text

Fate = Literal["survives", "lost", "cut", "masked"]
WHY = {
    "lost": "lose text when the tokenizer reads it, such as characters that it does not know",
    "cut": "are longer than the context of the training, which cuts their end off",
    "masked": "differ in their prompts alone, which a training on completions never learns",
}
ADVICE = {
    "lost": "Use the tokenizer of the training, or canaries of other characters",
    "cut": "Shorten them, or raise --max-length if training reads more tokens",
    "masked": "Put what is secret into the completion",
}


@dataclass(frozen=True)
class Passage:
    """What became of one canary: its `fate`, and the token ids of its scored text."""

    fate: Fate
    ids: tuple[int, ...] = ()


@dataclass(frozen=True)
class Survival:
    """How many of `n` canaries reach the training, and why others do not.

    `fewest` and `most` are the scored tokens of those that do.
    """

    n: int
    lost: int
    cut: int
    masked: int
    fewest: int
    most: int

    def describe(self) -> str:
        """Describe the canaries that reach the training in a sentence."""
        kept = self.n - self.lost - self.cut - self.masked
        return (
            f"{kept} of {self.n} canaries survive tokenizer, context and masking, with "
            f"{self.fewest} to {self.most} scored tokens."
        )

    def refuse_losses(self) -> None:
        """Refuse canaries that the training never sees, or not as they are.

        Raises:
            InputError: There are such; the message says how many, and why.
        """
        fates: tuple[Fate, ...] = ("lost", "cut", "masked")
        found = {fate: int(getattr(self, fate)) for fate in fates if getattr(self, fate)}
        if found:
            why = "; ".join(f"{n} {WHY[fate]}" for fate, n in found.items())
            advice = ADVICE[max(found, key=found.__getitem__)]
            raise InputError(
                f"Expected {self.n} canaries that the training reads as they are, got {why}. "
                f"{advice}."
            )


def check_survival(
    scored: Sequence[TextRecord],
    trained: Sequence[TextRecord],
    tokenizer: Any,
    max_length: int | None = None,
) -> Survival:
    """Check canaries as they are `scored` and as they are `trained` on.

    `max_length` is the most tokens that training reads of a text, by default those that the
    tokenizer names.

    >>> from types import SimpleNamespace as Some
    >>> class Letters:
    ...     def __call__(self, text, **options):
    ...         return {"input_ids": [ord(letter) for letter in text.replace("ß", "?")]}
    ...     def decode(self, ids, **options):
    ...         return "".join(map(chr, ids))
    >>> pair = Completion("the key is", " 7319"), Completion("the key is", " ß73")
    >>> check_survival(pair, pair, Letters(), 15).lost
    1
    """
    encoder, longest = build_text_encoder(tokenizer), find_context(tokenizer, max_length)
    passages = [
        inspect_canary(one, other, encoder, longest)
        for one, other in zip(scored, trained, strict=True)
    ]
    # Canaries with the same completion are told apart by their prompts alone
    repeated = Counter(squeeze_text(read_scored_text(one)) for one in scored)
    fates = [
        "masked"
        if isinstance(one, Completion)
        and isinstance(other, Completion)
        and passage.fate == "survives"
        and repeated[squeeze_text(one.completion)] > 1
        else passage.fate
        for one, other, passage in zip(scored, trained, passages, strict=True)
    ]
    counts = Counter(fates)
    lengths = [
        len(passage.ids)
        for passage, fate in zip(passages, fates, strict=True)
        if fate == "survives"
    ]
    return Survival(
        len(passages),
        counts["lost"],
        counts["cut"],
        counts["masked"],
        min(lengths, default=0),
        max(lengths, default=0),
    )


def inspect_canary(
    scored: TextRecord, trained: TextRecord, encoder: Any, longest: int | None
) -> Passage:
    """Inspect what becomes of one canary on its way through the encoder."""
    tokenizer = encoder.tokenizer
    found = encoder.encode_record(scored)
    ids = found.body[found.first :]
    text = tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
    unknown = getattr(tokenizer, "unk_token_id", None)
    # Case and spaces may change, as tokenizers that lower-case texts still learn them
    if unknown in ids or squeeze_text(read_scored_text(scored)) not in squeeze_text(text):
        return Passage("lost", tuple(ids))
    whole = encoder.encode_record(trained)
    if longest and len(whole.prefix) + len(whole.body) + len(whole.suffix) > longest:
        return Passage("cut", tuple(ids))
    return Passage("survives", tuple(ids))


def build_text_encoder(tokenizer: Any) -> Any:
    """Build what turns texts into token ids as targets do."""
    # Imported here: targets load more than the drawing of other canaries needs
    from memberscope.targets.texts import TextEncoder

    return TextEncoder(tokenizer)


def find_context(tokenizer: Any, max_length: int | None) -> int | None:
    """Find the most tokens that training reads of a text, None for any number."""
    said = getattr(tokenizer, "model_max_length", None)
    # A tokenizer without a longest text says a number far beyond this
    return max_length or (int(said) if said and said < 10**6 else None)


def squeeze_text(text: str) -> str:
    """Leave out spaces and case, in which tokenizers differ.

    >>> squeeze_text("The  Key")
    'thekey'
    """
    return "".join(unicodedata.normalize("NFKC", text).casefold().split())
