"""Read the stream of observations in one worker at a time, in order.

A snapshot keeps the place that it has reached.

The holder of the lease owns a random token. Redis compares it in the same script that reads or
writes, so a holder who comes late, after another has taken over, can neither read on nor overwrite
(a fencing token [1]). A snapshot and the id of the last line in it are written together: who takes
over resumes from the snapshot and reads the lines after it, and so counts every line once.

After a restart of Redis without its data the holder takes the lease anew and writes its last
snapshot again.

References:
    1. M. Kleppmann: How to do distributed locking. 2016.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from math import ceil
from typing import Any

from memberscope.guard.state.interface import StateError
from memberscope.guard.state.redis_client import RedisLink

# KEYS: lease, snapshot, stream. ARGV: token, milliseconds, id of the own last snapshot. 0: another
# holds it, 2: Redis has no snapshot.
HOLD = """
local function hold()
  local holder = redis.call('GET', KEYS[1])
  if holder and holder ~= ARGV[1] then return 0 end
  local stored = redis.call('HGET', KEYS[2], 'id')
  if not holder and stored and stored ~= ARGV[3] then return 0 end
  redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
  return stored and 1 or 2
end
"""
ACQUIRE = """
if redis.call('EXISTS', KEYS[1]) == 1 then return {0} end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return {1, redis.call('HGET', KEYS[2], 'id'), redis.call('HGET', KEYS[2], 'snapshot')}
"""
# Lines after an id; where there are none, the newest id, which tells whether the stream was lost
PULL = (
    HOLD
    + """
local held = hold()
if held == 0 then return {0} end
local found = redis.call('XRANGE', KEYS[3], '(' .. ARGV[4], '+', 'COUNT', ARGV[5])
local last = ARGV[4]
if #found == 0 then
  local newest = redis.call('XREVRANGE', KEYS[3], '+', '-', 'COUNT', 1)
  last = newest[1] and newest[1][1] or '0-0'
end
return {held, found, last}
"""
)
# Compares the token in the script that writes, so that a late holder overwrites nothing
CHECKPOINT = (
    HOLD
    + """
