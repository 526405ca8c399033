"""What an attack reads off one query: log-probability, margin and logit of the true class.

Logits are used as they are, since a probability rounded to 1 has lost the difference that the logit still shows.
"""

from __future__ import annotations

import numpy as np

from memberscope.errors import UnmetNeedError
from memberscope.types import Attack, Evidence, Floats

FLOOR = 1e-300  # below this a probability is read as zero; keeps logarithms finite without moving any rank


def require(attack: Attack, evidence: Evidence) -> None:
    """Refuse evidence that lacks what the attack declares in `needs`.

    Raises:
        UnmetNeedError: Something is missing; the sentence names it.
    """
    needs, name = attack.needs, attack.name
    if sum(needs.references):
        require_references(needs.references, evidence)
    if evidence.signal not in needs.signals:
        raise UnmetNeedError(
            f"Expected {' or '.join(needs.signals)} for the attack {name}, got {evidence.signal}. "
            f"Query the model at a higher access level."
        )
    if needs.features and evidence.features is None:
        raise UnmetNeedError(f"Expected features for the attack {name}, got none. Give the records or --features.")
    wanted = {"none": (), "non_members": (0,), "both": (0, 1)}[needs.known]
    for value in wanted:
        if not (evidence.known == value).any():
            kind = "members" if value else "non-members"
            raise UnmetNeedError(f"Expected known {kind} for the attack {name}, got none. Grant some in the threat model.")


def require_references(wanted: tuple[int, int], evidence: Evidence) -> None:
    """Refuse evidence with fewer than `wanted` reference models trained with, and without, some record.

    Raises:
        UnmetNeedError: There are too few.
    """
    if evidence.references is None or evidence.inside is None or not evidence.n_references:
        raise UnmetNeedError("Expected reference models, got none. Give a recipe that trains them.")
    inside = evidence.inside.sum(axis=0)
    counts = (inside, evidence.n_references - inside)
    for least, found, word in zip(wanted, counts, ("with", "without"), strict=True):
        short = int((found < least).sum())
        if short:
            raise UnmetNeedError(
                f"Expected at least {least} reference model(s) trained {word} each record, got fewer for {short} "
                f"of {len(evidence)} records. Train more reference models, on half of the records each."
            )


def first_view(evidence: Evidence) -> Floats:
    """Outputs (n, d) for the record itself, as float64; hidden probabilities are filled in, see `completed`."""
    values = np.asarray(evidence.target[:, 0, :], dtype=np.float64)
    return completed(values) if evidence.signal == "probabilities" else values


def completed(values: Floats) -> Floats:
    """Probabilities (n, k) with each hidden class (NaN) given an equal share of what the visible ones leave.

    That share lies within all that is known of a hidden class: it is at least zero, at most the smallest visible probability of a
    top-k answer, and the whole sums to one. Hidden classes of one record tie.

    >>> completed(np.array([[0.7, np.nan, np.nan], [0.5, 0.3, 0.2]])).round(2).tolist()
    [[0.7, 0.15, 0.15], [0.5, 0.3, 0.2]]
    """
    hidden = np.isnan(values)
    if not hidden.any():
        return values
    left = np.maximum(1.0 - np.nansum(values, axis=1), 0.0)
    share = np.minimum(left / np.maximum(hidden.sum(axis=1), 1), np.nanmin(values, axis=1))
    return np.where(hidden, share[:, None], values)


def of_true_class(values: Floats, evidence: Evidence) -> Floats:
    """Column (n,) of `values` (n, k) at each record's label."""
    return values[np.arange(len(values)), evidence.labels]


def without_true_class(values: Floats, evidence: Evidence, fill: float) -> Floats:
    """Copy of `values` (n, k) with the label's column set to `fill`."""
    others = values.copy()
    others[np.arange(len(values)), evidence.labels] = fill
    return others


def logsumexp(values: Floats) -> Floats:
    """Row-wise log of the sum of exponentials (n,) of `values` (n, k); a row of -inf gives -inf."""
    top = np.maximum(values.max(axis=1), np.finfo(np.float64).min)
    with np.errstate(divide="ignore"):
        return np.asarray(top + np.log(np.exp(values - top[:, None]).sum(axis=1)), dtype=np.float64)


def settled(values: Floats) -> Floats:
    """Values rounded to 40 bits, so that equal probabilities summed in another order still tie."""
    mantissa, exponent = np.frexp(values)
    rounded: Floats = np.ldexp(np.round(mantissa * 2.0**40), exponent - 40)
    return rounded


def log_probabilities(evidence: Evidence) -> Floats:
    """Log-probabilities (n, k) of all classes; zeros are read as `FLOOR`."""
    values = first_view(evidence)
    if evidence.signal == "logits":
        return values - logsumexp(values)[:, None]
    return np.log(np.maximum(values, FLOOR))


def log_true(evidence: Evidence) -> Floats:
    """Log-probability (n,) of the true class: minus the cross-entropy loss, in nats."""
    if evidence.signal == "loss":
        return -first_view(evidence)[:, 0]
    if evidence.signal == "logits":
        values = first_view(evidence)
        return of_true_class(values, evidence) - logsumexp(values)
    return np.log(np.maximum(of_true_class(first_view(evidence), evidence), FLOOR))


def probability_true(evidence: Evidence) -> Floats:
    """Probability (n,) of the true class."""
    return np.exp(log_true(evidence))


def logit_true(evidence: Evidence) -> Floats:
    """Logit-scaled confidence (n,): log p_y - log(1 - p_y), from the others' mass so that it does not saturate."""
    if evidence.signal == "loss":
        log_p = log_true(evidence)
        return log_p - np.log(np.maximum(-np.expm1(log_p), FLOOR))
    values = first_view(evidence)
    if evidence.signal == "logits":
        return of_true_class(values, evidence) - logsumexp(without_true_class(values, evidence, -np.inf))
    others = settled(without_true_class(values, evidence, 0.0).sum(axis=1))
    logit: Floats = np.log(np.maximum(of_true_class(values, evidence), FLOOR)) - np.log(np.maximum(others, FLOOR))
    return logit


def margin_true(evidence: Evidence) -> Floats:
    """Hinge margin (n,): the true class's logit (or log-probability) minus the best other class's."""
    values = first_view(evidence) if evidence.signal == "logits" else log_probabilities(evidence)
    margin: Floats = of_true_class(values, evidence) - without_true_class(values, evidence, -np.inf).max(axis=1)
    return margin


def correct(evidence: Evidence) -> Floats:
    """1.0 where the model's top class is the true one, else 0.0, as (n,); the first of tied classes counts as top."""
    values = np.asarray(evidence.target[:, 0, :], dtype=np.float64)
    seen = np.where(np.isnan(values), -np.inf, values)
    predicted = values[:, 0].astype(np.int64) if evidence.signal == "labels" else seen.argmax(axis=1)
    hits: Floats = (predicted == evidence.labels).astype(np.float64)
    return hits
