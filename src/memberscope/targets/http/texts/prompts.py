"""Turn records into what a server is asked: a text, or its tokens where their border matters."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from memberscope.errors import InputError
from memberscope.targets.http.texts.server_facts import (
    ServerFacts,
    TokenizedText,
    read_tokens,
    tokenize_text,
)
from memberscope.targets.http.texts.session import TextSession
from memberscope.texts import Chat, Completion, TextRecord, read_scored_text
from memberscope.wire import TextEndpoint, TokenPrompt


class PromptWriter:
    """Writer of prompts for one server; `cut` are the texts that did not fit its context."""

    def __init__(self, session: TextSession, endpoint: TextEndpoint, facts: ServerFacts) -> None:
        """Write prompts as the server's facts allow."""
        self.session, self.endpoint, self.facts = session, endpoint, facts
        self.cut: set[str] = set()

    @property
    def longest(self) -> int | None:
        """Most tokens of a prompt, None if the server tells no context."""
        # One token at least is generated after the prompt
        return None if self.facts.context is None else self.facts.context - 1

    async def write_prompts(self, records: Sequence[TextRecord]) -> list[TokenPrompt]:
        """Write a prompt for each record, a few records at a time.

        Raises:
            MemberscopeError: A record has nothing to score, or the server cannot take its form.
        """
        refuse_empty_texts(records)
        written: dict[int, TokenPrompt] = {}
        left = iter(enumerate(records))

        async def work() -> None:
            for place, record in left:
                written[place] = await self._write(record)

        await asyncio.gather(*(work() for _ in range(self.endpoint.concurrency)))
        return [written[place] for place in range(len(records))]

    async def _write(self, record: TextRecord) -> TokenPrompt:
        if self.endpoint.protocol == "openai-completions":
            return _write_plain_prompt(record)
        whole, before = await self._render(record)
        # A token holds one byte at least, so that a short text fits without being counted
        fits = self.longest is None or len(whole.encode()) < self.longest
        if self.endpoint.protocol == "vllm" and isinstance(record, str) and fits:
            return TokenPrompt(whole)
        tokens = await self._tokenize(record, whole)
        ids = tokens.ids
        start = 1
        if before:
            # Up to where both agree, since a token may reach over the border
            prefix = (await self._tokenize_prompt(record, before)).ids
            pairs = zip(prefix, ids, strict=False)
            start = next(
                (k for k, (a, b) in enumerate(pairs) if a != b), min(len(prefix), len(ids))
            )
        if self.longest is not None and len(ids) > self.longest:
            self.cut.add(whole)
            ids = ids[: self.longest]
        if len(ids) <= max(start, 1):
            raise InputError(
                f"Expected a record with a token to score behind a first one, got {len(ids)} "
                f"tokens of which {start} come before it. Leave such records out, or serve with a "
                "longer context."
            )
        if tokens.partial and not self.facts.vocabulary:
            raise InputError(
                "Expected texts whose tokens are whole characters, got one with parts of some, of "
                "which an older llama.cpp tells nothing. Use a newer server, or leave it out."
            )
        return TokenPrompt(
            whole,
            tuple(ids),
            max(start, 1),
            partial=tokens.partial,
            vocabulary=self.facts.vocabulary,
        )

    async def _render(self, record: TextRecord) -> tuple[str, str]:
        """Render the whole text of a record, and what of it is not scored."""
        if isinstance(record, Completion):
            return record.prompt + record.completion, record.prompt
        if not isinstance(record, Chat):
            return record, ""
        # vLLM applies the template and tokenises in one step
        answered = record.messages[-1][0] == "assistant"
        if self.endpoint.protocol == "vllm":
            return read_scored_text(record), "chat" if answered else ""
        before = await self._apply_template(record.messages[:-1], prompts=True) if answered else ""
        return await self._apply_template(record.messages, prompts=False), before

    async def _apply_template(self, messages: Sequence[tuple[str, str]], *, prompts: bool) -> str:
        """Apply the server's template, at the end with the head of an answer if it `prompts`."""
        asked: dict[str, object] = {
            "messages": list_messages(messages),
            "add_generation_prompt": prompts,
        }
        answer = await self.session.post_document("/apply-template", asked)
        text = answer.get("prompt") if isinstance(answer, dict) else None
        if not isinstance(text, str):
            raise InputError(
                "Expected a text from /apply-template, got something else. Use a server with a "
                "chat template, or give prompt and completion."
            )
        return text

    async def _tokenize(self, record: TextRecord, whole: str) -> TokenizedText:
        """Turn the whole record into tokens."""
        if self.endpoint.protocol == "vllm" and isinstance(record, Chat):
            return await self._tokenize_chat(record.messages, prompts=False)
        return await tokenize_text(
            self.session, self.endpoint.protocol, whole, self.endpoint.model_name
        )

    async def _tokenize_prompt(self, record: TextRecord, before: str) -> TokenizedText:
        """Turn the part of a record that is not scored into tokens."""
        if self.endpoint.protocol == "vllm" and isinstance(record, Chat):
            return await self._tokenize_chat(record.messages[:-1], prompts=True)
        return await tokenize_text(
            self.session, self.endpoint.protocol, before, self.endpoint.model_name
        )

    async def _tokenize_chat(
        self, messages: Sequence[tuple[str, str]], *, prompts: bool
    ) -> TokenizedText:
        """Turn messages into tokens by vLLM, with the model's chat template."""
        asked: dict[str, object] = {
            "messages": list_messages(messages),
            "add_generation_prompt": prompts,
        }
        if self.endpoint.model_name is not None:
            asked["model"] = self.endpoint.model_name
        return read_tokens(await self.session.post_document("/tokenize", asked))


def _write_plain_prompt(record: TextRecord) -> TokenPrompt:
    """Write the prompt for a server that takes texts alone.

    Raises:
        InputError: The record is a chat, whose template the server does not apply.
    """
    if isinstance(record, Chat):
        raise InputError(
            "Expected texts, or prompts and completions, for openai-completions, got a chat. Apply "
            "the chat template yourself, or use --protocol vllm or llama.cpp."
        )
    if isinstance(record, Completion):
        return TokenPrompt(record.prompt + record.completion, start=len(record.prompt))
    return TokenPrompt(record, start=0)


def list_messages(messages: Sequence[tuple[str, str]]) -> list[dict[str, str]]:
    """List messages as servers take them.

    >>> list_messages([("user", "Hello")])
    [{'role': 'user', 'content': 'Hello'}]
    """
    return [{"role": role, "content": content} for role, content in messages]


def refuse_empty_texts(records: Sequence[TextRecord]) -> None:
    """Refuse records without a text to score.

    Raises:
        InputError: There are some.

    >>> refuse_empty_texts(["a b"])
    """
    empty = [place for place, record in enumerate(records) if not read_scored_text(record)]
    if empty:
        raise InputError(
            f"Expected a text in each record, got {len(empty)} empty ones, the first at position "
            f"{empty[0]} of {len(records)}. Leave them out."
        )
