"""Load models from files and factories.

Formats that cannot run code are loaded by default, the others only behind a declared trust.
"""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from memberscope._named_objects import import_named
from memberscope.errors import InputError, MemberscopeError, UnsafeFileError
from memberscope.targets.answers.output_kind import Outputs, parse_declared_outputs
from memberscope.targets.answers.real_outputs import parse_task
from memberscope.targets.files.trust import LoadedTarget, TrustSettings
from memberscope.targets.frameworks.boosters import load_lightgbm, load_xgboost
from memberscope.targets.frameworks.huggingface import load_huggingface
from memberscope.targets.frameworks.keras import load_keras
from memberscope.targets.frameworks.onnx import load_onnx
from memberscope.targets.frameworks.sklearn import SklearnTarget
from memberscope.targets.frameworks.sklearn_outputs import SklearnOutputsTarget
from memberscope.targets.loading.torch_weights import is_weights, load_torch_weights
from memberscope.targets.loading.wrap import apply_declaration, place_target, take_task, wrap
from memberscope.targets.texts import is_language_model_folder, load_language_model
from memberscope.types import Target, Task

# Formats that run code whenever they are opened
CODE_BEARING = (".pkl", ".pickle", ".joblib", ".ts", ".torchscript")


def load_target(
    spec: str,
    *,
    factory: str | None = None,
    trust: TrustSettings | None = None,
    device: str | None = None,
    outputs: str | None = None,
    task: str | None = None,
    long: str | None = None,
) -> LoadedTarget:
    """Load a target from `module:factory`, a file, torch weights, or a folder.

    Torch weights need a `factory`; folders are Hugging Face's. `outputs` declares what the model
    returns (probabilities, logits or labels), where that cannot be inferred, and `task` what it
    does, where it does not show that itself. `long` says what a
    language model's folder does with texts longer than its context (`truncate` or `windows`).

    Raises:
        InputError: The file or factory is missing, damaged or of another kind, does another task,
            or does not return `outputs`.
        UnsafeFileError: The format can run code and was not declared safe.
    """
    if long is not None:
        return LoadedTarget(_load_reading_long(Path(spec), device, long))
    wanted = parse_task(task)
    words = _Declared(parse_declared_outputs(outputs), wanted)
    loaded = _load_by_kind(spec, factory, trust or TrustSettings(), device, words)
    target = take_task(loaded.target, wanted)
    return LoadedTarget(apply_declaration(target, outputs), loaded.notes)


@dataclass(frozen=True)
class _Declared:
    """What the user declared of a model: what it returns, and what it does."""

    outputs: Outputs | None = None
    task: Task | None = None


def _load_reading_long(folder: Path, device: str | None, long: str) -> Target:
    """Load a language model that cuts long texts, or reads them in windows.

    Raises:
        InputError: There is no folder of one, or `long` is unknown.
    """
    if not (folder.is_dir() and is_language_model_folder(folder)):
        raise InputError(
            f"Expected the folder of a language model with --long, got {str(folder)!r}. Leave "
            "--long out, and give long= where the target is made."
        )
    return load_language_model(folder, device=device, long=long)


def _load_by_kind(
    spec: str, factory: str | None, trust: TrustSettings, device: str | None, words: _Declared
) -> LoadedTarget:
    """Load the target that `spec` names, by the kind of file it is."""
    path = Path(spec)
    # Only Hugging Face's models are folders
    if path.is_dir() and is_language_model_folder(path):
        return LoadedTarget(load_language_model(path, device=device))
    if path.is_dir():
        return LoadedTarget(*load_huggingface(path, device=device))
    # A path on Windows may have a colon too, but a model file has a suffix
    if not path.suffix and ":" in spec:
        found = _build_from_factory(spec)
        return LoadedTarget(
            place_target(
                wrap(found, outputs=words.outputs, task=words.task),
                device,
                words.outputs,
            )
        )
    if not path.is_file():
        raise InputError(
            f"Expected a model file or module:factory, got {spec!r}, which is not there. Check the "
            "path."
        )
    suffix = path.suffix.lower()
    if is_weights(path):
        # The same suffixes serve for weights and for whole programs
        if _is_torchscript(path):
            return _load_code_bearing_file(path, trust, words)
        return load_torch_weights(
            path, factory, trust, build=_build_from_factory, device=device, outputs=words.outputs
        )
    if suffix in CODE_BEARING:
        return _load_code_bearing_file(path, trust, words)
    both: dict[str, Any] = {"outputs": words.outputs, "task": words.task}
    # Formats that can be checked before they are opened, or that hold no code
    readers: dict[str, Callable[[], LoadedTarget]] = {
        ".skops": lambda: _load_skops(path, trust, words),
        ".onnx": lambda: LoadedTarget(load_onnx(path, **both, device=device)),
        ".keras": lambda: LoadedTarget(
            *load_keras(path, trust, outputs=words.outputs, task=words.task or "classification")
        ),
        **dict.fromkeys((".json", ".ubj"), lambda: LoadedTarget(load_xgboost(path, **both))),
        **dict.fromkeys(
            (".txt", ".lgb", ".lgbm"), lambda: LoadedTarget(load_lightgbm(path, **both))
        ),
    }
    if suffix not in readers:
        known = ", ".join([*readers, ".pt", ".pth", ".ckpt"])
        raise InputError(
            f"Expected a model as module:factory, {known} or .safetensors, got {spec!r}. Convert "
            "it to one of these."
        )
    return readers[suffix]()


