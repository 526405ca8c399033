"""Find the older keys under which budgets still count, and note the use of the newest."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

from memberscope.guard.hashing.pseudonyms import KeyedHasher
from memberscope.guard.hashing.secret_key import Secret
from memberscope.guard.logs.operational_log import log_event
from memberscope.guard.policy.config import GuardPolicy
from memberscope.guard.state.interface import StateError
from memberscope.guard.state.key_uses import KeyUses

NOTED = 600.0  # seconds between notes of the newest key's use
RETRIED = 1.0  # seconds after a note that failed
# A process that was killed may have used a key for so long after its last note
LATE = 2 * NOTED


class OlderKeys:
    """Keep `names.older` those of `secrets`, the newest last, whose budgets may not be full again.

    A key counts for the time after its rotation in which every guard is started again, and for a
    refill time after its last use, as far as `uses` knows one. Until that is known every key
    counts. `clock` is in seconds since 1970.

    >>> names, old = KeyedHasher(bytes(32)), Secret("old", bytes(32), rotated=0.0)
    >>> limits = {"per_client": "5/d"}
    >>> policy = GuardPolicy.model_validate({"serving": {"n_classes": 3}, "default": limits})
    >>> OlderKeys(names, [old, Secret.new()], None, clock=lambda: 86400.0).follow(policy)
    >>> len(names.older)
    1
    """

    def __init__(
        self,
        names: KeyedHasher,
        secrets: Sequence[Secret],
        uses: KeyUses | None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._names, self._before = names, secrets[:-1]
        self._newest = secrets[-1].id if secrets else ""
        self._uses, self._clock = uses, clock
        # None: not known yet
        self._ages: dict[str, float] | None = {} if uses is None else None
        self._found_at = clock()
        self._longest = 0.0
        self._task: asyncio.Task[None] | None = None

    def follow(self, policy: GuardPolicy) -> None:
        """Find the keys that count under a policy: one with longer budgets needs older ones."""
        self._longest = policy.longest_refill
        self._names.older = [
            KeyedHasher(secret.key) for secret in self._before if self._is_counted(secret)
        ]

    async def start(self) -> None:
        """Find out when keys were last used, and note the newest one's use from now on."""
        if self._uses is None:
            return
        with suppress(StateError):
            await self._look(self._uses)
        self._task = asyncio.create_task(self._note_often(self._uses))

    async def stop(self) -> None:
        """Note the newest key's use for the last time."""
        if self._uses is None:
            return
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
            with suppress(StateError):
                await self._uses.note_use(self._newest)
        await self._uses.close()

    def _is_counted(self, secret: Secret) -> bool:
        if self._ages is None:
            return True
        age = self._ages.get(secret.id)
        if age is not None and self._is_recent(age):
            return True
        return secret.rotated is not None and secret.is_counted(self._longest, self._clock())

    def _is_recent(self, age: float) -> bool:
        """Tell whether budgets that were taken so long before the start may not be full."""
        since = max(0.0, self._clock() - self._found_at)
        return age + since <= self._longest + LATE

    async def _look(self, uses: KeyUses) -> None:
        """Find out when keys were last used, and warn of one that is no longer in the file."""
        ages = await uses.find_ages()
        await uses.note_use(self._newest)
        self._ages, self._found_at = ages, self._clock()
        self._names.older = [
            KeyedHasher(secret.key) for secret in self._before if self._is_counted(secret)
        ]
        there = {self._newest, *(secret.id for secret in self._before)}
        for key in sorted(key for key, age in ages.items() if self._is_recent(age)):
            if key not in there:
                log_event(
                    logging.WARNING,
                    "older_key_missing",
                    key=key,
                    why="budgets were taken by this key lately, and it is no longer in the key "
                    "file: clients have fresh ones; put the earlier file back to count them",
                )

    async def _note_often(self, uses: KeyUses) -> None:
        while True:
            try:
                if self._ages is None:
                    await self._look(uses)
                else:
                    await uses.note_use(self._newest)
                await asyncio.sleep(NOTED)
            except StateError:
                await asyncio.sleep(RETRIED)
