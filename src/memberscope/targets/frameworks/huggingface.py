"""Wrap Hugging Face classifiers from a local folder of safetensors.

They take text by the tokenizer, or arrays as the model takes them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memberscope.errors import InputError
from memberscope.facts import ModelKind
from memberscope.frames import Inputs, make_dense_array
from memberscope.targets.answers.scores import as_rows, find_scores, pick_scores
from memberscope.targets.frameworks.huggingface_folder import (
    hash_model_folder,
    import_transformers,
    load_folder_model,
    load_folder_tokenizer,
    note_unopened_files,
    read_folder_config,
)
from memberscope.targets.frameworks.huggingface_tasks import require_classifier
from memberscope.targets.tasks import refuse_architectures, refuse_unsupported
from memberscope.targets.torch_modules.target import hash_weights
from memberscope.types import Access, Floats, Ints, Signal

ModelInputs = dict[str, Any]  # what one call of a model is given, by argument

# Ends of architectures that are audited, and what of transformers loads them
TASKS = {
    "ForSequenceClassification": "AutoModelForSequenceClassification",
    "ForImageClassification": "AutoModelForImageClassification",
}
ENDLESS = 10**6  # a tokenizer without a longest text says a number far beyond this


class HuggingFaceTarget:
    """A sequence or image classifier of transformers; its answers are logits.

    With a `tokenizer` records are texts, or pairs of texts, in one or two columns; they are queried
    in batches of similar length. Without one they are token ids (n, length) or pixel values (n,
    channels, height, width).

    >>> from transformers import BertConfig, BertForSequenceClassification
    >>> sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    >>> model = BertForSequenceClassification(BertConfig(vocab_size=9, num_labels=3, **sizes))
    >>> HuggingFaceTarget(model).query(np.array([[2, 4, 3, 0], [2, 5, 6, 3]])).shape
    (2, 3)
    """

    access = Access.LOGITS
    signal: Signal = "logits"
    model_kind: ModelKind = "neural_network"

    def __init__(
        self,
        model: Any,
        tokenizer: Any = None,
        *,
        batch_size: int = 64,
        device: str | None = None,
        digest: str | None = None,
    ) -> None:
        """Wrap a `model`; `digest` is that of the files it came from, if any.

        Raises:
            InputError: It is not a classifier with one label a record, or there is no such device.
        """
        # By its task first, since the message then has advice for that task
        refuse_unsupported(model)
        config = model.config
        require_classifier(model, config)
        try:
            self.model = model if device is None else model.to(device)
        except (RuntimeError, AssertionError) as error:
            first = str(error).splitlines()[0]
            raise InputError(
                f"Expected an available device, got {device!r} ({first}). Use --device cpu."
            ) from error
        self.tokenizer = tokenizer
        self.batch_size = batch_size
        self.n_classes = int(config.num_labels)
        self.classes = _read_label_names(config)
        self._digest = digest

    @property
    def digest(self) -> str | None:
        """Hash of the files, or of configuration, weights and vocabulary."""
        if self._digest:
            return self._digest
        # The path that it was loaded from does not change the answers
        config = {
            name: value
            for name, value in self.model.config.to_dict().items()
            if "_name_or_path" not in name
        }
        # A tokenizer in Python has no serialised form to hash
        backend = getattr(self.tokenizer, "backend_tokenizer", None)
        if self.tokenizer is not None and backend is None:
            return None
        text = json.dumps(config, sort_keys=True, default=str) + (
            backend.to_str() if backend is not None else ""
        )
        return hash_weights(f"huggingface:{text}", self.model)

    @property
    def n_parameters(self) -> int | None:
        """Number of trainable parameters."""
        return int(self.model.num_parameters(only_trainable=True))

    def query(self, x: Any) -> Floats:
        """Give the logits (n, k) for texts, token ids or pixel values.

        The model's training mode is restored afterwards.

        Raises:
            InputError: `x` is not what the model takes.
        """
        import torch

        batches = self._batches(x)
        values = np.empty((len(x), self.n_classes))
        # Dropout would make answers random
        training = self.model.training
        self.model.eval()
        try:
            with torch.inference_mode():
                for where, inputs in batches:
                    inputs = {name: tensor.to(self.model.device) for name, tensor in inputs.items()}
                    answer = self.model(**inputs)
                    scores = pick_scores(answer, find_scores(answer, len(where), self.n_classes))
                    # By position, since batches of texts are not in the records' order
                    values[where] = as_rows(scores, len(where))
        finally:
            # Also after an error: the model is the user's own
            self.model.train(training)
        return values

    def _batches(self, x: Any) -> Iterator[tuple[Ints, ModelInputs]]:
        """Yield batches as the model takes them, and the positions of their records."""
        if isinstance(x, Inputs):
            return self._tokens(x)
        return self._texts(x) if self.tokenizer is not None else self._arrays(make_dense_array(x))

    def _tokens(self, x: Inputs) -> Iterator[tuple[Ints, ModelInputs]]:
        """Yield batches of what a tokenizer gave: token ids, their mask, other inputs by name."""
        import torch

        # Without names, in the order in which tokenizers of transformers give them
        names = x.names or (self.model.main_input_name, "attention_mask", "token_type_ids")
        for start in range(0, len(x), self.batch_size):
            part = x[start : start + self.batch_size]
            tensors = [torch.from_numpy(np.ascontiguousarray(values)) for values in part.parts]
            typed = [
                # Embeddings take int64 alone, and pixels must have the type of the weights
                one.to(self.model.dtype) if one.is_floating_point() else one.long()
                for one in tensors
            ]
            yield np.arange(start, start + len(part)), dict(zip(names, typed, strict=False))

    def _texts(self, x: Any) -> Iterator[tuple[Ints, ModelInputs]]:
        """Yield batches of tokenised texts, shortest first, and the positions of their records."""
        columns = _split_text_columns(x)
        pad = self.tokenizer.pad_token is not None
        longest = _find_token_limit(self.tokenizer, self.model.config)
        encoded = self.tokenizer(
            *columns, truncation=longest is not None, max_length=longest, padding=False
        )
        # Texts of similar length share a batch, so that little is padding
        order = np.argsort([len(ids) for ids in encoded["input_ids"]], kind="stable")
        # Without a padding token texts of different lengths cannot share a batch
        step = self.batch_size if pad else 1
        for start in range(0, len(order), step):
            where = order[start : start + step]
            batch = {name: [values[i] for i in where] for name, values in encoded.items()}
            # Padded to the longest of the batch, not of all
            yield where, dict(self.tokenizer.pad(batch, padding=pad, return_tensors="pt"))

    def _arrays(self, values: NDArray[Any]) -> Iterator[tuple[Ints, ModelInputs]]:
        """Yield batches of token ids, or of pixel values."""
        import torch

        if values.dtype.kind not in "iuf":
            raise InputError(
                f"Expected token ids or pixel values, got {values.dtype}. Give a tokenizer for "
                "texts."
            )
        for start in range(0, len(values), self.batch_size):
            batch = torch.from_numpy(np.ascontiguousarray(values[start : start + self.batch_size]))
            where = np.arange(start, start + len(batch))
            # Token ids need a mask, which follows from the padding; pixels do not
            if self.model.main_input_name == "input_ids":
                ids = batch.long()
                yield (
                    where,
                    {
                        "input_ids": ids,
                        "attention_mask": (ids != (self.model.config.pad_token_id or 0)).long(),
                    },
                )
            else:
                yield where, {self.model.main_input_name: batch.to(self.model.dtype)}


def _read_label_names(config: Any) -> tuple[str, ...] | None:
    """Read the names of the classes, unless they are only numbered."""
    names = tuple(str(config.id2label[k]) for k in range(config.num_labels))
    return None if all(name == f"LABEL_{k}" for k, name in enumerate(names)) else names


def _find_token_limit(tokenizer: Any, config: Any) -> int | None:
    """Find the most tokens that the model takes; None if there is no limit."""
    # The tokenizer's own limit goes first; some say none, by a huge number
    said = tokenizer.model_max_length
    if said < ENDLESS:
        return int(said)
    places = getattr(config, "max_position_embeddings", None)
    if places is None:
        return None
    # Models of RoBERTa's family number their positions from behind the padding token's
    return int(places) - (config.pad_token_id + 1 if "roberta" in config.model_type else 0)


def _split_text_columns(x: Any) -> list[list[str]]:
    """Split records into one list of texts, or two for pairs.

    Raises:
        InputError: `x` is not one or two columns of words.

    >>> _split_text_columns(["good", "bad"])
    [['good', 'bad']]
    """
    # As objects: fixed-width strings would take the longest text's space for each
    values = np.array(x, dtype=object) if isinstance(x, list | tuple) else make_dense_array(x)
    values = values.reshape(len(values), -1)
    if values.shape[1] not in (1, 2) or not all(isinstance(value, str) for value in values.ravel()):
        odd = next((value for value in values.ravel() if not isinstance(value, str)), None)
        got = f"{values.shape[1]} columns" if odd is None else f"{odd!r}"
        raise InputError(
            f"Expected one column of text, or two for pairs, got {got}. Choose the text column "
            "with --features."
        )
    return [[str(value) for value in column] for column in values.T]


def load_huggingface(
    folder: Path, *, device: str | None = None
) -> tuple[HuggingFaceTarget, tuple[str, ...]]:
    """Load the classifier in a folder with config.json and safetensors.

    Also give notes for a reader of the result. Nothing is downloaded.

    Raises:
        InputError: transformers is not installed, or the folder is incomplete, damaged or holds no
            classifier.
        UnsafeFileError: Its weights could run code, or it needs code of its own.
    """
    config = read_folder_config(folder)
    # From the configuration alone, before any weights are read
    refuse_architectures(config.get("architectures"))
    names = [name for name in config.get("architectures") or [] if name.endswith(tuple(TASKS))]
    if not names:
        raise InputError(
            f"Expected a sequence or image classifier in {folder}, got "
            f"{', '.join(config.get('architectures') or ['none'])}. Give another model as "
            "module:factory."
        )
    transformers = import_transformers()
    task = next(auto for suffix, auto in TASKS.items() if names[0].endswith(suffix))
    model = load_folder_model(folder, getattr(transformers, task))
    # Images come as pixel values, so that no tokenizer is needed
    words = task == "AutoModelForSequenceClassification"
    tokenizer = load_folder_tokenizer(folder) if words else None
    target = HuggingFaceTarget(model, tokenizer, device=device, digest=hash_model_folder(folder))
    return target, note_unopened_files(folder)
