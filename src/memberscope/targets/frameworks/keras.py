"""Wrap Keras 3 models, from memory or from `.keras` files of known layers and weights."""

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
from scipy.special import expit

from memberscope.errors import InputError, UnsafeFileError
from memberscope.facts import ModelKind
from memberscope.frames import Inputs, cast_values, make_dense_array, reshape_values
from memberscope.targets.answers import output_kind as kinds
from memberscope.targets.answers.real_outputs import arrange_outputs, find_task_signal
from memberscope.targets.answers.scores import Place, as_rows, find_scores, pick_scores
from memberscope.targets.code_digest import find_defining_module, hash_source_code
from memberscope.targets.files.trust import TrustSettings
from memberscope.types import OUTPUT_TASKS, Access, Floats, Signal, Task

# Parts of Keras that only compute. Others can read files, fetch addresses or change how later files
# are opened.
HOMES = (
    "layers",
    "models",
    "initializers",
    "regularizers",
    "constraints",
    "activations",
    "dtype_policies",
    "quantizers",
)
# Where a saved model names a part by its place in the source, these hold the harmless ones
INNER = (
    "keras.src.models.",
    "keras.src.layers.",
    "keras.src.ops.",
    "keras.src.initializers.",
    "keras.src.regularizers.",
)
# Names that Keras exports at its top level, and that only compute
TOP = (
    "Sequential",
    "Model",
    "Functional",
    "DTypePolicy",
    "FloatDTypePolicy",
    "QuantizedDTypePolicy",
)
# Keras's own layers that hold a function, or a model of another library
RUNS_CODE = ("Lambda", "__lambda__", "TorchModuleWrapper", "TFSMLayer", "JaxLayer", "FlaxLayer")


