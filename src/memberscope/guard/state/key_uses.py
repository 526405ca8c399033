"""Keep when each key was last the newest that a guard took budgets by.

A guard takes by the key that it read at its start, however long ago that key was rotated away.
What says how long its budgets count is therefore not the rotation but its last use, which is kept
beside the budgets, and by the same clock.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from math import ceil
from pathlib import Path
from typing import Protocol

from memberscope._files import write_bytes
from memberscope.errors import InputError
from memberscope.guard.state.interface import StateError
from memberscope.guard.state.redis_client import RedisLink

FORMAT = "memberscope-key-uses/1"
MOST = 64  # keys whose last use is kept
KEPT = 10 * 365 * 86400.0  # seconds without any use after which Redis forgets them
NOTE = """
local time = redis.call('TIME')
redis.call('HSET', KEYS[1], ARGV[1], time[1])
redis.call('PEXPIRE', KEYS[1], ARGV[2])
"""
FIND = "return {redis.call('TIME')[1], redis.call('HGETALL', KEYS[1])}"


class KeyUses(Protocol):
    """Interface of what keeps the last uses of keys, by the names of these.

    Every method may raise StateError.
    """

    async def note_use(self, key: str) -> None:
        """Note that budgets are taken by a key now."""
        ...

    async def find_ages(self) -> dict[str, float]:
        """Find the seconds since the last use of each key that is known."""
        ...

    async def close(self) -> None:
        """Let go of connections."""
        ...


class FileKeyUses:
    """Last uses in a file in the folder of the budgets, which one process uses at a time.

    `clock` is in seconds since 1970. Where it has stepped back, a key was used just now.

    >>> import asyncio, tempfile
    >>> times = iter([100.0, 130.0])
    >>> uses = FileKeyUses(Path(tempfile.mkdtemp()) / "keys.json", lambda: next(times))
    >>> asyncio.run(uses.note_use("2026")), asyncio.run(uses.find_ages())
    (None, {'2026': 30.0})
    """

    def __init__(self, path: Path, clock: Callable[[], float] = time.time) -> None:
        self._path, self._clock = path, clock

    async def note_use(self, key: str) -> None:
        """Note that budgets are taken by a key now."""
        try:
            used = self._read()
        # What nobody can read is written anew: it would else stay so
        except StateError:
            used = {}
        used[key] = self._clock()
        newest = sorted(used, key=lambda name: used[name])[-MOST:]
        text = json.dumps({"format": FORMAT, "used": {name: used[name] for name in newest}})
        try:
            # A disk that is slow must not hold up requests
            await asyncio.to_thread(write_bytes, self._path, text.encode(), mode=0o600)
        except InputError as error:
            raise StateError(str(error)) from error

    async def find_ages(self) -> dict[str, float]:
        """Find the seconds since the last use of each key that is known."""
        now = self._clock()
        return {name: max(0.0, now - at) for name, at in self._read().items()}

    async def close(self) -> None:
        """Do nothing: no file is open."""

    def _read(self) -> dict[str, float]:
        try:
            document = json.loads(self._path.read_bytes())
            if document["format"] != FORMAT:
                raise ValueError(document["format"])
            return {str(name): float(at) for name, at in document["used"].items()}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise StateError("The last uses of keys cannot be read.") from error


class RedisKeyUses:
    """Last uses in the Redis of several workers, by its own clock.

    Raises:
        InputError: The address is none of a Redis.

    >>> RedisKeyUses("redis://localhost:6379/0", "memberscope", 0.25).name
    'memberscope:keys'
    """

    def __init__(self, url: str, prefix: str, timeout: float) -> None:
        self._link, self.name = RedisLink(url, timeout), f"{prefix}:keys"
        self._note, self._find = self._link.script(NOTE), self._link.script(FIND)

    async def note_use(self, key: str) -> None:
        """Note that budgets are taken by a key now."""
        await self._note([self.name], [key, ceil(1000 * KEPT)])

    async def find_ages(self) -> dict[str, float]:
        """Find the seconds since the last use of each key that is known."""
        now, found = await self._find([self.name], [])
        pairs = zip(found[::2], found[1::2], strict=True)
        return {name.decode(): max(0.0, float(now) - float(at)) for name, at in pairs}

    async def close(self) -> None:
        """Let go of connections."""
        await self._link.close()
