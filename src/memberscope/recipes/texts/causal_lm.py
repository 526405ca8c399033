"""Fine-tune causal language models as a recipe: reference models that start from the same base."""

from __future__ import annotations

import copy
import hashlib
import os
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cached_property
from typing import Any

from memberscope.recipes.texts.base_model import digest_base, load_base
from memberscope.recipes.texts.encode import Sequence, encode_records
from memberscope.recipes.texts.finetune import accumulate_gradient, finetune_model
from memberscope.recipes.texts.memory import (
    COPIES,
    FREE,
    estimate_row_bytes,
    find_rows_at_once,
    measure_free_bytes,
)
from memberscope.recipes.texts.settings import FineTuning
from memberscope.types import Records, Target

VERSION = 1  # raised whenever the same settings give other weights


@dataclass(frozen=True, eq=False)
class CausalLMRecipe:
    """Recipe that fine-tunes a causal language model of transformers, fully or by LoRA.

    Every model starts from the same weights, as the audited model did. Give the settings that the
    audited model was trained with: references that were trained for fewer epochs hide most of what
    it leaks. The same seed gives the same order of texts, dropout and adapters.

    Attributes:
        base: Folder with the model before fine-tuning, safetensors only, or the model itself.
        settings: How it is fine-tuned.
        tokenizer: The tokenizer or its folder; by default that of the folder `base`.

    >>> from memberscope.errors import InputError
    >>> from memberscope.recipes import FineTuning
    >>> recipe = CausalLMRecipe("base", FineTuning(epochs=4, lr=1e-4, batch_size=16))
    >>> recipe.device, recipe.threads
    ('cpu', 1)
    """

    base: Any
    settings: FineTuning = field(default_factory=FineTuning)
    tokenizer: Any = None

    @property
    def threads(self) -> int:
        """CPU threads of one training job."""
        return self.settings.threads

    @property
    def device(self) -> str:
        """Where models are trained."""
        return self.settings.device

    @cached_property
    def digest(self) -> str:
        """Hash of the base model, the tokenizer, every setting and the libraries' versions."""
        import torch
        import transformers

        versions = [torch.__version__, transformers.__version__]
        if self.settings.lora is not None:
            import peft

            versions.append(peft.__version__)
        start = digest_base(self.base, self._loaded[1])
        text = f"{VERSION}:{start}:{sorted(asdict(self.settings).items())}:{versions}"
        return hashlib.sha256(text.encode()).hexdigest()

    @cached_property
    def _loaded(self) -> tuple[Any, Any]:
        """The base model and its tokenizer, loaded once a process."""
        return load_base(self.base, self.tokenizer)

    @cached_property
    def base_target(self) -> Target:
        """The base model as a target, which attacks compare with."""
        return self._build_target(self._loaded[0], None)

    def __getstate__(self) -> dict[str, Any]:
        """Pickle the fields alone: each worker loads a folder by itself."""
        return {entry.name: getattr(self, entry.name) for entry in fields(self)}

    def __call__(self, records: Records, seed: int) -> Target:
        """Fine-tune a copy of the base model on `records`.

        Raises:
            InputError: The records are no texts, or a text has no token to learn.
        """
        sequences = self._encode(records)
        model = self._build_model(seed)
        rows = self.settings.rows_at_once or self._find_rows(model, sequences)
        finetune_model(model, sequences, self.settings, seed, rows)
        return self._build_target(model, self.base_target)

    def count_tokens(self, records: Records) -> int:
        """Count the tokens of the records as they are trained on, in one epoch."""
        return sum(len(entry.ids) for entry in self._encode(records))

    def tuned(self, pool: Records, size: int, n_models: int) -> tuple[Any, dict[str, Any]]:
        """Find how many texts of a step, and models on this machine, memory has room for.

        Give the recipe, and the choice in words.
        """
        sequences, model = self._encode(pool), self._build_model(0)
        rows = self.settings.rows_at_once or self._find_rows(model, sequences)
        weights = sum(weight.numel() * weight.element_size() for weight in model.parameters())
        each = COPIES * weights + rows * self._estimate_row_bytes(sequences)
        at_once = max(1, min(os.cpu_count() or 1, int(FREE * measure_free_bytes()) // each))
        choice = {
            "engine": "transformers",
            "stack": 1,
            "threads": self.threads,
            "rows_at_once": rows,
            # Models of this machine share its one GPU
            "processes": at_once if self.device == "cpu" else 1,
            "note": (
                f"fine-tuned one by one, {rows} of {self.settings.batch_size} texts of a step at "
                "once, each text by itself (no packing)"
            ),
        }
        return self.chosen(choice), choice

    def chosen(self, choice: dict[str, Any]) -> CausalLMRecipe:
        """Apply an earlier choice."""
        return replace(self, settings=replace(self.settings, rows_at_once=choice["rows_at_once"]))

    def _encode(self, records: Records) -> list[Sequence]:
        """Encode records, cut at the model's context where no length was given."""
        model, tokenizer = self._loaded
        longest = getattr(model.config, "max_position_embeddings", None)
        length = min(filter(None, (self.settings.max_length, longest)), default=None)
        return encode_records(tokenizer, records, replace(self.settings, max_length=length))

    def _build_model(self, seed: int) -> Any:
        """Copy the base model, with new adapters where LoRA is trained."""
        import torch

        model = copy.deepcopy(self._loaded[0]).to(self.device)
        lora = self.settings.lora
        if lora is None:
            return model.requires_grad_(True)
        import peft

        config = peft.LoraConfig(
            task_type="CAUSAL_LM",
            r=lora.rank,
            lora_alpha=lora.alpha,
            lora_dropout=lora.dropout,
            target_modules=list(lora.modules) or None,
        )
        with torch.random.fork_rng([]):
            torch.manual_seed(seed)
            return peft.get_peft_model(model, config)

    def _estimate_row_bytes(self, sequences: list[Sequence]) -> int:
        """Estimate the bytes of the longest text while it is trained on."""
        longest = max(len(entry.ids) for entry in sequences)
        return estimate_row_bytes(self._loaded[0].config, longest)

    def _find_rows(self, model: Any, sequences: list[Sequence]) -> int:
        """Find how many of the longest texts there is memory for at once."""
        most = min(self.settings.batch_size, len(sequences))
        if self.device != "cpu":
            longest = sorted(sequences, key=lambda entry: -len(entry.ids))[:most]
            return find_rows_at_once(lambda rows: self._try_rows(model, longest, rows), most)
        # A processor's memory is only known to be too small once the process is killed
        each = self._estimate_row_bytes(sequences)
        room = int(FREE * measure_free_bytes()) // (os.cpu_count() or 1)
        return find_rows_at_once(lambda rows: rows * each <= room, most)

    def _try_rows(self, model: Any, longest: list[Sequence], rows: int) -> bool:
        """Try whether the gradient of so many texts fits on the device."""
        import torch

        try:
            accumulate_gradient(model, longest[:rows], self.settings, rows)
        except torch.OutOfMemoryError:
            return False
        finally:
            model.zero_grad(set_to_none=True)
            torch.cuda.empty_cache()
        return True

    def _build_target(self, model: Any, base: Target | None) -> Target:
        """Wrap a model as the audited one is wrapped."""
        from memberscope.targets import CausalLMTarget

        target: Target = CausalLMTarget(model, self._loaded[1], base=base)
        return target