if hold() == 0 then return 0 end
redis.call('HSET', KEYS[2], 'id', ARGV[4], 'snapshot', ARGV[5])
redis.call('PEXPIRE', KEYS[2], ARGV[6])
return 1
"""
)
# Only one's own lease: it may have ended, and be another worker's by now
RELEASE = "if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end"


class LeaseLost(StateError):
    """Raised when another worker reads the stream now.

    Drop what was read since the last snapshot, and `resume`.
    """


class Consumer:
    """Consume the stream that `RedisState.publish` fills, with the same `url` and `prefix`.

    `resume` waits for the lease and answers with the snapshot to go on from, `lines` yields what
    came after it, `checkpoint` stores a snapshot that contains all lines up to an id. A lease that
    is not renewed ends after `lease` seconds; `lines` and `checkpoint` renew it. After a StateError
    that is no LeaseLost, call `lines` again: it goes on where it was. `missed` counts lines that
    the stream dropped before they were read. An id is opaque. Snapshots are kept for `keep`
    seconds.

    Raises:
        InputError: The address is none of a Redis.

    >>> Consumer("redis://localhost:6379/0").missed
    0
    """

    def __init__(
        self,
        url: str,
        prefix: str = "memberscope",
        timeout: float = 0.25,
        *,
        lease: float = 10.0,
        poll: float = 0.1,
        keep: float = 30 * 86400.0,
    ) -> None:
        self._link = RedisLink(url, timeout)
        self._keys = [f"{prefix}:{part}" for part in ("lease", "snapshot", "lines")]
        self._lease, self._poll, self._keep = ceil(1000 * lease), poll, ceil(1000 * keep)
        self._acquire, self._pull = self._link.script(ACQUIRE), self._link.script(PULL)
        self._store, self._release = self._link.script(CHECKPOINT), self._link.script(RELEASE)
        self._token, self._kept = "", ""
        self._snapshot: bytes | None = None
        self._at = "0-0", 0
        self.missed = 0

    async def resume(self) -> bytes | None:
        """Wait for the lease, and give the stored snapshot, else this worker's last, or None.

        Raises:
            StateError: Redis does not answer.
        """
        await self._let_go()
        # A new token for each lease, so that an old one of this worker counts for nothing
        token = secrets.token_hex(16)
        while not (found := await self._acquire(self._keys, [token, self._lease]))[0]:
            await asyncio.sleep(self._poll)
        self._token = token
        if found[1] is not None:
            self._kept, self._snapshot = found[1].decode(), found[2]
        # Redis restarted without its data: this worker's last snapshot is stored again
        elif self._snapshot is not None:
            await self.checkpoint(self._kept, self._snapshot)
        self._at = _parse_line_id(self._kept)
        return self._snapshot

    async def lines(self) -> AsyncIterator[tuple[str, str]]:
        """Yield every line after the last one, or after the snapshot, with its id; wait for more.

        Raises:
            LeaseLost: Another worker holds the lease.
            StateError: Redis does not answer.
        """
        while True:
            found = await self._next()
            for entry, fields in found:
                n = int(fields[b"n"])
                # Lines are numbered without gaps: a gap is what the stream dropped
                self.missed += max(0, n - self._at[1] - 1) if self._at[1] else 0
                self._at = entry.decode(), n
                yield f"{self._at[0]}/{n}", fields[b"line"].decode()
            if not found:
                await asyncio.sleep(self._poll)

    async def checkpoint(self, id: str, snapshot: bytes) -> None:
        """Store a snapshot of all lines up to `id`, and that id, if this worker holds the lease.

        Raises:
            LeaseLost: It is not; nothing was written.
            StateError: Redis does not answer; it may have been written.
        """
        if not await self._store(
            self._keys, [self._token, self._lease, self._kept, id, snapshot, self._keep]
        ):
            raise LeaseLost("Another worker monitors now.")
        self._kept, self._snapshot = id, snapshot

    async def close(self) -> None:
        """Give the lease back and let go of connections."""
        try:
            await self._let_go()
        except StateError:
            pass  # the lease ends by itself
        finally:
            await self._link.close()

    async def _let_go(self) -> None:
        if self._token:
            await self._release(self._keys[:1], [self._token])

    async def _next(self) -> list[tuple[bytes, dict[bytes, bytes]]]:
        """Read what follows in the stream, some hundred lines at most."""
        held, *rest = await self._pull(
            self._keys, [self._token, self._lease, self._kept, self._at[0], 500]
        )
        if not held:
            raise LeaseLost("Another worker monitors now.")
        # Redis holds no snapshot any more, so that it is written again
        if held == 2 and self._snapshot is not None:
            await self.checkpoint(self._kept, self._snapshot)
        found: list[Any] = rest[0]
        newest = rest[1].decode()
        if not found and _parse_entry_id(newest) < _parse_entry_id(self._at[0]):
            self._at = newest, 0  # Redis lost the end of the stream, so all that comes now is new
        return [
            (entry, dict(zip(fields[::2], fields[1::2], strict=True))) for entry, fields in found
        ]


def _parse_line_id(id: str) -> tuple[str, int]:
    """Parse the stream's id and the line's number from an id.

    >>> _parse_line_id("1700000000000-0/42"), _parse_line_id("")
    (('1700000000000-0', 42), ('0-0', 0))
    """
    entry, _, n = id.partition("/")
    return entry or "0-0", int(n or 0)


def _parse_entry_id(entry: str) -> tuple[int, int]:
    """Parse the id of a stream's entry as numbers.

    >>> _parse_entry_id("1700000000000-2")
    (1700000000000, 2)
    """
    milliseconds, _, n = entry.partition("-")
    return int(milliseconds), int(n)
