"""Reload the policy while the guard serves: all of it or nothing."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path

from memberscope.errors import MemberscopeError
from memberscope.guard.asgi.compiled_policy import log_undeclared_columns
from memberscope.guard.asgi.middleware import PolicyMiddleware
from memberscope.guard.logs.operational_log import log_event
from memberscope.guard.policy.config import GuardPolicy
from memberscope.guard.policy.measured_level import log_measured


class Reloads:
    """Reload the policy file at `path` for a guard.

    `check` is called with each policy before it comes into force, and may refuse it; `told` is called
    after that.

    Where the state and the monitor's files lie is settled at the start; `restart` names what a new
    policy changes of that.
    """

    def __init__(
        self,
        guard: PolicyMiddleware,
        path: Path,
        told: Callable[[GuardPolicy], None] = lambda policy: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Begin with the policy that the guard has read."""
        self.guard, self.path, self._told, self._clock = guard, path, told, clock
        self.check: Callable[[GuardPolicy], None] = lambda policy: None
        self.loaded_at, self.broken, self.restart = clock(), "", ""
        self._first = guard.rules.policy

    def __call__(self) -> bool:
        """Read the policy and put it in force; a broken one only sets `broken`."""
        try:
            rules = self.guard.prepared(self.path)
            self.check(rules.policy)
        # Whatever is wrong with the file, the policy before it stays in force
        except Exception as error:
            self.broken = (
                str(error) if isinstance(error, MemberscopeError) else type(error).__name__
            )
            log_event(
                logging.ERROR, "reload_failed", said=self.broken, kept=self.guard.rules.digest
            )
            self.guard.counters.reload(False)
            return False
        # What is settled at the start is compared with the first policy, not with the one before
        settled = ("state", "monitor", "alerts", "telemetry")
        kept = self._first.serving.prefix
        changed = [
            name for name in settled if getattr(rules.policy, name) != getattr(self._first, name)
        ] + (["serving.prefix"] if rules.policy.serving.prefix != kept else [])
        self.broken, self.restart, self.loaded_at = "", ", ".join(changed), self._clock()
        self.guard.swap(rules)
        self._told(rules.policy)
        log_event(
            logging.INFO,
            "reloaded",
            digest=rules.digest,
            mode=rules.policy.guard.mode,
            needs_restart=self.restart,
        )
        log_measured(rules.policy)
        log_undeclared_columns(rules)
        self.guard.counters.reload(True)
        return True
