"""Send the requests of one query, a few at a time.

The next request of each lane is prepared and booked while the one before it is in flight. Where
answers take long to decode, it also leaves before that: the server then works meanwhile.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

from memberscope.errors import InputError
from memberscope.targets.http.ledger import Ledger, LedgerQuery
from memberscope.targets.http.transport import ServerReply


class StoppedError(Exception):
    """Raised where nothing was sent, since another request failed."""


@dataclass(frozen=True)
class SendingLimits:
    """The most sendings of `each` record, and in `total`."""

    each: int | None = None
    total: int | None = None


class LedgerBooking:
    """Booking of one request in the ledger.

    Its first sending is booked at once, so that no request waits for the disk.
    """

    def __init__(self, ledger: Ledger, queries: list[LedgerQuery], limits: SendingLimits) -> None:
        self.ledger, self.queries, self.limits, self.line, self.stopped = (
            ledger,
            queries,
            limits,
            0,
            False,
        )
        self._early: Future[int] | None = self._booked()

    def _booked(self) -> Future[int]:
        return self.ledger.reserve(self.queries, each=self.limits.each, total=self.limits.total)

    async def reserve(self) -> None:
        """Book one sending of each record, on the disk.

        Raises:
            StoppedError: Nothing is to be sent any more.
        """
        # Another request failed: what was booked early is given back
        if self.stopped:
            await self.drop()
            raise StoppedError
        booking, self._early = self._early or self._booked(), None
        self.line = await asyncio.wrap_future(booking)

    async def refund(self) -> None:
        """Cancel the booking."""
        await asyncio.wrap_future(self.ledger.refund(self.line, self.queries))

    async def drop(self) -> None:
        """Cancel what was booked early and not sent; it is on the disk when this returns."""
        early, self._early = self._early, None
        # Sent already, so that it stays booked
        if early is None:
            return
        try:
            self.line = await asyncio.wrap_future(early)
        except InputError:  # the booking itself was refused: nothing to cancel
            return
        await self.refund()


@dataclass
class PreparedRequest:
    """A request that can leave.

    Attributes:
        places: Places of its records in the query.
        body: What is sent.
        booking: Its booking in the ledger.
        gone: Set once it was written to the connection, or waits for its turn to be.
    """

    places: list[int]
    body: bytes
    booking: LedgerBooking
    gone: asyncio.Event = field(default_factory=asyncio.Event)


class RequestPipeline:
    """Requests that `ready` makes of each of `parts`, sent `concurrency` at a time.

    What `keep` makes of each answer is stored first. After an error nothing more is sent; requests
    in flight are awaited and their answers kept, since they may be paid for. With `early` a request
    leaves before the answer to the last one of its lane is decoded and stored. A killed lane then
    loses up to two answers instead of one, and a bad answer comes after one request more was sent.
    """

    def __init__(
        self,
        ready: Callable[[list[int]], PreparedRequest],
        send: Callable[[PreparedRequest], Awaitable[ServerReply]],
        keep: Callable[[PreparedRequest, ServerReply], Future[None]],
        *,
        early: bool = False,
    ) -> None:
        self.ready, self.send, self.keep, self.early = ready, send, keep, early
        self.errors: list[Exception] = []
        self.out: set[LedgerBooking] = set()

    async def run(
        self, parts: Iterable[list[int]], concurrency: int, *, first_alone: bool = False
    ) -> None:
        """Send all `parts`; with `first_alone` the others wait until the first answer was read.

        They are prepared meanwhile.

        Raises:
            MemberscopeError: The first error.
        """
        left = iter(parts)
        await self.run_lanes([left] * concurrency, first_alone=first_alone)

    async def run_lanes(
        self, lanes: Sequence[Iterator[list[int]]], *, first_alone: bool = False
    ) -> None:
        """Send the parts of each of `lanes` one after the other, all lanes at a time.

        Raises:
            MemberscopeError: The first error.
        """
        read = asyncio.Event()
        # Nothing to wait for
        if not first_alone:
            read.set()
        try:
            await asyncio.gather(
                *(self._lane(left, read, ahead=place == 0) for place, left in enumerate(lanes))
            )
        finally:
            # Requests that were prepared and never sent are not paid for
            for booking in list(self.out):
                await booking.drop()
        if self.errors:
            raise self.errors[0]

    async def _lane(self, left: Iterator[list[int]], read: asyncio.Event, *, ahead: bool) -> None:
        """Send one request after the other, until nothing is left or there is an error.

        Only the lane `ahead` sends before an answer was `read`.
        """
        request = self._next(left)
        # The first answer may show a wrong declaration, before the others cost anything
        if not ahead:
            await read.wait()
        sending = self._start(request)
        while request is not None and sending is not None:
            # Lets the request start before the next one is prepared
            await asyncio.sleep(0)
            coming = self._next(left)
            following = None
            try:
                reply = await sending
                # The first answer is read before anything else is paid for
                if self.early and coming is not None and read.is_set():
                    following = self._start(coming)
                    await coming.gone.wait()
                stored = self.keep(request, reply)
                read.set()
                # A lane then has at most one request whose answer could be lost and paid for again,
                # and with `early` another one in flight
                await asyncio.shield(asyncio.wrap_future(stored))
            except Exception as error:
                self._fail(error)
            self.out.discard(request.booking)
            request, sending = coming, following or self._start(coming)
        # Also after an error, or the other lanes would wait for ever
        read.set()

    def _start(self, request: PreparedRequest | None) -> asyncio.Future[ServerReply] | None:
        if request is None:
            return None
        sending = asyncio.ensure_future(self.send(request))
        # Also where it fails before it leaves
        sending.add_done_callback(lambda _: request.gone.set())
        return sending

    def _next(self, left: Iterator[list[int]]) -> PreparedRequest | None:
        # After an error nothing new begins
        part = None if self.errors else next(left, None)
        if part is None:
            return None
        try:
            request = self.ready(part)
        except Exception as error:
            self._fail(error)
            return None
        self.out.add(request.booking)
        return request

    def _fail(self, error: Exception) -> None:
        self.errors.append(error)
        for booking in self.out:
            booking.stopped = True
