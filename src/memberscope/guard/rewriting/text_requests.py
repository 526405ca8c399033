"""Parse requests to a language model strictly: completions and chat as OpenAI defines them.

What reaches the model is written anew from the parameters that are known. All others are refused:
servers have many by which tokens are forced or further log-probabilities come back.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from memberscope.guard.policy.tables import ServingConfig
from memberscope.guard.refused import RequestRefused
from memberscope.guard.rewriting.request_parser import MalformedRequest
from memberscope.outputs.texts import ShownTokens

MOST_TOP = 20  # tokens beside the generated one that a client may ask for, as OpenAI allows
RECORDS = frozenset(("prompt", "messages"))
TOLD = frozenset(("logprobs", "top_logprobs", "prompt_logprobs"))


class TextQuery(NamedTuple):
    """The texts that a request asks about, its document for the server, and whether it streams."""

    texts: list[str]
    document: dict[str, object]
    streams: bool


def _is_whole(value: Any) -> bool:
    # True is a number to Python
    return type(value) is int


def _is_number(value: Any) -> bool:
    return type(value) in (int, float)


def _is_stop(value: Any) -> bool:
    listed = value if isinstance(value, list) else [value]
    return all(isinstance(text, str) for text in listed)


def _is_stream_choice(value: Any) -> bool:
    return isinstance(value, dict) and all(
        key == "include_usage" and isinstance(entry, bool) for key, entry in value.items()
    )


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_flag(value: Any) -> bool:
    return isinstance(value, bool)


KNOWN: Mapping[str, Callable[[Any], bool]] = {
    "model": _is_text,
    "max_tokens": _is_whole,
    "max_completion_tokens": _is_whole,
    "temperature": _is_number,
    "top_p": _is_number,
    "presence_penalty": _is_number,
    "frequency_penalty": _is_number,
    "n": _is_whole,
    "best_of": _is_whole,
    "seed": _is_whole,
    "stop": _is_stop,
    "user": _is_text,
    "echo": _is_flag,
    "stream": _is_flag,
    "stream_options": _is_stream_choice,
}


def parse_text_query(document: Any, serving: ServingConfig, shown: ShownTokens | None) -> TextQuery:
    """Parse a request; `shown` is what clients may see of log-probabilities, None for all.

    Raises:
        MalformedRequest: It lacks texts, or has a parameter that is unknown or of another kind.
        RequestRefused: It asks another model (404), or its prompts are token numbers, which the
            policy does not take for records (422).

    >>> parse_text_query({"prompt": "a b", "logprobs": 5}, ServingConfig(protocol="openai"), ShownTokens(k=1)).document
    {'prompt': 'a b', 'logprobs': 1}
    """
    if not isinstance(document, dict) or len(RECORDS & document.keys()) != 1:
        raise MalformedRequest("an object with prompt or messages")
    is_chat = "messages" in document
    if is_chat:
        messages = _parse_messages(document["messages"])
        texts = ["\n".join(str(entry["content"]) for entry in messages)]
        asked: dict[str, object] = {"messages": messages}
    else:
        texts = _parse_prompts(document["prompt"], serving)
        asked = {"prompt": document["prompt"]}
    if not all(text.strip() for text in texts):
        raise MalformedRequest("texts that are not empty")
    asked |= _parse_parameters(document, serving, restricted=shown is not None)
    asked |= _parse_wanted(document, serving, shown, is_chat=is_chat)
    return TextQuery(texts, asked, bool(document.get("stream")))


def _parse_messages(found: Any) -> list[dict[str, object]]:
    """Read the messages of a chat, each with its role, its text and perhaps a name."""
    if not isinstance(found, list) or not found:
        raise MalformedRequest("a list of messages")
    messages = []
    for entry in found:
        if not isinstance(entry, dict) or not entry.keys() <= {"role", "content", "name"}:
            raise MalformedRequest("messages of role, content and name")
        message: dict[str, object] = {"role": entry["role"]}
        message["content"] = _join_content(entry["content"])
        if entry.get("name") is not None:
            message["name"] = entry["name"]
        if not all(isinstance(value, str) for value in message.values()):
            raise MalformedRequest("messages of texts")
        messages.append(message)
    return messages


def _join_content(content: Any) -> object:
    """Join the parts of a message, which must be texts: nothing counts what an image shows."""
    if not isinstance(content, list):
        return content
    if not all(
        isinstance(part, dict) and part.keys() == {"type", "text"} and part["type"] == "text"
        for part in content
    ):
        raise MalformedRequest("parts that are texts")
    return "\n".join(part["text"] for part in content)


def _parse_prompts(found: Any, serving: ServingConfig) -> list[str]:
    """List a text for each prompt, of token numbers too where the policy takes them."""
    if isinstance(found, str):
        return [found]
    if not isinstance(found, list) or not found:
        raise MalformedRequest("a prompt, or a list of them")
    if all(isinstance(prompt, str) for prompt in found):
        return list(found)
    lists = [found] if all(map(_is_whole, found)) else found
    if not all(isinstance(ids, list) and ids and all(map(_is_whole, ids)) for ids in lists):
        raise MalformedRequest("prompts of one kind")
    # Without the model's tokeniser nobody knows which text they are
    if not serving.texts.token_ids:
        raise RequestRefused("unreadable-record")
    return ["token numbers " + " ".join(map(str, ids)) for ids in lists]


def _parse_parameters(
    document: Mapping[str, Any], serving: ServingConfig, *, restricted: bool
) -> dict[str, object]:
    """Read all parameters but the records and what is wanted of log-probabilities."""
    texts = serving.texts
    found: dict[str, object] = {}
    for name, value in document.items():
        if name in RECORDS or name in TOLD:
            continue
        passes = name in texts.parameters or (
            name == "logit_bias" and (texts.logit_bias or not restricted)
        )
        if not passes and name not in KNOWN:
            raise MalformedRequest("known parameters")
        if value is None:
            continue
        if not passes and not KNOWN[name](value):
            raise MalformedRequest("a parameter of its kind")
        found[name] = value
    for name in ("n", "best_of"):
        count = found.get(name, 1)
        if not isinstance(count, int) or not 1 <= count <= texts.max_samples:
            raise MalformedRequest("as many samples as allowed")
    if serving.model_name is not None:
        if found.get("model", serving.model_name) != serving.model_name:
            raise RequestRefused("not-found")
        found["model"] = serving.model_name
    return found


def _parse_wanted(
    document: Mapping[str, Any],
    serving: ServingConfig,
    shown: ShownTokens | None,
    *,
    is_chat: bool,
) -> dict[str, object]:
    """Read which log-probabilities are wanted, and ask for those that may be seen.

    Where the k most probable tokens are shown, k are asked for: without their list nobody could
    tell whether the token itself is among them.
    """
    told = {name: document[name] for name in TOLD if document.get(name) is not None}
    own = told.get("logprobs")
    wanted: dict[str, object] = {}
    if is_chat:
        if own is not None and not _is_flag(own):
            raise MalformedRequest("logprobs as true or false")
        if own:
            wanted = {"logprobs": True, "top_logprobs": _read_count(told.get("top_logprobs", 0))}
    elif "top_logprobs" in told:
        raise MalformedRequest("logprobs as a number")
    elif own is not None and own is not False:
        wanted["logprobs"] = _read_count(own)
    if "prompt_logprobs" in told:
        wanted["prompt_logprobs"] = _read_count(told["prompt_logprobs"])
    if shown is None or not wanted:
        return wanted
    if shown.hidden:
        if serving.texts.on_hidden == "refuse":
            raise MalformedRequest("no log-probabilities")
        return {}
    if shown.k is not None:
        wanted = {name: True if value is True else shown.k for name, value in wanted.items()}
    return wanted


def _read_count(value: Any) -> int:
    """Read how many tokens of each place are wanted."""
    if not _is_whole(value) or not 0 <= value <= MOST_TOP:
        raise MalformedRequest(f"a number from 0 to {MOST_TOP}")
    return int(value)
