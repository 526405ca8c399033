"""A small language model to fine-tune, and texts to fine-tune it on.

`python benchmarks/text_gpt.py` pre-trains a GPT of 0.14 million parameters on Wikipedia articles
and says what it cost. The model is kept in the folder MEMBERSCOPE_CACHE (a temporary one by
default) under a hash of the articles, the settings and the libraries, and read again from there.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import sys
import tempfile
import time
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
import aims
import data
from memberscope.types import Records

VOCABULARY, WIDTH, LAYERS, HEADS, CONTEXT = 512, 64, 2, 4, 64
RATE, BATCH, EPOCHS = 3e-3, 32, 3
TOKENS = 63  # of a text, so that with the token before it a text fills the context
START = "<|start|>"
FOLDER = Path(
    os.environ.get("MEMBERSCOPE_CACHE", Path(tempfile.gettempdir()) / "memberscope-benchmarks")
)


def documents(name: str) -> list[str]:
    """Read the documents of a file of texts, such as `wikipedia`."""
    with gzip.open(data.FOLDER / f"text_{name}.jsonl.gz", "rt", encoding="utf-8") as lines:
        return [json.loads(line)["text"] for line in lines]


def base_folder() -> Path:
    """Give the folder of the base model and its tokenizer, pre-trained now if it is not there."""
    import tokenizers
    import torch
    import transformers

    settings = (VOCABULARY, WIDTH, LAYERS, HEADS, CONTEXT, RATE, BATCH, EPOCHS)
    versions = [module.__version__ for module in (tokenizers, torch, transformers)]
    articles = hashlib.sha256((data.FOLDER / "text_wikipedia.jsonl.gz").read_bytes()).hexdigest()
    name = hashlib.sha256(f"{settings}{versions}{articles}".encode()).hexdigest()[:16]
    folder = FOLDER / f"text-gpt-{name}"
    if not folder.is_dir():
        FOLDER.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=FOLDER) as made:
            tokenizer = train_tokenizer(documents("wikipedia"))
            tokenizer.save_pretrained(made)
            pretrain(tokenizer, documents("wikipedia")).save_pretrained(made)
            # Whole or not at all
            Path(made).rename(folder)
            Path(made).mkdir()
    return folder


def train_tokenizer(texts: list[str]) -> Any:
    """Train a byte-level BPE tokenizer that puts a start token before each text."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    found = Tokenizer(models.BPE())
    found.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    found.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[START],
        initial_alphabet=alphabet,
        show_progress=False,
    )
    found.train_from_iterator(texts, trainer)
    found.post_processor = processors.TemplateProcessing(
        single=f"{START} $A", special_tokens=[(START, found.token_to_id(START))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=found, bos_token=START, pad_token=START, model_max_length=CONTEXT
    )


def pretrain(tokenizer: Any, texts: list[str]) -> Any:
    """Pre-train the model on windows of all texts, joined."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    start = tokenizer.bos_token_id
    model = GPT2LMHeadModel(
        GPT2Config(
            vocab_size=len(tokenizer),
            n_positions=CONTEXT,
            n_embd=WIDTH,
            n_layer=LAYERS,
            n_head=HEADS,
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
            bos_token_id=start,
            eos_token_id=start,
        )
    )
    encoded = tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]
    stream = torch.tensor([token for ids in encoded for token in [start, *ids]])
    windows = stream[: len(stream) // CONTEXT * CONTEXT].reshape(-1, CONTEXT)
    # Each window begins as a text of an audit does
    windows[:, 0] = start
    optimiser = torch.optim.AdamW(model.parameters(), lr=RATE)
    n_steps = EPOCHS * len(windows) // BATCH
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=n_steps + 1)
    order = np.concatenate(
        [np.random.default_rng([0, k]).permutation(len(windows)) for k in range(EPOCHS)]
    )
    for step in range(n_steps):
        batch = windows[torch.from_numpy(order[step * BATCH : (step + 1) * BATCH])]
        logits = model(batch).logits[:, :-1]
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        optimiser.zero_grad(set_to_none=True)
    return model.eval()


@cache
def load_base() -> tuple[Any, Any]:
    """Load the base model and its tokenizer."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = base_folder()
    model = AutoModelForCausalLM.from_pretrained(folder, local_files_only=True)
    return model.eval(), AutoTokenizer.from_pretrained(folder, local_files_only=True)


def texts(n: int, name: str = "stackexchange", seed: int = 0) -> Records:
    """Draw `n` texts of 63 tokens, two of each document, which is their unit."""
    tokenizer = load_base()[1]
    rng = np.random.default_rng(seed)
    found: list[str] = []
    units: list[str] = []
    for document in rng.permutation(len(documents(name))):
        for text in cut_texts(tokenizer, documents_once(name)[document], rng):
            found.append(text)
            units.append(str(document))
        if len(found) >= n:
            break
    x = np.empty(n, dtype=object)
    x[:] = found[:n]
    ids = np.array([f"{name}-{i}" for i in range(n)])
    return Records(x, np.zeros(n, np.int64), ids, unit=np.array(units[:n]))


documents_once = cache(documents)


def cut_texts(tokenizer: Any, document: str, rng: np.random.Generator) -> list[str]:
    """Cut two texts out of a document that the tokenizer reads as 63 tokens again."""
    ids = tokenizer(document, add_special_tokens=False, verbose=False)["input_ids"]
    starts = np.arange(0, len(ids) - TOKENS, TOKENS)
    kept: list[str] = []
    for start in rng.permutation(starts):
        part = ids[start : start + TOKENS]
        text = tokenizer.decode(part)
        if tokenizer(text, add_special_tokens=False)["input_ids"] == part:
            kept.append(text)
        if len(kept) == 2:
            return kept
    return []


def state(name: str, value: float, unit: str) -> None:
    """Print a figure, and add it to the table of all."""
    aims.judge(name, value, unit)
    print(f"{name}: {value:.3g} {unit}")


def main() -> None:
    """Pre-train the model if it is not there, and say what it cost and predicts."""
    import torch

    torch.set_num_threads(1)
    started = time.process_time()
    folder = base_folder()
    seconds = time.process_time() - started
    model, tokenizer = load_base()
    n_parameters = sum(p.numel() for p in model.parameters())
    state("parameters of the base model", n_parameters / 1e6, "million")
    state("processor time of pre-training, or of finding it kept", seconds, "s")
    for name in ("wikipedia", "stackexchange"):
        ids = torch.tensor(tokenizer(list(texts(200, name).x))["input_ids"])
        with torch.inference_mode():
            logits = model(ids).logits[:, :-1]
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())
        state(f"loss of the base model on 200 texts of {name}", float(loss), "nats a token")
    print(folder)


if __name__ == "__main__":
    main()
