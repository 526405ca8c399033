"""A server of a small language model that speaks vLLM, OpenAI and llama.cpp, and misbehaves on order.

The model is a bigram model over characters, whose log-probabilities are known exactly. `fault` says
what is wrong with the answers about given tokens, from the request number `after` on.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

import numpy as np
from unruly import reply

SIZE = 512
_LOGITS = np.random.default_rng(0).normal(0, 2, size=(SIZE, SIZE))
_LOGITS[ord("x"), ord("x")] += 10  # a token that is the most probable one
TABLE = _LOGITS - np.log(np.exp(_LOGITS).sum(axis=1, keepdims=True))
BOS = 1


def tokenize(text: str, bos: bool = False) -> list[int]:
    """A token a character."""
    return [BOS] * bos + [ord(character) % SIZE for character in text]


def score(ids: list[int]) -> np.ndarray:
    """Log-probabilities (t - 1,) of all tokens but the first."""
    return TABLE[ids[:-1], ids[1:]]


class TextServer:
    """The ASGI application."""

    def __init__(self, fault: str = "", *, after: int = 0, bos: bool = False, **told: Any) -> None:
        self.fault, self.after, self.bos, self.told = fault, after, bos, told
        self.requests, self.scored, self.bodies = 0, 0, []
        self.rng = np.random.default_rng(0)

    @property
    def wrong(self) -> str:
        return self.fault if self.requests > self.after else ""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        body, more = b"", True
        while more:
            event = await receive()
            body, more = body + event.get("body", b""), event.get("more_body", False)
        document = json.loads(body) if body else {}
        name = scope["path"].strip("/").split("/")[-1].replace("-", "_")
        answer = getattr(self, f"answer_{name}", None)
        if answer is None or (self.fault == "no tokenizer" and name == "tokenize"):
            await reply(send, 404, b'{"error": "no such thing"}')
            return
        if name in ("completions", "completion"):
            self.requests += 1
            self.bodies.append(document)
            if self.wrong == "hang":
                await asyncio.sleep(3600)
            if self.wrong == "500":
                await reply(send, 500, b"broken")
                return
        told = answer(document)
        await reply(send, 400 if "error" in told else 200, json.dumps(told).encode())

    def answer_models(self, _: Any) -> dict[str, Any]:
        about = {"id": "m", "owned_by": "vllm", "max_model_len": 200} | self.told
        return {"data": [about]}

    def answer_props(self, _: Any) -> dict[str, Any]:
        return {
            "default_generation_settings": {"n_ctx": self.told.get("max_model_len", 200)},
            "model_ftype": self.told.get("quantization", "Q4_1"),
            "chat_template": "{% for %}",
        }

    def answer_apply_template(self, document: Any) -> dict[str, Any]:
        text = "".join(f"<{one['role'][0]}>{one['content']}" for one in document["messages"])
        return {"prompt": text + "<a>" * document["add_generation_prompt"]}

    def answer_tokenize(self, document: Any) -> dict[str, Any]:
        text = document.get("content", document.get("prompt"))
        if "messages" in document:
            document.setdefault("add_generation_prompt", True)
            text = self.answer_apply_template(document)["prompt"]
        plain = document.get("add_special", document.get("add_special_tokens", True))
        return {"tokens": tokenize(text, self.bos and plain)}

    def answer_completion(self, document: Any) -> dict[str, Any]:
        """llama.cpp: one token after a prompt of tokens, with a bias."""
        row = TABLE[document["prompt"][-1]]
        order = np.argsort(-row)
        bias = document.get("logit_bias", [])
        chosen = bias[0][0] if bias and self.wrong != "unbiased" else int(order[0])
        (value,) = self.spoil(row[[chosen]])
        tops = [
            {"id": int(top), "logprob": float(row[top])} for top in order[: document["n_probs"]]
        ]
        if self.wrong == "post-sampling" and bias:
            value = 0.0
        told = {"id": chosen, "logprob": value, "top_logprobs": tops}
        self.scored += 1
        return {"completion_probabilities": [told], "model": self.name}

    def answer_completions(self, document: Any) -> dict[str, Any]:
        """Completions and chat: generations, or log-probabilities of prompts."""
        if "messages" in document or document.get("n"):
            prompt = document.get("prompt") or document["messages"][-1]["content"]
            texts = [prompt[::-1] + str(k) for k in range(document["n"] - (self.wrong == "fewer"))]
            chat = "messages" in document
            choices = [{"message": {"content": text}} if chat else {"text": text} for text in texts]
            return {"choices": choices, "model": self.name}
        choices, count = [], 0
        for place, prompt in enumerate(document["prompt"]):
            ids = tokenize(prompt, self.bos) if isinstance(prompt, str) else prompt
            if len(ids) >= self.told.get("max_model_len", 200) and "prompt_logprobs" in document:
                return {"error": f"the prompt has {len(ids)} tokens"}
            count += len(ids)
            self.scored += 1
            about = self.score_prompt(document, prompt, ids)
            choices.append({"index": place, "text": "x", **about})
        # Answers need not come in the order of the prompts
        told = {"choices": choices[::-1], "model": self.name}
        usage = {"prompt_tokens": count, "completion_tokens": 1}
        return told if self.fault == "no usage" else told | {"usage": usage}

    def score_prompt(self, document: Any, prompt: Any, ids: list[int]) -> dict[str, Any]:
        values = self.spoil(score(ids))
        if "prompt_logprobs" in document and self.wrong != "ignored":
            entries, ranks = [], 1 + (TABLE[ids[:-1]] > score(ids)[:, None]).sum(axis=1)
            for before, token, value, rank in zip(ids, ids[1:], values, ranks, strict=False):
                top = int(TABLE[before].argmax())
                told = {str(top): {"logprob": float(TABLE[before, top]), "rank": 1}}
                told[str(token)] = {"logprob": value, "rank": int(rank)}
                entries.append({key: told[key] | {"decoded_token": chr(int(key))} for key in told})
            first = {"7": {"logprob": -1.0}} if self.wrong == "first" else None
            return {"prompt_logprobs": [first, *entries]}
        generated = {"tokens": ["x"], "token_logprobs": [-0.5], "text_offset": [len(prompt)]}
        if not document.get("echo") or self.wrong == "ignored":
            return {"logprobs": {"content": [{"token": "x", "logprob": -0.5}]}}
        tokens = ["<s>"] * self.bos + list(prompt)
        offsets = [0] * self.bos + list(range(len(prompt)))
        tops = [None, *({"t": float(TABLE[before].max())} for before in ids[:-1]), {"x": -0.5}]
        first = -1.0 if self.wrong == "first" else None
        return {
            "logprobs": {
                "tokens": tokens + generated["tokens"],
                "token_logprobs": [first, *values] + generated["token_logprobs"],
                "text_offset": offsets + generated["text_offset"],
                "top_logprobs": tops,
            }
        }

    @property
    def name(self) -> str:
        return "other" if self.wrong == "replaced" else "m"

    def spoil(self, values: np.ndarray) -> list[float]:
        """The values as the fault has them."""
        if self.wrong == "nan":
            values = np.where(np.arange(len(values)) == len(values) // 2, np.nan, values)
        if self.wrong == "positive":
            values = values + 100
        if self.wrong == "constant":
            values = np.full(len(values), -1.0)
        if self.wrong == "jitter":
            values = values - self.rng.exponential(0.1, len(values))
        # Blocks that were cached come back with the values of other tokens
        if self.wrong == "cache" and self.requests % 2 == 0:
            values = np.roll(values, 3)
        if self.wrong == "fewer":
            values = values[:-2]
        return [float(value) for value in values]
