"""Draw the ends of text canaries: tokens at random, unlikely ones, and ones that no text uses."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from memberscope.texts import TextRecord

LONGEST_PREFIX = 200  # characters


@dataclass(eq=False)
class SuffixSource:
    """Where the ends of canaries come from: the tokens of a tokenizer, drawn from the stream `rng`.

    `used` are ids of tokens that texts use; `exhausted` says that all others were tried.
    """

    tokenizer: Any
    rng: np.random.Generator
    used: set[int] = field(default_factory=set)
    exhausted: bool = False

    def __post_init__(self) -> None:
        """List the tokens that are neither special nor a part of a character."""
        special = set(getattr(self.tokenizer, "all_special_ids", ()))
        known = sorted(self.tokenizer.get_vocab().values())
        self.ids = np.array([k for k in known if k not in special])

    def draw_text(self, n_tokens: int) -> str:
        """Draw a text of tokens that are each as likely as any other; empty if none is a text."""
        ids: list[int] = []
        for _ in range(100 * n_tokens):
            one = int(self.rng.choice(self.ids))
            # Parts of characters and spaces alone are no text of their own
            if write_tokens(self.tokenizer, [one]):
                ids.append(one)
            if len(ids) == n_tokens:
                return write_tokens(self.tokenizer, ids)
        return ""

    def iterate_unused(self) -> Iterator[str]:
        """Yield texts of single tokens that are not in `used`, in a random order."""
        for one in self.rng.permutation(self.ids).tolist():
            if one not in self.used:
                yield write_tokens(self.tokenizer, [one])
        self.exhausted = True


def write_tokens(tokenizer: Any, ids: Sequence[int]) -> str:
    """Write token ids as a text; empty where it is no text of whole characters."""
    text: str = tokenizer.decode(
        list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False
    )
    text = " ".join(text.split())
    return "" if "\ufffd" in text or not text.isprintable() else text


def list_used_tokens(texts: Sequence[TextRecord], encoder: Any) -> set[int]:
    """List the token ids that the texts use, prompts included."""
    used: set[int] = set()
    for record in texts:
        used.update(encoder.encode_record(record).body)
    return used


def cut_prefix(text: str) -> str:
    """Cut the beginning of a text: half of it, 200 characters at most, at a space if there is one.

    >>> cut_prefix("The harbour was quiet that night.")
    'The harbour was'
    """
    body = text.strip()
    part = body[: min(LONGEST_PREFIX, len(body) // 2)]
    if body[len(part) : len(part) + 1] != " ":
        part = part.rpartition(" ")[0] or part
    # Completions often begin with a space, which belongs to their first token
    lead = text[: len(text) - len(text.lstrip())]
    return lead + part.rstrip() if part.strip() else ""


def choose_unlikely(candidates: Sequence[Sequence[TextRecord]], model: Any) -> list[int]:
    """Choose of each canary's candidates the one that a text target `model` finds least likely."""
    x = np.empty(sum(map(len, candidates)), dtype=object)
    x[:] = [record for group in candidates for record in group]
    likely = model.measure_tokens(x).mean_log_probability()
    ends = np.cumsum([len(group) for group in candidates])
    return [int(np.argmin(part)) for part in np.split(likely, ends[:-1])]
