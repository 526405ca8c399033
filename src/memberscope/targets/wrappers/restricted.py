"""Put any target behind an output defence: it answers what the defence lets through."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
from scipy.special import softmax

from memberscope.errors import InputError, TargetError
from memberscope.facts import read_target_facts
from memberscope.types import (
    OUTPUT_SIGNALS,
    OUTPUT_TASKS,
    Access,
    Floats,
    OutputDefence,
    Signal,
    Target,
    Task,
)


class RestrictedTarget:
    """`target` seen through `defence`; classes that it hides are NaN.

    A target of numbers, or of several labels, keeps its task and what its answers are called.

    >>> import numpy as np
    >>> from memberscope.targets import FunctionTarget
    >>> class Never:
    ...     name, signal, hides, digest = "never", "probabilities", True, "never"
    ...     def fit(self, outputs, member): return self
    ...     def __call__(self, outputs): return np.full_like(outputs, np.nan)
    >>> whole = FunctionTarget(lambda x: np.tile([0.5, 0.5], (len(x), 1)), n_classes=2)
    >>> RestrictedTarget(whole, Never()).query(np.zeros((1, 3))).tolist()
    [[nan, nan]]
    """

    def __init__(self, target: Target, defence: OutputDefence) -> None:
        """Put `defence` in front of `target`.

        Raises:
            InputError: The target returns labels or losses alone, or texts.
        """
        if target.signal not in ("probabilities", "logits", *OUTPUT_SIGNALS):
            raise InputError(
                f"Expected a target that returns probabilities or logits, got {target.signal}. Use "
                "this target without the output defence."
            )
        self.target, self.defence = target, defence
        facts = read_target_facts(target)
        self.task: Task = facts.task
        self.signal: Signal = defence.signal
        self.access = Access.LABEL if defence.signal == "labels" else Access.PROBABILITIES
        if target.signal in OUTPUT_SIGNALS:
            self.signal, self.access = target.signal, Access.PREDICTION
        self.n_parameters = target.n_parameters
        # Read by the fleet, so that reference models are seen through the same defence
        self.restriction: str | None = defence.name
        self.hides = defence.hides or facts.hides
        self.costly, self.stored, self.classes = facts.costly, facts.stored, facts.classes

    @property
    def n_classes(self) -> int:
        """Number of classes."""
        return self.target.n_classes

    @property
    def known_classes(self) -> int | None:
        """None while the target's number of outputs is unknown, else 0, as for classes."""
        unknown = read_target_facts(self.target).lacks_class_count
        return None if self.task in OUTPUT_TASKS and unknown else 0

    @known_classes.setter
    def known_classes(self, n: int) -> None:
        self.target.known_classes = n  # type: ignore[attr-defined]

    @property
    def reading(self) -> Any:
        """How the target's answers are read, if it is a torch module that answered before."""
        return read_target_facts(self.target).reading

    def find_outputs(self, x: Any, *, n_classes: int | None = None, **how: Any) -> Any:
        """Let the target find out what it returns, if it can."""
        find = read_target_facts(self.target).find_outputs
        return None if find is None else find(x, n_classes=n_classes, **how)

    @property
    def digest(self) -> str | None:
        """Hash of the target's digest and the defence's; None if the target has none."""
        inner = self.target.digest
        return (
            None
            if inner is None
            else hashlib.sha256(f"{inner}:{self.defence.digest}".encode()).hexdigest()
        )

    @property
    def same_labels(self) -> Target:
        """A target with the same top classes that answers faster.

        No defence changes them.
        """
        if self.signal == "labels":
            return self
        return read_target_facts(self.target).same_labels or self.target

    def query(self, x: Any, **whose: Any) -> Floats:
        """Give what is left (n, k) of the target's answers, or labels (n, 1).

        `whose` goes to a target that counts queries.
        """
        outputs = self.target.query(x, **whose)
        # A defence hides classes by NaN, which must not be mixed up with a broken answer
        odd = ~np.isfinite(outputs).all(axis=1)
        if odd.any() and not read_target_facts(self.target).hides:
            raise TargetError(
                f"Expected finite outputs behind {self.defence.name}, got {int(odd.sum())} rows "
                "with NaN or infinity. Make the model answer all records with finite numbers."
            )
        return self.defence(softmax(outputs, axis=1) if self.target.signal == "logits" else outputs)
