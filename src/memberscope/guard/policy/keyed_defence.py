"""Build the output defences of a policy with the guard's secret key."""

from __future__ import annotations

from memberscope.errors import InputError
from memberscope.guard.hashing.secret_key import read_secrets
from memberscope.guard.policy.config import GuardPolicy
from memberscope.outputs import list_randomised_parts, parse_restriction, with_noise_key
from memberscope.types import OutputDefence


def build_keyed_defence(policy: GuardPolicy, restrict: str) -> OutputDefence:
    """Build the defence called `restrict`; its noise is drawn by the key file of the policy.

    The file's oldest key makes the noise, so that it stays the same when a newer one is added:
    other noise about the same answers could be averaged. All workers and replicas that read the
    same file answer the same.

    Raises:
        InputError: It draws noise, and the policy names no key file or one that is not usable.

    >>> from memberscope.guard.policy.config import parse_guard_policy
    >>> build_keyed_defence(parse_guard_policy({"serving": {"n_classes": 3}}), "noise:0.5")
    Traceback (most recent call last):
    memberscope.errors.InputError: Expected key in [monitor] for noise:0.5, got none: ...
    """
    defence = parse_restriction(restrict)
    if not list_randomised_parts(defence):
        return defence
    if policy.monitor.key is None:
        raise InputError(
            f"Expected key in [monitor] for {restrict}, got none: its noise must be secret. Name a "
            'file, such as key = "guard.key", that memberscope guard init or guard prepare writes.'
        )
    oldest = read_secrets(policy.path(policy.monitor.key))[0]
    return with_noise_key(defence, oldest.derive_noise_key())
