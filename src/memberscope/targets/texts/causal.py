"""Wrap causal language models of transformers, which predict each token from those before it."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

from memberscope.errors import InputError, UnmetNeedError
from memberscope.targets.texts.encoding import EncodedTexts, Long
from memberscope.targets.texts.gradients import measure_text_gradients
from memberscope.targets.texts.language_model import (
    LanguageModelTarget,
    build_encoder,
    explain_model_error,
    pad_windows,
)
from memberscope.targets.texts.token_moments import TokenValues
from memberscope.targets.white_box import use_eval_mode
from memberscope.types import Floats, Ints, SignalSpec


class CausalLMTarget(LanguageModelTarget):
    """A causal language model of transformers, with or without adapters of PEFT.

    Records are texts, `Completion`s or `Chat`s. Of an adapter the model below it is the `base`,
    unless another is given.

    >>> from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast
    >>> from tokenizers import Tokenizer, models, pre_tokenizers
    >>> words = Tokenizer(models.WordLevel({"[UNK]": 0, "a": 1, "b": 2}, unk_token="[UNK]"))
    >>> words.pre_tokenizer = pre_tokenizers.Whitespace()
    >>> tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, unk_token="[UNK]")
    >>> sizes = {"n_embd": 8, "n_layer": 1, "n_head": 1, "n_positions": 16}
    >>> target = CausalLMTarget(GPT2LMHeadModel(GPT2Config(vocab_size=3, **sizes)), tokenizer)
    >>> target.measure_tokens(["a b a", "b a"]).counts.tolist()
    [2, 1]
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
        bos: bool | None = None,
        max_length: int | None = None,
        long: Long = "truncate",
        digest: str | None = None,
    ) -> None:
        """Wrap a `model`; `digest` is that of the files it came from, if any.

        `base` is the model before fine-tuning and `prefix` texts that are known not to be members,
        for the attacks that use these. A batch holds as many texts as fit into the memory, or
        `batch_size`. With `completion_only` prompts are not scored. `bos` says whether training put
        the BOS token first; without it the tokenizer decides. Texts longer than `max_length`
        tokens, or than the model takes, are truncated or read in overlapping windows, as `long`
        says.

        Raises:
            InputError: The model is not causal, or an option does not fit it.
        """
        require_language_model(model, causal=True)
        reading: dict[str, Any] = {
            "bos": bos,
            "max_length": max_length,
            "long": long,
            "completion_only": completion_only,
        }
        encoder = build_encoder(model, tokenizer, **reading)
        super().__init__(
            model, encoder, prefix=prefix, device=device, batch_size=batch_size, digest=digest
        )
        if base is not None and not hasattr(base, "measure_tokens"):
            base = CausalLMTarget(base, tokenizer, device=device, batch_size=batch_size, **reading)
        if base is None and hasattr(model, "disable_adapter"):
            base = CausalLMTarget.__new__(CausalLMTarget)
            LanguageModelTarget.__init__(base, model, encoder, batch_size=batch_size, digest=digest)
            base.adapter_off = True
        self.base = base

    def inside(self, x: Any, y: Ints, spec: SignalSpec) -> Floats:
        """Measure `gradient_norm` (n, 1): minus the log of the norm of the mean loss's gradient.

        It is in the parameters that were trained, such as those of an adapter.

        Raises:
            UnmetNeedError: Another signal is asked for.
        """
        if spec.name != "gradient_norm":
            raise UnmetNeedError(
                f"Expected gradient_norm of a language model, got {spec.name}. Leave that attack "
                "out."
            )
        return measure_text_gradients(self.model, self.encoder.encode(x))

    def generate(self, prompts: list[str], n: int, max_tokens: int, seed: int) -> list[list[str]]:
        """Generate `n` sampled continuations of each prompt, each of at most so many tokens.

        They are sampled from the model's own distribution. The same prompt and seed give the same
        texts, whatever else is asked.

        Raises:
            InputError: A prompt has no token.
        """
        return [self._generate_one(prompt, n, max_tokens, seed) for prompt in prompts]

    def _generate_one(self, prompt: str, n: int, max_tokens: int, seed: int) -> list[str]:
        """Generate the continuations of one prompt."""
        import torch

        ids = [*self.encoder.prefix, *self.encoder.encode_record(prompt).body]
        if self.encoder.longest is not None:
            ids = ids[-max(1, self.encoder.longest - max_tokens) :]
        # From the prompt too, so that the order of prompts does not matter
        own = hashlib.sha256(f"{seed}:{prompt}".encode()).digest()
        device = torch.device(self.model.device)
        given = torch.tensor([ids], device=device)
        end = self.tokenizer.eos_token_id
        with (
            torch.random.fork_rng([device] if device.type == "cuda" else []),
            use_eval_mode(self.model),
            self.hold_adapter(),
            torch.inference_mode(),
        ):
            torch.manual_seed(int.from_bytes(own[:7], "big"))
            texts = self.model.generate(
                input_ids=given,
                attention_mask=torch.ones_like(given),
                do_sample=True,
                # Nothing of the distribution is cut off, whatever the model's own settings
                temperature=1.0,
                top_k=0,
                top_p=1.0,
                num_return_sequences=n,
                max_new_tokens=max_tokens,
                pad_token_id=end if end is not None else 0,
                **({} if end is None else {"eos_token_id": end}),
            )
        found: list[str] = self.tokenizer.batch_decode(
            texts[:, len(ids) :], skip_special_tokens=True
        )
        return found

    def _fill_values(self, encoded: EncodedTexts, values: TokenValues) -> None:
        """Fill in the values of all scored tokens, in batches of similar length."""
        import torch

        windows = encoded.windows

        def run(batch: Ints) -> None:
            """Fill in the values of one batch."""
            chosen = [windows[k] for k in batch]
            ids, mask = pad_windows([window.ids for window in chosen], self.model.device)
            rows = np.repeat(np.arange(len(chosen)), [w.end - w.begin for w in chosen])
            columns = np.concatenate([np.arange(w.begin, w.end) for w in chosen])
            places = np.concatenate([w.place + np.arange(w.end - w.begin) for w in chosen])
            row, column = (torch.from_numpy(one).to(ids.device) for one in (rows, columns))
            with explain_model_error("logits"):
                logits = self.compute_logits(ids, mask)
                # The token at a position is predicted by the outputs one before it
                values.fill(places, logits, (row, column - 1), ids[row, column])

        self.budget.run_batches([len(window.ids) for window in windows], run)


def require_language_model(model: Any, *, causal: bool) -> None:
    """Refuse a model that is not a causal, or not a masked, language model of transformers.

    Raises:
        InputError: It is something else.
    """
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    name = type(inner).__name__
    head = getattr(inner, "get_output_embeddings", lambda: None)
    if (
        hasattr(inner, "num_parameters")
        and causal != ("ForMaskedLM" in name)
        and not getattr(inner.config, "is_encoder_decoder", False)
        # A model without a head over the vocabulary predicts no tokens
        and head() is not None
    ):
        return
    kind = "causal" if causal else "masked"
    raise InputError(
        f"Expected a {kind} language model of transformers, got {name}. Give one that was loaded "
        f"by {'AutoModelForCausalLM' if causal else 'AutoModelForMaskedLM'}, or wrap a function in "
        "TokenFunctionTarget."
    )
