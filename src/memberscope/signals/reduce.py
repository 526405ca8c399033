"""Reduce a model's answers to what is kept, and to what weaker access would have shown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memberscope._numerics import fill_hidden_probabilities, round_to_40_bits, softmax
from memberscope.attacks import true_class_log_probability, true_class_logit
from memberscope.errors import UnmetNeedError
from memberscope.types import (
    OUTPUT_SIGNALS,
    Access,
    Evidence,
    Floats,
    Ints,
    OutputDefence,
    Signal,
    SignalSpec,
)

# White-box access shows at least the logits
SIGNAL_AT: dict[Access, Signal] = {
    Access.LABEL: "labels",
    Access.PROBABILITIES: "probabilities",
    Access.LOGITS: "logits",
    Access.WHITE_BOX: "logits",
}


@dataclass(frozen=True)
class SignalRequest:
    """One signal as an adversary with `access` sees it.

    It is the unit in which reference models are observed and stored.

    A `restriction` is what is done to the answers of the target, and so to those of the reference
    models too.
    """

    access: Access
    spec: SignalSpec
    restriction: OutputDefence | None = None

    @property
    def name(self) -> str:
        """Name for files, unique among signals.

        >>> SignalRequest(Access.LOGITS, SignalSpec("log_confidence", parameters=(("temperature", 2.0),))).name
        'log_confidence temperature=2 @logits'
        """
        parameters = "".join(f" {key}={value:g}" for key, value in self.spec.parameters)
        limits = f" {self.restriction.name}" if self.restriction else ""
        own = "" if self.spec.own is None else f" {self.spec.own.digest[:16]}"
        return f"{self.spec.title}{own}{parameters} @{self.access.word}{limits}"


def arrange_labels(signal: Signal, labels: NDArray[Any]) -> NDArray[Any]:
    """Give the true numbers or labels (n, d) of a model with real outputs; classes as they are.

    >>> arrange_labels("prediction", np.array([1.5, 2.0])).shape
    (2, 1)
    """
    return labels.reshape(len(labels), -1) if signal in OUTPUT_SIGNALS else labels


def measure_output_quality(signal: Signal, outputs: Floats, labels: NDArray[Any]) -> Floats:
    """Measure how right outputs (n, d) are about each record (n,), at most 1.

    Of numbers it is one minus the squared error as a share of the variance of the true values
    (n,) or (n, d), averaged over outputs: its mean over records is the explained variance. Of
    several labels it is the share that is right, at a probability of one half. Of a released table
    it is one over one plus the distance to its closest row.

    >>> y = np.array([0.0, 2.0])
    >>> measure_output_quality("prediction", np.array([[0.0], [1.0]]), y).tolist()
    [1.0, 0.0]
    >>> measure_output_quality("label_probabilities", np.array([[0.9, 0.2]]), np.array([[1, 1]])).tolist()
    [0.5]
    """
    truth = np.asarray(labels, dtype=np.float64).reshape(len(outputs), -1)
    if signal == "proximity":
        # The first column is minus the logarithm of the distance, and at most the table's offset
        return 1.0 / (1.0 + np.exp(-outputs[:, 0]))
    if signal == "label_probabilities":
        return np.asarray(((outputs >= 0.5) == (truth > 0.5)).mean(axis=1), dtype=np.float64)
    spread = truth.var(axis=0)
    # An output that never varies has nothing to explain: its error counts as it is
    scale = np.where(spread > 0, spread, 1.0)
    return np.asarray(1.0 - ((outputs - truth) ** 2 / scale).mean(axis=1), dtype=np.float64)


def restrict_to_access(
    access: Access, signal: Signal, outputs: Floats, restriction: OutputDefence | None = None
) -> tuple[Signal, Floats]:
    """Reduce `outputs` (n, k) to what `access` under a `restriction` would have shown.

    Give the signal's name and its values (n, d).

    >>> restrict_to_access(Access.LABEL, "probabilities", np.array([[0.2, 0.8]]))[1].tolist()
    [[1.0]]
    """
    # Real outputs have one level, at which nothing but a restriction hides a part
    if signal in OUTPUT_SIGNALS:
        return signal, outputs if restriction is None else restriction(outputs)
    # Defences restrict probabilities; labels and losses have none to restrict
    if restriction is not None and signal in ("probabilities", "logits"):
        seen = restriction(softmax(outputs) if signal == "logits" else outputs)
        return restrict_to_access(access, restriction.signal, seen)
    # What a language model says or writes has no weaker form
    if (
        signal in ("loss", "generations")
        or SIGNAL_AT[access] == signal
        or (access > Access.LABEL and signal != "logits")
    ):
        return signal, outputs
    if access == Access.LABEL:
        return "labels", find_top_class(outputs)[:, None].astype(np.float64)
    return "probabilities", softmax(outputs)


def find_top_class(outputs: Floats) -> Ints:
    """Find the top class (n,) of `outputs` (n, k), the first of equals.

    Hidden classes (NaN) are never the top.

    >>> find_top_class(np.array([[np.nan, 0.4, 0.1]])).tolist()
    [1]
    """
    return np.asarray(np.where(np.isnan(outputs), -np.inf, outputs).argmax(axis=1), dtype=np.int64)


def reduce_outputs(
    wanted: SignalRequest, signal: Signal, outputs: Floats, labels: NDArray[Any]
) -> tuple[Signal, NDArray[np.float32] | Floats]:
    """Reduce answers to the signal's name and the values (n, d) that are kept.

    These are all outputs, or one float32 for each record.

    From logits the one number is exact. From probabilities, which a server rounds and forests count
    in votes, a zero is read as half the smallest positive probability that the model gave. From
    losses there is no temperature.

    Raises:
        UnmetNeedError: A temperature is asked for, and only losses are given.
    """
    seen, values = restrict_to_access(wanted.access, signal, outputs, wanted.restriction)
    if wanted.spec.name == "outputs":
        return seen, values
    temperature = dict(wanted.spec.parameters).get("temperature", 1.0)
    if seen == "probabilities":
        logit, log_p = _compute_log_confidences(
            fill_hidden_probabilities(values) ** (1 / temperature), labels
        )
        return wanted.spec.name, _cast_to_column(
            logit if wanted.spec.name == "logit_confidence" else log_p
        )
    if seen == "loss" and temperature != 1.0:
        raise UnmetNeedError(
            f"Expected probabilities or logits for a temperature of {temperature:g}, got losses. "
            "Give probabilities."
        )
    # The attack's own functions, so that reference models are read as the target is
    scaled = values / temperature
    evidence = Evidence(seen, scaled[:, None, :], labels, np.full(len(labels), -1, dtype=np.int8))
    return wanted.spec.name, _cast_to_column(
        true_class_logit(evidence)
        if wanted.spec.name == "logit_confidence"
        else true_class_log_probability(evidence)
    )


def _cast_to_column(one: Floats) -> NDArray[np.float32]:
    """Cast one number for each record to the form that is stored, (n, 1)."""
    return one[:, None].astype(np.float32)


def _compute_log_confidences(values: Floats, labels: Ints) -> tuple[Floats, Floats]:
    """Compute logit-scaled and log-confidence (n,) of unnormalised probabilities (n, k).

    Zeros are read as half the smallest positive probability.

    >>> logit, log_p = _compute_log_confidences(np.array([[1.0, 0.0], [0.8, 0.2], [0.0, 1.0]]), np.zeros(3, dtype=int))
    >>> np.round(np.exp(logit), 3).tolist(), np.round(np.exp(log_p), 3).tolist()
    ([10.0, 4.0, 0.1], [1.0, 0.8, 0.1])
    """
    total = values.sum(axis=1, keepdims=True)
    # Rounding can leave a record without any probability, which must not divide by zero
    p = values / np.where(total > 0, total, 1.0)
    # A rounded zero is unknown, but below the smallest number that was written
    floor = 0.5 * float(p[p > 0].min())
    rows = np.arange(len(p))
    true = np.maximum(p[rows, labels], floor)
    rest = p.copy()
    rest[rows, labels] = 0.0
    others = np.maximum(round_to_40_bits(rest.sum(axis=1)), floor)
    return np.log(true) - np.log(others), np.log(true)
