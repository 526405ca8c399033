"""Read and restrict answers about one record without arrays, which cost most of such an answer.

What is of another form than most answers is left to the arrays, which also say what is wrong.
"""

from __future__ import annotations

from typing import Any, TypeGuard

import numpy as np

from memberscope.outputs import Chain, Rounding, TopK
from memberscope.types import Floats, OutputDefence
from memberscope.wire import DeclaredOutputs

NO_OUTPUTS: Floats = np.zeros((1, 0))
NO_OUTPUTS.flags.writeable = False


def find_single_tensor(
    document: Any, answer: str | None, declared: DeclaredOutputs
) -> tuple[str, list[float]] | None:
    """Find the name and the scores of one record's declared output, of floats that lie flat.

    >>> tensor = {"name": "p", "shape": [1, 2], "datatype": "FP64", "data": [0.2, 0.8]}
    >>> find_single_tensor({"outputs": [tensor]}, None, DeclaredOutputs(n=2))
    ('p', [0.2, 0.8])
    """
    outputs = document.get("outputs") if isinstance(document, dict) else None
    if not isinstance(outputs, list):
        return None
    entries = [entry for entry in outputs if isinstance(entry, dict)]
    if answer:
        entries = [entry for entry in entries if entry.get("name") == answer]
    if len(entries) != 1:
        return None
    entry = entries[0]
    name, scores = entry.get("name"), entry.get("data")
    if (
        not isinstance(name, str)
        or not str(entry.get("datatype")).startswith("FP")
        or not is_plain_score_list(scores, declared)
        or entry.get("shape") != [1, len(scores)]
    ):
        return None
    return name, scores


def is_plain_score_list(found: Any, declared: DeclaredOutputs) -> TypeGuard[list[float]]:
    """Tell whether a value has a probability of each declared class, in the audit's order.

    >>> is_plain_score_list([0.2, 0.8], DeclaredOutputs(n=2)), is_plain_score_list([0.8], DeclaredOutputs(n=2))
    (True, False)
    """
    return (
        isinstance(found, list)
        and len(found) == declared.n_classes
        and declared.level == "probabilities"
        and declared.top_k is None
        and declared.straight
    )


def pick_single_pairs(
    scores: list[float], defence: OutputDefence
) -> list[tuple[int, float]] | None:
    """Give the classes and scores that a defence leaves, the likeliest first; None where unsure.

    >>> from memberscope.outputs import parse_restriction
    >>> pick_single_pairs([0.26, 0.41, 0.33], parse_restriction("top:2+round:1"))
    [(1, 0.4), (2, 0.3)]
    """
    first, *rest = defence.parts if isinstance(defence, Chain) else (defence,)
    # Others may need all scores, or draw noise
    pairs = first.pick(scores) if isinstance(first, TopK) else None
    for part in rest:
        if pairs is None or not isinstance(part, Rounding):
            return None
        pairs = part.round_pairs(pairs)
    return pairs
