"""Keep budgets and responses of several workers in one Redis (6.2 or later, no cluster).

Each call is one round trip and atomic, but for requests about more than some 250 records: these are
charged in pieces, each with a time limit of its own, so that no request holds Redis up. Where a
piece is refused, what the pieces before it took is given back.

The clock is Redis's own. A bucket is kept as the seconds it is from full and when that was; where
the clock has stepped back since, no time has passed. A step *forwards* cannot be told from time,
and Redis forgets keys by the same clock: it refills buckets as if the time had passed. Every key
has a time to live: a bucket's ends when it is full again. Redis must not evict keys
(`maxmemory-policy noeviction`): each one evicted would be a fresh budget. A Redis that restarts
without its data gives fresh budgets too; an append-only file avoids it.

A question that Redis answers too late may have been carried out, although its request is refused.
So each leaves a receipt for some seconds. As soon as Redis answers again, the question is called
off: by its receipt it is given back, and without one it is marked, so that it does nothing should
it still come.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence
from math import ceil
from typing import Any

from memberscope.guard.state.in_memory import HARDNESS
from memberscope.guard.state.interface import (
    ActiveResponse,
    AnyBucket,
    Bucket,
    RecordBuckets,
    StateError,
    Taken,
)
from memberscope.guard.state.redis_client import REST, RedisLink

PIECE = 250  # buckets that are charged at once
KEEP = """
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local receipt = KEYS[#KEYS]
local function keep(key, debt)
  redis.call('SET', key, string.format('%.17g %.0f', debt, now), 'PX', math.max(1, math.ceil(debt / 1000)))
end
"""
# KEYS: the buckets and the receipt. ARGV: tokens, size and microseconds of refill of each, then
# milliseconds that the receipt is kept. A bucket is kept as its debt, the microseconds until it is
# full, and when that was; tokens are taken from all or none
TAKE = (
    KEEP
    + """
if redis.call('EXISTS', receipt) == 1 then return {-1, '0', '0', '0'} end
local wanted, longest, lacking = {}, 0, 0
for i = 1, #KEYS - 1 do
  local key = KEYS[i]
  local n, holds, whole = tonumber(ARGV[3 * i - 2]), tonumber(ARGV[3 * i - 1]), tonumber(ARGV[3 * i])
  local debt = wanted[key]
  if not debt then
    debt = 0
    local kept = redis.call('GET', key)
    if kept then
      local was, at = string.match(kept, '^(%S+) (%S+)$')
      was, at = tonumber(was), tonumber(at)
      debt = math.max(0, was - math.max(0, now - at))
      if now < at then keep(key, was) end
    end
  end
  debt = math.min(debt, whole) + n * whole / holds
  local wait = debt - whole
  if n > holds then wait = math.huge end
  if wait > math.max(longest, 1e-9 * whole) then longest, lacking = wait, i end
  wanted[key] = debt
end
local first = string.format('%.17g', wanted[KEYS[1]] or 0)
if lacking > 0 then return {lacking, string.format('%.17g', longest), '0', first} end
for key, debt in pairs(wanted) do
  if debt > 0 then keep(key, debt) end
end
local stamp = string.format('%.0f', now)
redis.call('SET', receipt, stamp, 'PX', ARGV[#ARGV])
return {0, '0', stamp, first}
"""
)
# As above, with when the tokens were taken before the last of ARGV; where it is empty, the receipt
# says it, and afterwards that the question is called off. Without the taking, a bucket would have
# refilled no more than the time since
REFUND = (
    KEEP
    + """
local n = #KEYS - 1
local at = tonumber(ARGV[3 * n + 1])
if not at then
  at = tonumber(redis.call('GET', receipt) or '')
  redis.call('SET', receipt, 'off', 'PX', ARGV[#ARGV])
  if not at then return 0 end
end
for i = 1, n do
  local kept = redis.call('GET', KEYS[i])
  local back = ARGV[3 * i - 2] * ARGV[3 * i] / ARGV[3 * i - 1] - math.max(0, now - at)
  if kept and back > 0 then
    local was, since = string.match(kept, '^(%S+) (%S+)$')
    local debt = tonumber(was) - math.max(0, now - tonumber(since)) - back
    if debt > 0 then keep(KEYS[i], debt) else redis.call('DEL', KEYS[i]) end
  end
end
return 1
"""
)
# A response in force that lasts longer stays: PTTL is below 0 where there is none
STAND = """
if redis.call('PTTL', KEYS[1]) < tonumber(ARGV[2]) then redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2]) end
"""
# Lines are numbered, so that the reader can tell how many the stream dropped unread
PUBLISH = """
local n = redis.call('INCR', KEYS[2])
redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[2], '*', 'n', n, 'line', ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
redis.call('PEXPIRE', KEYS[2], ARGV[3])
"""


class RedisState:
    """State that all workers with one `url` and `prefix` share.

    Every call ends within `timeout` seconds; one about many records, within as many for each 250.

    Lines of the access log wait in a stream of about `lines` for the one worker that monitors
    (`Consumer`), for `keep` seconds at most.

    Raises:
        InputError: The address is none of a Redis.

    >>> RedisState("redis://localhost:6379/0", "memberscope", 0.25).name("s", "00ff")
    'memberscope:s:00ff'
    """

    def __init__(
        self,
        url: str,
        prefix: str = "memberscope",
        timeout: float = 0.25,
        *,
        lines: int = 100_000,
        keep: float = 86400.0,
    ) -> None:
        self._link, self._prefix = RedisLink(url, timeout), prefix
        self._lines, self._keep = lines, ceil(1000 * keep)
        # As long as a late question may still be on its way
        self._receipts = max(10.0, 20 * timeout)
        self._called_off: set[asyncio.Task[None]] = set()
        self._take, self._stand = self._link.script(TAKE), self._link.script(STAND)
        self._refund = self._link.script(REFUND)
        self._publish = self._link.script(PUBLISH)

    def name(self, *parts: str) -> str:
        """Name a key in Redis."""
        return ":".join((self._prefix, *parts))

    async def take(self, buckets: Sequence[AnyBucket]) -> Taken:
        """Take from all buckets or from none; in each piece atomically across workers."""
        single, places = _split_buckets(buckets)
        begun: list[tuple[list[Bucket], str]] = []
        began, owed = 0.0, 0.0
        for start in range(0, len(single), PIECE):
            piece, receipt = single[start : start + PIECE], self.name("q", secrets.token_hex(8))
            begun.append((piece, receipt))
            try:
                lacking, wait, at, first = await self._take(*self._ask(piece, receipt))
                if lacking < 0:
                    raise StateError("The question was called off.")
            except StateError:
                # The last piece may have been carried out or not
                self._begin_calling_off(begun)
                raise
            # The client's own bucket is the first of the first piece
            if start == 0 and isinstance(buckets[0], Bucket):
                owed = float(first) / 1e6
            if lacking > 0:
                if len(begun) > 1:
                    task = self._begin_calling_off(begun[:-1])
                    await asyncio.wait([task], timeout=self._link.timeout)
                # Nothing stays taken, also of what the script had added up
                left = max(0.0, owed - single[0].debt)
                return Taken(False, float(wait) / 1e6, places[start + int(lacking) - 1], left)
            began = began or float(at) / 1e6
        return Taken(True, full_after=owed, at=began)

    async def refund(self, buckets: Sequence[AnyBucket], taken: Taken) -> None:
        """Give back what was taken, less what has refilled since."""
        single, _ = _split_buckets(buckets)
        for start in range(0, len(single), PIECE):
            # Not asked again if it fails: the receipt may be gone that tells whether it was done
            await self._refund(
                *self._ask(single[start : start + PIECE], "", f"{1e6 * taken.at:.0f}")
            )

    async def standing(self, client: str) -> ActiveResponse | None:
        """Find the hardest response in force for `client`."""
        # The hardest first: each response has a key of its own, with its own end
        order = HARDNESS[::-1]
        keys = [self.name("s", client, response) for response in order]
        found = await self._link.ask(lambda: self._link.redis.mget(keys))
        return next(
            (
                ActiveResponse(kind, detector.decode())
                for kind, detector in zip(order, found, strict=True)
                if detector
            ),
            None,
        )

    async def stand(self, client: str, standing: ActiveResponse, seconds: float) -> None:
        """Put a response in force for so long.

        One in force that is harder, or lasts longer, stays.
        """
        # Redis refuses a time to live of 0
        if seconds > 0:
            await self._stand(
                [self.name("s", client, standing.response)],
                [standing.detector, ceil(1000 * seconds)],
            )

    async def publish(self, line: str) -> None:
        """Hand a line of the access log to the worker that monitors."""
        await self._publish(
            [self.name("lines"), self.name("count")], [line, self._lines, self._keep]
        )

    async def close(self) -> None:
        """Let go of connections, after what is called off, if Redis answers."""
        if self._called_off:
            await asyncio.wait(self._called_off, timeout=self._link.timeout)
        for task in self._called_off:
            task.cancel()
        await self._link.close()

    def _ask(
        self, piece: Sequence[Bucket], receipt: str, *more: str
    ) -> tuple[list[str], list[Any]]:
        """Give the keys and arguments of a script about some buckets."""
        # The refill time is part of a bucket's name: under another one it is another bucket
        keys = [self.name("b", f"{bucket.rate.seconds:g}", bucket.key) for bucket in piece]
        wanted = [
            number
            for bucket in piece
            for number in (bucket.n, bucket.rate.n, repr(1e6 * bucket.rate.seconds))
        ]
        return [*keys, receipt], [*wanted, *more, ceil(1000 * self._receipts)]

    def _begin_calling_off(self, begun: list[tuple[list[Bucket], str]]) -> asyncio.Task[None]:
        """Call questions off in the background, where their request waits for nothing."""
        task = asyncio.create_task(self._call_off(begun))
        self._called_off.add(task)
        task.add_done_callback(self._called_off.discard)
        return task

    async def _call_off(self, begun: list[tuple[list[Bucket], str]]) -> None:
        """Undo questions by their receipts, as often as it takes while Redis keeps these."""
        loop = asyncio.get_running_loop()
        end = loop.time() + self._receipts
        for piece, receipt in begun:
            while loop.time() < end:
                try:
                    await self._refund(*self._ask(piece, receipt, ""))
                    break
                except StateError:
                    await asyncio.sleep(REST)


def _split_buckets(buckets: Sequence[AnyBucket]) -> tuple[list[Bucket], list[int]]:
    """Give each bucket by itself, and the place in the request that it belongs to."""
    single: list[Bucket] = []
    places: list[int] = []
    for place, bucket in enumerate(buckets):
        parts = bucket.split() if isinstance(bucket, RecordBuckets) else [bucket]
        single += parts
        places += [place] * len(parts)
    return single, places
