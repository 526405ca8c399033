"""Serve a model behind output defences, budgets and a monitor for membership inference."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from memberscope.errors import InputError
from memberscope.guard.policy.config import GuardPolicy, parse_guard_policy, read_policy
from memberscope.guard.policy.keyed_defence import build_keyed_defence

if TYPE_CHECKING:
    from memberscope.guard.server.embedded import GuardMiddleware

__all__ = [
    "GuardMiddleware",
    "GuardPolicy",
    "build_keyed_defence",
    "parse_guard_policy",
    "read_policy",
]


def __getattr__(name: str) -> Any:
    """Load the middleware lazily: it needs the extra `guard`, policies do not."""
    if name != "GuardMiddleware":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        from memberscope.guard.server.embedded import GuardMiddleware
    except ImportError as error:
        raise InputError(
            f"Expected {error.name} for the guard, got none. Run pip install 'memberscope[guard]'."
        ) from error
    return GuardMiddleware
