"""Load language models from folders: whole models, or adapters of PEFT beside their base model.

Only safetensors are opened, no code of a model's own is run, and nothing is downloaded.
"""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

from memberscope.errors import InputError, UnsafeFileError
from memberscope.targets.frameworks.huggingface_folder import (
    PICKLES,
    TOKENIZERS,
    explain_load_error,
    hash_model_folder,
    import_transformers,
    load_folder_model,
    load_folder_tokenizer,
    note_unopened_files,
    read_folder_config,
    silence_transformers,
)
from memberscope.targets.tasks import CAUSAL, MASKED
from memberscope.targets.texts.causal import CausalLMTarget
from memberscope.targets.texts.masked import MaskedLMTarget

ADAPTER = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"


def is_language_model_folder(folder: Path) -> bool:
    """Tell whether a folder holds a causal or masked language model, or an adapter.

    >>> is_language_model_folder(Path("nowhere"))
    False
    """
    if (folder / ADAPTER).is_file():
        return True
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        names = config.get("architectures") or []
    except (OSError, ValueError, AttributeError):
        return False
    return any(str(name).endswith((*CAUSAL, *MASKED)) for name in names)


def load_causal_lm(folder: str | Path, **options: Any) -> CausalLMTarget:
    """Load a causal language model, or an adapter of PEFT, from a local folder.

    `options` are those of `CausalLMTarget`. Of an adapter the base model is taken from the local
    folder that adapter_config.json names.

    Raises:
        InputError: The folder is incomplete, damaged or holds another kind of model.
        UnsafeFileError: Its weights could run code, or it needs code of its own.
    """
    target = load_language_model(folder, **options)
    if not isinstance(target, CausalLMTarget):
        raise InputError(
            f"Expected a causal language model in {folder}, got a masked one. Use "
            "load_language_model."
        )
    return target


def load_language_model(folder: str | Path, **options: Any) -> CausalLMTarget | MaskedLMTarget:
    """Load a causal or masked language model, or an adapter of PEFT, from a local folder.

    `options` are those of `CausalLMTarget` or `MaskedLMTarget`.

    Raises:
        InputError: The folder is incomplete, damaged or holds another kind of model.
        UnsafeFileError: Its weights could run code, or it needs code of its own.
    """
    path = Path(folder)
    if not path.is_dir():
        raise InputError(
            f"Expected a folder, got {str(path)!r}, which is not there. Check the path."
        )
    if (path / ADAPTER).is_file():
        return _load_adapter(path, options)
    names = [str(name) for name in read_folder_config(path).get("architectures") or []]
    transformers = import_transformers()
    if not any(name.endswith((*CAUSAL, *MASKED)) for name in names):
        raise InputError(
            f"Expected a causal or masked language model in {path}, got "
            f"{', '.join(names or ['none'])}. Give another folder."
        )
    masked = any(name.endswith(MASKED) for name in names)
    auto = transformers.AutoModelForMaskedLM if masked else transformers.AutoModelForCausalLM
    model, tokenizer = load_folder_model(path, auto), load_folder_tokenizer(path)
    options = {"digest": hash_model_folder(path), **options}
    target: CausalLMTarget | MaskedLMTarget = (
        MaskedLMTarget(model, tokenizer, **options)
        if masked
        else CausalLMTarget(model, tokenizer, **options)
    )
    target.given_notes = note_unopened_files(path)
    return target


def find_local_tokenizer(model: Any) -> Any:
    """Load the tokenizer that lies in the local folder a model was loaded from.

    Raises:
        InputError: There is none, so that it has to be given.
    """
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    folder = Path(str(getattr(inner.config, "_name_or_path", "") or "."))
    if folder != Path(".") and any((folder / name).is_file() for name in TOKENIZERS):
        return load_folder_tokenizer(folder)
    raise InputError(
        f"Expected a tokenizer beside {type(inner).__name__}, got the model alone. Give "
        "CausalLMTarget(model, tokenizer), or MaskedLMTarget(model, tokenizer)."
    )


