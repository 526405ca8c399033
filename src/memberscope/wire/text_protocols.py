"""Ask servers of language models about given texts, and read their answers, as pure functions.

Each protocol scores the tokens of texts that the audit gives, except chat, which only continues
them. Nothing here knows a network.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import repeat
from operator import ge
from typing import Any, Literal, Protocol
from urllib.parse import urlsplit, urlunsplit

from memberscope.errors import TargetError
from memberscope.wire.json_path import describe_json
from memberscope.wire.text_answers import (
    TokenAnswer,
    TokenPrompt,
    count_prompt_tokens,
    read_choices,
    read_number,
    read_numbers,
    refuse_first_value,
    refuse_other_count,
)

TextWord = Literal["vllm", "openai-completions", "llama.cpp", "openai-chat"]
# A bias no other token can outweigh, so that the wanted token is the one that is generated
FORCE = 1000


class TextProtocol(Protocol):
    """How a server of a language model is asked about texts."""

    @property
    def tokenizes(self) -> bool:
        """Whether the server turns texts into tokens, under `/tokenize`."""
        ...

    @property
    def once_a_token(self) -> bool:
        """Whether each request is about one token of one text."""
        ...

    def locate(self, url: str) -> str:
        """Give the address of requests that score, at the server's `url`."""
        ...

    def ask(self, prompts: Sequence[TokenPrompt], model: str | None) -> dict[str, object]:
        """Build the document that asks for the log-probabilities of the tokens of `prompts`."""
        ...

    def read(self, document: Any, prompts: Sequence[TokenPrompt]) -> list[TokenAnswer]:
        """Read the answer about each prompt.

        Raises:
            TargetError: It is not about all tokens of the prompts.
        """
        ...


@dataclass(frozen=True)
class PromptLogprobs:
    """vLLM's completions with `prompt_logprobs`.

    vLLM generates one token at least, which is dropped.

    >>> PromptLogprobs().ask([TokenPrompt("a b", ids=(5, 6))], "m")["prompt"]
    [[5, 6]]
    """

    tokenizes: bool = True
    once_a_token: bool = False

    def locate(self, url: str) -> str:
        """Give the address of requests that score."""
        return join_server_path(url, "/v1/completions")

    def ask(self, prompts: Sequence[TokenPrompt], model: str | None) -> dict[str, object]:
        """Build the document that asks about `prompts`."""
        asked = [list(prompt.ids) if prompt.ids else prompt.text for prompt in prompts]
        return _name_model(model) | {
            "prompt": asked,
            "max_tokens": 1,
            "temperature": 0,
            "prompt_logprobs": 1,
        }

    def read(self, document: Any, prompts: Sequence[TokenPrompt]) -> list[TokenAnswer]:
        """Read the answer about each prompt."""
        found = []
        for choice, prompt in zip(read_choices(document, len(prompts)), prompts, strict=True):
            entries = choice.get("prompt_logprobs")
            if not isinstance(entries, list) or not entries:
                raise TargetError(
                    "Expected prompt_logprobs from the server, got none. If it is not vLLM, choose "
                    "another --protocol."
                )
            refuse_other_count(len(prompt.ids) or None, len(entries))
            refuse_first_value(entries)
            found.append(_read_token_entries(entries, prompt))
        told = count_prompt_tokens(document)
        refuse_other_count(told, sum(len(answer.tokens) for answer in found))
        return found


def _read_token_entries(entries: Sequence[Any], prompt: TokenPrompt) -> TokenAnswer:
    """Read vLLM's entries, each with the prompt's token and the most probable one.

    Raises:
        TargetError: An entry does not hold the prompt's token.
    """
    tokens: list[int | str] = [prompt.ids[0] if prompt.ids else ""]
    values: list[Any] = []
    tops: list[bool] = []
    # None where the server made the tokens, and says which by their rank
    wanted: Iterable[str | None] = map(str, prompt.ids[1:]) if prompt.ids else repeat(None)
    # This runs for each token of an audit, so that it does as little as it can
    try:
        for entry, token in zip(entries[1:], wanted, strict=False):
            if len(entry) == 2:
                (one, about), (other, beside) = entry.items()
                told = token or one
                if token is None:
                    own, least = about.get("rank") or 0, beside.get("rank") or 0
                    # By its rank first, since a value that is wrong must not hide behind the other
                    swap = least > own or (least == own and beside["logprob"] < about["logprob"])
                    told = other if swap else one
                value = entry[told]["logprob"]
                top = value >= about["logprob"] and value >= beside["logprob"]
            else:
                ((one, about),) = entry.items()
                told = one if token is None else token
                value, top = entry[told]["logprob"], True
            tokens.append(told)
            values.append(value)
            tops.append(top)
    except (AttributeError, KeyError, TypeError, ValueError):
        place = len(values) + 1
        raise TargetError(
            f"Expected the log-probability of the prompt's token {place + 1}, got "
            f"{describe_json(entries[place])}. Look at one answer of the server."
        ) from None
    # Of a text without ids all tokens after the first are scored
    after = (prompt.start if prompt.ids else 1) - 1
    return TokenAnswer(tuple(tokens), read_numbers(values[after:]), tuple(tops[after:]))


