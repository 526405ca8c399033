"""Wrap PyTorch modules: batched, in eval mode, without gradients, on a chosen device."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

from memberscope.errors import InputError, TargetError
from memberscope.facts import ModelKind
from memberscope.frames import Inputs
from memberscope.targets.answers.output_kind import find_signal_access, parse_declared_outputs
from memberscope.targets.answers.real_outputs import find_task_signal
from memberscope.targets.code_digest import find_defining_module, hash_source_code
from memberscope.targets.torch_modules.calls import ask_module, read_records
from memberscope.targets.torch_modules.reading import MOST, AnswerReader, make_scored, read_answers
from memberscope.targets.torch_modules.wrappers import unwrap_module
from memberscope.targets.white_box.torch import TorchInside
from memberscope.targets.white_box.torch_access import (
    as_inputs,
    can_take_gradients,
    has_embedding,
    list_frozen_parameters,
    use_eval_mode,
)
from memberscope.types import OUTPUT_TASKS, Access, Floats, Ints, Signal, SignalSpec, Task


class TorchTarget:
    """A module that maps a batch of inputs to logits or probabilities (n, k), or to labels (n,).

    Its answer may be a tensor or hold one among others: in a tuple, a dict or an object with
    fields. What the scores are is inferred from the first answers, unless it is declared. A single
    column is read as the positive class of two: a logit, or a probability. Another `task` than
    classification is declared: the answers then are numbers (n, d), or one sigmoid or logit for
    each of k labels, which are read as probabilities (n, k). A classifier is `Differentiable`, with
    `inside`, unless the module is TorchScript or has no parameters of real numbers.

    >>> import torch
    >>> target = TorchTarget(torch.nn.Linear(3, 2))
    >>> target.query(np.zeros((5, 3))).shape, target.signal
    ((5, 2), 'logits')
    """

    def __init__(
        self,
        module: Any,
        *,
        outputs: str | None = None,
        batch_size: int = 1024,
        device: str = "cpu",
        n_classes: int | None = None,
        task: Task = "classification",
    ) -> None:
        """Move `module` to `device`.

        `outputs` and `n_classes`, the number of classes or outputs, are found at the first query
        unless given. Of a `task` other than classification the answers are numbers, or the
        probabilities of several labels.

        Raises:
            InputError: The device is not available, or `outputs` is another word.
        """
        import torch

        try:
            self.module = unwrap_module(module).to(torch.device(device))
        except (RuntimeError, AssertionError) as error:
            first = str(error).splitlines()[0]
            raise InputError(
                f"Expected an available device, got {device!r} ({first}). Use device='cpu'."
            ) from error
        self.declared = parse_declared_outputs(outputs)
        self.task: Task = task
        self.batch_size = batch_size
        self.device = device
        self.known_classes = n_classes
        self.reading: AnswerReader | None = None
        # True once the module turned out to want whole numbers as codes
        self.codes = False
        self.notes: tuple[str, ...] = ()
        # A first guess, until answers show what they are
        self._announce(self.declared or "logits")

    model_kind: ModelKind = "neural_network"
    access: Access
    signal: Signal

    def _announce(self, signal: Signal) -> None:
        """Set what the answers are, and whether white-box signals can be measured."""
        if self.task in OUTPUT_TASKS:
            self.signal, self.access = find_task_signal(self.task), Access.PREDICTION
            return
        self.signal, self.access = signal, find_signal_access(signal)
        if signal != "labels" and can_take_gradients(self.module):
            self.inside = self._look_inside
        # The kind of outputs may change once answers were seen
        elif hasattr(self, "inside"):
            del self.inside

    @property
    def n_classes(self) -> int:
        """Number of classes; until the first answer, the width of the module's last linear layer.

        Raises:
            InputError: It is neither given nor visible, and nothing was queried yet.
        """
        found = self.known_classes or (
            None
            if self.signal == "labels" or self.task in OUTPUT_TASKS
            else _find_last_width(self.module)
        )
        if found is None:
            raise InputError(
                "Expected n_classes for this module, got none. Pass TorchTarget(module, "
                "n_classes=k)."
            )
        return found

    @property
    def digest(self) -> str | None:
        """Hash of the architecture, the user's code in it, the weights and the kind of outputs.

        It is None if that code cannot be read, as in a notebook.
        """
        code = hash_source_code(map(find_defining_module, self.module.modules()))
        if code is None:
            return None
        # Frozen parameters change the white-box signals, though not the outputs
        opened = (
            "".join(f"frozen {name}:" for name in list_frozen_parameters(self.module))
            if can_take_gradients(self.module)
            else ""
        )
        read = (
            ""
            if self.reading is None or self.reading.is_plain()
            else f"{self.reading.place}{self.reading.divides}"
        )
        if self.task in OUTPUT_TASKS and self.reading is not None:
            read += self.reading.signal
        return hash_weights(f"{self.module!r}:{self.signal}:{code}{opened}{read}", self.module)

    @property
    def n_parameters(self) -> int | None:
        """Number of trainable parameters."""
        return int(sum(part.numel() for part in self.module.parameters() if part.requires_grad))

    def find_outputs(
        self, x: Any, *, n_classes: int | None = None, like: AnswerReader | None = None
    ) -> AnswerReader:
        """Find the scores in the module's answers and what they are, once.

        It looks at answers to some of the records `x`. `n_classes` decides between two tensors
        where the answer holds several. `like` is the reading of a similar model's answers.

        Raises:
            InputError: The scores are not found, or it stays open what they are.
            TargetError: The module fails.
        """
        # Found once, so that all answers are read in the same way
        if self.reading is not None:
            return self.reading
        records = self._records(x)
        some = records[
            # Spread over all records: the first ones may be of one class
            np.unique(np.linspace(0, len(records) - 1, min(MOST, len(records))).astype(np.int64))
        ]
        with use_eval_mode(self.module):
            some = self._as_codes(some)
            self.reading = read_answers(
                lambda start, stop: self._ask(some[start:stop]),
                len(some),
                self.batch_size,
                outputs=self.declared,
                n_classes=self.known_classes or n_classes,
                like=like,
                task=self.task,
            )
        if self.task in OUTPUT_TASKS:
            self.known_classes = self.reading.width
        elif self.reading.signal == "labels":
            self.known_classes = self.known_classes or n_classes
        else:
            # A single column is of two classes
            self.known_classes = max(2, self.reading.width)
        self.notes = self.reading.notes
        self._announce(self.reading.signal)
        return self.reading

    def query(self, x: Any) -> Floats:
        """Give the outputs (n, k) for inputs (n, ...), computed in batches.

        The modes within the module are restored afterwards.
        """
        import torch

        reading = self.find_outputs(x)
        records = self._records(x)
        # Dropout and batch statistics would make answers depend on chance or on other records
        with use_eval_mode(self.module), torch.inference_mode():
            parts = [
                reading.rows(self._ask(part), len(part))
                for start in range(0, len(records), self.batch_size)
                for part in (records[start : start + self.batch_size],)
            ]
        return np.concatenate(parts)

    def _records(self, x: Any) -> Any:
        """Prepare records as the module takes them; whole numbers as codes where it looks them up."""
        records = read_records(x)
        return (
            records.astype(np.int64) if self.codes and isinstance(records, np.ndarray) else records
        )

    def _as_codes(self, some: Any) -> Any:
        """Give some records, as codes if the module refuses whole numbers of another type.

        From then on all records are given as codes.
        """
        import torch

        real = (
            isinstance(some, np.ndarray) and some.dtype.kind == "f" and has_embedding(self.module)
        )
        if not real or not (np.isfinite(some).all() and (some == np.floor(some)).all()):
            return some
        try:
            with torch.no_grad():
                # Whole numbers as floats may be codes: only the module itself can tell
                self._ask(some[:1])
        except TargetError as error:
            # torch's message for an embedding that gets real numbers
            if "indices" not in str(error):
                raise
            self.codes = True
        return self._records(some)

    def _ask(self, batch: Any) -> Any:
        return ask_module(self.module, as_inputs(self.module, batch, self.device))

    def _look_inside(self, x: Any, y: Ints, spec: SignalSpec) -> Floats:
        """Measure the white-box signal `spec` (n, d) of the records.

        The module is left exactly as it was.
        """
        # White-box signals need to know which output is the score of which class
        reading = self.find_outputs(x, n_classes=int(np.max(y)) + 1)
        records = self._records(x)
        module = make_scored(self.module, reading, several=isinstance(records, Inputs))
        return TorchInside(module, self.signal, self.device, self.batch_size)(records, y, spec)


def hash_weights(prefix: str, module: Any) -> str | None:
    """Hash `prefix` and everything in the state dict of a module, by name.

    Give None where that is more than plain tensors.
    """
    if any(
        not hasattr(value, "detach") or value.is_quantized for value in module.state_dict().values()
    ):
        return None
    hasher = hashlib.sha256(prefix.encode())
    for name, value in sorted(module.state_dict().items()):
        array = np.ascontiguousarray(
            # numpy has no bfloat16; float32 holds it exactly
            value.detach().cpu().float().numpy() if value.is_floating_point() else value.cpu()
        )
        # With type and shape, since the same bytes can be other weights
        hasher.update(f"{name}:{array.dtype}:{array.shape}".encode())
        hasher.update(array.tobytes())
    return hasher.hexdigest()


def _find_last_width(module: Any) -> int | None:
    """Find the outputs of the last linear layer, as a number of classes; None without one."""
    widths = [part.out_features for part in module.modules() if hasattr(part, "out_features")]
    return None if not widths else max(2, int(widths[-1]))
