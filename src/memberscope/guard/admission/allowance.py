"""Allow each client so many refused requests and so many bytes of them.

A bucket is the time when it will be full again, as in `state/in_memory.py`. It stays in this
process, whatever the state is: it protects the processor of this process, and looking at it must
cost nothing.
"""

from __future__ import annotations

from memberscope.guard.policy.tables import RateLimit

MOST = 65_536  # clients whose refusals are remembered; the one refused longest ago gives way


class RefusalAllowance:
    """Allowances of `requests` and of bytes (`size`), times `scale`, for each key.

    >>> allowance = RefusalAllowance(RateLimit.of("2/m"), RateLimit.of("1000/m"))
    >>> allowance.charge("a", 2, 100, now=0.0)
    >>> allowance.find_wait("a", 0, 0, now=0.0), allowance.find_wait("a", 0, 0, now=30.0)
    (30.0, 0.0)
    """

    def __init__(self, requests: RateLimit, size: RateLimit, scale: int = 1) -> None:
        # Seconds until all is there again, and seconds that a request and a byte cost
        self._whole = requests.seconds, size.seconds
        self._costs = requests.seconds / requests.n / scale, size.seconds / size.n / scale
        # When all that a key owes is paid, in requests and in bytes
        self.owed: dict[str, tuple[float, float]] = {}

    def find_wait(self, key: str, held: int, size: int, now: float) -> float:
        """Find the seconds until a request of `size` bytes is allowed, 0 if it is now.

        Beside it, `held` bytes of the same key are not read yet. Their number does not count: it is
        bounded elsewhere, and one refusal must not turn away what is under way beside it.
        """
        at = self.owed.get(key)
        if at is None:
            # One request is allowed to whoever owes nothing, however long it is
            if not held:
                return 0.0
            at = now, now
        elif max(at) <= now:
            # All is paid, and need not be remembered
            del self.owed[key]
            return self.find_wait(key, held, size, now)
        waits = (
            max(0.0, at[0] - now) + self._costs[0] - self._whole[0],
            max(0.0, at[1] - now) + (held + size) * self._costs[1] - self._whole[1],
        )
        # Sums of costs err in the last digits, which must not refuse the last request
        return max((wait for wait in waits if wait > 1e-9), default=0.0)

    def charge(self, key: str, n: float, size: float, now: float) -> None:
        """Charge `n` refused requests of `size` bytes together."""
        before = self.owed.pop(key, (now, now))
        if len(self.owed) >= MOST:
            del self.owed[next(iter(self.owed))]
        # Put in again, so that the order is that of the last refusals
        self.owed[key] = (
            max(now, before[0]) + n * self._costs[0],
            max(now, before[1]) + size * self._costs[1],
        )