class KerasTarget:
    """A Keras model; the kind of its scores is declared, or inferred from made-up records.

    With several inputs records are a tuple of arrays, or a dict by the names of the inputs. Among
    several outputs the scores are found by name, or by the number of classes.

    >>> keras = import_keras()
    >>> target = KerasTarget(keras.Sequential([keras.Input((3,)), keras.layers.Softmax()]))
    >>> target.signal, target.query(np.zeros((5, 3))).shape
    ('probabilities', (5, 3))
    """

    model_kind: ModelKind = "neural_network"

    def __init__(
        self,
        model: Any,
        *,
        outputs: str | None = None,
        batch_size: int = 1024,
        digest: str | None = None,
        n_classes: int | None = None,
        task: Task = "classification",
    ) -> None:
        """Wrap a built `model`; `digest` is that of the file it came from, if any.

        Of a `task` other than classification the answers are numbers (n, d), or one probability or
        logit for each of k labels, which are read as probabilities (n, k).

        Raises:
            InputError: It is not built, or its scores are neither probabilities nor logits.
        """
        # The shapes of inputs are known only once it was built
        inputs = model.inputs or []
        if not inputs:
            raise InputError(
                "Expected a built Keras model, got one without inputs. Call it on a batch before "
                "the audit."
            )
        self.model = model
        self.batch_size = batch_size
        # One input needs no name, and Keras makes it up anyway
        names = [str(one.name) for one in inputs] if len(inputs) > 1 else ["input"]
        self._inputs = [
            (name, tuple(one.shape[1:]), _dtype_of(one))
            for name, one in zip(names, inputs, strict=True)
        ]
        self._digest = digest
        self._declared = kinds.parse_declared_outputs(outputs)
        self._place: Place | None = None
        self.known_classes = n_classes
        self.task: Task = task
        self._announce(self._declared or "logits")
        made = [kinds.make_probe_records(shape, dtype.kind) for _, shape, dtype in self._inputs]
        # Arrays cannot be compared with None by `in`, so that numbers stand for them
        if None not in [None if one is None else 0 for one in made]:
            self._read(
                self._answers(Inputs(tuple(one for one in made if one is not None))),
                kinds.PROBES,
                n_classes,
            )
        # Records cannot be made up without all dimensions; the declared shape still gives the width
        elif len(model.outputs) == 1 and task not in OUTPUT_TASKS:
            width = model.outputs[0].shape[-1]
            self.known_classes = n_classes or (
                None if self.signal == "labels" or width is None else max(2, int(width))
            )

    def _announce(self, kind: kinds.Outputs) -> None:
        """Set what the scores are, and what the answers are called."""
        self._kind = kind
        outputs = self.task in OUTPUT_TASKS
        self.signal: Signal = find_task_signal(self.task) if outputs else kind
        self.access = Access.PREDICTION if outputs else kinds.find_signal_access(kind)

    def _read(self, answers: list[Any], n: int, n_classes: int | None) -> None:
        """Find the scores in the answers to `n` records, and what they are.

        Nothing is decided where the answers leave it open.
        """
        # The first batch alone decides where the scores are; it may be smaller than a batch
        first = min(n, self.batch_size)
        try:
            numbers = self.task in ("regression", "forecast")
            self._place = find_scores(answers[0], first, n_classes, deep=numbers)
        except InputError:
            # With a declared number of classes it is an error; without, records decide later
            if n_classes is not None:
                raise
            return
        scores = self._rows(answers, n)
        if self.task in OUTPUT_TASKS:
            self.known_classes = scores.shape[1]
            if self.task == "multilabel":
                self._announce(self._declared or kinds.infer_label_kind(scores))
            return
        # What was declared goes first: it is never second-guessed from values
        self._announce(self._declared or kinds.infer_output_kind(scores, "the Keras model"))
        if self.signal != "labels":
            self.known_classes = self.known_classes or max(2, scores.shape[1])

    def find_outputs(self, x: Any, *, n_classes: int | None = None, **_: Any) -> None:
        """Find the scores among several outputs, from answers to some of the records `x`."""
        if self._place is None:
            some = _wrap_inputs(x)[: kinds.PROBES]
            self._read(self._answers(some), len(some), self.known_classes or n_classes)

    @property
    def n_classes(self) -> int:
        """Number of classes.

        Raises:
            InputError: It cannot be read from the model.
        """
        if self.known_classes is None:
            raise InputError(
                "Expected n_classes for this Keras model, got none. Pass KerasTarget(model, "
                "n_classes=k)."
            )
        return self.known_classes

    @property
    def digest(self) -> str | None:
        """Hash of the file, or of the architecture, the user's code in it and the weights.

        It is None if that code cannot be read.
        """
        # The user's own layers decide answers too, and no file holds their code
        code = hash_source_code(map(find_defining_module, self.model._flatten_layers()))
        if code is None:
            return None
        hasher = hashlib.sha256(
            f"keras:{self.signal}:{self._kind}:{code}:{self._digest or self.model.to_json()}".encode()
        )
        with silence_keras():
            # The file's hash covers them already
            weights = [] if self._digest else self.model.get_weights()
        # With type and shape, since the same bytes can be other weights
        for weight in weights:
            hasher.update(
                f"{weight.dtype}:{weight.shape}".encode() + np.ascontiguousarray(weight).tobytes()
            )
        return hasher.hexdigest()

    @property
    def n_parameters(self) -> int | None:
        """Number of trainable parameters."""
        return int(sum(np.prod(weight.shape) for weight in self.model.trainable_weights))

    def query(self, x: Any) -> Floats:
        """Give the outputs (n, k) for inputs (n, ...), in batches and in inference mode."""
        records = _wrap_inputs(x)
        self.find_outputs(records)
        answers = self._answers(records)
        if self._place is None:
            # Raises an error that describes what the model returned
            find_scores(answers[0], min(len(records), self.batch_size))
        rows = self._rows(answers, len(records))
        if self.task in OUTPUT_TASKS:
            self.known_classes = rows.shape[1]
            logits = self.task == "multilabel" and self._kind == "logits"
            return np.asarray(expit(rows), np.float64) if logits else rows
        values = kinds.expand_to_classes(rows, self.signal)
        if self.signal != "labels":
            self.known_classes = self.known_classes or values.shape[1]
        return values

    def _rows(self, answers: list[Any], n: int) -> Floats:
        """Read the scores (n, k) from the answers to consecutive batches."""
        import keras

        starts = range(0, n, self.batch_size)
        with silence_keras(), _disable_gradients():
            parts = [
                _arrange_rows(
                    keras.ops.convert_to_numpy(pick_scores(answer, self._place or ())),
                    min(self.batch_size, n - start),
                    self.task,
                )
                for start, answer in zip(starts, answers, strict=True)
            ]
        return np.concatenate(parts).astype(np.float64)

    def _answers(self, x: Inputs) -> list[Any]:
        """Call the model on each batch."""
        names = [name for name, _, _ in self._inputs]
        if len(x.parts) != len(names):
            raise InputError(
                f"Expected {len(names)} inputs for the Keras model ({', '.join(names)}), got "
                f"{len(x.parts)}. Give a tuple of arrays."
            )
        parts = (
            [x.parts[x.names.index(name)] for name in names]
            # By name where all names match, else by position
            if set(names) == set(x.names)
            else list(x.parts)
        )
        values = [
            cast_values(reshape_values(part, shape, name), dtype, name)
            for part, (name, shape, dtype) in zip(parts, self._inputs, strict=True)
        ]
        with silence_keras(), _disable_gradients():
            return [
                self._call([part[start : start + self.batch_size] for part in values])
                for start in range(0, len(values[0]), self.batch_size)
            ]

    def _call(self, batch: list[Any]) -> Any:
        """Call the model on one batch, in the structure in which it takes its inputs."""
        structure = getattr(self.model, "_inputs_struct", None)
        if isinstance(structure, dict) and len(structure) == len(batch):
            # Not in training, or dropout would make answers random
            return self.model(dict(zip(structure, batch, strict=True)), training=False)
        return self.model(
            batch[0] if len(batch) == 1 and not isinstance(structure, list) else batch,
            training=False,
        )