def _load_adapter(folder: Path, options: dict[str, Any]) -> CausalLMTarget:
    """Load the base model of an adapter, and the adapter on top of it.

    Raises:
        InputError: PEFT is not installed, the adapter is of another task or damaged, or its base
            model is no local folder.
        UnsafeFileError: Its weights could run code.
    """
    settings = _read_adapter_config(folder)
    home = _find_base_folder(folder, settings)
    base = load_language_model(home)
    if not isinstance(base, CausalLMTarget):
        raise InputError(
            f"Expected an adapter of a causal language model in {folder}, got one of "
            f"{type(base.model).__name__}. Give it as module:factory."
        )
    try:
        import peft
        from safetensors import safe_open
    except ImportError as error:
        raise InputError(
            f"Expected peft to load the adapter in {folder}, got: {error}. Run `pip install "
            "memberscope[hf]`."
        ) from error
    try:
        with silence_transformers(import_transformers()), warnings.catch_warnings():
            # peft calls what later versions of transformers renamed
            warnings.simplefilter("ignore")
            model = peft.PeftModel.from_pretrained(
                base.model,
                str(folder),
                # So that the adapter is known as what was trained
                is_trainable=True,
                torch_device="cpu",
                local_files_only=True,
            )
        wanted = set(peft.get_peft_model_state_dict(model, save_embedding_layers=False))
        with safe_open(folder / ADAPTER_WEIGHTS, "pt") as stored:
            missing = sorted(wanted - set(stored.keys()))
    except Exception as error:  # peft raises errors of many kinds
        raise explain_load_error(folder, error) from error
    # peft leaves missing weights at their start with a mere warning
    if missing:
        raise InputError(
            f"Expected all weights of the adapter in {folder}, got none for "
            f"{', '.join(missing[:3])}. Save the adapter again."
        )
    own = any((folder / name).is_file() for name in TOKENIZERS)
    digest = f"{hash_model_folder(folder)}:{hash_model_folder(home)}"
    target = CausalLMTarget(
        model.eval(),
        load_folder_tokenizer(folder) if own else base.tokenizer,
        **{"digest": digest, **options},
    )
    kind = settings.get("peft_type", "adapter")
    target.given_notes = (
        f"Read the {kind} adapter of {folder.name} on the base model in {home.name}; that model is "
        "the base for attacks that compare.",
        *note_unopened_files(folder),
    )
    return target


def _read_adapter_config(folder: Path) -> dict[str, Any]:
    """Read the settings of an adapter.

    Raises:
        InputError: They are damaged, or of another task.
        UnsafeFileError: The weights are only there as a pickle, or modules would be imported.
    """
    try:
        settings = json.loads((folder / ADAPTER).read_text(encoding="utf-8"))
        task = settings.get("task_type")
    except (ValueError, AttributeError) as error:
        raise InputError(
            f"Expected JSON in {folder / ADAPTER}, got: {error}. Save the adapter again."
        ) from error
    if task not in (None, "CAUSAL_LM"):
        raise InputError(
            f"Expected an adapter of a causal language model in {folder}, got one for {task}. Merge "
            "it into its model and save that."
        )
    # Megatron adapters import the module that their settings name
    if settings.get("megatron_config") is not None:
        raise UnsafeFileError(
            f"Expected an adapter that imports no modules, got megatron_config in {folder}. Merge "
            "it into its model and save that."
        )
    if not (folder / ADAPTER_WEIGHTS).is_file():
        pickles = sorted(file.name for file in folder.iterdir() if file.suffix in PICKLES)
        if pickles:
            raise UnsafeFileError(
                f"Expected {ADAPTER_WEIGHTS} in {folder}, got {pickles[0]}, which could run code. "
                "Save the adapter with save_pretrained() of peft, which writes safetensors."
            )
        raise InputError(
            f"Expected {ADAPTER_WEIGHTS} in {folder}, got no weights. Save the adapter again."
        )
    return dict(settings)


def _find_base_folder(folder: Path, settings: dict[str, Any]) -> Path:
    """Find the local folder of an adapter's base model.

    Raises:
        InputError: It is not on this machine.
    """
    named = str(settings.get("base_model_name_or_path") or "")
    # As it is written, or beside the adapter
    for place in (Path(named), folder / named, folder.parent / named):
        if named and (place / "config.json").is_file() and place.resolve() != folder.resolve():
            return place
    raise InputError(
        f"Expected the base model of the adapter {folder} in a local folder, got {named!r}. "
        f"Download it, and write its folder under base_model_name_or_path in {ADAPTER}."
    )