def _build_from_factory(spec: str) -> Any:
    """Get the object that `module:name` names.

    It is called if it is a function that is not itself a model.

    Raises:
        InputError: The module or the name does not exist, or the factory fails.
    """
    found = import_named(spec, "factory")
    # Torch modules can be called too, but are no factories
    looks_like_model = any(
        hasattr(found, method)
        for method in ("predict_proba", "decision_function", "query", "state_dict")
    )
    if isinstance(found, type) or (callable(found) and not looks_like_model):
        try:
            return found()
        except Exception as error:
            raise InputError(
                f"Expected {spec!r} to build a model, got {type(error).__name__}: {error}. Call it "
                "yourself to see why."
            ) from error
    return found


def _load_skops(path: Path, trust: TrustSettings, words: _Declared) -> LoadedTarget:
    """Load a scikit-learn model from a skops file, with only harmless and checked types.

    Types that the user named are allowed too, beyond skops's own list.
    """
    from memberscope.targets.files.skops_files import open_skops

    estimator, notes = open_skops(path, trust)
    return LoadedTarget(_wrap_file_model(estimator, path, words), notes)


def _wrap_file_model(model: Any, path: Path, words: _Declared) -> Target:
    """Wrap a model so that its digest is that of its file."""
    target = wrap(model, task=words.task)
    # The file's hash is the same each time, while a model's own may differ after loading
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if isinstance(target, SklearnTarget):
        return SklearnTarget(target.estimator, digest=digest)
    if isinstance(target, SklearnOutputsTarget):
        return SklearnOutputsTarget(target.estimator, task=target.task, digest=digest)
    return target


def _is_torchscript(path: Path) -> bool:
    """Check whether a torch archive holds code besides weights."""
    if path.suffix.lower() == ".safetensors" or not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        # TorchScript keeps its code in this folder of the archive
        return any("/code/" in name for name in archive.namelist())


def _load_code_bearing_file(path: Path, trust: TrustSettings, words: _Declared) -> LoadedTarget:
    """Load a model from a format that runs code, only with `--trust-code`."""
    # In the message, so that the user can compare it with what the origin published
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if not trust.code:
        raise UnsafeFileError(
            f"Expected a format that cannot run code, got {path.name} (SHA-256 {digest}). Save it "
            "with skops.io.dump(model, 'model.skops'), or add --trust-code if you trust its "
            "origin."
        )
    note = f"Ran the code in {path.name} (SHA-256 {digest}), as --trust-code allowed."
    try:
        model = _choose_file_loader(path)(path)
        return LoadedTarget(_wrap_file_model(model, path, words), (note,))
    except MemberscopeError:
        raise
    except Exception as error:
        raise InputError(
            f"Expected a complete model file, got {path}: {type(error).__name__}: {error}. Save it "
            "again."
        ) from error


def _choose_file_loader(path: Path) -> Callable[[Path], Any]:
    """Choose the loader for a code-bearing format."""
    if path.suffix.lower() in (".pkl", ".pickle", ".joblib"):
        import joblib

        return joblib.load  # type: ignore[no-any-return]
    import torch

    return lambda file: torch.jit.load(str(file), map_location="cpu")  # type: ignore[no-untyped-call]
