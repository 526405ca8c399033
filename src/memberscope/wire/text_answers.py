"""Read what a server says about the tokens of a text, and refuse what only looks like it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from memberscope.errors import TargetError
from memberscope.wire.json_path import describe_json

# A log-probability may exceed 0 by rounding alone
ROUNDING = 1e-4


@dataclass(frozen=True)
class TokenPrompt:
    """A text of which a server scores the tokens.

    Attributes:
        text: The text, with what stands before the scored part.
        ids: Its tokens by number, where the server tokenises; else empty.
        start: The first scored token where there are ids, else the first scored character.
        position: The one token that is asked about, where a server is asked once a token.
        partial: Positions of tokens that end within a character, which llama.cpp keeps back.
        vocabulary: Number of tokens that the model knows, 0 where it is not told.

    >>> TokenPrompt("a b c", ids=(5, 6, 7)).start
    1
    """

    text: str
    ids: tuple[int, ...] = ()
    start: int = 1
    position: int | None = None
    partial: frozenset[int] = frozenset()
    vocabulary: int = 0


@dataclass(frozen=True)
class TokenAnswer:
    """What a server said about the scored tokens of a prompt.

    Attributes:
        tokens: Each token of the whole prompt, by number or by its text, as the server names it.
        log_probability: Log-probability of each scored token in nats, not checked yet.
        is_top: Whether each was the most probable one, if the server tells.

    >>> TokenAnswer((5, 6), (-1.5,), None).log_probability
    (-1.5,)
    """

    tokens: tuple[int | str, ...]
    log_probability: tuple[float, ...]
    is_top: tuple[bool, ...] | None


def check_token_answer(answer: TokenAnswer) -> TokenAnswer:
    """Check that an answer holds log-probabilities, and give it back.

    Raises:
        TargetError: One of them is missing, NaN, infinite, or above 0.

    >>> check_token_answer(TokenAnswer((5, 6), (-1.5,), None)).log_probability
    (-1.5,)
    """
    values = answer.log_probability
    # The sum of usable values is usable, and is found faster than each is looked at
    if math.isfinite(sum(values)) and max(values, default=0.0) <= ROUNDING:
        return answer
    place, value = next(
        (place, value)
        for place, value in enumerate(values)
        if not math.isfinite(value) or value > ROUNDING
    )
    raise TargetError(
        f"Expected a log-probability of at most 0 for each token, got {value:g} for scored token "
        f"{place + 1} of {len(values)}. Look at the server: such answers cannot be audited."
    )


def read_number(value: Any) -> float:
    """Read a number of an answer; what is none becomes NaN, which is refused later.

    >>> read_number(-2), read_number(None)
    (-2.0, nan)
    """
    return float(value) if isinstance(value, int | float) else math.nan


def read_numbers(values: Sequence[Any]) -> tuple[float, ...]:
    """Read numbers of an answer, as `read_number` does each.

    >>> read_numbers([-1.5, None])
    (-1.5, nan)
    """
    # Nearly all answers hold floats alone, which is seen faster than each is looked at
    return tuple(values) if set(map(type, values)) <= {float} else tuple(map(read_number, values))


def read_choices(document: Any, wanted: int) -> list[Mapping[str, Any]]:
    """Read the choices of a completion in the order of the prompts.

    Raises:
        TargetError: There are not as many as prompts.

    >>> [choice["text"] for choice in read_choices({"choices": [{"index": 1, "text": "b"}, {"index": 0, "text": "a"}]}, 2)]
    ['a', 'b']
    """
    found = document.get("choices") if isinstance(document, dict) else None
    if not isinstance(found, list) or not all(isinstance(choice, dict) for choice in found):
        raise TargetError(
            f"Expected choices from the server, got {describe_json(document)}. Check --url and "
            "--protocol."
        )
    if len(found) != wanted:
        raise TargetError(
            f"Expected {wanted} choices from the server, got {len(found)}. If it answers one text "
            "at a time, give --batch-size 1."
        )
    return sorted(found, key=lambda choice: choice.get("index") or 0)


def count_prompt_tokens(document: Mapping[str, Any]) -> int | None:
    """Count the prompts' tokens as the server does, or give None if it does not.

    >>> count_prompt_tokens({"usage": {"prompt_tokens": 4}}), count_prompt_tokens({})
    (4, None)
    """
    usage = document.get("usage")
    told = usage.get("prompt_tokens") if isinstance(usage, dict) else None
    return told if isinstance(told, int) else None


def refuse_other_count(wanted: int | None, got: int, what: str = "prompt") -> None:
    """Refuse an answer with fewer or more log-probabilities than tokens.

    Raises:
        TargetError: The numbers differ.
    """
    if wanted is not None and wanted != got:
        raise TargetError(
            f"Expected log-probabilities of all {wanted} tokens of the {what}, got {got}. The "
            "server ignores what it was asked for, or cuts texts: look at one answer, and choose "
            "another --protocol."
        )


def refuse_first_value(values: Sequence[Any]) -> None:
    """Refuse a value for the first token, which nothing predicts.

    Raises:
        TargetError: It has one, so that the values are of other tokens than the prompt's.
    """
    if values and values[0] not in (None, {}):
        raise TargetError(
            "Expected no log-probability for the first token of a prompt, got one: the values are "
            "not those of the prompt's tokens. Choose another --protocol."
        )
