"""The ledger: nothing booked is forgotten, not even by a killed process.

And no limit is ever passed.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memberscope.errors import InputError
from memberscope.targets.http.ledger import Ledger, LedgerQuery, QuerySpending

SCOPE = b"endpoint".ljust(16)


def query(key: int, owner: int | None = None) -> LedgerQuery:
    return LedgerQuery(
        key.to_bytes(20, "big"), (key if owner is None else owner).to_bytes(16, "big")
    )


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "folder" / "ledger.sqlite"


def test_a_new_ledger_on_the_same_file_knows_what_the_old_one_booked(path):
    queries = [query(k) for k in range(3)]
    ledger = Ledger(path, SCOPE)
    line = ledger.reserve(queries[:2]).result()
    ledger.answer(line, queries[:2], [b"ab", b"cd"]).result()
    ledger.reserve(queries[1:]).result()
    ledger.close()
    again = Ledger(path, SCOPE)
    assert again.find([one.key for one in queries]).result() == {
        queries[0].key: b"ab",
        queries[1].key: b"cd",
    }
    assert again.spent().result() == QuerySpending(sent=4, answered=2, unanswered=1)
    again.close()
    assert path.stat().st_mode & 0o777 == 0o600
    other = Ledger(path, b"another endpoint")
    assert other.spent().result() == QuerySpending(0, 0, 0)
    other.close()


def test_limits_hold_for_each_owner_and_in_all_and_a_refund_gives_back():
    ledger = Ledger(None, SCOPE)
    line = ledger.reserve([query(1, 7), query(2, 7)], each=2).result()
    with pytest.raises(
        InputError, match="at most 2 queries a record, got 1 records that need another one"
    ):
        ledger.reserve([query(3, 7), query(4, 8)], each=2).result()
    assert ledger.spent().result().sent == 2
    with pytest.raises(InputError, match="at most 3 queries, got 2 booked and 2 more to send"):
        ledger.reserve([query(3), query(4)], total=3).result()
    ledger.refund(line, [query(1, 7), query(2, 7)]).result()
    assert ledger.spent().result() == QuerySpending(0, 0, 0)
    ledger.reserve([query(1, 7), query(2, 7)], each=2, total=2).result()
    ledger.close()


@settings(max_examples=30)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["reserve", "answer", "refund"]),
            st.lists(st.integers(0, 5), min_size=1, max_size=3, unique=True),
        ),
        max_size=12,
    ),
    st.integers(1, 3),
    st.integers(1, 10),
)
def test_a_dictionary_counts_the_same(steps, each, total):
    """A naive ledger beside the real one, under any order of bookings, answers and refunds."""
    ledger, lines = Ledger(None, SCOPE), []
    sent, answers = {}, {}
    for step, keys in steps:
        if step == "reserve":
            fits = (
                all(sent.get(key, 0) < each for key in keys)
                and sum(sent.values()) + len(keys) <= total
            )
            booked = ledger.reserve([query(key) for key in keys], each=each, total=total)
            assert (booked.exception() is None) == fits
            if fits:
                lines.append((booked.result(), keys))
                sent.update({key: sent.get(key, 0) + 1 for key in keys})
        elif lines:
            line, keys = lines.pop()
            if step == "answer":
                ledger.answer(
                    line, [query(key) for key in keys], [b"%02d" % key for key in keys]
                ).result()
                answers.update({key: b"%02d" % key for key in keys})
            else:
                ledger.refund(line, [query(key) for key in keys]).result()
                sent.update({key: sent[key] - 1 for key in keys})
    found = ledger.find([query(key).key for key in range(6)]).result()
    assert found == {query(key).key: value for key, value in answers.items()}
    assert ledger.spent().result().sent == sum(sent.values())
    ledger.close()


def test_threads_together_book_no_more_than_the_limit():
    ledger, granted = Ledger(None, SCOPE), []

    def work(start: int) -> None:
        for k in range(50):
            booked = ledger.reserve([query(start * 50 + k, k % 10)], each=12, total=100)
            if booked.exception() is None:
                granted.append(k % 10)

    threads = [threading.Thread(target=work, args=(start,)) for start in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(granted) == 100 == ledger.spent().result().sent
    assert max(granted.count(owner) for owner in range(10)) <= 12
    ledger.close()


def test_what_was_booked_before_kill_9_is_there_afterwards(path):
    """The process dies right after it was told that a line is on the disk."""
    code = (
        "import os, signal, sys\n"
        "from memberscope.targets.http.ledger import Ledger, LedgerQuery\n"
        f"ledger = Ledger({str(path)!r}, {SCOPE!r})\n"
        "queries = [LedgerQuery(k.to_bytes(20, 'big'), k.to_bytes(16, 'big')) for k in range(4)]\n"
        "line = ledger.reserve(queries[:2]).result()\n"
        "ledger.answer(line, queries[:2], [b'ab', b'cd']).result()\n"
        "ledger.reserve(queries[2:]).result()\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], env=os.environ, check=False)
    assert done.returncode == -signal.SIGKILL
    ledger = Ledger(path, SCOPE)
    assert ledger.spent().result() == QuerySpending(sent=4, answered=2, unanswered=2)
    ledger.close()


def test_two_runs_do_not_share_a_ledger(path):
    ledger = Ledger(path, SCOPE)
    with pytest.raises(InputError, match="another run that uses it"):
        Ledger(path, SCOPE)
    ledger.close()
    Ledger(path, SCOPE).close()


def test_a_damaged_file_and_a_folder_that_cannot_be_written_are_sentences(path, tmp_path):
    path.parent.mkdir()
    path.write_bytes(b"SQLite format 3\x00" + b"\xff" * 5000)
    with pytest.raises(InputError, match="damaged file"):
        Ledger(path, SCOPE)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="Expected to write the ledger"):
        Ledger(tmp_path / "file" / "ledger.sqlite", SCOPE)


def test_a_closed_ledger_says_so():
    ledger = Ledger(None, SCOPE)
    ledger.close()
    with pytest.raises(InputError, match="closed one"):
        ledger.spent()
