"""Add attacks and signals of somebody's own to a plan."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

from memberscope.attacks import (
    CustomSignal,
    as_signal,
    is_attack,
    is_shipped,
    is_signal,
    list_signal_attacks,
    wrap_attack,
)
from memberscope.auditing.documents.plan import Plan
from memberscope.errors import InputError
from memberscope.types import Attack


def add_own_attacks(
    plan: Plan, attacks: Sequence[Any] | None = None, signals: Sequence[Any] = ()
) -> Plan:
    """Give the plan with other attacks, and with those on `signals` in addition.

    Args:
        plan: The plan.
        attacks: Names of attacks, and attacks themselves, in the order in which they run; None
            keeps those of the plan.
        signals: Signals of somebody's own, each with a threshold, LiRA and RMIA run on it.

    Raises:
        InputError: A name is unknown or taken twice, or something is no attack or no signal.

    >>> add_own_attacks(Plan(), ["gap", "loss"]).attacks
    ('gap', 'loss')
    """
    if isinstance(attacks, str):
        raise InputError(
            f"Expected a list of attacks, got the text {attacks!r}. Write attacks=[{attacks!r}]."
        )
    names = list(plan.attacks) if attacks is None else []
    custom = {attack.name: attack for attack in plan.custom}
    for thing in attacks or ():
        attack = None if isinstance(thing, str) else _recognise_attack(plan, thing)
        names.append(thing if attack is None else attack.name)
        if attack is not None and not is_shipped(attack.name):
            _refuse_second(attack, custom)
            custom[attack.name] = attack
    for signal in signals:
        for own in list_signal_attacks(as_signal(signal)):
            _refuse_second(own, custom)
            custom[own.name] = own
            names.append(own.name)
    return replace(plan, attacks=tuple(dict.fromkeys(names)), custom=tuple(custom.values()))


def _recognise_attack(plan: Plan, thing: Any) -> Attack:
    """Find the shipped attack that an object is, or wrap it as somebody's own.

    Raises:
        InputError: It is no attack, or another one of a shipped name.
    """
    name = getattr(thing, "name", None)
    if isinstance(name, str) and is_shipped(name):
        shipped = plan.find((name,))[0]
        if shipped != thing:
            raise InputError(
                f"Expected another name for an attack of your own than {name!r}, which comes with "
                "memberscope. Rename it."
            )
        return shipped
    return wrap_attack(thing)


def _refuse_second(attack: Attack, custom: dict[str, Attack]) -> None:
    """Refuse another attack of a name that the plan has.

    Raises:
        InputError: It is another one.
    """
    before = custom.get(attack.name)
    if before is not None and before != attack:
        raise InputError(
            f"Expected different names of attacks, got {attack.name!r} twice. Rename one."
        )


def load_attack_file(path: str | Path) -> tuple[list[Any], list[CustomSignal]]:
    """Load the attacks and the signals that a Python file defines; its code is run.

    These are the objects at its top that have `name`, `needs` and `score`, or `name`, `measure`
    and `higher`, and the classes there that work without arguments.

    Raises:
        InputError: The file cannot be read or run, or defines neither.
    """
    file = Path(path)
    module = _run_file(file)
    things = [
        thing
        for name, thing in vars(module).items()
        # A class that is imported there is not defined there
        if not name.startswith("_")
        and not isinstance(thing, ModuleType)
        and (not isinstance(thing, type) or thing.__module__ == module.__name__)
    ]
    # A class counts where the file makes no object of it
    made = {type(thing) for thing in things}
    chosen = [thing for thing in things if not isinstance(thing, type) or thing not in made]
    attacks = [thing for thing in chosen if is_attack(thing)]
    signals = [as_signal(thing) for thing in chosen if is_signal(thing)]
    if not attacks and not signals:
        raise InputError(
            f"Expected an attack (name, needs, score) or a signal (name, measure, higher) in "
            f"{str(path)!r}, got neither. Define one at the top of the file."
        )
    return attacks, signals


def _run_file(file: Path) -> ModuleType:
    """Run a Python file as a module, once a process.

    Raises:
        InputError: It is missing, no Python, or raises.
    """
    name = f"memberscope_attack_file_{file.stem}"
    place = importlib.util.spec_from_file_location(name, file) if file.suffix == ".py" else None
    if place is None or place.loader is None or not file.is_file():
        raise InputError(
            f"Expected a Python file (.py) with attacks, got {str(file)!r}. Check the path."
        )
    module = importlib.util.module_from_spec(place)
    # Found by name where its classes are hashed and sent to workers
    sys.modules[name] = module
    try:
        place.loader.exec_module(module)
    # A user's file may raise anything
    except Exception as error:
        del sys.modules[name]
        first = (str(error).splitlines() or [""])[0]
        raise InputError(
            f"Expected attacks in {str(file)!r}, got {type(error).__name__}: {first}. Run the file "
            "with Python to see why."
        ) from error
    return module
