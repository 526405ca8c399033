"""Keep budgets locally while the shared state is away, for policies that fail open."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from memberscope.guard.state.in_memory import MemoryState
from memberscope.guard.state.interface import ActiveResponse, Bucket, State, StateError, Taken


class LocalAfterFault:
    """Use the shared state, and this process's own while that cannot be reached.

    `on_fault` hears of each fault.

    What the shared state grants through this process counts in the local one too. While the fault
    lasts every worker keeps budgets by itself, so n workers together allow up to n times each
    budget, and of the responses in force each knows only those of its own.

    >>> import asyncio
    >>> from memberscope.guard.policy.tables import RateLimit
    >>> state = LocalAfterFault(MemoryState(clients=9), MemoryState(clients=9))
    >>> asyncio.run(state.take([Bucket("a:", RateLimit.of("1/h"), 1)])).allowed, state.faults
    (True, 0)
    """

    def __init__(
        self,
        shared: State,
        local: MemoryState,
        on_fault: Callable[[StateError], object] = lambda error: None,
    ) -> None:
        self._shared, self._local, self._on_fault = shared, local, on_fault
        self.faults = 0

    async def take(self, buckets: Sequence[Bucket]) -> Taken:
        """Take from all shared buckets or from none; in a fault, from this process's."""
        try:
            taken = await self._shared.take(buckets)
        except StateError as error:
            self._fault(error)
            return await self._local.take(buckets)
        # Counted here too, so that a fault gives nobody a fresh budget
        if taken.allowed:
            await self._local.take(buckets)
        return taken

    async def refund(self, buckets: Sequence[Bucket], taken: Taken) -> None:
        """Give back what was taken, here and for all."""
        await self._local.refund(buckets, taken)
        try:
            await self._shared.refund(buckets, taken)
        except StateError as error:
            self._fault(error)

    async def standing(self, client: str) -> ActiveResponse | None:
        """Find the hardest response in force for `client`."""
        try:
            return await self._shared.standing(client)
        except StateError as error:
            self._fault(error)
            return await self._local.standing(client)

    async def stand(self, client: str, standing: ActiveResponse, seconds: float) -> None:
        """Put a response in force, here and for all."""
        # Here first: the response holds in this process even if Redis is away
        await self._local.stand(client, standing, seconds)
        try:
            await self._shared.stand(client, standing, seconds)
        except StateError as error:
            self._fault(error)

    async def publish(self, line: str) -> None:
        """Hand a line of the access log to the monitor of all, or else to this process's."""
        try:
            await self._shared.publish(line)
        except StateError as error:
            self._fault(error)
            await self._local.publish(line)

    async def close(self) -> None:
        """Let go of both."""
        await self._shared.close()
        await self._local.close()

    def _fault(self, error: StateError) -> None:
        self.faults += 1
        self._on_fault(error)
