"""What is kept of a model's answers: all of them, or one number a record; and what weaker access would have shown."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from memberscope._numerics import completed, settled, softmax
from memberscope.attacks._inputs import log_true, logit_true
from memberscope.errors import UnmetNeedError
from memberscope.types import Access, Evidence, Floats, Ints, OutputDefence, Signal, SignalSpec

SIGNAL_AT: dict[Access, Signal] = {
    Access.LABEL: "labels",
    Access.PROBABILITIES: "probabilities",
    Access.LOGITS: "logits",
    Access.WHITE_BOX: "logits",
}


@dataclass(frozen=True)
class Wanted:
    """One signal as an adversary with `access` sees it; the unit in which reference models are observed and stored.

    A `restriction` is what is done to the answers of the target, and so to those of the reference models too.
    """

    access: Access
    spec: SignalSpec
    restriction: OutputDefence | None = None

    @property
    def name(self) -> str:
        """A name for files, unique among signals.

        >>> Wanted(Access.LOGITS, SignalSpec("log_confidence", parameters=(("temperature", 2.0),))).name
        'log_confidence temperature=2 @logits'
        """
        parameters = "".join(f" {key}={value:g}" for key, value in self.spec.parameters)
        limits = f" {self.restriction.name}" if self.restriction else ""
        return f"{self.spec.name}{parameters} @{self.access.word}{limits}"


def seen_at(access: Access, signal: Signal, outputs: Floats, restriction: OutputDefence | None = None) -> tuple[Signal, Floats]:
    """What `access` under a `restriction` would have shown of `outputs` (n, k): the signal's name and its values (n, d).

    >>> seen_at(Access.LABEL, "probabilities", np.array([[0.2, 0.8]]))[1].tolist()
    [[1.0]]
    """
    if restriction is not None and signal in ("probabilities", "logits"):
        seen = restriction(softmax(outputs) if signal == "logits" else outputs)
        return seen_at(access, restriction.signal, seen)
    if signal == "loss" or SIGNAL_AT[access] == signal or (access > Access.LABEL and signal != "logits"):
        return signal, outputs
    if access == Access.LABEL:
        return "labels", top_class(outputs)[:, None].astype(np.float64)
    return "probabilities", softmax(outputs)


def top_class(outputs: Floats) -> Ints:
    """The top class (n,) of `outputs` (n, k), the first of equals; hidden classes (NaN) are none.

    >>> top_class(np.array([[np.nan, 0.4, 0.1]])).tolist()
    [1]
    """
    return np.asarray(np.where(np.isnan(outputs), -np.inf, outputs).argmax(axis=1), dtype=np.int64)


def reduced(wanted: Wanted, signal: Signal, outputs: Floats, labels: Ints) -> tuple[Signal, NDArray[np.float32] | Floats]:
    """The signal's name and its values (n, d) as they are kept: all outputs, or one float32 a record.

    From logits the one number is exact. From probabilities, which a server rounds and forests count in votes, a zero is read
    as half the smallest positive probability that the model gave. From losses there is no temperature.

    Raises:
        UnmetNeedError: A temperature is asked for, and only losses are given.
    """
    seen, values = seen_at(wanted.access, signal, outputs, wanted.restriction)
    if wanted.spec.name == "outputs":
        return seen, values
    temperature = dict(wanted.spec.parameters).get("temperature", 1.0)
    if seen == "probabilities":
        logit, log_p = from_probabilities(completed(values) ** (1 / temperature), labels)
        return wanted.spec.name, kept(logit if wanted.spec.name == "logit_confidence" else log_p)
    if seen == "loss" and temperature != 1.0:
        raise UnmetNeedError(
            f"Expected probabilities or logits for a temperature of {temperature:g}, got losses. Give probabilities."
        )
    scaled = values / temperature
    evidence = Evidence(seen, scaled[:, None, :], labels, np.full(len(labels), -1, dtype=np.int8))
    return wanted.spec.name, kept(logit_true(evidence) if wanted.spec.name == "logit_confidence" else log_true(evidence))


def kept(one: Floats) -> NDArray[np.float32]:
    """One number a record as it is stored, (n, 1)."""
    return one[:, None].astype(np.float32)


def from_probabilities(values: Floats, labels: Ints) -> tuple[Floats, Floats]:
    """Logit-scaled and log-confidence (n,) of unnormalised probabilities (n, k), zeros read as half the smallest positive one.

    >>> logit, log_p = from_probabilities(np.array([[1.0, 0.0], [0.8, 0.2], [0.0, 1.0]]), np.zeros(3, dtype=int))
    >>> np.round(np.exp(logit), 3).tolist(), np.round(np.exp(log_p), 3).tolist()
    ([10.0, 4.0, 0.1], [1.0, 0.8, 0.1])
    """
    total = values.sum(axis=1, keepdims=True)
    p = values / np.where(total > 0, total, 1.0)  # rounding can leave a record nothing at all
    floor = 0.5 * float(p[p > 0].min())
    rows = np.arange(len(p))
    true = np.maximum(p[rows, labels], floor)
    rest = p.copy()
    rest[rows, labels] = 0.0
    others = np.maximum(settled(rest.sum(axis=1)), floor)
    return np.log(true) - np.log(others), np.log(true)
