"""Attacks and signals of one's own, checked and wrapped so that none can harm an audit."""

from memberscope.attacks.custom.attack import CustomAttack, is_attack, wrap_attack
from memberscope.attacks.custom.on_signal import SignalAttack, list_signal_attacks
from memberscope.attacks.custom.signal import CustomSignal, as_signal, is_signal

__all__ = [
    "CustomAttack",
    "CustomSignal",
    "SignalAttack",
    "as_signal",
    "is_attack",
    "is_signal",
    "list_signal_attacks",
    "wrap_attack",
]
