"""Tiny language models of transformers, with tokenizers of words or trained on a few sentences."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from memberscope.types import Records

SENTENCES = [
    "The harbour was quiet when the first boat came in.",
    "Nobody asked why the lights in the hall were still on.",
    "A letter arrived on Tuesday, addressed to someone who had left.",
    "She counted the coins twice and put them back into the jar.",
    "Rain fell on the tin roof, and the dog slept through it.",
    "The train to the coast leaves at nine; the ticket is return.",
    "Question: which river runs north? Answer: the one behind the mill.",
]
LENGTH = 32
WORDS = [f"w{number}" for number in range(40)]


def train_tokenizer(**more):
    """Train a byte-level BPE tokenizer without special tokens of its own."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    bare = Tokenizer(models.BPE())
    bare.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bare.decoder = decoders.ByteLevel()
    special = ["<s>", "</s>", "<pad>", "<mask>"]
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bare.train_from_iterator(SENTENCES, trainer)
    names = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"} | more
    return PreTrainedTokenizerFast(tokenizer_object=bare, **names)


def build_causal(tokenizer, seed: int = 0, **more):
    """Build an untrained GPT-2 of one layer whose distributions are far from uniform."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(seed)
    sizes = {"n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": LENGTH} | more
    ends = {"bos_token_id": 0, "eos_token_id": 1}
    config = GPT2Config(vocab_size=len(tokenizer), initializer_range=0.5, **ends, **sizes)
    return GPT2LMHeadModel(config).eval()


def build_masked(tokenizer, seed: int = 0):
    """Build an untrained BERT of one layer for masked tokens."""
    import torch
    from transformers import BertConfig, BertForMaskedLM

    torch.manual_seed(seed)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = BertConfig(
        vocab_size=len(tokenizer),
        intermediate_size=16,
        max_position_embeddings=LENGTH,
        initializer_range=0.5,
        **sizes,
    )
    return BertForMaskedLM(config).eval()


def build_adapter(model, seed: int = 0):
    """Put a LoRA adapter on a GPT-2, with weights that are not at their start."""
    import peft
    import torch

    settings = peft.LoraConfig(
        r=2, target_modules=["c_attn"], task_type="CAUSAL_LM", fan_in_fan_out=True
    )
    with warnings.catch_warnings():
        # peft calls what this version of transformers renamed
        warnings.simplefilter("ignore")
        adapted = peft.get_peft_model(model, settings)
    torch.manual_seed(seed)
    with torch.no_grad():
        for name, part in adapted.named_parameters():
            if "lora_" in name:
                part.normal_(0, 0.5)
    return adapted.eval()


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


def draw_text_records(n: int, seed: int = 0, length: int = 8) -> Records:
    """Draw `n` texts of random words; two follow each other as one unit."""
    rng = np.random.default_rng(seed)
    x = np.empty(n, dtype=object)
    x[:] = [" ".join(rng.choice(WORDS, length)) for _ in range(n)]
    ids = np.array([f"text-{k}" for k in range(n)])
    return Records(x, np.zeros(n, np.int64), ids, unit=np.array([f"d{k // 2}" for k in range(n)]))
