"""What causal and masked language models of transformers have in common as targets."""

from __future__ import annotations

import json
import reprlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from memberscope.errors import InputError, TargetError
from memberscope.facts import ModelKind
from memberscope.targets.texts.batches import TokenBudget, choose_token_budget
from memberscope.targets.texts.encoding import EncodedTexts, TextEncoder, find_longest
from memberscope.targets.texts.token_moments import TokenValues
from memberscope.targets.torch_modules.target import hash_weights
from memberscope.targets.white_box import use_eval_mode
from memberscope.texts import TokenSignals
from memberscope.types import Access, Floats, Ints, Signal, Task


class LanguageModelTarget(ABC):
    """A language model of transformers with its tokenizer; its answers are losses a record.

    `CausalLMTarget` and `MaskedLMTarget` say how tokens are predicted.
    """

    task: Task = "text"
    access = Access.WEIGHTS
    signal: Signal = "loss"
    n_classes = 1
    model_kind: ModelKind = "neural_network"

    def __init__(
        self,
        model: Any,
        encoder: TextEncoder,
        *,
        prefix: str | None = None,
        device: str | None = None,
        batch_size: int | None = None,
        digest: str | None = None,
    ) -> None:
        """Wrap a `model` whose texts the `encoder` turns into tokens.

        Raises:
            InputError: There is no such device, or an option does not fit the others.
        """
        if batch_size is not None and batch_size < 1:
            raise InputError(f"Expected batch_size of at least 1, got {batch_size}. Raise it.")
        # The prefix of ReCaLL is a prompt, which must not be scored
        if prefix is not None and not encoder.completion_only:
            raise InputError(
                "Expected no prefix with completion_only=False, which would score its tokens, got "
                "both. Leave one out."
            )
        try:
            self.model = model if device is None else model.to(device)
        except (RuntimeError, AssertionError) as error:
            first = str(error).splitlines()[0]
            raise InputError(
                f"Expected an available device, got {device!r} ({first}). Use --device cpu."
            ) from error
        self.encoder = encoder
        self.tokenizer = encoder.tokenizer
        self.batch_size = batch_size
        self.prefix = prefix
        self.base: Any = None
        self.given_notes: tuple[str, ...] = ()
        self.adapter_off = False
        self._digest = digest
        self._budget: TokenBudget | None = None

    @property
    def digest(self) -> str | None:
        """Hash of the files, or of configuration and weights; and of how texts are read."""
        # The path that it was loaded from does not change the answers
        config = {
            name: value
            for name, value in self.model.config.to_dict().items()
            if "_name_or_path" not in name
        }
        adapters = {
            name: adapter.to_dict()
            for name, adapter in getattr(self.model, "peft_config", {}).items()
        }
        text = json.dumps([config, adapters, self.tokens_identity, self.adapter_off], default=str)
        if self._digest:
            return f"{self._digest}:{self.tokens_identity}:{self.adapter_off}"
        return hash_weights(f"language model:{text}", self.model)

    @property
    def n_parameters(self) -> int | None:
        """Number of trainable parameters."""
        return int(self.model.num_parameters(only_trainable=True))

    @property
    def tokens_identity(self) -> str:
        """What must agree between this model, its base and its references."""
        quantised = getattr(self.model.config, "quantization_config", None)
        kind = getattr(quantised, "quant_method", None) or "none"
        return (
            f"{self.encoder.identity}; engine=transformers; weights={self.model.dtype}; "
            f"quantisation={kind}"
        )

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences on how the model was loaded and on texts that were cut."""
        return (*self.given_notes, *self.encoder.notes)

    def query(self, x: Any) -> Floats:
        """Query the losses (n, 1) of records: minus the mean log-probability of their tokens."""
        signals = self._measure(x, moments=False)
        return -signals.mean_log_probability()[:, None]

    def measure_tokens(self, x: Any) -> TokenSignals:
        """Measure what the model says about the scored tokens of the records `x` (n,).

        Raises:
            InputError: A record has no token to score.
            TargetError: The model fails, or gives something that is not a number.
        """
        return self._measure(x, moments=True)

    def measure_top_tokens(self, x: Any, k: int) -> TokenSignals:
        """Measure what an adversary knows of the scored tokens of `x` (n,) from the `k` largest.

        A token that is not among the k most probable ones of its place has the most that its
        log-probability can be, given those.

        Raises:
            InputError: A record has no token to score.
            TargetError: The model fails, or gives something that is not a number.
        """
        return self._measure(x, moments=False, k=k)

    def count_tokens(self, x: Any) -> Ints:
        """Count the tokens (n,) that the model reads for each of the records `x`."""
        return self.encoder.count_tokens(x)

    def _measure(self, x: Any, *, moments: bool, k: int | None = None) -> TokenSignals:
        """Measure the scored tokens of the records: with their moments, or of the k largest."""
        import torch

        encoded = self.encoder.encode(x)
        values = TokenValues.allocate(int(encoded.offsets[-1]), moments=moments, k=k)
        # Dropout would make answers random
        with use_eval_mode(self.model), self.hold_adapter(), torch.inference_mode():
            self._fill_values(encoded, values)
        _refuse_not_numbers(values, encoded, x)
        return values.as_signals(encoded.offsets)

    @abstractmethod
    def _fill_values(self, encoded: EncodedTexts, values: TokenValues) -> None:
        """Fill in the values of all scored tokens."""

    @contextmanager
    def hold_adapter(self) -> Iterator[None]:
        """Switch the adapter off while this target is the model below it."""
        if not self.adapter_off:
            yield
            return
        # Switching it on again marks its weights as trained, whatever they were before
        flags = [(part, part.requires_grad) for part in self.model.parameters()]
        try:
            with self.model.disable_adapter():
                yield
        finally:
            for part, flag in flags:
                part.requires_grad_(flag)

    def compute_logits(self, ids: Any, mask: Any) -> Any:
        """Compute the logits (b, t, v) of a batch of token ids (b, t) under their `mask`."""
        options = {"use_cache": False} if self._takes_cache() else {}
        logits = self.model(input_ids=ids, attention_mask=mask, **options).logits
        # Prompt tuning puts positions of its own before the text
        return logits[:, logits.shape[1] - ids.shape[1] :]

    def _takes_cache(self) -> bool:
        """Tell whether the model could keep a cache, which scoring does not need."""
        return hasattr(self.model.config, "use_cache")

    @property
    def budget(self) -> TokenBudget:
        """How many tokens a batch holds, chosen at the first call."""
        # A batch size that was changed since is followed
        if self._budget is None or self._budget.rows != self.batch_size:
            self._budget = choose_token_budget(self.model, self.batch_size)
        return self._budget


def build_encoder(model: Any, tokenizer: Any, **options: Any) -> TextEncoder:
    """Build the encoder of a model: its longest text and vocabulary from the configuration.

    Raises:
        InputError: There is no tokenizer, or `max_length` is longer than the model takes.
    """
    if tokenizer is None or not callable(tokenizer):
        raise InputError(
            f"Expected a tokenizer beside the language model, got {type(tokenizer).__name__}. Give "
            "CausalLMTarget(model, tokenizer)."
        )
    longest = find_longest(tokenizer, model.config)
    asked = options.pop("max_length", None)
    if asked is not None and longest is not None and asked > longest:
        raise InputError(
            f"Expected max_length of at most {longest}, the longest text that the model takes, got "
            f"{asked}. Lower it, or use long='windows'."
        )
    table = model.get_input_embeddings()
    vocabulary = int(table.weight.shape[0])
    return TextEncoder(tokenizer, longest=asked or longest, vocabulary=vocabulary, **options)


def pad_windows(windows: list[list[int]], device: Any) -> tuple[Any, Any]:
    """Pad lists of token ids on the right to (b, t), and give the mask of what is text."""
    import torch

    lengths = torch.tensor([len(ids) for ids in windows])
    ids = torch.zeros((len(windows), int(lengths.max())), dtype=torch.long)
    for row, one in enumerate(windows):
        ids[row, : len(one)] = torch.tensor(one)
    mask = (torch.arange(ids.shape[1])[None] < lengths[:, None]).long()
    return ids.to(device), mask.to(device)


@contextmanager
def explain_model_error(what: str) -> Iterator[None]:
    """Turn an error of the model, other than of memory, into one sentence.

    Raises:
        TargetError: There was one.
    """
    try:
        yield
    except (IndexError, ValueError, TypeError, AttributeError) as error:
        first = (str(error).splitlines() or [""])[0]
        raise TargetError(
            f"Expected {what} of the model, got {type(error).__name__}: {first}. Call the model "
            "yourself to see why."
        ) from error


def _refuse_not_numbers(values: TokenValues, encoded: EncodedTexts, x: Any) -> None:
    """Refuse values that are not finite.

    Raises:
        TargetError: There are such; the message names the first record.
    """
    odd = ~np.isfinite(values.log_probability)
    for more in (values.mean, values.variance):
        if more is not None:
            odd |= ~np.isfinite(more)
    if odd.any():
        records = np.unique(np.searchsorted(encoded.offsets, np.flatnonzero(odd), "right") - 1)
        raise TargetError(
            f"Expected finite log-probabilities of the tokens, got NaN or infinity in "
            f"{len(records)} records, the first {reprlib.repr(x[int(records[0])])}. Look at the "
            "model's logits for it; half precision may overflow."
        )
