"""Say which output defences can stand in front of a language model."""

from __future__ import annotations

from memberscope.outputs import NONE, LabelOnly, Rounding, TopK, flatten_chain, parse_restriction


def is_text_defence(name: str) -> bool:
    """Tell whether a defence can be applied to log-probabilities of tokens.

    `label` answers with the text alone, `top:k` with the k most probable tokens of each place, and
    `round:d` with d decimals of each log-probability.

    >>> is_text_defence("top:3+round:1"), is_text_defence("noise:0.5")
    (True, False)
    """
    if name == NONE:
        return True
    parts = flatten_chain(parse_restriction(name))
    return all(isinstance(part, TopK | Rounding | LabelOnly) for part in parts)
