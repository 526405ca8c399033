"""Wrap masked language models of transformers, by the pseudo-log-likelihood of a text."""

from __future__ import annotations

from typing import Any

import numpy as np

from memberscope.errors import InputError
from memberscope.targets.texts.causal import require_language_model
from memberscope.targets.texts.encoding import EncodedTexts, Long
from memberscope.targets.texts.language_model import (
    LanguageModelTarget,
    build_encoder,
    explain_model_error,
    pad_windows,
)
from memberscope.targets.texts.token_moments import TokenValues
from memberscope.types import Ints


class MaskedLMTarget(LanguageModelTarget):
    """A masked language model of transformers: each token is masked in turn and predicted.

    A text of t tokens takes t rows of a batch.

    >>> from transformers import BertConfig, BertForMaskedLM, PreTrainedTokenizerFast
    >>> from tokenizers import Tokenizer, models, pre_tokenizers
    >>> words = Tokenizer(models.WordLevel({"[UNK]": 0, "[MASK]": 1, "a": 2, "b": 3}, "[UNK]"))
    >>> words.pre_tokenizer = pre_tokenizers.Whitespace()
    >>> tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, mask_token="[MASK]")
    >>> sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    >>> model = BertForMaskedLM(BertConfig(vocab_size=4, intermediate_size=8, **sizes))
    >>> MaskedLMTarget(model, tokenizer).query(["a b a", "b"]).shape
    (2, 1)
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        base: Any = None,
        prefix: str | None = None,
        device: str | None = None,
        batch_size: int | None = None,
        completion_only: bool = True,
        max_length: int | None = None,
        long: Long = "truncate",
        digest: str | None = None,
    ) -> None:
        """Wrap a `model`; the options are those of `CausalLMTarget`.

        Raises:
            InputError: The model is not masked, its tokenizer has no token for a mask, or an option
                does not fit it.
        """
        require_language_model(model, causal=False)
        reading: dict[str, Any] = {
            "max_length": max_length,
            "long": long,
            "completion_only": completion_only,
        }
        encoder = build_encoder(model, tokenizer, predicts_next=False, **reading)
        if getattr(tokenizer, "mask_token_id", None) is None:
            raise InputError(
                "Expected a tokenizer with a mask token for a masked language model, got one "
                "without. Give the model's own tokenizer."
            )
        super().__init__(
            model, encoder, prefix=prefix, device=device, batch_size=batch_size, digest=digest
        )
        if base is not None and not hasattr(base, "measure_tokens"):
            base = MaskedLMTarget(base, tokenizer, device=device, batch_size=batch_size, **reading)
        self.base = base

    def _fill_values(self, encoded: EncodedTexts, values: TokenValues) -> None:
        """Fill in the values of all scored tokens, one masked copy of the text for each."""
        import torch

        # One row for each scored token: its window, the position there, and the place of its value
        windows = encoded.windows
        counts = [window.end - window.begin for window in windows]
        owner = np.repeat(np.arange(len(windows)), counts)
        position = np.concatenate([np.arange(w.begin, w.end) for w in windows])
        place = np.concatenate(
            [w.place + np.arange(n) for w, n in zip(windows, counts, strict=True)]
        )

        def run(batch: Ints) -> None:
            """Fill in the values of one batch of masked copies."""
            ids, mask = pad_windows([windows[owner[k]].ids for k in batch], self.model.device)
            row = torch.arange(len(batch), device=ids.device)
            column = torch.from_numpy(position[batch]).to(ids.device)
            came = ids[row, column]
            ids[row, column] = self.tokenizer.mask_token_id
            with explain_model_error("logits"):
                values.fill(place[batch], self.compute_logits(ids, mask), (row, column), came)

        self.budget.run_batches([len(windows[k].ids) for k in owner], run)
