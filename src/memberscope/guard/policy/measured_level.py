"""Check that a policy serves only what its audit measured."""

from __future__ import annotations

import logging

from memberscope.errors import InputError
from memberscope.guard.logs.operational_log import log_event
from memberscope.guard.policy.config import GuardPolicy
from memberscope.outputs import LABEL, NONE, can_derive_answers

ADVICE = (
    "Change restrict, or audit it and run guard init again; --allow-looser serves it all the same"
)


def _find_measured_level(policy: GuardPolicy) -> str | None:
    """Find the measured level; labels where nothing else was answered, None without `[measured]`."""
    found = policy.measured
    if found is None:
        return None
    return LABEL if found.outputs == "labels" else found.level


def find_looser_classes(policy: GuardPolicy) -> list[str]:
    """Find classes of clients whose answers cannot be worked out from the measured level.

    `default` may be among them.

    >>> from memberscope.guard.policy.config import parse_guard_policy
    >>> measured = {"result": "00", "level": "top:1", "fpr": 0.01, "limit": 0.03, "upper": 0.02, "attack": "lira", "confidence": 0.95}
    >>> table = {"serving": {"n_classes": 3}, "measured": measured, "default": {"restrict": "top:3"}}
    >>> find_looser_classes(parse_guard_policy(table)), find_looser_classes(parse_guard_policy(table | {"default": {"restrict": "top:1+round:2"}}))
    (['default'], [])
    """
    level, found = _find_measured_level(policy), policy.measured
    if level is None or found is None:
        return []
    served = LABEL if policy.serving.outputs == "labels" else NONE
    # Logits tell more than the probabilities that were measured
    logits = policy.serving.outputs == "logits" and found.outputs == "probabilities"
    looser = []
    for name, restrict in [
        *((entry.name, entry.restrict) for entry in policy.clients),
        ("default", policy.default.restrict),
    ]:
        # Unrestricted answers are those of the server
        answers = served if restrict == NONE else restrict
        if not can_derive_answers(level, answers) or (answers == NONE and logits):
            looser.append(name)
    return looser


def require_measured(policy: GuardPolicy, *, allow_looser: bool = False) -> None:
    """Refuse a policy that serves more than was measured, or with `allow_looser` log a warning.

    Raises:
        InputError: A class of clients would see what its audit says nothing about.
    """
    looser = find_looser_classes(policy)
    if not looser:
        return
    level = _find_measured_level(policy)
    if allow_looser:
        log_event(
            logging.WARNING, "looser_than_measured", classes=", ".join(looser), measured=level
        )
        return
    shown = {entry.name: entry.restrict for entry in policy.clients} | {
        "default": policy.default.restrict
    }
    raise InputError(
        f"Expected answers that follow from {level} as [measured] says, got restrict = "
        f"{shown[looser[0]]!r} for {looser[0]}. {ADVICE}."
    )


def log_measured(policy: GuardPolicy) -> None:
    """Log where a policy has no audit behind it, or does not hold what its audit measured."""
    if policy.measured is None:
        log_event(
            logging.INFO,
            "not_measured",
            note="The policy has no [measured]: no audit says what its answers give away.",
        )
    elif policy.guard.mode == "observe" and policy.measured.level != NONE:
        log_event(
            logging.WARNING,
            "not_enforced",
            measured=policy.measured.level,
            note="In mode observe answers pass as they are.",
        )
    elif policy.guard.on_fault == "open" and policy.measured.level != NONE:
        log_event(
            logging.WARNING,
            "open_on_fault",
            measured=policy.measured.level,
            note="What cannot be restricted passes as it is.",
        )
