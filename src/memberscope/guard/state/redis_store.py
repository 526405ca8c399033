"""Keep budgets and responses of several workers in one Redis (6.2 or later, no cluster).

Each call is one round trip and atomic.

The clock is Redis's own. A bucket is kept as the seconds it is from full and when that was; where
the clock has stepped back since, no time has passed. A step *forwards* cannot be told from time,
and Redis forgets keys by the same clock: it refills buckets as if the time had passed. Every key
has a time to live: a bucket's ends when it is full again. Redis must not evict keys
(`maxmemory-policy noeviction`): each one evicted would be a fresh budget. A Redis that restarts
without its data gives fresh budgets too; an append-only file avoids it.

A question that Redis answers too late may have been carried out: its tokens are gone although the
request was refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

from memberscope.guard.state.in_memory import HARDNESS
from memberscope.guard.state.interface import ActiveResponse, Bucket, Taken
from memberscope.guard.state.redis_client import RedisLink

# KEYS: the buckets. ARGV: tokens, size and microseconds of refill of each. A bucket is kept as its
# debt, the microseconds until it is full, and when that was; tokens are taken from all or none
TAKE = """
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local function keep(key, debt)
  redis.call('SET', key, string.format('%.17g %.0f', debt, now), 'PX', math.max(1, math.ceil(debt / 1000)))
end
local wanted, longest, lacking = {}, 0, 0
for i, key in ipairs(KEYS) do
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
if lacking > 0 then return {lacking, string.format('%.17g', longest)} end
for key, debt in pairs(wanted) do
  if debt > 0 then keep(key, debt) end
end
return {0, '0'}
"""
# Debts shrink by what is given back; a bucket that is full, or of nobody, has none
REFUND = """
for i, key in ipairs(KEYS) do
  local kept = redis.call('GET', key)
  if kept then
    local was, at = string.match(kept, '^(%S+) (%S+)$')
    local left = tonumber(was) - tonumber(ARGV[i])
    if left > 0 then
      redis.call('SET', key, string.format('%.17g', left) .. ' ' .. at, 'KEEPTTL')
    else
      redis.call('DEL', key)
    end
  end
end
"""
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

    Every call ends within `timeout` seconds.

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
        self._take, self._stand = self._link.script(TAKE), self._link.script(STAND)
        self._publish, self._refund = self._link.script(PUBLISH), self._link.script(REFUND)

    def name(self, *parts: str) -> str:
        """Name a key in Redis."""
        return ":".join((self._prefix, *parts))

    async def take(self, buckets: Sequence[Bucket]) -> Taken:
        """Take from all buckets or from none, atomically across workers."""
        keys = self._name_buckets(buckets)
        wanted = [
            number
            for bucket in buckets
            for number in (bucket.n, bucket.rate.n, repr(1e6 * bucket.rate.seconds))
        ]
        lacking, wait = await self._take(keys, wanted)
        return Taken(False, float(wait) / 1e6, int(lacking) - 1) if lacking else Taken(True)

    async def refund(self, buckets: Sequence[Bucket], taken: Taken) -> None:
        """Give back what was taken, as far as it has not come back by itself."""
        given = [repr(1e6 * bucket.n * bucket.rate.seconds / bucket.rate.n) for bucket in buckets]
        await self._refund(self._name_buckets(buckets), given)

    def _name_buckets(self, buckets: Sequence[Bucket]) -> list[str]:
        # The refill time is part of a bucket's name: under another one it is another bucket
        return [self.name("b", f"{bucket.rate.seconds:g}", bucket.key) for bucket in buckets]

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
        """Let go of connections."""
        await self._link.close()
