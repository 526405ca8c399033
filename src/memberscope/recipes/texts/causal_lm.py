"""Fine-tune causal language models as a recipe: reference models that start from the same base."""

from __future__ import annotations

import copy
import hashlib
import os
import warnings
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memberscope.errors import InputError
from memberscope.recipes.texts.finetune import TrainedText, accumulate_gradient, finetune_model
from memberscope.recipes.texts.memory import (
    FREE,
    estimate_model_bytes,
    estimate_row_bytes,
    find_rows_at_once,
    measure_free_bytes,
)
from memberscope.recipes.texts.settings import FineTuning, LoRA
from memberscope.types import Records

if TYPE_CHECKING:
    from memberscope.targets.texts import CausalLMTarget

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
        tokenizer: The tokenizer of a model that is no folder; by default the one in the folder
            that the model was loaded from.

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
        """Where models are trained and asked."""
        return self.settings.device

    @cached_property
    def digest(self) -> str:
        """Hash of the base model, its tokenizer, every setting and the libraries' versions."""
        import torch
        import transformers

        versions = [torch.__version__, transformers.__version__]
        if self.settings.lora is not None:
            import peft

            versions.append(peft.__version__)
        settings = sorted(asdict(self.settings).items())
        text = f"{VERSION}:{self.base_target.digest}:{settings}:{versions}"
        return hashlib.sha256(text.encode()).hexdigest()

    @cached_property
    def base_target(self) -> CausalLMTarget:
        """The base model as a target, loaded once a process; attacks compare with it.

        Raises:
            InputError: The folder holds no causal language model, or there is no tokenizer.
        """
        from memberscope.targets.texts import CausalLMTarget, find_local_tokenizer

        if isinstance(self.base, str | Path):
            return _load_folder(*_sign_folder(Path(self.base)), tuple(self._reading.items()))
        tokenizer = self.tokenizer or find_local_tokenizer(self.base)
        return CausalLMTarget(self.base, tokenizer, **self._reading)

    @property
    def tokens_identity(self) -> str:
        """How its models read texts, known before one is trained."""
        return self.base_target.tokens_identity

    @property
    def _reading(self) -> dict[str, Any]:
        """How texts are read, in training as in the audit."""
        return {
            "max_length": self.settings.max_length,
            "bos": self.settings.bos,
            "long": self.settings.long,
            "completion_only": self.settings.completion_only,
            "device": self.device,
        }

    def __getstate__(self) -> dict[str, Any]:
        """Pickle the fields alone: each worker loads a folder by itself."""
        return {entry.name: getattr(self, entry.name) for entry in fields(self)}

    def __call__(self, records: Records, seed: int) -> CausalLMTarget:
        """Fine-tune a copy of the base model on `records`.

        Raises:
            InputError: The records are no texts, or a text has no token to learn.
        """
        from memberscope.targets.texts import CausalLMTarget

        texts = self._encode(records)
        model = self._build_model(seed)
        rows = self.settings.rows_at_once or self._find_rows(model, texts)
        finetune_model(model, texts, self.settings, seed, rows)
        base = self.base_target
        return CausalLMTarget(model, base.tokenizer, base=base, **self._reading)

    def count_tokens(self, records: Records) -> int:
        """Count the tokens that training on `records` reads, all epochs together."""
        return self.settings.epochs * sum(len(entry.ids) for entry in self._encode(records))

    def tuned(
        self, pool: Records, size: int, n_models: int
    ) -> tuple[CausalLMRecipe, dict[str, Any]]:
        """Find how many texts of a step, and models on this machine, memory has room for.

        Give the recipe, and the choice in words.
        """
        texts, model = self._encode(pool), self._build_model(0)
        rows = self.settings.rows_at_once or self._find_rows(model, texts)
        each = estimate_model_bytes(model) + rows * self._estimate_row_bytes(texts)
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

    def _encode(self, records: Records) -> list[TrainedText]:
        """Encode records as the audit reads them.

        Raises:
            InputError: There are no texts, or one has no token to learn.
        """
        if records.x is None or len(records) == 0:
            raise InputError(
                "Expected texts to train on, got none. Give the records of the audit, not only "
                "stored signals."
            )
        base = self.base_target
        last = getattr(base.tokenizer, "eos_token_id", None) if self.settings.append_eos else None
        found = []
        for window in base.encoder.encode(records.x).windows:
            ids, end = window.ids, window.end
            # A text that was cut did not end there
            if last is not None and len(ids) < (base.encoder.longest or len(ids) + 1):
                ids, end = [*ids, last], len(ids) + 1
            found.append(TrainedText(tuple(ids), window.begin, end))
        return found

    def _build_model(self, seed: int) -> Any:
        """Copy the base model, with new adapters where LoRA is trained."""
        model = copy.deepcopy(self.base_target.model)
        if self.settings.lora is None:
            return model.requires_grad_(True)
        return _add_adapters(model, self.settings.lora, seed)

    def _estimate_row_bytes(self, texts: list[TrainedText]) -> int:
        """Estimate the bytes of the longest text while it is trained on."""
        longest = max(len(entry.ids) for entry in texts)
        return estimate_row_bytes(self.base_target.model.config, longest)

    def _find_rows(self, model: Any, texts: list[TrainedText]) -> int:
        """Find how many of the longest texts there is memory for at once."""
        most = min(self.settings.batch_size, len(texts))
        if self.device != "cpu":
            longest = sorted(texts, key=lambda entry: -len(entry.ids))[:most]
            return find_rows_at_once(lambda rows: self._try_rows(model, longest, rows), most)
        # A processor's memory is only known to be too small once the process is killed
        each = self._estimate_row_bytes(texts)
        room = int(FREE * measure_free_bytes()) // (os.cpu_count() or 1)
        return find_rows_at_once(lambda rows: rows * each <= room, most)

    def _try_rows(self, model: Any, longest: list[TrainedText], rows: int) -> bool:
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


