"""Keras 3 models, from memory or from `.keras` files that hold nothing but known layers and weights."""

from __future__ import annotations

import hashlib
import json
import os
import sys
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from memberscope.errors import InputError, UnsafeFileError
from memberscope.targets import kinds
from memberscope.targets.code import code_digest, defined_in
from memberscope.targets.inputs import dense, shaped, typed
from memberscope.targets.trust import Trust
from memberscope.types import Floats, Signal

# Parts of Keras that only compute. Others can read files, fetch addresses or change how later files are opened.
HOMES = ("layers", "models", "initializers", "regularizers", "constraints", "activations", "dtype_policies", "quantizers")
INNER = ("keras.src.models.", "keras.src.layers.", "keras.src.ops.", "keras.src.initializers.", "keras.src.regularizers.")
TOP = ("Sequential", "Model", "Functional", "DTypePolicy", "FloatDTypePolicy", "QuantizedDTypePolicy")
RUNS_CODE = ("Lambda", "__lambda__", "TorchModuleWrapper", "TFSMLayer", "JaxLayer", "FlaxLayer")


class KerasTarget:
    """A Keras model with one input; what its scores are is declared, or told from answers to made-up records.

    >>> keras = backed_keras()
    >>> target = KerasTarget(keras.Sequential([keras.Input((3,)), keras.layers.Softmax()]))
    >>> target.signal, target.query(np.zeros((5, 3))).shape
    ('probabilities', (5, 3))
    """

    def __init__(
        self,
        model: Any,
        *,
        outputs: str | None = None,
        batch_size: int = 1024,
        digest: str | None = None,
        n_classes: int | None = None,
    ) -> None:
        """Wrap a built `model`; `digest` is that of the file it came from, if any.

        Raises:
            InputError: It is not built, or has several inputs or outputs.
        """
        inputs = model.inputs or []
        if len(inputs) != 1 or len(model.outputs) != 1:
            raise InputError(
                f"Expected a built Keras model with one input and one output, got {len(inputs)} inputs. "
                f"Wrap it in a function that returns probabilities."
            )
        self.model = model
        self.batch_size = batch_size
        self._shape = tuple(inputs[0].shape[1:])
        self._dtype = np.dtype(inputs[0].dtype if inputs[0].dtype != "bfloat16" else "float32")
        self._digest = digest
        self.signal: Signal = kinds.declared(outputs) or self._told()
        self.access = kinds.level(self.signal)
        width = model.outputs[0].shape[-1]
        self.known_classes = n_classes or (None if self.signal == "labels" or width is None else max(2, int(width)))

    @property
    def n_classes(self) -> int:
        """Number of classes.

        Raises:
            InputError: The model does not tell.
        """
        if self.known_classes is None:
            raise InputError("Expected n_classes for this Keras model, got none. Pass KerasTarget(model, n_classes=k).")
        return self.known_classes

    @property
    def digest(self) -> str | None:
        """Hash of the file, or of the architecture, the user's code of it and the weights; None if that code cannot be read."""
        code = code_digest(map(defined_in, self.model._flatten_layers()))
        if code is None:
            return None
        hasher = hashlib.sha256(f"keras:{self.signal}:{code}:{self._digest or self.model.to_json()}".encode())
        with quiet():
            weights = [] if self._digest else self.model.get_weights()
        for weight in weights:
            hasher.update(f"{weight.dtype}:{weight.shape}".encode() + np.ascontiguousarray(weight).tobytes())
        return hasher.hexdigest()

    @property
    def n_parameters(self) -> int | None:
        """Trainable parameters."""
        return int(sum(np.prod(weight.shape) for weight in self.model.trainable_weights))

    def query(self, x: Any) -> Floats:
        """Outputs (n, k) for inputs (n, ...), in batches and in inference mode."""
        values = kinds.one_a_class(self._scores(dense(x)), self.signal)
        if self.signal != "labels":
            self.known_classes = self.known_classes or values.shape[1]
        return values

    def _scores(self, x: Any) -> Any:
        import keras

        values = typed(shaped(x, self._shape, "input"), self._dtype, "input")
        with quiet(), without_gradients():
            parts = [
                keras.ops.convert_to_numpy(self.model(values[start : start + self.batch_size], training=False))
                for start in range(0, len(values), self.batch_size)
            ]
        return np.concatenate(parts)

    def _told(self) -> kinds.Outputs:
        """What the scores of made-up records are; logits where a dimension of the input is not known."""
        made = kinds.made_up(self._shape, self._dtype.kind)
        if made is None:
            return "logits"
        return kinds.told(np.asarray(self._scores(made), dtype=np.float64).reshape(len(made), -1), "the Keras model")