def _arrange_rows(scores: Any, n: int, task: Task) -> Floats:
    """Arrange scores of `n` records as (n, k); of numbers, all dimensions after the first."""
    if task in OUTPUT_TASKS:
        return arrange_outputs(scores, n, name="the Keras model")
    return as_rows(scores, n).astype(np.float64)


def _wrap_inputs(x: Any) -> Inputs:
    """Wrap records as inputs: one array, or several unchanged.

    >>> len(_wrap_inputs([[1.0], [2.0]]))
    2
    """
    return x if isinstance(x, Inputs) else Inputs((make_dense_array(x),))


def _dtype_of(tensor: Any) -> np.dtype[Any]:
    """Give the numpy type for an input of Keras."""
    # numpy has no bfloat16; Keras casts on the way in
    return np.dtype(tensor.dtype if tensor.dtype != "bfloat16" else "float32")


def _disable_gradients() -> AbstractContextManager[Any]:
    """Keep the torch backend, if it is in use, from recording gradients."""
    import keras

    torch = sys.modules.get("torch")
    return (
        torch.no_grad()
        if torch is not None and keras.backend.backend() == "torch"
        else nullcontext()
    )


def silence_keras() -> warnings.catch_warnings[None]:
    """Suppress the warnings of Keras about array interfaces."""
    return warnings.catch_warnings(action="ignore", category=DeprecationWarning)


