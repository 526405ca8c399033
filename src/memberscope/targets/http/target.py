"""Wrap a served model as a target.

It is queried over HTTP, in batches, at a limited rate, with every query booked in a ledger.
"""

from __future__ import annotations

import asyncio
import json
import threading
import weakref
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import replace
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import expit

from memberscope.errors import InputError, TargetError
from memberscope.targets.answers.real_outputs import find_task_signal
from memberscope.targets.http.event_loop_thread import EventLoopThread
from memberscope.targets.http.ledger import Ledger, LedgerQuery, QuerySpending
from memberscope.targets.http.pipeline import (
    LedgerBooking,
    PreparedRequest,
    RequestPipeline,
    SendingLimits,
)
from memberscope.targets.http.transport import NoBooking, Sender, ServerReply, strip_url
from memberscope.types import OUTPUT_TASKS, Access, Floats, Signal, Task
from memberscope.wire import (
    Batch,
    Endpoint,
    OpenInference,
    ServingProtocol,
    build_request_batch,
    describe_json,
    parse_outputs,
    read_input_tensors,
)

LEVELS: dict[str, Access] = {
    "labels": Access.LABEL,
    "probabilities": Access.PROBABILITIES,
    "logits": Access.LOGITS,
}


class HttpTarget:
    """The model behind an `Endpoint`.

    `ledger` is the file where its queries are booked, in memory without one. What the ledger holds
    is not sent again: the k-th query about the same record is answered by what was stored for the
    k-th query before, so that a new object in a resumed run pays only for what is missing.
    `query_budget` is the most that may be sent for one owner (a record, or a search about it),
    retries and requests without an answer included.

    >>> target = HttpTarget(Endpoint("http://localhost:8080", model_name="iris", classes=("b", "a")))
    >>> target.classes, target.access.word, target.costly
    (('b', 'a'), 'probabilities', True)
    """

    # It makes batches itself, and a server waits while the next query is prepared
    rows_a_query = 65_536
    costly = True  # attacks that choose their queries run only under a declared budget
    # What a server runs cannot be known; the ledger stores its answers instead
    digest: str | None = None
    n_parameters: int | None = None

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        ledger: str | Path | None = None,
        query_budget: int | None = None,
    ) -> None:
        """Declare the target; nothing is sent before the first query.

        Raises:
            InputError: httpx2 is missing, or the endpoint's certificates cannot be read.
        """
        self.endpoint, self.query_budget = endpoint, query_budget
        # Called with the number of records of the present query that are answered
        self.told: Callable[[int], None] | None = None
        self.classes = endpoint.declared.classes
        self.columns = endpoint.columns
        self.task: Task = endpoint.task
        self.signal: Signal = endpoint.outputs
        self.access = LEVELS[endpoint.outputs]
        self.known_classes: int | None = 0
        if self.task in OUTPUT_TASKS:
            self.signal, self.access = find_task_signal(self.task), Access.PREDICTION
            self.classes = None
            # Without a declaration the records' true values say how many numbers an answer has
            self.known_classes = endpoint.declared.n_classes
        # Only the highest scores come back, the others are NaN
        self.hides = endpoint.top_k is not None
        self.restriction = None if endpoint.top_k is None else f"top:{endpoint.top_k}"
        self.identity = endpoint.identity
        self.ledger = None if ledger is None else Path(ledger)
        self._serving: ServingProtocol = endpoint.serving
        self._sender: Sender | None = self._new_sender()
        self._lock = threading.Lock()
        # How often each content was asked about in this run
        self._asked: Counter[bytes] = Counter()
        self._open: tuple[EventLoopThread, Ledger] | None = None
        self._metadata: Any = None
        self._version: str | None = None
        # Set once an answer was read as declared
        self._understood = False

    @property
    def n_classes(self) -> int:
        """Number of classes: declared, or read from the server's metadata.

        Raises:
            InputError: Neither gives it.
        """
        declared = self.known_classes or self.endpoint.declared.n_classes
        # The only protocol whose metadata gives the shape of the outputs
        if declared is None and isinstance(self._serving, OpenInference):
            self._started()
            declared = count_metadata_classes(
                self._metadata, self.endpoint.answer, self.endpoint.outputs
            )
        if declared is None and self.task in OUTPUT_TASKS:
            raise InputError(
                "Expected the number of outputs of an endpoint, got none. Give --n-classes."
            )
        if declared is None:
            raise InputError(
                "Expected the classes of an endpoint, got none. Give --classes in the server's "
                "order, or --n-classes."
            )
        return declared

    def query(self, x: Any, *, owners: Sequence[str] | None = None) -> Floats:
        """Give the outputs (n, k) for the records `x`, hidden ones NaN; labels are (n, 1).

        `owners` (n,) names the record of the audit that each query is spent for; without it each
        row is its own.

        Raises:
            TargetError: The server cannot be reached, fails, or answers something else than was
                declared.
            InputError: A budget is used up, or the records do not fit the server.
        """
        portal, ledger = self._started()
        batch = build_request_batch(x, self.columns)
        queries = self._numbered(batch, owners)
        try:
            return portal.call(self._answers(ledger, batch, queries))
        except BaseException:
            with self._lock:  # what failed may be asked again as the same query
                self._asked.subtract(Counter(query.key[:16] for query in queries))
            raise

    def spent(self) -> QuerySpending:
        """Give what was sent and answered, in this run and the earlier ones of the same ledger."""
        return self._started(ask=False)[1].spent().result()

    def close(self) -> None:
        """Close the connections and the ledger; the next query opens them again."""
        if self._open is not None:
            self._shut()
            # The sender too: a closed client cannot be used again
            self._open = self._sender = None

    def _new_sender(self) -> Sender:
        return Sender(
            self.endpoint.url, self.endpoint.wire, self.endpoint.credential, self.endpoint.ca_file
        )

    def __enter__(self) -> HttpTarget:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _started(self, *, ask: bool = True) -> tuple[EventLoopThread, Ledger]:
        """Open the loop and the ledger at the first use, and request the metadata once."""
        with self._lock:
            if self._open is None:
                self._sender = self._sender or self._new_sender()
                ledger = Ledger(self.ledger, self.endpoint.scope)
                self._open = (EventLoopThread(), ledger)
                # Also where the user never calls close; it must not refer to the target itself
                self._shut = weakref.finalize(
                    self, close_connection, self._open[0], self._sender, ledger
                )
            # Set first, so that a server without metadata is not asked again
            if ask and self._metadata is None:
                self._metadata = {}
                if isinstance(self._serving, OpenInference):
                    self._metadata = self._open[0].call(self._described())
                    self._serving = replace(
                        self._serving, tensors=read_input_tensors(self._metadata)
                    )
            return self._open

    async def _described(self) -> Any:
        """Request the model's metadata; empty if the server has none."""
        serving = self._serving
        assert isinstance(serving, OpenInference)
        assert self._sender is not None
        reply = await self._sender.deliver(
            "GET", serving.home(self.endpoint.url), None, NoBooking()
        )
        return parse_json(reply.body) if reply.status < 300 else {}

    def _numbered(self, batch: Batch, owners: Sequence[str] | None) -> list[LedgerQuery]:
        """Key each record's query by its content and the number of earlier queries about it."""
        # A model of another version gives other answers: they get keys of their own
        versions = self._metadata.get("versions") if isinstance(self._metadata, dict) else None
        prints = batch.fingerprints(f"{self.identity}:{versions}".encode())
        found = []
        with self._lock:
            for place, fingerprint in enumerate(prints):
                # The k-th query about one content is another query than the first: servers may be
                # random
                key = fingerprint + self._asked[fingerprint].to_bytes(4, "big")
                self._asked[fingerprint] += 1
                owner = (
                    fingerprint
                    # Without owners each content is its own record
                    if owners is None
                    else blake2b(str(owners[place]).encode(), digest_size=16).digest()
                )
                found.append(LedgerQuery(key, owner))
        return found

    async def _answers(self, ledger: Ledger, batch: Batch, queries: list[LedgerQuery]) -> Floats:
        """Collect the ledger's answers, and the server's to what is missing."""
        # What is in the ledger was paid for, and is not sent again
        known = await asyncio.wrap_future(ledger.find([query.key for query in queries]))
        rows = [
            np.frombuffer(known[query.key]) if query.key in known else None for query in queries
        ]
        limits = SendingLimits(self.query_budget, self.endpoint.max_queries)
        sender, told, done = self._sender, self.told, len([row for row in rows if row is not None])
        assert sender is not None

        def ready(places: list[int]) -> PreparedRequest:
            body = dump_json(self._serving.request(batch.take(places)))
            return PreparedRequest(
                places, body, LedgerBooking(ledger, [queries[place] for place in places], limits)
            )

        async def send(request: PreparedRequest) -> ServerReply:
            address = self._serving.address(self.endpoint.url)
            return await sender.deliver(
                "POST", address, request.body, request.booking, request.gone.set
            )

        def keep(request: PreparedRequest, reply: ServerReply) -> Future[None]:
            values = self._read(reply.body, len(request.places))
            for place, row in zip(request.places, values, strict=True):
                rows[place] = row
            nonlocal done
            done += len(values)
            if told:
                told(done)
            booking = request.booking
            return ledger.answer(booking.line, booking.queries, [row.tobytes() for row in values])

        missing = [place for place, row in enumerate(rows) if row is None]
        # Before the first request: a run that cannot be finished should not begin to spend
        if limits.total is not None:
            await asyncio.wrap_future(ledger.room(len(missing), limits.total))
        # Larger requests cost fewer round trips, but servers limit them
        size = self.endpoint.rows_a_request
        parts = [missing[start : start + size] for start in range(0, len(missing), size)]
        # The first request goes alone, so that a wrong declaration costs no more.
        await RequestPipeline(ready, send, keep).run(
            parts, self.endpoint.concurrency, first_alone=not self._understood
        )
        self._understood = self._understood or bool(parts)
        # Also with no rows at all, where numpy could not tell the width
        width = 1 if self.signal == "labels" else self.endpoint.declared.n_classes or self.n_classes
        found = np.array(rows, dtype=np.float64).reshape(len(rows), width)
        # The ledger keeps what the server said
        logits = self.task == "multilabel" and self.endpoint.outputs == "logits"
        return np.asarray(expit(found), np.float64) if logits else found

    def _read(self, body: bytes, n: int) -> Floats:
        """Read the outputs (n, k) in an answer.

        Raises:
            TargetError: It is not JSON, or not about n records, or not what was declared.
        """
        where = strip_url(self.endpoint.url)
        document = parse_json(body)
        # Before the scores: answers of another version must not reach the ledger
        self._check_version(document)
        answers = self._serving.answers(document)
        if not isinstance(answers, list | np.ndarray):
            raise TargetError(
                f"Expected a list of {n} answers from {where}, got {describe_json(answers)}. "
                "Correct --answer, which says where they are."
            )
        # By position alone is it known which record an answer is about
        if len(answers) != n:
            raise TargetError(
                f"Expected {n} answers from {where}, got {len(answers)}. Make the server return "
                "one answer for each record."
            )
        declared = self.endpoint.declared
        if declared.n_classes is None:
            declared = replace(declared, n=self.n_classes)
        return parse_outputs(answers, declared)

    def _check_version(self, document: Any) -> None:
        """Refuse an answer of another version of the model than the one before."""
        # Only this protocol names the version in each answer
        told = (
            document.get("model_version")
            if isinstance(document, dict) and self.endpoint.protocol == "v2"
            else None
        )
        if told:
            self._version = self._version or str(told)
            if str(told) != self._version:
                raise TargetError(
                    f"Expected answers of version {self._version}, got one of {str(told)[:40]}: "
                    "the model was replaced meanwhile. Pin one with --model-version, in another "
                    "--out."
                )


