"""Read log-probability, margin and logit of the true class from one query.

Logits are used as they are, since a probability rounded to 1 has lost the difference that the logit
still shows.
"""

from __future__ import annotations

import numpy as np

from memberscope._numerics import FLOOR, fill_hidden_probabilities, logsumexp, round_to_40_bits
from memberscope.errors import UnmetNeedError
from memberscope.texts import TokenPart
from memberscope.types import Attack, Evidence, Floats

# What is said where a part of the token signals is missing; the attack's name goes between
PARTS: dict[TokenPart, str] = {
    "moments": "the mean and variance of log-probabilities over the vocabulary for the attack {}, "
    "got none. Give a model whose whole vocabulary is open.",
    "top": "whether each token is the model's most probable one for the attack {}, got nothing. "
    "Give a target that names the top token.",
    "base": "the same tokens under the model before fine-tuning for the attack {}, got none. Give "
    "the base model.",
    "lowercase": "the log-probability of each text in lower case for the attack {}, got none. "
    "Audit the model itself.",
    "recall": "the log-probability of each text after known non-members for the attack {}, got "
    "none. Give a prefix of such texts.",
}


def has_log_ratio(attack: object) -> bool:
    """Tell whether an attack's scores are log likelihood ratios, which add over records.

    Such an attack says so by an attribute `log_ratio` that is true.

    >>> from memberscope.attacks import Loss, RobustLiRA
    >>> has_log_ratio(RobustLiRA()), has_log_ratio(Loss())
    (True, False)
    """
    return bool(getattr(attack, "log_ratio", False))


def require_needs(attack: Attack, evidence: Evidence) -> None:
    """Refuse evidence that lacks what the attack declares in `needs`.

    Raises:
        UnmetNeedError: Something is missing; the message names it.
    """
    needs, name = attack.needs, attack.name
    # Reference models first: that they are missing is the clearer message
    if sum(needs.references):
        _require_references(needs.references, evidence)
    if evidence.signal not in needs.signals:
        raise UnmetNeedError(
            f"Expected {' or '.join(needs.signals)} for the attack {name}, got {evidence.signal}. "
            "Query the model at a higher access level (--access)."
        )
    if needs.spec.name == "tokens":
        _require_tokens(attack, evidence)
    if needs.features and evidence.features is None:
        raise UnmetNeedError(
            f"Expected features for the attack {name}, got none. Give the records or --features."
        )
    # The values of `known` that have to occur
    wanted = {"none": (), "non_members": (0,), "both": (0, 1)}[needs.known]
    for value in wanted:
        if not (evidence.known == value).any():
            kind = "members" if value else "non-members"
            raise UnmetNeedError(
                f"Expected known {kind} for the attack {name}, got none. Declare some as known in "
                "the threat model."
            )


def _require_tokens(attack: Attack, evidence: Evidence) -> None:
    """Refuse evidence without token signals, or without a part of them that the attack reads.

    Raises:
        UnmetNeedError: Some are missing, or a record has no scored token.
    """
    tokens = evidence.tokens
    if tokens is None:
        raise UnmetNeedError(
            f"Expected the log-probability of each token for the attack {attack.name}, got none. "
            "Give a language model, or stored token signals."
        )
    for part in attack.needs.tokens:
        if not tokens.has_part(part):
            raise UnmetNeedError(f"Expected {PARTS[part]}".format(attack.name))
    empty = int((tokens.counts < 1).sum())
    if empty:
        raise UnmetNeedError(
            f"Expected at least one scored token a record for the attack {attack.name}, got none "
            f"for {empty} of {len(tokens)}. Leave these records out."
        )


def _require_references(wanted: tuple[int, int], evidence: Evidence) -> None:
    """Refuse evidence with too few reference models.

    `wanted` are the numbers of models that must have been trained with, and without, each record.

    Raises:
        UnmetNeedError: There are too few.
    """
    if evidence.references is None or evidence.inside is None or not evidence.n_references:
        raise UnmetNeedError("Expected reference models, got none. Give a recipe that trains them.")
    # Each record counts: one with too few models could not be scored
    inside = evidence.inside.sum(axis=0)
    counts = (inside, evidence.n_references - inside)
    for least, found, word in zip(wanted, counts, ("with", "without"), strict=True):
        short = int((found < least).sum())
        if short:
            raise UnmetNeedError(
                f"Expected at least {least} reference model(s) trained {word} each record, got "
                f"fewer for {short} "
                f"of {len(evidence)} records. Train more reference models, on half of the records "
                "each."
            )


