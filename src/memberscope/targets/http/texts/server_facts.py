"""Find out what answers behind a server: engine, quantisation, context, tokens and template.

The audited model, the model before fine-tuning and reference models are compared token by token,
so that all of this must agree between them.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from memberscope.errors import InputError, MemberscopeError
from memberscope.targets.http.texts.session import TextSession
from memberscope.wire import TextEndpoint

# Letters, digits, marks and blanks that tokenizers split in different ways
KNOWN_TEXT = (
    "Was this text used in training? The old bridge opened on 14 May 1902, and 3,417 people walked "
    "across it.\n\tdef f(x): return x ** 2  # naïve café, 北京 🙂"
)
KNOWN_CHAT = ({"role": "user", "content": "Hello"},)
UNKNOWN = "not told"


@dataclass(frozen=True)
class ServerFacts:
    """What a server tells of itself.

    Attributes:
        engine: The program that serves, such as vllm or llama.cpp.
        quantization: How weights are stored, if the server tells.
        context: Most tokens of a prompt and what is generated after it, None if it is not told.
        tokenizer: Digest of the tokens of a known text.
        bos: The token that is put before a text, `none` if there is none.
        template: Digest of the chat template, `none` without one.
        vocabulary: Number of tokens that the model knows, 0 if it is not told.
    """

    engine: str
    quantization: str = UNKNOWN
    context: int | None = None
    tokenizer: str = UNKNOWN
    bos: str = UNKNOWN
    template: str = UNKNOWN
    vocabulary: int = 0

    @property
    def identity(self) -> str:
        """All of it in one line; it has no name of the model, since weights may differ.

        >>> ServerFacts("vllm", context=512).identity.partition(";")[0]
        'engine=vllm'
        """
        context = UNKNOWN if self.context is None else str(self.context)
        told = {
            "engine": self.engine,
            "quantisation": self.quantization,
            "context": context,
            "tokenizer": self.tokenizer,
            "bos": self.bos,
            "chat template": self.template,
        }
        return "; ".join(f"{name}={value}" for name, value in told.items())


@dataclass(frozen=True)
class TokenizedText:
    """Token ids of a text, and the positions of those that end within a character."""

    ids: list[int]
    partial: frozenset[int] = frozenset()


def refuse_different_tokens(target: str, other: str, what: str) -> None:
    """Refuse another model whose tokens cannot be compared with the target's.

    Raises:
        InputError: The two lines of facts differ; the message says in what.

    >>> refuse_different_tokens("engine=vllm; bos=1", "engine=vllm; bos=1", "the base")
    """
    if target == other:
        return
    ours, theirs = _split_facts(target), _split_facts(other)
    names = [name for name in ours | theirs if ours.get(name) != theirs.get(name)]
    told = ", ".join(
        f"{name} {theirs.get(name, UNKNOWN)} instead of {ours.get(name, UNKNOWN)}" for name in names
    )
    raise InputError(
        f"Expected {what} to be served as the target is, got {told}. Serve both with one engine, "
        "quantisation, context, tokenizer and template."
    )


def _split_facts(identity: str) -> dict[str, str]:
    """Split a line of facts; a line of another form is one fact."""
    parts = [part.partition("=") for part in identity.split("; ")]
    if not all(middle for _, middle, _ in parts):
        return {"tokens": identity}
    return {name: value for name, _, value in parts}


async def read_server_facts(session: TextSession, endpoint: TextEndpoint) -> ServerFacts:
    """Read what a server tells of itself, apart from tokens that only an answer shows.

    Raises:
        MemberscopeError: It cannot be reached, or does not tokenise though its protocol does.
    """
    if endpoint.protocol == "llama.cpp":
        return await _read_llama_facts(session)
    listed = await session.fetch_document("/v1/models")
    entries = listed.get("data") if isinstance(listed, dict) else None
    models = [entry for entry in entries or [] if isinstance(entry, dict)]
    names = [str(entry.get("id")) for entry in models]
    if endpoint.model_name and names and endpoint.model_name not in names:
        raise InputError(
            f"Expected a model that the server has ({', '.join(names[:6])}), got "
            f"{endpoint.model_name!r}. Correct --model-name."
        )
    about = next((entry for entry in models if entry.get("id") == endpoint.model_name), {})
    about = about or (models[0] if models else {})
    length = about.get("max_model_len")
    facts = ServerFacts(
        engine=str(about.get("owned_by") or endpoint.protocol),
        quantization=str(about.get("quantization") or UNKNOWN),
        context=length if isinstance(length, int) else None,
    )
    return (
        await _add_vllm_tokens(session, endpoint, facts) if endpoint.protocol == "vllm" else facts
    )


async def _read_llama_facts(session: TextSession) -> ServerFacts:
    """Read what llama.cpp's server tells under /props and /tokenize."""
    told = await session.fetch_document("/props")
    told = told if isinstance(told, dict) else {}
    settings = told.get("default_generation_settings")
    length = settings.get("n_ctx") if isinstance(settings, dict) else None
    with_bos = (await tokenize_text(session, "llama.cpp", KNOWN_TEXT, None)).ids
    answer = await session.post_document(
        "/tokenize", {"content": KNOWN_TEXT, "add_special": False, "parse_special": True}
    )
    template = told.get("chat_template")
    listed = await session.fetch_document("/v1/models")
    try:
        vocabulary = int(listed["data"][0]["meta"]["n_vocab"])
    # Older servers do not tell it, which only texts with parts of characters need
    except (KeyError, IndexError, TypeError, ValueError):
        vocabulary = 0
    return ServerFacts(
        engine="llama.cpp",
        quantization=str(told.get("model_ftype") or UNKNOWN),
        context=length if isinstance(length, int) else None,
        tokenizer=hash_tokens(with_bos),
        bos=_name_bos(with_bos, read_tokens(answer).ids),
        template=hash_tokens([str(template)]) if template else "none",
        vocabulary=vocabulary,
    )