def close_connection(portal: EventLoopThread, sender: Sender, ledger: Ledger) -> None:
    """Close what a target opened, also where the loop's own thread drops the target last."""
    # The loop cannot wait for itself to end
    if portal.inside():
        portal.leave()
    else:
        portal.call(sender.close())
        portal.close()
    ledger.close()


def dump_json(document: Any) -> bytes:
    """Write a document as compact JSON.

    orjson, which the `http` extra brings, takes a tenth of the time of the standard library.
    """
    try:
        import orjson

        return orjson.dumps(document)
    except ImportError:
        return json.dumps(document, separators=(",", ":"), allow_nan=False).encode()


def parse_json(body: bytes) -> Any:
    """Parse JSON; NaN is accepted here and refused where the numbers are checked.

    Raises:
        TargetError: It is not JSON, such as a body that was cut off.
    """
    try:
        import orjson

        return orjson.loads(body)
    except (ImportError, ValueError):
        pass
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        raise TargetError(
            f"Expected JSON from the server, got {len(body)} bytes that are not JSON or not "
            "complete. Check --url and the server."
        ) from None


def count_metadata_classes(metadata: Any, answer: str | None, level: str) -> int | None:
    """Count the classes by the shape of the output in a server's metadata, or give None.

    >>> count_metadata_classes({"outputs": [{"name": "p", "shape": [-1, 3]}]}, None, "probabilities")
    3
    """
    outputs = (metadata.get("outputs") if isinstance(metadata, dict) else None) or []
    for entry in outputs:
        shape = (entry.get("shape") if isinstance(entry, dict) else None) or []
        wanted = len(outputs) == 1 or entry.get("name") == answer
        # A width of 1 or -1 tells nothing about classes
        if wanted and level != "labels" and len(shape) == 2 and shape[1] > 1:
            return int(shape[1])
    return None
