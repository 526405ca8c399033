"""Read folders that save_pretrained() wrote, without running any code of theirs.

Only safetensors are opened, and nothing is downloaded.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from memberscope.errors import InputError, MemberscopeError, UnsafeFileError

# Any one of these files is enough for a tokenizer
TOKENIZERS = (
    "tokenizer.json",
    "vocab.txt",
    "vocab.json",
    "spiece.model",
    "tokenizer.model",
    "sentencepiece.bpe.model",
)
# Kinds of files that may run code when they are opened
PICKLES = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib")
# No network and no code of the model's own, whatever its configuration asks for
CLOSED: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
# Ends of architectures that take texts
WITH_TOKENIZER = ("ForSequenceClassification", "ForCausalLM", "LMHeadModel", "ForMaskedLM")


def import_transformers() -> Any:
    """Import transformers, which needs torch.

    Raises:
        InputError: One of them is not installed.
    """
    try:
        import torch  # noqa: F401  # without it transformers imports, and fails later
        import transformers
    except ImportError as error:
        raise InputError(
            f"Expected transformers and torch, got: {error}. Run `pip install memberscope[hf]`."
        ) from error
    return transformers


def load_folder_model(folder: Path, auto: Any) -> Any:
    """Load the model in a folder by the class `auto` of transformers, in eval mode.

    Raises:
        InputError: The folder is incomplete or damaged.
        UnsafeFileError: The model needs code of its own.
    """
    transformers = import_transformers()
    try:
        with silence_transformers(transformers):
            model, report = auto.from_pretrained(
                str(folder), use_safetensors=True, output_loading_info=True, **CLOSED
            )
    except Exception as error:  # transformers raises errors of many kinds
        raise explain_load_error(folder, error) from error
    # transformers fills missing weights at random with a mere warning
    missing = sorted({*report["missing_keys"], *(str(key) for key in report["mismatched_keys"])})
    if missing:
        raise InputError(
            f"Expected all weights in {folder}, got none for {', '.join(missing[:3])}. Save the "
            "fine-tuned model."
        )
    return model


def load_folder_tokenizer(folder: Path) -> Any:
    """Load the tokenizer in a folder.

    Raises:
        InputError: It is incomplete or damaged.
        UnsafeFileError: It needs code of its own.
    """
    transformers = import_transformers()
    try:
        with silence_transformers(transformers):
            return transformers.AutoTokenizer.from_pretrained(str(folder), **CLOSED)
    except Exception as error:  # transformers raises errors of many kinds
        raise explain_load_error(folder, error) from error


def note_unopened_files(folder: Path) -> tuple[str, ...]:
    """Name the files that could run code, so that nobody believes that they were audited."""
    unread = sorted(
        file.name for file in folder.iterdir() if file.suffix.lower() in (*PICKLES, ".py")
    )
    if not unread:
        return ()
    return (f"Left unopened in {folder.name}, as they could run code: {', '.join(unread)}.",)


def read_folder_config(folder: Path) -> dict[str, Any]:
    """Read the configuration in a folder with safetensors and, for text, a vocabulary.

    Raises:
        InputError: Something is missing.
        UnsafeFileError: The weights are only there as pickles.
    """
    files = {file.name for file in folder.iterdir()}
    if "config.json" not in files:
        raise InputError(
            f"Expected config.json in the folder {str(folder)!r}, got none. Give a folder that "
            "save_pretrained() wrote."
        )
    # Other weight files are pickles, which run code when they are opened
    if not files & {"model.safetensors", "model.safetensors.index.json"}:
        pickles = sorted(name for name in files if name.endswith(PICKLES))
        if pickles:
            raise UnsafeFileError(
                f"Expected model.safetensors in {folder}, got {pickles[0]}, which could run code. "
                "Save the model with save_pretrained() of transformers 5, which writes "
                "safetensors."
            )
        raise InputError(
            f"Expected model.safetensors in {folder}, got no weights. Save the model again."
        )
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        architectures = config.get("architectures") or []
    except (ValueError, AttributeError) as error:
        raise InputError(
            f"Expected JSON in {folder / 'config.json'}, got: {error}. Save the model again."
        ) from error
    # Without any of these files texts cannot be tokenised
    if any(str(name).endswith(WITH_TOKENIZER) for name in architectures) and not files & set(
        TOKENIZERS
    ):
        raise InputError(
            f"Expected a tokenizer in {folder}, got no {TOKENIZERS[0]}. Save it there with "
            "save_pretrained()."
        )
    return dict(config)


def hash_model_folder(folder: Path) -> str:
    """Hash the contents of the files that decide the answers."""
    hasher = hashlib.sha256(b"huggingface:")
    for file in sorted(folder.iterdir()):
        if (
            # Logs of training differ between runs but change no answer
            file.suffix in (".json", ".safetensors", ".txt", ".model")
            and file.name != "trainer_state.json"
        ):
            with file.open("rb") as stream:
                # Hashed in pieces, since weights may be larger than the memory
                hasher.update(file.name.encode() + hashlib.file_digest(stream, "sha256").digest())
    return hasher.hexdigest()


def explain_load_error(folder: Path, error: Exception) -> MemberscopeError:
    """Translate an error of transformers into one sentence."""
    first = (str(error).splitlines() or [""])[0].split(". ")[0]
    # transformers has no class of its own for this error
    if "trust_remote_code" in str(error):
        return UnsafeFileError(
            f"Expected a model that needs no code of its own, got {folder}: {first}. Give it as "
            "module:factory."
        )
    return InputError(
        f"Expected a complete model in {folder}, got {type(error).__name__}: {first}. Save it "
        "again."
    )


@contextmanager
def silence_transformers(transformers: Any) -> Iterator[None]:
    """Suppress progress bars and log messages, and restore both afterwards."""
    logging = transformers.utils.logging
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(logging.CRITICAL)
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
