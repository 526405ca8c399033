"""The attacks: pure functions from evidence to scores, one a file, named as the literature names them.

`ATTACKS` lists what an audit runs by default. Other packages add theirs through the entry-point group
`memberscope.attacks`, each entry naming an attack object.
"""

from __future__ import annotations

from importlib.metadata import entry_points

from memberscope.attacks.confidence import Confidence
from memberscope.attacks.entropy import Entropy
from memberscope.attacks.gap import Gap
from memberscope.attacks.logit import Logit
from memberscope.attacks.loss import Loss
from memberscope.attacks.margin import Margin
from memberscope.attacks.modified_entropy import ModifiedEntropy
from memberscope.attacks.quantile import Quantile
from memberscope.errors import InputError
from memberscope.types import Attack

ATTACKS: tuple[Attack, ...] = (
    Gap(),
    Gap("per_class"),
    Loss(),
    Loss("per_class"),
    Confidence(),
    Confidence("per_class"),
    Entropy(),
    Entropy("per_class"),
    ModifiedEntropy(),
    ModifiedEntropy("per_class"),
    Margin(),
    Margin("per_class"),
    Logit(),
    Logit("per_class"),
    Quantile("class"),
    Quantile(),
)

GROUP = "memberscope.attacks"

__all__ = [
    "ATTACKS",
    "Confidence",
    "Entropy",
    "Gap",
    "Logit",
    "Loss",
    "Margin",
    "ModifiedEntropy",
    "Quantile",
    "available",
    "by_name",
]


def available() -> dict[str, Attack]:
    """Every attack by name: the bundled ones first, then those that installed packages register.

    >>> list(available())[:3]
    ['gap', 'gap_per_class', 'loss']
    """
    found: dict[str, Attack] = {attack.name: attack for attack in ATTACKS}
    for entry in entry_points(group=GROUP):
        attack = entry.load()
        found.setdefault(attack.name, attack)
    return found


def by_name(names: tuple[str, ...]) -> tuple[Attack, ...]:
    """The attacks called `names`, in that order.

    Raises:
        InputError: A name is unknown.

    >>> [attack.name for attack in by_name(("logit", "gap"))]
    ['logit', 'gap']
    """
    known = available()
    for name in names:
        if name not in known:
            raise InputError(f"Expected an attack among {', '.join(known)}, got {name!r}. See `memberscope list attacks`.")
    return tuple(known[name] for name in names)
