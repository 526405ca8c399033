"""A language model of a few thousand weights, its tokenizer, and texts of random words."""

from __future__ import annotations

from typing import Any

import numpy as np

from memberscope.types import Records

WORDS = [f"w{number}" for number in range(40)]


def build_tokenizer() -> Any:
    """Build a tokenizer of 40 words that puts a start token before each text."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    vocabulary = {word: k for k, word in enumerate(["<s>", "<unk>", "</s>", *WORDS])}
    inner = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    inner.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 0)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, bos_token="<s>", unk_token="<unk>", eos_token="</s>"
    )


def build_model(seed: int = 0, dropout: float = 0.0) -> Any:
    """Build an untrained GPT-2 of one layer, 16 wide, for 16 tokens."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        return GPT2LMHeadModel(
            GPT2Config(
                vocab_size=len(WORDS) + 3,
                n_positions=16,
                n_embd=16,
                n_layer=1,
                n_head=2,
                resid_pdrop=dropout,
                embd_pdrop=dropout,
                attn_pdrop=dropout,
                bos_token_id=0,
                eos_token_id=2,
            )
        )


def draw_texts(n: int, seed: int = 0, length: int = 8) -> Records:
    """Draw `n` texts of random words; two follow each other as one unit."""
    rng = np.random.default_rng(seed)
    x = np.empty(n, dtype=object)
    x[:] = [" ".join(rng.choice(WORDS, length)) for _ in range(n)]
    ids = np.array([f"text-{k}" for k in range(n)])
    return Records(x, np.zeros(n, np.int64), ids, unit=np.array([f"d{k // 2}" for k in range(n)]))
