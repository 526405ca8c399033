"""Wrap ONNX models through onnxruntime.

No libraries of custom operators are loaded, and weights only from beside the file.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from memberscope.errors import InputError
from memberscope.targets.answers import output_kind as kinds
from memberscope.targets.answers.real_outputs import find_task_signal
from memberscope.targets.frameworks.onnx_file import OnnxFacts, hash_onnx_files, read_facts
from memberscope.targets.frameworks.onnx_outputs import (
    choose_output,
    choose_real_output,
    extract_outputs,
    extract_real_outputs,
)
from memberscope.targets.frameworks.onnx_session import (
    build_feeds,
    join_answers,
    probe_session,
    read_session_inputs,
    run_batches,
)
from memberscope.targets.tasks import choose_task
from memberscope.types import OUTPUT_TASKS, Access, Floats, Signal, Task

PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


class OnnxTarget:
    """An onnxruntime session that maps records to scores or labels.

    What the scores are is declared by `outputs`, or inferred from answers to made-up records: rows
    on the simplex are probabilities, others logits. Where a model gives both scores and labels, the
    labels are ignored.

    >>> import numpy as np, onnx.parser, onnxruntime
    >>> head = '<ir_version: 9, opset_import: ["": 17]>'
    >>> model = onnx.parser.parse_model(head + "g (float[n, 3] x) => (float[n, 3] p) {p = Softmax <axis = 1> (x)}")
    >>> target = OnnxTarget(onnxruntime.InferenceSession(model.SerializeToString()))
    >>> target.signal, target.query(np.zeros((5, 3))).shape
    ('probabilities', (5, 3))
    """

    def __init__(
        self,
        session: Any,
        *,
        outputs: str | None = None,
        batch_size: int = 1024,
        n_classes: int | None = None,
        classes: Sequence[object] = (),
        task: Task = "classification",
    ) -> None:
        """Wrap a `session`; digest and class values are read from its file.

        They are read only if it was made from a file, and class values unless `classes` are given.
        Of a `task` other than classification the answers are numbers (n, d), or one probability or
        logit for each of k labels, which are read as probabilities (n, k).

        Raises:
            InputError: Its inputs or outputs are not those of a classifier, or not what `outputs`
                declares.
        """
        # onnxruntime keeps the path only here; a session made from bytes has none
        source = getattr(session, "_model_path", None)
        path = Path(source) if source and Path(source).is_file() else None
        facts = OnnxFacts() if path is None else read_facts(path)
        self.session = session
        self.inputs = read_session_inputs(session)
        self.batch_size = batch_size
        # The types alone do not tell probabilities from logits
        seen = probe_session(session, self.inputs, batch_size)
        self.task: Task = task
        declared = kinds.parse_declared_outputs(outputs)
        if task in OUTPUT_TASKS:
            self.choice = choose_real_output(session, seen, declared, task)
            self.signal: Signal = find_task_signal(task)
            self.access = Access.PREDICTION
        else:
            names = tuple(map(str, classes)) or facts.classes
            self.choice = choose_output(session, seen, declared, names)
            self.signal = self.choice.signal
            self.access = kinds.find_signal_access(self.signal)
        self.classes = self.choice.classes or None
        self.known_classes = self.choice.n_classes or n_classes
        self.digest = (
            # Without a file there is nothing to hash, and nothing is cached
            None
            if path is None
            else hash_onnx_files(
                path, facts, f"{self.choice.name}:{self.signal}:{self.choice.signal}"
            )
        )
        self.n_parameters = facts.n_parameters or None

    digest: str | None
    n_parameters: int | None

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the inputs where each is a column of a table; none for a single input."""
        return tuple(entry.name for entry in self.inputs) if len(self.inputs) > 1 else ()

    @property
    def n_classes(self) -> int:
        """Number of classes.

        Raises:
            InputError: It cannot be read from the model.
        """
        if self.known_classes is None:
            raise InputError(
                "Expected n_classes for this ONNX model, got none. Pass OnnxTarget(session, "
                "n_classes=k)."
            )
        return self.known_classes

    def query(self, x: Any) -> Floats:
        """Give the outputs (n, k) for the records `x`, or labels (n, 1).

        Raises:
            InputError: `x` lacks an input, or has another number of features or other types than
                the model takes.
        """
        feeds = build_feeds(self.inputs, x)
        name = self.choice.name
        parts = [
            batch[name]
            for batch in run_batches(self.session, self.inputs, feeds, [name], self.batch_size)
        ]
        if self.task in OUTPUT_TASKS:
            read = extract_real_outputs(join_answers(parts), self.choice, self.task)
            self.known_classes = read.shape[1]
            return read
        values = extract_outputs(join_answers(parts), self.choice)
        if self.signal != "labels":
            self.known_classes = self.known_classes or values.shape[1]
        return values


def load_onnx(
    path: Path,
    *,
    outputs: str | None = None,
    device: str | None = None,
    task: Task | None = None,
) -> OnnxTarget:
    """Load the model in an `.onnx` file.

    It runs on the threads that OMP_NUM_THREADS allows (all cores if it is not set).

    Raises:
        InputError: onnxruntime is not installed, the file is damaged, or it needs custom operators.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise InputError(
            "Expected onnxruntime for ONNX models, got none. Run `pip install memberscope[onnx]`."
        ) from error
    # Checked before the runtime opens the file
    read_facts(path)
    word = (device or "cpu").split(":")[0]
    if PROVIDERS.get(word) not in onnxruntime.get_available_providers():
        raise InputError(
            f"Expected a device that onnxruntime has, got {device!r}. Use --device cpu."
        )
    settings = onnxruntime.SessionOptions()
    # Only fatal messages: the error is raised below, in one sentence
    settings.log_severity_level = 4
    threads = os.environ.get("OMP_NUM_THREADS", "")
    # 0 lets the runtime use all cores
    settings.intra_op_num_threads = int(threads) if threads.isdigit() else 0
    try:
        session = onnxruntime.InferenceSession(str(path), settings, providers=[PROVIDERS[word]])
    except Exception as error:  # the runtime's errors have no common base
        first = (str(error).splitlines() or [""])[0].rpartition(" : ")[2]
        raise InputError(
            f"Expected an ONNX model of standard operators, got {path}: {first}. Export it again."
        ) from error
    return OnnxTarget(session, outputs=outputs, task=choose_task(session, task))
