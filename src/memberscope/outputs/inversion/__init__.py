"""Try to undo a randomised output defence, as an adversary does who knows all but the key."""

from memberscope.outputs.inversion.attempt import (
    AnyRecovery,
    InversionAttempt,
    find_recovery,
    is_inverted,
    try_inversion,
)
from memberscope.outputs.inversion.votes import INVERTED, Recovery

__all__ = [
    "AnyRecovery",
    "INVERTED",
    "InversionAttempt",
    "Recovery",
    "find_recovery",
    "is_inverted",
    "try_inversion",
]
