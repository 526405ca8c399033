"""Write the answers of a language model anew, with what may be seen of log-probabilities.

Only known fields pass, so that a server's further fields with probabilities, such as llama.cpp's
`completion_probabilities`, never do.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from memberscope.errors import TargetError
from memberscope.outputs.texts import UNTOLD, ShownTokens

ABOUT = ("id", "object", "created", "model", "system_fingerprint")
CHOICE = ("index", "text", "finish_reason", "stop_reason")
MESSAGE = ("role", "content", "refusal", "reasoning_content", "name")
Plain = str | int | float | bool | None


def restrict_text_answer(document: Any, shown: ShownTokens, most: int) -> dict[str, object]:
    """Write an answer, or one part of a stream, anew; it has at most `most` choices.

    Raises:
        TargetError: It is no answer of completions or chat, or holds what cannot be read.

    >>> answer = {"choices": [{"index": 0, "text": "b", "logprobs": {"tokens": ["b"], "token_logprobs": [-0.26]}}]}
    >>> restrict_text_answer(answer, ShownTokens(decimals=1), 1)["choices"]
    [{'index': 0, 'text': 'b', 'logprobs': {'tokens': ['b'], 'token_logprobs': [-0.3]}}]
    """
    try:
        choices = document["choices"]
        if len(choices) > most:
            raise _build_unreadable_error(f"{len(choices)} choices in the place of {most}")
        found = _keep_plain(document, ABOUT)
        # The last part of a stream has no choices and counts the tokens
        if isinstance(document.get("usage"), dict):
            found["usage"] = _keep_counts(document["usage"])
        found |= _restrict_prompt(document, shown)
        found["choices"] = [_restrict_choice(choice, shown) for choice in choices]
    except (TypeError, KeyError, ValueError, IndexError, AttributeError, OverflowError) as error:
        raise _build_unreadable_error(type(error).__name__) from None
    return found


def _build_unreadable_error(what: str) -> TargetError:
    return TargetError(
        f"Expected an answer of completions or chat from the server, got another ({what}). Check "
        "the server."
    )


def _keep_plain(entry: Mapping[str, Any], names: Sequence[str]) -> dict[str, object]:
    """Keep the named values, none of which may hold others."""
    found: dict[str, object] = {}
    for name in names:
        if name in entry:
            if not isinstance(entry[name], Plain):
                raise _build_unreadable_error(f"{name} that holds values")
            found[name] = entry[name]
    return found


def _keep_counts(usage: Mapping[str, Any]) -> dict[str, object]:
    """Keep the counts of tokens."""
    found: dict[str, object] = {}
    for name, value in usage.items():
        if isinstance(value, dict):
            found[name] = {key: n for key, n in value.items() if type(n) is int}
        elif type(value) is int:
            found[name] = value
    return found


def _restrict_choice(choice: Mapping[str, Any], shown: ShownTokens) -> dict[str, object]:
    """Write one choice anew."""
    found = _keep_plain(choice, CHOICE)
    for name in ("message", "delta"):
        if name in choice:
            found[name] = _keep_message(choice[name])
    if "logprobs" in choice:
        told = choice["logprobs"]
        found["logprobs"] = None if shown.hidden or told is None else _restrict_told(told, shown)
    return found | _restrict_prompt(choice, shown)


def _keep_message(message: Mapping[str, Any]) -> dict[str, object]:
    """Keep a message's texts, and the calls of tools."""
    found = _keep_plain(message, MESSAGE)
    if message.get("tool_calls"):
        found["tool_calls"] = [
            _keep_plain(call, ("index", "id", "type"))
            | {"function": _keep_plain(call["function"], ("name", "arguments"))}
            for call in message["tool_calls"]
        ]
    return found


def _restrict_told(told: Mapping[str, Any], shown: ShownTokens) -> dict[str, object]:
    """Write the log-probabilities of one choice anew, in the form of chat or of completions."""
    if "content" in told or "refusal" in told:
        return {
            name: None
            if told[name] is None
            else [_restrict_entry(one, shown) for one in told[name]]
            for name in ("content", "refusal")
            if name in told
        }
    tokens, values = list(map(str, told["tokens"])), told["token_logprobs"]
    tops = told.get("top_logprobs") or [None] * len(tokens)
    found: dict[str, object] = {"tokens": tokens, "token_logprobs": []}
    written: list[dict[str, float] | None] = []
    own: list[float | None] = []
    # The first token of an echoed prompt has no prediction
    for value, top in zip(values, tops, strict=True):
        beside = {str(token): _read_value(one) for token, one in (top or {}).items()}
        least = shown.find_least([*beside.values()])
        own.append(None if value is None else _write_own(_read_value(value), least, shown))
        written.append(None if top is None else _pick_top(beside, shown))
    found["token_logprobs"] = own
    if told.get("top_logprobs"):
        found["top_logprobs"] = written
    if told.get("text_offset") is not None:
        found["text_offset"] = [int(place) for place in told["text_offset"]]
    return found


def _restrict_entry(entry: Mapping[str, Any], shown: ShownTokens) -> dict[str, object]:
    """Write one token of a chat's answer anew, with those beside it."""
    tops = [(top, _read_value(top["logprob"])) for top in entry.get("top_logprobs") or ()]
    least = shown.find_least([value for _, value in tops])
    # Equals: the first of them stay
    kept = sorted(tops, key=lambda pair: -pair[1])[: shown.k]
    own = _write_own(_read_value(entry["logprob"]), least, shown)
    return _name_token(entry, own) | {
        "top_logprobs": [_name_token(top, shown.write(value)) for top, value in kept]
    }


def _name_token(entry: Mapping[str, Any], value: float) -> dict[str, object]:
    """Name a token, with its bytes where the server tells them."""
    found: dict[str, object] = {"token": str(entry["token"]), "logprob": value}
    if "bytes" in entry:
        found["bytes"] = None if entry["bytes"] is None else [int(byte) for byte in entry["bytes"]]
    return found


def _pick_top(beside: Mapping[str, float], shown: ShownTokens) -> dict[str, float]:
    """Pick the tokens of one place that may be seen."""
    order = sorted(beside, key=lambda token: -beside[token])[: shown.k]
    return {token: shown.write(beside[token]) for token in order}


def _write_own(value: float, least: float, shown: ShownTokens) -> float:
    """Write the value of the token itself, if it is among those that may be seen."""
    return shown.write(value) if value >= least else UNTOLD


def _restrict_prompt(holder: Mapping[str, Any], shown: ShownTokens) -> dict[str, object]:
    """Write vLLM's log-probabilities of a prompt anew, without ranks; none where hidden."""
    entries = holder.get("prompt_logprobs")
    if entries is None or shown.hidden:
        return {}
    found: list[dict[str, object] | None] = []
    for entry in entries:
        if entry is None:
            found.append(None)
            continue
        values = {token: _read_value(about["logprob"]) for token, about in entry.items()}
        # With fewer than k nobody can tell which of them are the most probable
        is_told = shown.k is None or len(values) >= shown.k
        found.append(
            {
                token: {"logprob": value} | _keep_plain(entry[token], ("decoded_token",))
                for token, value in (_pick_top(values, shown) if is_told else {}).items()
            }
        )
    return {"prompt_logprobs": found}


def _read_value(value: Any) -> float:
    """Read a log-probability; what the server does not tell is that of an impossible token.

    Raises:
        ValueError: It is no finite number.
    """
    if value is None:
        return UNTOLD
    if type(value) not in (int, float) or not math.isfinite(value):
        raise ValueError("a log-probability")
    return float(value)