def _sign_folder(folder: Path) -> tuple[Path, tuple[tuple[str, int, int], ...]]:
    """Give a folder with the names, times and sizes of its files, which change with the model."""
    files = sorted(folder.iterdir()) if folder.is_dir() else []
    found = [(file.name, file.stat().st_mtime_ns, file.stat().st_size) for file in files]
    return folder, tuple(found)


@lru_cache(maxsize=1)
def _load_folder(
    folder: Path, signature: tuple[tuple[str, int, int], ...], reading: tuple[tuple[str, Any], ...]
) -> CausalLMTarget:
    """Load a base model from its folder, once for all jobs of a process."""
    from memberscope.targets.texts import load_causal_lm

    return load_causal_lm(folder, **dict(reading))


def _add_adapters(model: Any, lora: LoRA, seed: int) -> Any:
    """Add adapters to a model, of which only these are trained.

    Raises:
        InputError: PEFT is not installed, or knows no such layers.
    """
    import torch

    try:
        import peft
    except ImportError as error:
        raise InputError(
            f"Expected peft for LoRA, got: {error}. Run `pip install memberscope[hf]`."
        ) from error
    config = peft.LoraConfig(
        task_type="CAUSAL_LM",
        r=lora.rank,
        lora_alpha=lora.alpha,  # type: ignore[arg-type]  # a number of either kind scales
        lora_dropout=lora.dropout,
        target_modules=list(lora.modules) or None,
    )
    with torch.random.fork_rng([]), warnings.catch_warnings():
        # It corrects the orientation of GPT-2's layers by itself, and says so
        warnings.filterwarnings("ignore", "fan_in_fan_out")
        warnings.filterwarnings("ignore", category=FutureWarning)
        torch.manual_seed(seed)
        try:
            return peft.get_peft_model(model, config)
        except ValueError as error:
            first = (str(error).splitlines() or [""])[0]
            raise InputError(
                f"Expected names of layers that can be adapted, got {lora.modules}: {first}. "
                "Give LoRA(modules=...) names such as those of model.named_modules()."
            ) from error
