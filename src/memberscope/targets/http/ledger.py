"""Keep a ledger on disk of what was sent to a server and what it answered.

Nothing is then paid for twice. Every sending of a request is a line, written before the request
leaves and on the disk by then; its answers are added when they come. A run that is killed therefore
finds each answered record again, and counts as spent what was in flight, which the server may have
answered. Keys are hashes: the file holds no record, no token and no address. Lines are only
appended, since keys come in random order and a tree of them would be rewritten all over; which line
answers a key is kept in memory, about 200 bytes a query.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from memberscope.errors import InputError

TABLE = """create table if not exists sendings (
    line integer primary key, scope blob not null, keys blob not null, owners blob not null, answers blob
)"""
# A hash of 16 bytes and the number of the query about it, and a hash of 16 bytes
KEY, OWNER = 20, 16  # bytes of each
MANY = 500  # lines in one look-up: SQLite limits the parameters of a statement
Work = Callable[[sqlite3.Connection], Any]


@dataclass(frozen=True)
class LedgerQuery:
    """One record of a request: the `key` of its content, and the `owner`.

    The owner is the record of the audit that the query is spent for.
    """

    key: bytes
    owner: bytes


@dataclass(frozen=True)
class QuerySpending:
    """What a ledger has booked.

    Records sent, answers stored, and queries sent once or more without an answer.
    """

    sent: int
    answered: int
    unanswered: int


class Ledger:
    """A ledger in the file `path`, or in memory without one.

    `scope` separates endpoints in one file. Sendings are counted for each owner and in all, and
    `reserve` refuses what would exceed either limit. One thread writes: what arrives while it waits
    for the disk is written together.

    >>> ledger = Ledger(None, b"endpoint")
    >>> one = LedgerQuery(b"what is asked".ljust(20), b"record 1".ljust(16))
    >>> line = ledger.reserve([one], each=1).result()
    >>> ledger.answer(line, [one], [b"0.9"]).result()
    >>> list(ledger.find([one.key]).result().values()), ledger.spent().result()
    ([b'0.9'], QuerySpending(sent=1, answered=1, unanswered=0))
    >>> ledger.close()
    """

    def __init__(self, path: str | Path | None, scope: bytes) -> None:
        """Open or make the file, readable by its owner alone.

        Raises:
            InputError: It is damaged, or in use by another run, or cannot be written.
        """
        self.path = None if path is None else Path(path)
        self.scope = scope
        # Counts are kept in memory, so that a reservation needs no search of the file
        self._sent: Counter[bytes] = Counter()  # by owner
        # Line and place in it of each answered key
        self._line_of: dict[bytes, tuple[int, int]] = {}
        self._waiting: Counter[bytes] = Counter()  # sendings without an answer by key
        self._work: SimpleQueue[tuple[Work, Future[Any]] | None] = SimpleQueue()
        opened: Future[None] = Future()
        # SQLite connections belong to one thread
        self._writer = threading.Thread(
            target=self._write, args=(opened,), name="ledger", daemon=True
        )
        self._writer.start()
        # Errors of the other thread's opening are raised here
        opened.result()

    def find(self, keys: Sequence[bytes]) -> Future[dict[bytes, bytes]]:
        """Find the stored answers under `keys`."""

        def work(file: sqlite3.Connection) -> dict[bytes, bytes]:
            # Only lines that are needed are read, each once
            places = {key: self._line_of[key] for key in keys if key in self._line_of}
            lines = sorted({line for line, _ in places.values()})
            stored: dict[int, list[bytes]] = {}
            for start in range(0, len(lines), MANY):
                part = lines[start : start + MANY]
                text = f"select line, length(keys), answers from sendings where line in ({','.join('?' * len(part))})"
                for line, width, answers in file.execute(text, part):
                    # All answers of a line have one length, and there are as many as keys
                    stored[line] = _split_bytes(answers, len(answers) * KEY // width)
            return {key: stored[line][place] for key, (line, place) in places.items()}

        return self._submit(work)

    def reserve(
        self, queries: Sequence[LedgerQuery], *, each: int | None = None, total: int | None = None
    ) -> Future[int]:
        """Book one more sending of `queries`, all of them or none; give its line.

        Raises:
            InputError: More than `each` would be sent for one owner, or more than `total` in all.
        """

        def work(file: sqlite3.Connection) -> int:
            more = Counter(query.owner for query in queries)
            over = [
                owner
                for owner, count in more.items()
                if each is not None and self._sent[owner] + count > each
            ]
            # Checked before anything is written, so that a refusal books nothing
            if over:
                raise InputError(
                    f"Expected at most {each} queries a record, got {len(over)} records that need "
                    "another one: what was sent and not answered counts too. Raise --query-budget "
                    "to ask them again."
                )
            # The limit on all queries, beside that on each owner
            if total is not None:
                self._require_room(len(queries), total)
            keys, owners = (
                b"".join(query.key for query in queries),
                b"".join(query.owner for query in queries),
            )
            row = (self.scope, keys, owners)
            line = file.execute(
                "insert into sendings (scope, keys, owners) values (?, ?, ?)", row
            ).lastrowid
            # In memory too, so that the next reservation in this transaction sees it
            self._sent.update(more)
            self._waiting.update(query.key for query in queries)
            return int(line or 0)

        return self._submit(work)

    def room(self, n: int, total: int) -> Future[None]:
        """Check that `n` more sendings stay within `total`; nothing is booked.

        Raises:
            InputError: They do not stay within it.
        """
        return self._submit(lambda file: self._require_room(n, total))

    def _require_room(self, n: int, total: int) -> None:
        sent = self._sent.total()
        if sent + n > total:
            raise InputError(
                f"Expected at most {total} queries, got {sent} booked and {n} more to send. Raise "
                "--max-queries, or give fewer records."
            )

    def refund(self, line: int, queries: Sequence[LedgerQuery]) -> Future[None]:
        """Cancel a reservation: the server certainly did not answer."""

        def work(file: sqlite3.Connection) -> None:
            # The line goes, so that a later run does not count it either
            file.execute("delete from sendings where line = ?", (line,))
            self._sent.subtract(Counter(query.owner for query in queries))
            self._waiting.subtract(query.key for query in queries)

        return self._submit(work)

    def answer(
        self, line: int, queries: Sequence[LedgerQuery], answers: Sequence[bytes]
    ) -> Future[None]:
        """Store the answers to the `queries` of a line, all of one length."""

        def work(file: sqlite3.Connection) -> None:
            file.execute(
                "update sendings set answers = ? where line = ?", (b"".join(answers), line)
            )
            self._note(line, [query.key for query in queries])

        return self._submit(work)

    def spent(self) -> Future[QuerySpending]:
        """Give what was booked for this endpoint, in this run and earlier ones."""

        def work(file: sqlite3.Connection) -> QuerySpending:
            # A key that was answered at a later try is not counted as unanswered
            unanswered = sum(
                1 for key, count in self._waiting.items() if count > 0 and key not in self._line_of
            )
            return QuerySpending(self._sent.total(), len(self._line_of), unanswered)

        return self._submit(work)

    def _note(self, line: int, keys: Sequence[bytes]) -> None:
        for place, key in enumerate(keys):
            self._line_of[key] = (line, place)

    def _read(self, file: sqlite3.Connection) -> None:
        """Read what earlier runs booked."""
        text = "select line, keys, owners, answers is not null from sendings where scope = ?"
        for line, keys, owners, answered in file.execute(text, (self.scope,)):
            self._sent.update(_split_bytes(owners, OWNER))
            if answered:
                self._note(line, _split_bytes(keys, KEY))
            else:
                self._waiting.update(_split_bytes(keys, KEY))

    def close(self) -> None:
        """Write what is left and close the file."""
        self._work.put(None)
        self._writer.join()

    def _submit(self, work: Work) -> Future[Any]:
        # Nobody would ever set the future's result
        if not self._writer.is_alive():
            raise InputError("Expected an open ledger, got a closed one. Make a new target.")
        done: Future[Any] = Future()
        self._work.put((work, done))
        return done

    def _write(self, opened: Future[None]) -> None:
        """Open the file, then write what is submitted: all that waits in one transaction."""
        try:
            file = _open_ledger_file(self.path)
            self._read(file)
        except Exception as error:
            opened.set_exception(_translate_ledger_error(error, self.path))
            return
        opened.set_result(None)
        going = True
        while going:
            waiting = [self._work.get()]
            # All that arrived during the last commit shares the next one
            while not self._work.empty():
                waiting.append(self._work.get())
            # What was submitted before the end is still written
            going = None not in waiting
            self._commit(file, [entry for entry in waiting if entry is not None])
        file.close()

    def _commit(
        self, file: sqlite3.Connection, waiting: Iterable[tuple[Work, Future[Any]]]
    ) -> None:
        """Do the work in one transaction.

        Results and errors are delivered once they are on the disk.
        """
        told: list[tuple[Future[Any], Any, BaseException | None]] = []
        # What was cancelled meanwhile is not written; the rest can no longer be cancelled
        waiting = [(work, done) for work, done in waiting if done.set_running_or_notify_cancel()]
        try:
            # One transaction, so that the wait for the disk is shared
            file.execute("begin immediate")
            for work, done in waiting:
                try:
                    told.append((done, work(file), None))
                except InputError as refused:  # before it wrote anything
                    told.append((done, None, refused))
            file.execute("commit")
        except sqlite3.Error as error:
            for _, done in waiting:
                done.set_exception(_translate_ledger_error(error, self.path))
            # The connection stays usable: the next work begins a transaction of its own
            if file.in_transaction:
                file.execute("rollback")
            return
        # Told after the commit only, since what is told counts as on the disk
        for done, value, why in told:
            if why is None:
                done.set_result(value)
            else:
                done.set_exception(why)


def _split_bytes(text: bytes, size: int) -> list[bytes]:
    """Split bytes into equal pieces.

    >>> _split_bytes(b"abcd", 2)
    [b'ab', b'cd']
    """
    return [text[start : start + size] for start in range(0, len(text), size)]


def _open_ledger_file(path: Path | None) -> sqlite3.Connection:
    """Open a connection that locks others out and whose commits are on the disk."""
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Made first with its mode: sqlite3 would make a file that everybody may read
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    file = sqlite3.connect(":memory:" if path is None else path, isolation_level=None, timeout=0.5)
    # One run alone may write; each commit waits for the disk, since what is lost is paid again
    for setting in ("locking_mode = exclusive", "journal_mode = wal", "synchronous = full"):
        file.execute(f"pragma {setting}")
    file.execute(TABLE)
    return file


def _translate_ledger_error(error: Exception, path: Path | None) -> InputError:
    """Translate an error of the disk or the file into a sentence."""
    if isinstance(error, sqlite3.OperationalError) and "locked" in str(error):
        return InputError(
            f"Expected the ledger {path} for this run alone, got another run that uses it. Wait, "
            "or choose another --out."
        )
    if isinstance(error, sqlite3.OperationalError | OSError):
        return InputError(
            f"Expected to write the ledger {path}, got: {error}. Free some space, or choose "
            "another --out."
        )
    return InputError(
        f"Expected the ledger of an earlier run in {path}, got a damaged file: {error}. Remove it; "
        "its queries are then paid for again."
    )