@dataclass(frozen=True)
class EchoedLogprobs:
    """OpenAI-compatible completions with `echo` and `logprobs`.

    One token is generated too, and dropped.

    >>> EchoedLogprobs().ask([TokenPrompt("a b")], None)["echo"]
    True
    """

    tokenizes: bool = False
    once_a_token: bool = False

    def locate(self, url: str) -> str:
        """Give the address of requests that score."""
        return join_server_path(url, "/v1/completions")

    def ask(self, prompts: Sequence[TokenPrompt], model: str | None) -> dict[str, object]:
        """Build the document that asks about `prompts`."""
        return _name_model(model) | {
            "prompt": [prompt.text for prompt in prompts],
            "max_tokens": 1,
            "temperature": 0,
            "echo": True,
            "logprobs": 1,
        }

    def read(self, document: Any, prompts: Sequence[TokenPrompt]) -> list[TokenAnswer]:
        """Read the answer about each prompt."""
        choices = read_choices(document, len(prompts))
        found = [
            _read_echo(choice.get("logprobs"), prompt)
            for choice, prompt in zip(choices, prompts, strict=True)
        ]
        told = count_prompt_tokens(document)
        refuse_other_count(told, sum(len(answer.tokens) for answer in found))
        return found


def _read_echo(told: Any, prompt: TokenPrompt) -> TokenAnswer:
    """Read the log-probabilities of an echoed prompt.

    Raises:
        TargetError: The answer is about generated tokens alone, or has other tokens than values.
    """
    told = told if isinstance(told, dict) else {}
    tokens, values, offsets = (told.get(key) for key in ("tokens", "token_logprobs", "text_offset"))
    if not isinstance(tokens, list) or not isinstance(values, list) or len(tokens) < 2:
        generated = tokens if isinstance(tokens, list) else told.get("content")
        count = len(generated) if isinstance(generated, list) else 0
        raise TargetError(
            f"Expected the log-probabilities of an echoed prompt, got those of {count} generated "
            "tokens: the server ignores echo. Choose another --protocol (llama.cpp for its server)."
        )
    # A server that repeats no offsets tells where tokens begin by their texts
    if not isinstance(offsets, list) or len(offsets) != len(tokens):
        offsets = [sum(map(len, tokens[:place])) for place in range(len(tokens))]
    end = len(prompt.text)
    n_tokens = len([offset for offset in offsets if offset < end])
    refuse_other_count(n_tokens, min(n_tokens, len(values)))
    refuse_first_value(values)
    first = 1
    # The first token of which some part lies behind the start; ids are never known here
    if prompt.start > 1:
        ends = [*offsets[1:], len(prompt.text)]
        first = max(1, sum(end <= prompt.start for end in ends[:n_tokens]))
    scored = read_numbers(values[first:n_tokens])
    tops = told.get("top_logprobs")
    is_top = None
    if isinstance(tops, list) and set(map(type, tops[first:n_tokens])) <= {dict}:
        try:
            best = read_numbers([max(top.values(), default=0.0) for top in tops[first:n_tokens]])
        # Values that are no numbers, which cannot be compared
        except TypeError:
            return TokenAnswer(tuple(tokens[:n_tokens]), scored, None)
        is_top = tuple(map(ge, scored, best))
    return TokenAnswer(tuple(tokens[:n_tokens]), scored, is_top)


