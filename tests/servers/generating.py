"""A server that generates text and tells log-probabilities in every spelling, whole or in parts.

The model is the bigram model of `text_server`; generated is always the second most probable token,
unless a bias forces another one.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import threading
from itertools import pairwise
from typing import Any

import numpy as np
from text_server import TABLE, score, tokenize
from unruly import reply

STREAM = [(b"content-type", b"text/event-stream; charset=utf-8")]


def name_token(token: int) -> str:
    """A token as text; each has another one."""
    return f"t{token}"


def generate(prompt: Any, n: int, bias: dict[str, float] | None = None) -> list[int]:
    """The tokens after a prompt."""
    ids = tokenize(prompt) if isinstance(prompt, str) else list(prompt)
    for _ in range(n):
        row = TABLE[ids[-1]]
        ids.append(int(next(iter(bias))) if bias else int(np.argsort(-row)[1]))
    return ids[-n:]


def list_tops(before: int, k: int) -> list[tuple[str, float]]:
    """The k most probable tokens after another, with their log-probabilities."""
    order = np.argsort(-TABLE[before])[:k]
    return [(name_token(int(token)), float(TABLE[before, token])) for token in order]


class Generating:
    """The ASGI application; `fault` is what is wrong with its answers.

    With `tells` it tells log-probabilities unasked. `gate` holds a stream back after its first event.
    """

    def __init__(self, fault: str = "", *, tells: bool = False, split: int = 0) -> None:
        self.fault, self.tells, self.split = fault, tells, split
        self.bodies: list[dict[str, Any]] = []
        self.gate: threading.Event | None = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body, more = b"", True
        while more:
            event = await receive()
            body, more = body + event.get("body", b""), event.get("more_body", False)
        document = json.loads(body)
        self.bodies.append(document)
        if self.fault == "500":
            await reply(send, 500, json.dumps({"error": f"broken by {document}"}).encode())
            return
        chat = scope["path"].endswith("/chat/completions")
        choices = self.list_choices(document, chat)
        if document.get("stream") and self.fault != "whole":
            await self.send_events(choices, chat, send)
            return
        told = {"id": "a", "object": "o", "created": 1, "model": "m", "choices": choices}
        told |= {"usage": {"prompt_tokens": 3, "completion_tokens": 4}}
        told |= {"completion_probabilities": [{"probs": [{"prob": 0.123}]}], "timings": {"ms": 5}}
        if self.fault == "fewer":
            choices.pop()
        data = b"{" if self.fault == "broken" else json.dumps(told).encode()
        if self.fault == "gzip":
            await reply(send, 200, gzip.compress(data), [(b"content-encoding", b"gzip")])
        else:
            await reply(send, 200, data)

    def list_choices(self, document: dict[str, Any], chat: bool) -> list[dict[str, Any]]:
        """The choices of an answer."""
        prompts = [document["messages"][-1]["content"]] if chat else document["prompt"]
        if isinstance(prompts, str) or isinstance(prompts[0], int):
            prompts = [prompts]
        n, k = document.get("max_tokens", 4), document.get("top_logprobs" if chat else "logprobs")
        wanted = self.tells or (document.get("logprobs") if chat else k is not None)
        found = []
        for prompt in prompts:
            for _ in range(document.get("n", 1)):
                ids = generate(prompt, n, document.get("logit_bias"))
                about = {"index": len(found), "finish_reason": "length"}
                before = tokenize(prompt) if isinstance(prompt, str) else list(prompt)
                start = len(before)
                whole = before + ids
                if document.get("echo"):
                    start = 0
                words = [name_token(token) for token in whole[start:]]
                key = {"message": {"role": "assistant", "content": " ".join(words)}}
                about |= key if chat else {"text": " ".join(words)}
                values = [None, *score(whole).tolist()][start:]
                tops = [
                    None if p == 0 else list_tops(whole[p - 1], k or 0)
                    for p in range(start, len(whole))
                ]
                about["cumulative_logprob"] = sum(value or 0.0 for value in values)
                if wanted:
                    about["logprobs"] = self.tell(words, values, tops, chat)
                if document.get("prompt_logprobs") is not None or self.tells:
                    about["prompt_logprobs"] = self.tell_prompt(before, document)
                found.append(about)
        return found

    def tell(self, words: Any, values: Any, tops: Any, chat: bool) -> dict[str, Any]:
        """Log-probabilities in the form of chat or of completions."""
        if chat:
            content = []
            for word, value, top in zip(words, values, tops, strict=True):
                entry = {"token": word, "logprob": value, "bytes": [*word.encode()], "rank": 2}
                beside = [{"token": other, "logprob": one, "bytes": None} for other, one in top]
                content.append(entry | {"top_logprobs": beside})
            return {"content": content, "refusal": None}
        return {
            "tokens": words,
            "token_logprobs": values,
            "top_logprobs": [None if top is None else dict(top) for top in tops],
            "text_offset": list(range(len(words))),
        }

    def tell_prompt(self, ids: list[int], document: dict[str, Any]) -> list[Any]:
        """vLLM's log-probabilities of a prompt: each token, and the most probable ones."""
        found: list[Any] = [None]
        for before, token in pairwise(ids):
            order = np.argsort(-TABLE[before])[: document.get("prompt_logprobs") or 0]
            entry = {
                str(one): {"logprob": float(TABLE[before, one]), "rank": 1, "decoded_token": "t"}
                for one in [token, *order.tolist()]
            }
            found.append(entry)
        return found

    async def send_events(self, choices: Any, chat: bool, send: Any) -> None:
        """Send the choices as events, one a token, cut anywhere."""
        headers = STREAM + ([(b"content-encoding", b"gzip")] if self.fault == "gzip" else [])
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        parts = [b": warming up for text number 1\r\n\r\n"]
        for choice in choices:
            told = choice.get("logprobs")
            for place in range(4):
                part = {"index": choice["index"], "finish_reason": None}
                word = (choice["message"]["content"] if chat else choice["text"]).split()[place]
                part |= {"delta": {"content": word}} if chat else {"text": word}
                if told and chat:
                    part["logprobs"] = {"content": [told["content"][place]]}
                elif told:
                    part["logprobs"] = {key: [told[key][place]] for key in told}
                if place == 0 and "prompt_logprobs" in choice:
                    part["prompt_logprobs"] = choice["prompt_logprobs"]
                event = {"id": "a", "choices": [part], "probs": [0.123]}
                parts.append(b"id: 7\r\ndata: " + json.dumps(event).encode() + b"\r\n\r\n")
        faulty = {
            "broken": b'data: {"choices": [{"logprobs": -1.25\n\n',
            "error": b'data: {"error": {"message": "cannot read text number 1"}}\n\n',
            "other": b'data: {"choices": [{"logprobs": {"values": [-1.25]}}]}\n\n',
        }
        parts += [faulty[self.fault]] if self.fault in faulty else []
        parts += [b'data: {"choices":[],"usage":{"prompt_tokens":3}}\n\n', b"data: [DONE]\n\n"]
        data = b"".join(parts)
        size = self.split or len(data)
        cut = [data[start : start + size] for start in range(0, len(data), size)]
        if self.gate is not None:
            cut = [b"".join(parts[:2]), b"".join(parts[2:])]
        for place, piece in enumerate(cut):
            if place and self.gate is not None:
                await asyncio.to_thread(self.gate.wait, 30)
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})
