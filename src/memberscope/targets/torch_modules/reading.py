"""Read the answers of a torch module: where its scores are, what they are, and how many."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import expit

from memberscope.errors import InputError
from memberscope.frames import as_numpy
from memberscope.targets.answers.one_vs_all import divide_by_sums
from memberscope.targets.answers.output_kind import Outputs, expand_to_classes
from memberscope.targets.answers.real_outputs import arrange_outputs
from memberscope.targets.answers.scores import Place, as_rows, find_scores, pick_scores
from memberscope.targets.torch_modules.output_kind import (
    Last,
    require_kind,
    tell_kind,
    tell_label_kind,
    watch_operations,
)
from memberscope.types import OUTPUT_TASKS, Floats, Task

# Records whose answer shows where the scores are; a prime, unlikely to be another dimension
FIRST = 61
MOST = 1024  # records whose answers decide what the scores are
NOTE = (
    "The model gives one sigmoid a class, whose sum is not 1 (from {low:.3g} to {high:.3g}); they "
    "were divided by their sum. "
    "Which class is the top one does not change."
)


@dataclass(frozen=True)
class AnswerReader:
    """How answers are read: the `place` of the scores, what they are, and how many a record.

    `last` is the operation that made them. With `divides` they are sigmoids of several classes,
    which are divided by their sum.
    """

    place: Place
    signal: Outputs
    width: int
    last: Last | None = None
    divides: bool = False
    notes: tuple[str, ...] = ()
    task: Task = "classification"

    def rows(self, answer: Any, n: int) -> Floats:
        """Read the outputs (n, k) in an answer to `n` records.

        Raises:
            InputError: It has another form than the first answer.
        """
        scores = pick_scores(answer, self.place)
        found = _arrange_rows(scores, n, self.task)
        if found.shape[1] != self.width:
            raise InputError(
                f"Expected {self.width} scores for each record, as in the first answer, got "
                f"{found.shape[1]}. Return all answers in one form."
            )
        if self.task in OUTPUT_TASKS:
            logits = self.task == "multilabel" and self.signal == "logits"
            return np.asarray(expit(found), np.float64) if logits else found
        outputs = expand_to_classes(found, self.signal)
        return divide_by_sums(outputs) if self.divides else outputs

    def is_plain(self) -> bool:
        """Check whether the scores are the answer itself, unchanged."""
        return not self.place and not self.divides


def read_answers(
    ask: Callable[[int, int], Any], n: int, batch_size: int, *, outputs: Outputs | None, n_classes: int | None, like: AnswerReader | None, task: Task = "classification"
) -> AnswerReader:  # fmt: skip
    """Find how to read a module's answers.

    `ask(start, stop)` gives the answer for some of `n` records. What they are is `outputs` where
    declared, else inferred from the operation that made them and from the answers; where it stays
    open it is that of `like`, the reading of a model that this one is trained to resemble. Numbers
    that a model of another `task` predicts are taken as they are.

    Raises:
        InputError: The scores are not found, or what they are stays open.
    """
    import torch

    # A first answer shows where the scores are; more are needed for what they are
    first = min(FIRST, n, batch_size)
    with torch.no_grad():
        answer, last = _ask_watched(ask, first)
    known = None if like is None else like.signal
    outputs_wanted = task in OUTPUT_TASKS
    place = find_scores(answer, first, n_classes, deep=outputs_wanted and task != "multilabel")
    scores = pick_scores(answer, place)
    made = None if last is None else last(scores)
    kind = str(getattr(scores, "dtype", ""))
    # Whole numbers in one column are decisions, not scores
    whole = "int" in kind or "bool" in kind
    parts = [_arrange_rows(scores, first, task)]
    with torch.no_grad():
        for start in range(first, min(n, MOST), batch_size):
            stop = min(n, MOST, start + batch_size)
            more = pick_scores(ask(start, stop), place)
            parts.append(_arrange_rows(more, stop - start, task))
    values = np.concatenate(parts)
    if outputs_wanted:
        own = "logits" if task != "multilabel" else tell_label_kind(values, made, outputs or known)
        return AnswerReader(place, own, values.shape[1], made, task=task)
    # The user's word first, then a model that this one was trained to resemble
    declared = outputs or _infer_from_like(like, values, made)
    if declared is None and whole and values.shape[1] == 1:
        declared = "labels"
    signal = declared or require_kind(tell_kind(values, made), values, made)
    return _with_sums(AnswerReader(place, signal, values.shape[1], made), values)


def _arrange_rows(scores: Any, n: int, task: Task) -> Floats:
    """Arrange scores of `n` records as (n, k); of numbers, all dimensions after the first."""
    if task in OUTPUT_TASKS:
        return arrange_outputs(as_numpy(scores), n, name="the module")
    return as_rows(scores, n).astype(np.float64)


def _ask_watched(ask: Callable[[int, int], Any], first: int) -> tuple[Any, Any]:
    """Get the first answer, and a function that says which operation made a tensor of it.

    None instead of the function where torch cannot watch.
    """
    watch = watch_operations()
    try:
        with watch:
            return ask(0, first), watch.last
    # Modules that torch cannot watch answer all the same, or fail with a message of their own
    except Exception:
        return ask(0, first), None


def _infer_from_like(
    like: AnswerReader | None, values: Floats, made: Last | None
) -> Outputs | None:
    """Infer what the scores are from the model that this one resembles.

    Its kind is taken if it was declared, or if nothing here contradicts it.
    """
    if like is None or not np.isfinite(values).all():
        return None if like is None else like.signal
    # Made in the same way, so that they are the same kind of numbers
    if like.width == values.shape[1] and like.last == made:
        return like.signal
    return None if tell_kind(values, made) else like.signal


def _with_sums(reading: AnswerReader, values: Floats) -> AnswerReader:
    """Divide sigmoids of several classes by their sums where these are not one."""
    # Only sigmoids of several classes need not sum to one
    if reading.signal != "probabilities" or reading.width < 2 or reading.last != "sigmoid":
        return reading
    sums = values.sum(axis=1)
    # Normalised already, but for rounding
    if np.abs(sums - 1).max() <= 1e-3:
        return reading
    note = NOTE.format(low=float(sums.min()), high=float(sums.max()))
    return AnswerReader(reading.place, reading.signal, reading.width, reading.last, True, (note,))


def make_scored(module: Any, reading: AnswerReader, *, several: bool) -> Any:
    """Make a module that returns the scores alone, one row a record.

    The module itself is returned where it does that already.

    >>> import torch
    >>> plain = torch.nn.Linear(2, 2)
    >>> make_scored(plain, AnswerReader((), "logits", 2), several=False) is plain
    True
    """
    import torch

    from memberscope.targets.torch_modules.calls import call_module

    if reading.is_plain() and not several:
        return module

    class Scored(torch.nn.Module):
        """The module, with its answers reduced to scores (n, k)."""

        def __init__(self) -> None:
            super().__init__()
            self.module = module

        def forward(self, inputs: Any) -> Any:
            scores = pick_scores(call_module(self.module, inputs), reading.place)
            rows = scores.reshape(-1, reading.width)
            return (
                # The same division as of the answers, with room for sums of zero
                rows / rows.sum(dim=1, keepdim=True).clamp_min(1e-30) if reading.divides else rows
            )

    return Scored()
