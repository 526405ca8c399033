"""Load and identify the model that fine-tuning starts from."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from memberscope.errors import InputError

# Files of a folder that decide what is loaded from it
KINDS = (".safetensors", ".json", ".jinja", ".model", ".txt")


def load_base(base: Any, tokenizer: Any) -> tuple[Any, Any]:
    """Load the base model and its tokenizer, in eval mode and without gradients.

    Folders are read from this machine alone, safetensors only, without running code of theirs.

    Raises:
        InputError: A folder has no such model, or a model comes without a tokenizer.
    """
    import transformers

    closed = {"local_files_only": True, "trust_remote_code": False}
    if isinstance(base, str | Path):
        folder = _check_folder(Path(base))
        model = transformers.AutoModelForCausalLM.from_pretrained(
            str(folder), use_safetensors=True, **closed
        )
        tokenizer = str(folder) if tokenizer is None else tokenizer
    elif tokenizer is None:
        raise InputError(
            f"Expected a tokenizer with the {type(base).__name__}, got none. Give tokenizer=, or a "
            "folder that holds both."
        )
    else:
        model = base
    if isinstance(tokenizer, str | Path):
        tokenizer = transformers.AutoTokenizer.from_pretrained(str(tokenizer), **closed)
    return model.eval(), tokenizer


def _check_folder(folder: Path) -> Path:
    """Check that there are weights in a folder.

    Raises:
        InputError: There are none.
    """
    if not list(folder.glob("*.safetensors")):
        raise InputError(
            f"Expected a folder with config.json and safetensors of a language model, got {folder}. "
            "Save the model there with save_pretrained."
        )
    return folder


def digest_base(base: Any, tokenizer: Any) -> str:
    """Hash the weights, the configuration and the tokenizer that fine-tuning starts from.

    `tokenizer` is the loaded one.
    """
    hasher = hashlib.sha256()
    if isinstance(base, str | Path):
        for file in sorted(Path(base).iterdir()):
            if file.suffix in KINDS:
                hasher.update(f"{file.name}:".encode())
                with file.open("rb") as stream:
                    hasher.update(hashlib.file_digest(stream, "sha256").digest())
    else:
        hasher.update(f"{type(base).__qualname__}{base.config.to_json_string()}".encode())
        for name, weight in sorted(base.state_dict().items()):
            hasher.update(f"{name}{tuple(weight.shape)}{weight.dtype}".encode())
            # Bytes, since numpy has no bfloat16
            hasher.update(weight.detach().cpu().contiguous().reshape(-1).view(_bytes()).numpy())
    hasher.update("\n".join(_describe_tokenizer(tokenizer)).encode())
    return hasher.hexdigest()


def _bytes() -> Any:
    """Give torch's type of a byte."""
    import torch

    return torch.uint8


def _describe_tokenizer(tokenizer: Any) -> Iterator[str]:
    """Yield what decides the tokens of a text."""
    yield type(tokenizer).__qualname__
    inner = getattr(tokenizer, "backend_tokenizer", None)
    yield str(sorted(tokenizer.get_vocab().items())) if inner is None else inner.to_str()
    yield repr(sorted(getattr(tokenizer, "special_tokens_map", {}).items()))
    yield repr(getattr(tokenizer, "chat_template", None))
