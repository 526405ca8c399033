"""The file of past audits: one SQLite database, appended to and read under its own locks.

A process that is killed while it appends leaves the file as it was. `user_version` is the version of
the tables; an older file is brought up to date when it is next appended to.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from memberscope._files import ignore_folder, translate_disk_errors
from memberscope.errors import InputError
from memberscope.reports.history.past_audit import PastAudit

FOLDER = ".memberscope"
WAIT = 3.0  # seconds that a lock of another process is waited for
APPLICATION = 0x6D736833  # tells a history from the databases of other programs
# The statements that lead from each version to the next; the last one is the current
MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        """CREATE TABLE audits (
            id INTEGER PRIMARY KEY,
            time TEXT NOT NULL,
            kind TEXT NOT NULL,
            model TEXT NOT NULL,
            title TEXT NOT NULL,
            verdict TEXT,
            limited INTEGER NOT NULL,
            policy TEXT,
            confidence REAL NOT NULL,
            n_members INTEGER NOT NULL,
            n_non_members INTEGER NOT NULL,
            numbers TEXT NOT NULL,
            worst TEXT NOT NULL,
            controls TEXT NOT NULL,
            digests TEXT NOT NULL,
            report TEXT NOT NULL,
            version TEXT NOT NULL
        )""",
        "CREATE INDEX audits_by_model ON audits (model)",
    ),
)
VERSION = len(MIGRATIONS)
COLUMNS = tuple(entry.name for entry in fields(PastAudit))
NESTED = ("numbers", "worst", "controls", "digests")  # columns that hold JSON
ENTRIES = TypeAdapter(list[PastAudit])
BUSY, READ_ONLY, DISK, FULL, NO_FILE = 5, 8, 10, 13, 14  # primary result codes of SQLite


def append_audit(file: Path, entry: PastAudit, *, wait: float = WAIT) -> None:
    """Append an audit or a comparison to the history, whole or not at all.

    The file is made where there is none, for its owner alone.

    Raises:
        InputError: It cannot be written, is locked for longer than `wait` seconds, damaged, or of a
            newer version.
    """
    _create_file(file)
    # The database numbers entries, also one that was read from a history before
    document = asdict(entry) | {"id": None, "time": entry.time.isoformat(timespec="seconds")}
    values = [
        json.dumps(document[name], allow_nan=False)
        if name in NESTED
        else _escape_text(document[name])
        for name in COLUMNS
    ]
    with _open_database(file, wait) as database:
        # At once, since a lock that is taken later could not be waited for
        database.execute("BEGIN IMMEDIATE")
        _migrate_tables(database, _read_version(database, file))
        marks = ", ".join("?" * len(COLUMNS))
        database.execute(f"INSERT INTO audits ({', '.join(COLUMNS)}) VALUES ({marks})", values)
        database.execute("COMMIT")


def read_history(
    file: Path, *, model: str | None = None, id: int | None = None, wait: float = WAIT
) -> list[PastAudit]:
    """Read past audits, the oldest first: all, those of a model's name, or the one of an id.

    Raises:
        InputError: There is none, or it is locked, damaged, or of a newer version.
    """
    if not file.is_file():
        raise InputError(
            f"Expected a history of audits, got {str(file)!r}, which is not there. Run `memberscope "
            "audit`, or name another file with --history."
        )
    wanted = {"model": model, "id": id}
    given = {name: value for name, value in wanted.items() if value is not None}
    where = " AND ".join(f"{name} = ?" for name in given) or "1"
    with _open_database(file, wait) as database:
        # One transaction, so that nobody writes between the version and the rows
        database.execute("BEGIN")
        if _read_version(database, file) == 0:
            return []
        query = f"SELECT {', '.join(COLUMNS)} FROM audits WHERE {where} ORDER BY id"
        rows = database.execute(query, list(given.values())).fetchall()
    try:
        return ENTRIES.validate_python([_restore_row(row) for row in rows])
    except (ValidationError, ValueError, TypeError) as error:
        raise _describe_damage(file) from error


def _escape_text(value: Any) -> Any:
    """Escape what UTF-8 lacks, such as bytes of a folder name that are no text."""
    return value.encode(errors="backslashreplace").decode() if isinstance(value, str) else value


def _restore_row(row: tuple[Any, ...]) -> dict[str, Any]:
    """Restore the fields of an entry from a row.

    Raises:
        ValueError: A column holds no JSON, or JSON nested too deeply to be read.
    """
    found = dict(zip(COLUMNS, row, strict=True))
    try:
        return found | {name: json.loads(found[name]) for name in NESTED}
    except RecursionError:
        raise ValueError("a column is nested too deeply") from None


def _create_file(file: Path) -> None:
    """Create an empty file for its owner alone, where there is none.

    Raises:
        InputError: The folder cannot be written.
    """
    with translate_disk_errors(file):
        if file.parent.name == FOLDER and not file.parent.exists():
            file.parent.mkdir(parents=True, exist_ok=True)
            # So that nobody commits it unasked
            ignore_folder(file.parent)
        file.parent.mkdir(parents=True, exist_ok=True)
        if not file.exists():
            os.close(os.open(file, os.O_RDWR | os.O_CREAT, 0o600))


@contextmanager
def _open_database(file: Path, wait: float) -> Iterator[sqlite3.Connection]:
    """Open the database, and close it without what was not committed.

    Raises:
        InputError: It cannot be opened, read or written.
    """
    # SQLite must be able to undo what a killed process left, unless nothing there can be written
    writable = os.access(file, os.W_OK) and os.access(file.parent, os.W_OK)
    address = f"{file.resolve().as_uri()}?mode={'rw' if writable else 'ro'}"
    database = None
    try:
        database = sqlite3.connect(address, uri=True, timeout=wait, isolation_level=None)
        yield database
    except sqlite3.Error as error:
        raise _explain_error(error, file, wait) from error
    finally:
        if database is not None:
            database.close()


def _read_version(database: sqlite3.Connection, file: Path) -> int:
    """Read the version of the tables, 0 where there are none.

    Raises:
        InputError: Another program or a newer version wrote the file.
    """
    (tables,) = database.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if not tables:
        return 0
    # SQLite takes a last page that is cut off for one of zeros
    (pages,) = database.execute("PRAGMA page_count").fetchone()
    (size,) = database.execute("PRAGMA page_size").fetchone()
    if file.stat().st_size < pages * size:
        raise _describe_damage(file)
    (owner,) = database.execute("PRAGMA application_id").fetchone()
    (version,) = database.execute("PRAGMA user_version").fetchone()
    if owner != APPLICATION:
        raise InputError(
            f"Expected a history of audits in {str(file)!r}, got a database of another program. Name "
            "another file with --history."
        )
    if version > VERSION:
        raise InputError(
            f"Expected a history of version {VERSION} or older in {str(file)!r}, got version "
            f"{version}, which a newer memberscope wrote. Upgrade memberscope, or name another file "
            "with --history."
        )
    return int(version)


def _migrate_tables(database: sqlite3.Connection, version: int) -> None:
    """Bring the tables from their version to the current one, within the transaction."""
    for statements in MIGRATIONS[version:]:
        for statement in statements:
            database.execute(statement)
    if version < VERSION:
        database.execute(f"PRAGMA application_id = {APPLICATION}")
        database.execute(f"PRAGMA user_version = {VERSION}")


def _explain_error(error: sqlite3.Error, file: Path, wait: float) -> InputError:
    """Say in a sentence why the database could not be used."""
    # The low byte is the kind of error, the others its details
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code == BUSY:
        return InputError(
            f"Expected the history {str(file)!r} to be free, got it locked by another process for "
            f"more than {wait:g} seconds. Try again when that has ended."
        )
    if code == FULL:
        return InputError(
            f"Expected room to write {str(file)!r}, got a full disk. Free some space."
        )
    if code in (READ_ONLY, DISK, NO_FILE):
        return InputError(
            f"Expected a history that can be opened and written, got {str(file)!r}: {error}. Name "
            "another file with --history."
        )
    return _describe_damage(file)


def _describe_damage(file: Path) -> InputError:
    """Say that a file is no history, or only a part of one."""
    return InputError(
        f"Expected a history of audits in {str(file)!r}, got a file that is damaged, cut off or "
        "something else. Move it away: the next audit begins a new one."
    )
