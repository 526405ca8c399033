"""Declare the endpoint of a served language model."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from memberscope.errors import InputError
from memberscope.types import Access
from memberscope.wire.server_connection import ServerConnection
from memberscope.wire.text_protocols import TEXT_PROTOCOLS, TextProtocol, TextWord


@dataclass(frozen=True)
class TextEndpoint(ServerConnection):
    """Declared endpoint of a language model; every field is a key of `[target]` in `audit.toml`.

    `protocol` is `vllm`, `openai-completions` (with `echo`), `llama.cpp` or `openai-chat`, which
    only generates; `url` may end with `/v1`. `top_k` is the number of most probable tokens that
    chat tells beside each generated one.

    >>> endpoint = TextEndpoint("http://localhost:8000/v1", "vllm", model_name="m")
    >>> endpoint.access.word, endpoint.serving.locate(endpoint.url)
    ('token_probabilities', 'http://localhost:8000/v1/completions')
    """

    protocol: TextWord = "vllm"
    # Texts are long beside rows of a table, and servers of language models work on few at a time
    batch_size: int = 8
    top_k: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.protocol not in TEXT_PROTOCOLS:
            raise InputError(
                f"Expected the protocol {', '.join(TEXT_PROTOCOLS)} for texts, got "
                f"{self.protocol!r}. Choose one of them with --protocol."
            )
        if self.top_k is not None and (self.top_k < 1 or self.protocol != "openai-chat"):
            raise InputError(
                f"Expected --top-k of at least 1 with openai-chat, got {self.top_k} with "
                f"{self.protocol}. Leave it out."
            )

    @property
    def serving(self) -> TextProtocol:
        """How the server is asked."""
        return TEXT_PROTOCOLS[self.protocol]

    @property
    def access(self) -> Access:
        """The most that a query returns."""
        if self.protocol != "openai-chat":
            return Access.TOKEN_PROBABILITIES
        return Access.GENERATIONS if self.top_k is None else Access.TOP_TOKENS

    @property
    def rows_a_request(self) -> int:
        """Number of texts in one request."""
        single = self.serving.once_a_token or self.protocol == "openai-chat"
        return 1 if single else self.batch_size

    @property
    def declaration(self) -> dict[str, str]:
        """Description of requests and answers for results, without the host.

        >>> TextEndpoint("http://localhost:1/v1", "llama.cpp").declaration
        {'protocol': 'llama.cpp', 'outputs': 'token_probabilities', 'path': '/completion'}
        """
        path = urlsplit(self.serving.locate(self.url)).path
        named = {} if self.model_name is None else {"model_name": self.model_name}
        return {"protocol": self.protocol, **named, "outputs": self.access.word, "path": path}