def load_keras(
    path: Path,
    trust: TrustSettings,
    *,
    outputs: str | None = None,
    task: Task = "classification",
) -> tuple[KerasTarget, tuple[str, ...]]:
    """Load the model in a `.keras` file, and give notes for a reader of the result.

    Raises:
        InputError: Keras is not installed, or the file is damaged.
        UnsafeFileError: The file can run code and was not declared safe.
    """
    # Named in messages and notes, so that a user knows which file is meant
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    # Looked at before Keras opens the file, since opening it may run code
    odd = sorted(set(_find_code_parts(_read_architecture(path))))
    if odd and not trust.code:
        raise UnsafeFileError(
            f"Expected only Keras's own layers in {path}, got {', '.join(odd)} (SHA-256 {digest}), "
            "which can run code. Give the model as module:factory, or add --trust-code if you "
            "trust its origin."
        )
    keras = import_keras()
    try:
        with silence_keras():
            # Nothing is trained, so that its optimiser and its losses need not be known
            model = keras.models.load_model(str(path), compile=False, safe_mode=not odd)
    except Exception as error:  # Keras and its backends raise errors of many kinds
        first = (str(error).splitlines() or [""])[0]
        raise InputError(
            f"Expected a complete Keras model, got {path}: {type(error).__name__}: {first}. Save "
            "it again."
        ) from error
    note = f"Ran the code in {path.name} ({', '.join(odd)}; SHA-256 {digest}), as --trust-code allowed."
    target = KerasTarget(model, outputs=outputs, digest=digest, task=task)
    return target, ((note,) if odd else ())


def _read_architecture(path: Path) -> Any:
    """Read the architecture that a `.keras` file describes.

    Raises:
        InputError: It is not a complete archive of a model.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            # A cut file would otherwise fail deep in Keras, or load with other weights
            if archive.testzip() is not None or "model.weights.h5" not in archive.namelist():
                raise zipfile.BadZipFile("its weights are damaged or missing")
            return json.loads(archive.read("config.json"))
    except (zipfile.BadZipFile, KeyError, ValueError, EOFError, OSError, RecursionError) as error:
        raise InputError(
            f"Expected a complete .keras archive, got {path}: {error}. Save it again."
        ) from error


def _find_code_parts(config: Any) -> Iterator[str]:
    """Name everything in an architecture that is not a part of Keras which only computes.

    >>> list(_find_code_parts({"module": "os", "class_name": "system"}))
    ['os.system']
    """
    if isinstance(config, list):
        for part in config:
            yield from _find_code_parts(part)
    if not isinstance(config, dict):
        return
    name, module = config.get("class_name"), config.get("module")
    if isinstance(name, str) and not _is_harmless_part(
        str(module or ""), name, str(config.get("registered_name") or "")
    ):
        yield f"{module}.{name}" if module else name
    for key, part in config.items():
        if key != "compile_config":  # it is not loaded when the model is opened
            yield from _find_code_parts(part)


def _is_harmless_part(module: str, name: str, registered: str) -> bool:
    """Check whether a part of an architecture is Keras's own and neither reads nor runs anything.

    >>> _is_harmless_part("keras.layers", "Dense", ""), _is_harmless_part("keras.layers", "Lambda", "")
    (True, False)
    """
    # A user's own class is registered as package>name
    if name in RUNS_CODE or ">" in registered:
        return False
    # Only Keras's internal markers have no module
    if not module:
        return name.startswith("__")
    if module == "keras":
        return name in TOP
    return module.startswith(INNER) or module.removeprefix("keras.") in HOMES


def import_keras() -> Any:
    """Import keras, on torch where its default backend is not installed.

    Raises:
        InputError: Keras, or a backend of it, is not installed.
    """
    # Keras reads the variable at its first import, and TensorFlow is its default
    if "keras" not in sys.modules and not find_spec("tensorflow") and find_spec("torch"):
        os.environ.setdefault("KERAS_BACKEND", "torch")
    try:
        import keras
    except ImportError as error:
        raise InputError(
            f"Expected keras with a backend, got: {error}. Run `pip install keras torch`."
        ) from error
    return keras
