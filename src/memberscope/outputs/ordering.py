"""Which of two output defences lets more be seen."""

from __future__ import annotations

from memberscope.defences import Rounding, TopK, restriction
from memberscope.outputs.fitted_file import parts_of

NONE, LABEL = "none", "label"
DIGITS = 16  # of a probability that is not rounded


def plain(name: str) -> str:
    """The shortest name: whatever ends in labels tells the label alone.

    >>> plain("top:3+label"), plain("none")
    ('label', 'none')
    """
    if name == NONE:
        return NONE
    defence = restriction(name)
    return LABEL if defence.signal == "labels" else defence.name


def cuts(name: str) -> tuple[int | None, int, int]:
    """Classes that are shown (None: all), digits of each, and the parts that change values without hiding any.

    >>> cuts("top:3+round:2"), cuts("memguard:1"), cuts("label")
    ((3, 2, 0), (None, 16, 1), (0, 0, 0))
    """
    name = plain(name)
    if name in (NONE, LABEL):
        return (None, DIGITS, 0) if name == NONE else (0, 0, 0)
    parts = parts_of(restriction(name))
    shown = [part.k for part in parts if isinstance(part, TopK)]
    digits = [part.decimals for part in parts if isinstance(part, Rounding)]
    return min(shown, default=None), min([DIGITS, *digits]), len(parts) - len(shown) - len(digits)


def tells(more: str, less: str) -> bool:
    """Whether answers behind `less` can be worked out from those behind `more`, so that who sees `more` has its attacks too.

    Each defence keeps the top class; fewer classes and digits follow from more, but for one unit at times where digits are rounded
    twice; a chain's beginning tells what the whole tells.
    Outputs as they are count as telling all, with or without the seeds that some defences keep secret.

    >>> tells("top:3", "top:1"), tells("top:1", "round:2"), tells("memguard:1", "memguard:1+round:2"), tells("top:1", "label")
    (True, False, True, True)
    """
    more, less = plain(more), plain(less)
    if more in (NONE, less) or less == LABEL or less.startswith(f"{more}+"):
        return True
    if more == LABEL or less == NONE:
        return False
    (k, digits, changed), (fewer, shorter, altered) = cuts(more), cuts(less)
    return not changed and not altered and digits >= shorter and (k is None or (fewer is not None and k >= fewer))


def restrictiveness(name: str, n_classes: int) -> tuple[int, int, int, str]:
    """What to sort output defences of a model with `n_classes` by, from the least restrictive to labels alone.

    First by the digits of an answer that are hidden, which orders what `tells` cannot compare: outputs as they are show all classes
    with 16 digits each, `top:k` shows k classes, `round:d` d digits of each, labels show none. Then by the parts that change values
    without hiding any (temperature, noise, memguard, hamp_output), and by the length of the chain.

    >>> names = ["label", "top:1", "memguard:1", "round:2", "none", "top:3", "round:3"]
    >>> sorted(names, key=lambda name: restrictiveness(name, 10))
    ['none', 'memguard:1', 'top:3', 'round:3', 'round:2', 'top:1', 'label']
    """
    k, digits, changed = cuts(name)
    return n_classes * DIGITS - min(n_classes if k is None else k, n_classes) * digits, changed, name.count("+"), name
