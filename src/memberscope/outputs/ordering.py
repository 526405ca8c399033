"""Order output defences by how much they let be seen."""

from __future__ import annotations

from memberscope.outputs.chain import flatten_chain, parse_restriction
from memberscope.outputs.rounding import Rounding
from memberscope.outputs.top_k import TopK

NONE, LABEL = "none", "label"
DIGITS = 16  # of a probability that is not rounded


def shorten_defence_name(name: str) -> str:
    """Give the shortest equal name: whatever ends in labels gives the label alone.

    >>> shorten_defence_name("top:3+label"), shorten_defence_name("none")
    ('label', 'none')
    """
    if name == NONE:
        return NONE
    defence = parse_restriction(name)
    return LABEL if defence.signal == "labels" else defence.name


def _summarize_restriction(name: str) -> tuple[int | None, int, int]:
    """Count the classes that are shown, the digits of each, and the parts that change values.

    None stands for all classes. The parts counted hide nothing.

    >>> _summarize_restriction("top:3+round:2"), _summarize_restriction("memguard:1"), _summarize_restriction("label")
    ((3, 2, 0), (None, 16, 1), (0, 0, 0))
    """
    name = shorten_defence_name(name)
    if name in (NONE, LABEL):
        return (None, DIGITS, 0) if name == NONE else (0, 0, 0)
    parts = flatten_chain(parse_restriction(name))
    shown = [part.k for part in parts if isinstance(part, TopK)]
    digits = [part.decimals for part in parts if isinstance(part, Rounding)]
    return min(shown, default=None), min([DIGITS, *digits]), len(parts) - len(shown) - len(digits)


def can_derive_answers(more: str, less: str) -> bool:
    """Tell whether answers behind `less` can be worked out from those behind `more`.

    Whoever sees `more` then has the attacks on `less` too.

    Each defence keeps the top class; fewer classes and digits follow from more, but for one unit at
    times where digits are rounded twice; a chain's beginning tells what the whole tells. Outputs as
    they are count as telling all, with or without the seeds that some defences keep secret.

    >>> can_derive_answers("top:3", "top:1"), can_derive_answers("top:1", "round:2"), can_derive_answers("memguard:1", "memguard:1+round:2"), can_derive_answers("top:1", "label")
    (True, False, True, True)
    """
    more, less = shorten_defence_name(more), shorten_defence_name(less)
    # Every defence keeps the top class, so that the label follows from all of them
    if more in (NONE, less) or less == LABEL or less.startswith(f"{more}+"):
        return True
    if more == LABEL or less == NONE:
        return False
    # What changes values follows only from outputs as they are or from a chain's beginning
    (k, digits, changed), (fewer, shorter, altered) = (
        _summarize_restriction(more),
        _summarize_restriction(less),
    )
    return (
        not changed
        and not altered
        and digits >= shorter
        and (k is None or (fewer is not None and k >= fewer))
    )


def build_restrictiveness_key(name: str, n_classes: int) -> tuple[int, int, int, str]:
    """Build the sort key of output defences, from the least restrictive to labels alone.

    First by the digits of an answer that are hidden, which orders what `can_derive_answers` cannot
    compare: outputs as they are show all classes with 16 digits each, `top:k` shows k classes,
    `round:d` d digits of each, labels show none. Then by the parts that change values without
    hiding any (temperature, noise, memguard, hamp_output), and by the length of the chain.

    >>> names = ["label", "top:1", "memguard:1", "round:2", "none", "top:3", "round:3"]
    >>> sorted(names, key=lambda name: build_restrictiveness_key(name, 10))
    ['none', 'memguard:1', 'top:3', 'round:3', 'round:2', 'top:1', 'label']
    """
    k, digits, changed = _summarize_restriction(name)
    return (
        n_classes * DIGITS - min(n_classes if k is None else k, n_classes) * digits,
        changed,
        name.count("+"),
        name,
    )