async def _add_vllm_tokens(
    session: TextSession, endpoint: TextEndpoint, facts: ServerFacts
) -> ServerFacts:
    """Add what vLLM's /tokenize shows; a gateway before it may have none."""
    name: dict[str, object] = {} if endpoint.model_name is None else {"model": endpoint.model_name}
    try:
        with_bos = (await tokenize_text(session, "vllm", KNOWN_TEXT, endpoint.model_name)).ids
        answer = await session.post_document(
            "/tokenize", name | {"prompt": KNOWN_TEXT, "add_special_tokens": False}
        )
    except InputError:
        return facts
    try:
        chat = await session.post_document("/tokenize", name | {"messages": list(KNOWN_CHAT)})
        template = hash_tokens(read_tokens(chat).ids)
    # Base models have no template, which vLLM answers with status 400
    except MemberscopeError:
        template = "none"
    return ServerFacts(
        engine=facts.engine,
        quantization=facts.quantization,
        context=facts.context,
        tokenizer=hash_tokens(with_bos),
        bos=_name_bos(with_bos, read_tokens(answer).ids),
        template=template,
    )


async def tokenize_text(
    session: TextSession, protocol: str, text: str, model: str | None
) -> TokenizedText:
    """Turn a text into tokens by the server, with what it puts before a text.

    Raises:
        MemberscopeError: The server does not answer with tokens.
    """
    asked: dict[str, object] = {
        "content": text,
        "add_special": True,
        "parse_special": True,
        "with_pieces": True,
    }
    if protocol == "vllm":
        asked = {"prompt": text, "add_special_tokens": True}
        asked |= {} if model is None else {"model": model}
    return read_tokens(await session.post_document("/tokenize", asked))


def read_tokens(document: Any) -> TokenizedText:
    """Read the tokens that /tokenize answers, by number or as llama.cpp describes them.

    Raises:
        InputError: There are none.

    >>> read_tokens({"tokens": [5, 6]}).ids
    [5, 6]
    >>> read_tokens({"tokens": [{"id": 5, "piece": "a"}, {"id": 6, "piece": [32, 229]}]}).partial
    frozenset({1})
    """
    found = document.get("tokens") if isinstance(document, dict) else None
    partial: frozenset[int] = frozenset()
    if isinstance(found, list) and all(isinstance(token, dict) for token in found):
        pieces = [token.get("piece") for token in found]
        partial = frozenset(k for k, piece in enumerate(pieces) if _ends_within_character(piece))
        found = [token.get("id") for token in found]
    if not isinstance(found, list) or not all(isinstance(token, int) for token in found):
        raise InputError(
            "Expected a list of tokens from /tokenize, got something else. Check --protocol."
        )
    return TokenizedText(found, partial)


def _ends_within_character(piece: Any) -> bool:
    """Tell whether a piece ends with the beginning of a character; then it is given as bytes."""
    if not isinstance(piece, list):
        return False
    # Bytes from 0xC0 on begin a character of two bytes, from 0xE0 of three, from 0xF0 of four
    for length, byte in enumerate(reversed(piece[-4:]), start=1):
        if byte >= 0xC0:
            return length < (2 if byte < 0xE0 else 3 if byte < 0xF0 else 4)
    return False


def hash_tokens(tokens: list[int] | list[str] | list[int | str]) -> str:
    """Hash tokens to sixteen hexadecimal digits.

    >>> len(hash_tokens([5, 6]))
    16
    """
    return hashlib.sha256(json.dumps(tokens).encode()).hexdigest()[:16]


def _name_bos(with_bos: list[int], without: list[int]) -> str:
    """Name the tokens that stand before a text by number."""
    before = with_bos[: len(with_bos) - len(without)]
    return " ".join(map(str, before)) or "none"
