"""Keep connections and ledger of a served language model, and ask it what is not stored yet."""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from memberscope.targets.http.event_loop_thread import EventLoopThread
from memberscope.targets.http.ledger import Ledger, LedgerQuery
from memberscope.targets.http.pipeline import (
    LedgerBooking,
    PreparedRequest,
    RequestPipeline,
    SendingLimits,
)
from memberscope.targets.http.target import close_connection, dump_json, parse_json
from memberscope.targets.http.transport import NoBooking, Sender, ServerReply
from memberscope.wire import ServerConnection, join_server_path


@dataclass(frozen=True)
class QuestionBlock:
    """Questions that are booked and stored one by one.

    Attributes:
        queries: Key and owner of each question.
        address: Where they are sent.
        size: Most questions in one request.
        ask: Builds the document about the questions at some places.
        read: Reads what is stored about each of them from the answer, in the same order.
        record: Position of the record that each question is about; those about one record are
            sent one after the other.
        told: Called with the number of questions that are answered.
    """

    queries: Sequence[LedgerQuery]
    address: str
    size: int
    ask: Callable[[list[int]], dict[str, object]]
    read: Callable[[Any, list[int]], list[bytes]]
    record: Sequence[int]
    told: Callable[[int], None] | None = None


class TextSession:
    """Connections and ledger of one endpoint, opened at the first use and again after `close`."""

    def __init__(self, endpoint: ServerConnection, ledger: str | Path | None) -> None:
        """Declare them; nothing is opened.

        Raises:
            InputError: httpx2 is missing, or the endpoint's certificates cannot be read.
        """
        self.endpoint = endpoint
        self.ledger_file = None if ledger is None else Path(ledger)
        self._lock = threading.Lock()
        self._sender: Sender | None = self._new_sender()
        self._open: tuple[EventLoopThread, Ledger] | None = None
        # Set once an answer to a question was read, or the server was proven
        self.understood = False

    def open(self) -> tuple[EventLoopThread, Ledger]:
        """Open the loop and the ledger at the first use."""
        with self._lock:
            if self._open is None:
                self._sender = self._sender or self._new_sender()
                ledger = Ledger(self.ledger_file, self.endpoint.scope)
                self._open = (EventLoopThread(), ledger)
                self._shut = weakref.finalize(
                    self, close_connection, self._open[0], self._sender, ledger
                )
            return self._open

    def close(self) -> None:
        """Close the connections and the ledger; the next use opens them again."""
        if self._open is not None:
            self._shut()
            # The sender too: a closed client cannot be used again
            self._open = self._sender = None

    async def fetch_document(self, path: str) -> Any:
        """Fetch what a path of the server tells, {} if there is no such path."""
        assert self._sender is not None
        url = join_server_path(self.endpoint.url, path)
        reply = await self._sender.deliver("GET", url, None, NoBooking())
        return parse_json(reply.body) if reply.status < 300 else {}

    async def post_document(self, path: str, document: dict[str, object]) -> Any:
        """Post a document that is about no record's scores, so that it is not booked."""
        assert self._sender is not None
        url = join_server_path(self.endpoint.url, path)
        reply = await self._sender.deliver("POST", url, dump_json(document), NoBooking())
        return parse_json(reply.body)

    async def collect_answers(self, block: QuestionBlock, limits: SendingLimits) -> list[bytes]:
        """Collect what the ledger holds of each question, and the server's answers to the rest.

        Raises:
            MemberscopeError: A request failed, or a limit does not allow it; what was answered by
                then is stored.
        """
        _, ledger = self.open()
        known = await asyncio.wrap_future(ledger.find([query.key for query in block.queries]))
        found: dict[int, bytes] = {
            place: known[query.key]
            for place, query in enumerate(block.queries)
            if query.key in known
        }
        missing = [place for place in range(len(block.queries)) if place not in found]
        # A run that cannot be finished should not begin to spend
        if limits.total is not None:
            await asyncio.wrap_future(ledger.room(len(missing), limits.total))
        pipeline = RequestPipeline(*self._steps(block, ledger, limits, found), early=True)
        groups = iter(_group_places(missing, block))
        lanes = [_list_parts(groups) for _ in range(self.endpoint.concurrency)]
        await pipeline.run_lanes(lanes, first_alone=not self.understood)
        self.understood = self.understood or bool(missing)
        return [found[place] for place in range(len(block.queries))]

    def _steps(
        self, block: QuestionBlock, ledger: Ledger, limits: SendingLimits, found: dict[int, bytes]
    ) -> tuple[Any, Any, Any]:
        """Give the three steps of a request: how it is prepared, sent and kept."""
        sender = self._sender
        assert sender is not None

        def ready(places: list[int]) -> PreparedRequest:
            booking = LedgerBooking(ledger, [block.queries[place] for place in places], limits)
            return PreparedRequest(places, dump_json(block.ask(places)), booking)

        async def send(request: PreparedRequest) -> ServerReply:
            return await sender.deliver(
                "POST", block.address, request.body, request.booking, request.gone.set
            )

        def keep(request: PreparedRequest, reply: ServerReply) -> Future[None]:
            answers = block.read(parse_json(reply.body), request.places)
            # The answers of one line of the ledger have one length
            width = max(map(len, answers))
            padded = [answer.ljust(width, b"\0") for answer in answers]
            found.update(zip(request.places, padded, strict=True))
            if block.told:
                block.told(len(found))
            return ledger.answer(request.booking.line, request.booking.queries, padded)

        return ready, send, keep

    def _new_sender(self) -> Sender:
        endpoint = self.endpoint
        return Sender(endpoint.url, endpoint.wire, endpoint.credential, endpoint.ca_file)


def _group_places(missing: Sequence[int], block: QuestionBlock) -> Iterator[list[list[int]]]:
    """Group the questions into requests, and the requests about one record together.

    The server then finds what it computed for the token before.
    """
    if block.size > 1:
        for start in range(0, len(missing), block.size):
            yield [list(missing[start : start + block.size])]
        return
    group: list[list[int]] = []
    for place in missing:
        if group and block.record[group[-1][0]] != block.record[place]:
            yield group
            group = []
        group.append([place])
    if group:
        yield group


def _list_parts(groups: Iterator[list[list[int]]]) -> Iterator[list[int]]:
    """List the requests of the groups that one lane takes, whole groups at a time."""
    for group in groups:
        yield from group