def without_gradients() -> AbstractContextManager[Any]:
    """A context in which the torch backend, if it is the one in use, keeps no graph."""
    import keras

    torch = sys.modules.get("torch")
    return torch.no_grad() if torch is not None and keras.backend.backend() == "torch" else nullcontext()


def quiet() -> warnings.catch_warnings[None]:
    """A context without the remarks of Keras on array interfaces."""
    return warnings.catch_warnings(action="ignore", category=DeprecationWarning)


def from_keras(path: Path, trust: Trust, *, outputs: str | None = None) -> tuple[KerasTarget, tuple[str, ...]]:
    """The model in a `.keras` file, and what a reader must know of its opening.

    Raises:
        InputError: Keras is not installed, or the file is damaged.
        UnsafeFileError: The file can run code and was not declared safe.
    """
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    odd = sorted(set(code_inside(read_config(path))))
    if odd and not trust.code:
        raise UnsafeFileError(
            f"Expected only Keras's own layers in {path}, got {', '.join(odd)} (SHA-256 {digest}), which can run code. "
            f"Give the model as module:factory, or add --trust-code if you trust its origin."
        )
    keras = backed_keras()
    try:
        with quiet():
            model = keras.models.load_model(str(path), compile=False, safe_mode=not odd)
    except Exception as error:  # Keras and its backends raise errors of many kinds
        first = (str(error).splitlines() or [""])[0]
        raise InputError(
            f"Expected a complete Keras model, got {path}: {type(error).__name__}: {first}. Save it again."
        ) from error
    note = f"Ran the code in {path.name} ({', '.join(odd)}; SHA-256 {digest}), as --trust-code allowed."
    return KerasTarget(model, outputs=outputs, digest=digest), ((note,) if odd else ())


def read_config(path: Path) -> Any:
    """The architecture that a `.keras` file describes.

    Raises:
        InputError: It is no complete archive of a model.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            if archive.testzip() is not None or "model.weights.h5" not in archive.namelist():
                raise zipfile.BadZipFile("its weights are damaged or missing")
            return json.loads(archive.read("config.json"))
    except (zipfile.BadZipFile, KeyError, ValueError, EOFError, OSError, RecursionError) as error:
        raise InputError(f"Expected a complete .keras archive, got {path}: {error}. Save it again.") from error


def code_inside(config: Any) -> Iterator[str]:
    """Names of everything in an architecture that is not a part of Keras which only computes.

    >>> list(code_inside({"module": "os", "class_name": "system"}))
    ['os.system']
    """
    if isinstance(config, list):
        for part in config:
            yield from code_inside(part)
    if not isinstance(config, dict):
        return
    name, module = config.get("class_name"), config.get("module")
    if isinstance(name, str) and not only_computes(str(module or ""), name, str(config.get("registered_name") or "")):
        yield f"{module}.{name}" if module else name
    for key, part in config.items():
        if key != "compile_config":  # left out when the model is opened
            yield from code_inside(part)


def only_computes(module: str, name: str, registered: str) -> bool:
    """Whether a part of an architecture is one of Keras's own that reads and runs nothing.

    >>> only_computes("keras.layers", "Dense", ""), only_computes("keras.layers", "Lambda", "")
    (True, False)
    """
    if name in RUNS_CODE or ">" in registered:
        return False
    if not module:
        return name.startswith("__")
    if module == "keras":
        return name in TOP
    return module.startswith(INNER) or module.removeprefix("keras.") in HOMES


def backed_keras() -> Any:
    """The keras module, on torch where its usual backend is not installed.

    Raises:
        InputError: Keras, or a backend of it, is not installed.
    """
    if "keras" not in sys.modules and not find_spec("tensorflow") and find_spec("torch"):
        os.environ.setdefault("KERAS_BACKEND", "torch")
    try:
        import keras
    except ImportError as error:
        raise InputError(f"Expected keras with a backend, got: {error}. Run `pip install keras torch`.") from error
    return keras
