"""List the levels of an audit.

A level is the same model seen with more or with less access, and through what an endpoint might
hold back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memberscope.errors import InputError
from memberscope.facts import read_target_facts
from memberscope.outputs import (
    INVERTED,
    AnyRecovery,
    Chain,
    Rounding,
    TopK,
    check_restriction,
    derive_noise_key,
    flatten_chain,
    join_parts,
    parse_restriction,
    with_noise_key,
)
from memberscope.signals import (
    SignalRequest,
    arrange_labels,
    is_measured,
    restrict_to_access,
    with_query_budget,
)
from memberscope.types import (
    Access,
    Attack,
    Differentiable,
    Evidence,
    Floats,
    Ints,
    OutputDefence,
    Signal,
    SignalSpec,
    Target,
    ThreatModel,
)

# Losses cannot be turned back into labels, so nothing lies below them
OFFERED: dict[Signal, tuple[Access, ...]] = {
    "labels": (Access.LABEL,),
    "loss": (Access.PROBABILITIES,),
    "probabilities": (Access.LABEL, Access.PROBABILITIES),
    "logits": (Access.LABEL, Access.PROBABILITIES, Access.LOGITS),
}


@dataclass(frozen=True)
class Level:
    """What one query returns: an access, and the restriction of its outputs by name if any.

    `declared` tells the restriction that is in force (or none) from those that are tried beside it.
    Randomised restrictions draw by `key`, which no attack sees. Where an adversary undoes their
    noise, the level ends in `inverted`, and `recovery` is how.
    """

    access: Access
    restriction: str | None = None
    declared: bool = True
    key: bytes | None = field(default=None, compare=False, repr=False)
    recovery: AnyRecovery | None = field(default=None, compare=False, repr=False)

    @property
    def word(self) -> str:
        """Its name in tables.

        >>> Level(Access.PROBABILITIES, "top:1").word, Level(Access.LABEL).word
        ('probabilities top:1', 'label')
        """
        return format_level(self.access.word, self.restriction)

    @property
    def defence(self) -> OutputDefence | None:
        """What is done to the outputs: the restriction with its key, and what undoes it."""
        if self.restriction is None:
            return None
        name = self.restriction.removesuffix(f"+{INVERTED}")
        found = parse_restriction(name)
        if self.key is not None:
            found = with_noise_key(found, self.key)
        return found if self.recovery is None else Chain((found, self.recovery))

    def wanted(self, spec: SignalSpec, queries: int) -> SignalRequest:
        """Request a signal as an adversary here sees it, with `queries` a record for each search.

        What is measured does not depend on what the outputs look like, but for tokens of texts.
        """
        # Only searches of labels spend the budget; gradients are read once
        if is_measured(spec) and spec.source != "tokens":
            searched = self.access == Access.LABEL and spec.source == "search"
            return SignalRequest(
                self.access, with_query_budget(spec, queries) if searched else spec
            )
        return SignalRequest(self.access, spec, self.defence)


def format_level(access: str, restriction: str | None) -> str:
    """Name a level in tables and in the keys of arrays.

    >>> format_level("probabilities", "round:2")
    'probabilities round:2'
    """
    return access if restriction is None else f"{access} {restriction}"


def find_active_restriction(threat: ThreatModel, target: Target) -> str | None:
    """Find the restriction under which the model answers.

    It is what the target says of itself, and then what the threat model declares.
    """
    own, declared = read_target_facts(target).restriction, threat.restriction
    if own is None or declared is None or own == declared:
        # A declaration that repeats what the target says is not applied twice
        return declared or own
    return f"{own}+{declared}"


def find_remaining_restriction(
    restriction: OutputDefence | None, done: str | None
) -> OutputDefence | None:
    """Find what is left of a restriction for answers that went through `done` already.

    >>> chain = parse_restriction("top:3+round:2")
    >>> find_remaining_restriction(chain, "top:3"), find_remaining_restriction(TopK(3), "top:3"), find_remaining_restriction(TopK(1), None)
    (Rounding(decimals=2), None, TopK(k=1))
    """
    if restriction is None or done is None:
        return restriction
    parts, gone = flatten_chain(restriction), done.split("+")
    if [part.name for part in parts[: len(gone)]] != gone:
        return restriction
    left = parts[len(gone) :]
    return join_parts(left) if left else None


def derive_audit_key(seed: int) -> bytes:
    """Derive the key of an audit's randomised restrictions from the plan's seed.

    No attack is given it: whoever queries a guard does not know its key either.
    """
    return derive_noise_key(f"seed {seed}".encode(), "audit")


def list_audit_levels(
    target: Target,
    signal: Signal,
    threat: ThreatModel,
    tried: Sequence[str] = (),
    key: bytes | None = None,
) -> tuple[Level, ...]:
    """List the levels to audit, weakest first.

    They are those that `signal` can be reduced to, up to the declared one. Randomised restrictions
    draw by `key`.

    Each restriction of `tried` that would hide something is a level of its own, below all
    probabilities.

    Raises:
        InputError: A restriction is declared for losses.

    >>> from memberscope.targets import FunctionTarget
    >>> model = FunctionTarget(lambda x: x, n_classes=5, signal="logits")
    >>> [level.word for level in list_audit_levels(model, "logits", ThreatModel(), ("top:1", "round:2"))]
    ['label', 'probabilities top:1', 'probabilities round:2', 'probabilities']
    """
    if threat.access.ladder == "text":
        return _list_text_levels(target, signal, threat)
    if threat.access.ladder == "outputs":
        return _list_output_levels(target, threat, tried, key)
    # What is in force bounds every level, so it is settled before any is listed
    declared = find_active_restriction(threat, target)
    if declared is not None and signal == "loss":
        raise InputError(
            f"Expected probabilities or logits for the restriction {declared}, got losses. Give "
            "--signals with p0, p1, …."
        )
    for name in (*(() if declared is None else (declared,)), *tried):
        check_restriction(parse_restriction(name), "classification")
    # What is restricted shows no logits, and the inside of the model would go round it
    if declared is not None and signal in ("probabilities", "logits"):
        limited = parse_restriction(declared)
        offered: tuple[Access, ...] = (
            (Access.LABEL,) if limited.signal == "labels" else (Access.LABEL, Access.PROBABILITIES)
        )
    else:
        declared, offered = None, OFFERED[signal]
        if isinstance(target, Differentiable):
            # White box is offered only where the target can be differentiated
            offered = (*offered, Access.WHITE_BOX)
    found = []
    for access in offered:
        if access > threat.access:
            continue
        # Restrictions that are tried stand just before the level that they restrict
        if access == Access.PROBABILITIES:
            if signal != "loss":
                beside = [
                    name
                    # Each by its parsed name, so that two spellings are tried once
                    for name in dict.fromkeys(parse_restriction(name).name for name in tried)
                    if name != declared
                    and _is_stricter_restriction(name, declared, target.n_classes)
                ]
                names = [name if declared is None else f"{declared}+{name}" for name in beside]
                found += [Level(access, name, declared=False, key=key) for name in names]
            found.append(Level(access, declared, key=key))
        else:
            found.append(Level(access))
    return tuple(found)


def _list_output_levels(
    target: Target, threat: ThreatModel, tried: Sequence[str], key: bytes | None
) -> tuple[Level, ...]:
    """List the levels of a model with real outputs: its prediction, restricted and whole.

    There is no level for labels or logits; what hides a part of a prediction is a restriction.

    Raises:
        InputError: A restriction is for answers of another kind.
    """
    declared, task = find_active_restriction(threat, target), read_target_facts(target).task
    for name in (*(() if declared is None else (declared,)), *tried):
        check_restriction(parse_restriction(name), task)
    beside = [name for name in dict.fromkeys(tried) if name != declared]
    names = [name if declared is None else f"{declared}+{name}" for name in beside]
    levels = [Level(Access.PREDICTION, name, declared=False, key=key) for name in names]
    return (*levels, Level(Access.PREDICTION, declared, key=key))


def _list_text_levels(target: Target, signal: Signal, threat: ThreatModel) -> tuple[Level, ...]:
    """List the levels of a language model, weakest first, up to the declared one.

    A target behind a restriction answers through it, and shows no more than that.
    """
    # A server that only generates shows nothing of the tokens that it is given
    shown = [Access.GENERATIONS, Access.TOP_TOKENS]
    if signal != "generations":
        shown = [Access.TOKEN_PROBABILITIES, Access.VOCABULARY]
        if hasattr(target, "generate"):
            shown.insert(0, Access.GENERATIONS)
        if isinstance(target, Differentiable):
            shown.append(Access.WEIGHTS)
    most = min(target.access, threat.access)
    restriction = read_target_facts(target).restriction
    # Texts that it writes are the same whatever is told of their tokens
    return tuple(
        Level(access, restriction if access > Access.TOP_TOKENS else None)
        for access in shown
        if access <= most
    )


def _is_stricter_restriction(name: str, declared: str | None, n_classes: int) -> bool:
    """Tell whether a restriction tells less than what is in force.

    The last class follows from the sum of the others.

    >>> _is_stricter_restriction("top:1", None, 2), _is_stricter_restriction("top:3", "top:1", 10), _is_stricter_restriction("top:1", None, 10)
    (False, False, True)
    """
    defence, before = parse_restriction(name), _split_restriction(declared)
    # Digits and classes are hidden independently, so each is compared with its own kind
    if isinstance(defence, Rounding):
        return all(
            defence.decimals < part.decimals for part in before if isinstance(part, Rounding)
        )
    if not isinstance(defence, TopK):
        return True
    # Without one class all are known, so hiding it hides nothing
    return defence.k < min([n_classes - 1, *(part.k for part in before if isinstance(part, TopK))])


def _split_restriction(name: str | None) -> tuple[OutputDefence, ...]:
    """List the output defences that a restriction applies, in order."""
    if name is None:
        return ()
    defence = parse_restriction(name)
    return defence.parts if isinstance(defence, Chain) else (defence,)


def build_evidence(
    level: Level,
    signal: Signal,
    outputs: Floats,
    labels: NDArray[Any],
    features: Floats | None,
    *,
    done: str | None = None,
    decided: Ints | None = None,
) -> Evidence:
    """Build evidence about all records, nothing known yet.

    `outputs` (n, k) are reduced to what `level` returns.

    `done` names the restriction that the outputs went through already. `decided` (n,) are the
    labels that the model itself gives, if these need not be the top ones.
    """
    defence = find_remaining_restriction(level.defence, done)
    seen, values = restrict_to_access(level.access, signal, outputs, defence)
    # A threshold of its own may make the model decide against its top class
    if decided is not None and level.access == Access.LABEL:
        seen, values = "labels", decided[:, None].astype(np.float64)
    # Every record is hidden until the threat model grants something
    known = np.full(len(labels), -1, dtype=np.int8)
    return Evidence(
        seen, values[:, None, :], arrange_labels(seen, labels), known, features=features
    )


def is_worth_running(attack: Attack, level: Level) -> bool:
    """Tell whether an attack is worth running at `level`.

    Where less access is enough, more detail must change something.

    Restrictions that are tried beside the declared one get every attack too, since a guard may be
    told to serve one of them.
    """
    needed = attack.needs.access.at(level.access.ladder)
    # Each level of text adds signals of its own, so attacks run where theirs appear first
    if level.access.ladder == "text":
        return needed == level.access
    # What somebody's own code asks cannot be seen through a restriction
    if attack.needs.spec.source == "custom":
        return needed == level.access and level.restriction is None
    # Labels and gradients are the same whatever the outputs look like
    if needed in (Access.LABEL, Access.WHITE_BOX) or level.access == Access.WHITE_BOX:
        return needed == level.access
    return needed <= level.access