def read_first_view(evidence: Evidence) -> Floats:
    """Read the outputs (n, d) for the record itself, as float64.

    Hidden probabilities are filled in, see `fill_hidden_probabilities`.
    """
    values = np.asarray(evidence.target[:, 0, :], dtype=np.float64)
    # Only probabilities say how much the hidden classes share
    return fill_hidden_probabilities(values) if evidence.signal == "probabilities" else values


def take_true_class(values: Floats, evidence: Evidence) -> Floats:
    """Take the column (n,) of `values` (n, k) at each record's label."""
    found: Floats = values[np.arange(len(values)), evidence.labels]
    return found


def mask_true_class(values: Floats, evidence: Evidence, fill: float) -> Floats:
    """Copy `values` (n, k) with the label's column set to `fill`."""
    # The evidence itself must stay as it is for the other attacks
    others = values.copy()
    others[np.arange(len(values)), evidence.labels] = fill
    return others


def class_log_probabilities(evidence: Evidence) -> Floats:
    """Compute log-probabilities (n, k) of all classes; zeros are read as `FLOOR`."""
    values = read_first_view(evidence)
    if evidence.signal == "logits":
        # From logits directly, which does not round small probabilities to zero
        return values - logsumexp(values)[:, None]
    return np.log(np.maximum(values, FLOOR))


def true_class_log_probability(evidence: Evidence) -> Floats:
    """Compute the log-probability (n,) of the true class: minus the cross-entropy loss, in nats."""
    if evidence.signal == "loss":
        return -read_first_view(evidence)[:, 0]
    if evidence.signal == "logits":
        values = read_first_view(evidence)
        return take_true_class(values, evidence) - logsumexp(values)
    return np.log(np.maximum(take_true_class(read_first_view(evidence), evidence), FLOOR))


def true_class_probability(evidence: Evidence) -> Floats:
    """Give the probability (n,) of the true class."""
    return np.exp(true_class_log_probability(evidence))


def true_class_logit(evidence: Evidence) -> Floats:
    """Compute the logit-scaled confidence (n,), log p_y - log(1 - p_y).

    1 - p_y is summed from the other classes' probabilities, so that it does not saturate.
    """
    if evidence.signal == "loss":
        # A loss tells of one class alone; expm1 keeps the digits of 1 - p where p is close to 1
        log_p = true_class_log_probability(evidence)
        return log_p - np.log(np.maximum(-np.expm1(log_p), FLOOR))
    values = read_first_view(evidence)
    if evidence.signal == "logits":
        return take_true_class(values, evidence) - logsumexp(
            mask_true_class(values, evidence, -np.inf)
        )
    # Equal answers whose classes were summed in another order must tie, not differ in the last bit
    others = round_to_40_bits(mask_true_class(values, evidence, 0.0).sum(axis=1))
    logit: Floats = np.log(np.maximum(take_true_class(values, evidence), FLOOR)) - np.log(
        np.maximum(others, FLOOR)
    )
    return logit


def true_class_margin(evidence: Evidence) -> Floats:
    """Compute the hinge margin (n,): the true class's logit minus the best other class's.

    Where there are no logits, log-probabilities take their place.
    """
    values = (
        read_first_view(evidence)
        if evidence.signal == "logits"
        else class_log_probabilities(evidence)
    )
    # Minus infinity keeps the true class from being the best of the others
    margin: Floats = take_true_class(values, evidence) - mask_true_class(
        values, evidence, -np.inf
    ).max(axis=1)
    return margin


def score_correctness(evidence: Evidence) -> Floats:
    """Give 1.0 where the model's top class is the true one, else 0.0, as (n,).

    The first of tied classes counts as top.
    """
    values = np.asarray(evidence.target[:, 0, :], dtype=np.float64)
    # Hidden classes are never the top one
    seen = np.where(np.isnan(values), -np.inf, values)
    predicted = (
        values[:, 0].astype(np.int64) if evidence.signal == "labels" else seen.argmax(axis=1)
    )
    hits: Floats = (predicted == evidence.labels).astype(np.float64)
    return hits