@dataclass(frozen=True)
class ForcedTokens:
    """llama.cpp's server, which scores no prompt: each token is forced, one a request.

    The wanted token gets a bias that makes it the one generated; the log-probability that comes
    back is the model's own, without the bias, and so is the most probable token beside it.

    >>> ForcedTokens().ask([TokenPrompt("a b", ids=(5, 6), position=1)], None)["logit_bias"]
    [[6, 1000]]
    """

    tokenizes: bool = True
    once_a_token: bool = True

    def locate(self, url: str) -> str:
        """Give the address of requests that score."""
        return join_server_path(url, "/completion")

    def ask(self, prompts: Sequence[TokenPrompt], model: str | None) -> dict[str, object]:
        """Build the document that asks about the one token at the position of one prompt."""
        (prompt,) = prompts
        place = prompt.position or 1
        partial = place in prompt.partial
        # The server keeps a token back until its character is whole; then the list must hold it
        whole = next((k for k in range(len(prompt.ids)) if k not in prompt.partial), 0)
        return _name_model(model) | {
            "prompt": list(prompt.ids[:place]),
            "logit_bias": [[prompt.ids[whole if partial else place], FORCE]],
            "n_predict": 1,
            "n_probs": prompt.vocabulary if partial else 1,
            "temperature": 0,
            "cache_prompt": True,
            # The other fields would be a hundred times as long
            "response_fields": ["completion_probabilities", "model", "truncated"],
        }

    def read(self, document: Any, prompts: Sequence[TokenPrompt]) -> list[TokenAnswer]:
        """Read the answer about the one token."""
        (prompt,) = prompts
        wanted = prompt.ids[prompt.position or 1]
        told = document.get("completion_probabilities") if isinstance(document, dict) else None
        if not isinstance(told, list) or len(told) != 1 or not isinstance(told[0], dict):
            raise TargetError(
                "Expected completion_probabilities of one token from llama.cpp's server, got "
                f"{describe_json(document)}. Check --url, or use a newer server."
            )
        tops = told[0].get("top_logprobs")
        tops = tops if isinstance(tops, list) else []
        if prompt.position in prompt.partial:
            told = [top for top in tops if isinstance(top, dict) and top.get("id") == wanted] or [
                {}
            ]
        if document.get("truncated") or told[0].get("id") != wanted:
            raise TargetError(
                f"Expected the forced token {wanted} from the server, got {told[0].get('id')}: it "
                "ignores logit_bias, or cut the text. Check --protocol and the server's context."
            )
        best = tops[0].get("id") if tops else None
        is_top = None if best is None else (best == wanted,)
        return [TokenAnswer(prompt.ids, (read_number(told[0].get("logprob")),), is_top)]


@dataclass(frozen=True)
class ChatGenerations:
    """OpenAI's chat completions, which continue texts and score none that are given.

    >>> ChatGenerations().locate("http://localhost:1/v1")
    'http://localhost:1/v1/chat/completions'
    """

    tokenizes: bool = False
    once_a_token: bool = False

    def locate(self, url: str) -> str:
        """Give the address of requests."""
        return join_server_path(url, "/v1/chat/completions")

    def ask(self, prompts: Sequence[TokenPrompt], model: str | None) -> dict[str, object]:
        """Refuse to ask.

        Raises:
            TargetError: Always.
        """
        raise TargetError(
            "Expected a server that scores given texts, got chat, which only continues them. "
            "Choose another --protocol, or attacks on generations."
        )

    def read(self, document: Any, prompts: Sequence[TokenPrompt]) -> list[TokenAnswer]:
        """Refuse, as `ask` does."""
        self.ask(prompts, None)
        return []


TEXT_PROTOCOLS: Mapping[str, TextProtocol] = {
    "vllm": PromptLogprobs(),
    "openai-completions": EchoedLogprobs(),
    "llama.cpp": ForcedTokens(),
    "openai-chat": ChatGenerations(),
}


@dataclass(frozen=True)
class Sampling:
    """How continuations are sampled: `n` a prompt, of up to `max_tokens` tokens.

    >>> Sampling(n=2, max_tokens=16, seed=0).temperature
    1.0
    """

    n: int
    max_tokens: int
    seed: int
    temperature: float = 1.0


def build_generation_request(
    prompt: str, sampling: Sampling, model: str | None, *, chat: bool
) -> dict[str, object]:
    """Build the document that asks for continuations of one prompt.

    >>> build_generation_request("a b", Sampling(2, 16, 0), None, chat=False)["prompt"]
    'a b'
    """
    asked: dict[str, object] = (
        {"messages": [{"role": "user", "content": prompt}]} if chat else {"prompt": prompt}
    )
    return (
        _name_model(model)
        | asked
        | {
            "n": sampling.n,
            "max_tokens": sampling.max_tokens,
            "seed": sampling.seed,
            "temperature": sampling.temperature,
        }
    )


def read_generations(document: Any, n: int) -> list[str]:
    """Read the continuations of one prompt from completions or chat.

    Raises:
        TargetError: There are not `n`, or one of them is no text.

    >>> read_generations({"choices": [{"text": " c"}]}, 1)
    [' c']
    """
    found = []
    for choice in read_choices(document, n):
        message = choice.get("message")
        text = message.get("content") if isinstance(message, dict) else choice.get("text")
        if not isinstance(text, str):
            raise TargetError(
                f"Expected a text in each choice, got {describe_json(choice)}. Check --protocol."
            )
        found.append(text)
    return found


def join_server_path(url: str, path: str) -> str:
    """Join a server's URL, with `/v1` at its end or without, and a path of its interface.

    >>> join_server_path("http://localhost:8000/v1/", "/v1/completions")
    'http://localhost:8000/v1/completions'
    >>> join_server_path("http://localhost:8000/v1", "/tokenize")
    'http://localhost:8000/tokenize'
    """
    parts = urlsplit(url)
    home = parts.path.rstrip("/")
    for ending in ("/v1/chat/completions", "/v1/completions", "/completion", "/v1"):
        home = home.removesuffix(ending)
    return urlunsplit(parts._replace(path=home + path))


def _name_model(model: str | None) -> dict[str, object]:
    return {} if model is None else {"model": model}
