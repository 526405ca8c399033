"""The history of audits: what is kept, by whom it may be read, and what no failure may lose."""

from __future__ import annotations

import io
import json
import os
import signal
import sqlite3
import subprocess
import sys
from dataclasses import asdict, replace
from datetime import UTC, datetime

import pytest
from past_audits import START, make_past_audit, make_past_number, write_many
from rich.console import Console

from memberscope.auditing import compare
from memberscope.auditing.documents import format_level
from memberscope.errors import InputError
from memberscope.reports import write_all
from memberscope.reports.history import (
    append_audit,
    describe_shared_names,
    digest_file,
    format_history_json,
    place_audits,
    print_history,
    read_history,
    render_history,
    shorten_report_path,
    summarise_audit,
    summarise_comparison,
    write_bundle,
)
from memberscope.reports.history.linked_reports import find_reports
from memberscope.reports.history.store import COLUMNS, VERSION

HOSTILE = "<script>alert(1)</script>\"'&\x1b[2J"
NOW = datetime(2026, 5, 1, 8, 30, tzinfo=UTC)


@pytest.fixture
def file(tmp_path):
    return tmp_path / "project" / ".memberscope" / "history.sqlite"


def test_what_is_kept_of_an_audit_has_no_ids_no_scores_and_no_records(result, file):
    entry = summarise_audit(result, time=NOW, report="out/report.html", digest="d")
    append_audit(file, entry)
    assert read_history(file) == [replace(entry, id=1)]
    assert (entry.verdict, entry.policy, entry.title) == ("FAIL", "gate", result.title)
    strongest = {
        (number.level, number.metric, number.fpr): (number.value, number.low, number.high)
        for number in entry.numbers
    }
    for (level, metric, fpr), limits in strongest.items():
        assert any(
            (e.attack, format_level(e.access, e.restriction), e.metric, e.fpr, e.group)
            == ("strongest", level, metric, fpr, None)
            and (e.value, e.low, e.high) == limits
            for e in result.estimates
        )
    assert {"label", "probabilities", "logits"} <= {level for level, _, _ in strongest}
    assert entry.controls == {name: found.passed for name, found in result.controls.items()}
    text = file.read_bytes()
    ids = [str(one).encode() for one in result.arrays.ids]
    hashes = [exposed.record.encode() for exposed in result.exposed]
    assert not any(word in text for word in (*ids, *hashes))
    # As many numbers for one record as for thousands: nothing goes by record
    assert len(text) < 40_000


def test_the_worst_group_is_the_one_the_terminal_names(result):
    entry = summarise_audit(result, time=NOW, report="", digest="")
    assert entry.worst is not None and entry.worst.group is not None
    fpr = entry.worst.fpr
    every = [
        e
        for e in result.estimates
        if e.group and (e.metric, e.fpr, e.threshold) == ("tpr", fpr, "best")
        and (e.access, e.attack) == (entry.worst.access, "strongest")
    ]  # fmt: skip
    worst = max(every, key=lambda e: e.value)
    assert (entry.worst.value, entry.worst.attack) == (worst.value, worst.reached_by)


def test_a_comparison_keeps_the_differences_it_rests_on(result, file):
    found = compare([result, result.model_copy(update={"title": "new"})], names=["v1", "v2"])
    append_audit(file, summarise_comparison(found, time=NOW, report="", digest=""))
    (entry,) = read_history(file)
    assert (entry.kind, entry.title, entry.model, entry.verdict) == (
        "comparison", "v1 → v2", "new", found.verdict,
    )  # fmt: skip
    claims = [e.difference.value for e in found.compared if e.claim]
    assert [number.value for number in entry.numbers] == claims and claims


def test_the_file_is_for_its_owner_alone_and_out_of_git(file):
    append_audit(file, make_past_audit())
    assert file.stat().st_mode & 0o777 == 0o600
    assert (file.parent / ".gitignore").read_text() == "*\n"
    assert {path.name for path in file.parent.iterdir()} == {"history.sqlite", ".gitignore"}


def test_another_folder_gets_no_file_but_the_history(tmp_path):
    append_audit(tmp_path / "kept" / "audits.sqlite", make_past_audit())
    assert [path.name for path in (tmp_path / "kept").iterdir()] == ["audits.sqlite"]


def test_audits_are_found_by_name_and_by_number(file):
    for number, model in enumerate(("a", "b", "a")):
        append_audit(file, make_past_audit(number, model=model))
    assert [entry.id for entry in read_history(file, model="a")] == [1, 3]
    assert [entry.model for entry in read_history(file, id=2)] == ["b"]
    assert read_history(file, model="a' OR 1 --") == []


APPEND = """
import sys
from pathlib import Path
from past_audits import make_past_audit
from memberscope.reports.history import append_audit
for number in range(int(sys.argv[2])):
    append_audit(Path(sys.argv[1]), make_past_audit(number, model=sys.argv[3]))
    print(number + 1, flush=True)
"""


def start_appending(file, n, model):
    path = os.pathsep.join(sys.path)
    return subprocess.Popen(
        [sys.executable, "-c", APPEND, str(file), str(n), model],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
    )


def test_two_processes_that_append_at_once_lose_nothing(file):
    # The file does not exist yet, so both find out who makes it
    both = [start_appending(file, 30, model) for model in ("a", "b")]
    for process in both:
        process.communicate()
        assert process.returncode == 0
    kept = read_history(file)
    assert len(kept) == 60 and {entry.model for entry in kept} == {"a", "b"}
    for model in ("a", "b"):
        own = [entry.time for entry in kept if entry.model == model]
        assert own == sorted(own) and len(own) == 30


def test_a_process_killed_while_it_appends_leaves_what_was_kept(file):
    process = start_appending(file, 1_000_000, "a")
    assert process.stdout is not None
    told = [int(process.stdout.readline()) for _ in range(20)][-1]
    process.send_signal(signal.SIGKILL)
    told += process.communicate()[0].count("\n")
    assert told <= len(read_history(file)) <= told + 1
    append_audit(file, make_past_audit(model="after"))
    assert read_history(file)[-1].model == "after"


KILLED = """
import sqlite3, sys, time
database = sqlite3.connect(sys.argv[1], isolation_level=None)
database.execute("PRAGMA cache_size = 1")  # so that pages are written before the end
database.execute("BEGIN IMMEDIATE")
for _ in range(8):
    database.execute("UPDATE audits SET title = title || title")
database.execute("DELETE FROM audits WHERE id % 2")
print("half done", flush=True)
time.sleep(600)
"""


def test_a_file_left_in_the_middle_of_a_write_is_what_it_was(file):
    write_many(file, 300)
    before, size = read_history(file), file.stat().st_size
    arguments = [sys.executable, "-c", KILLED, str(file)]
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "half done\n"
    process.kill()
    process.wait()
    process.stdout.close()
    assert (file.parent / "history.sqlite-journal").exists() and file.stat().st_size > size
    assert read_history(file) == before
    append_audit(file, make_past_audit())
    assert len(read_history(file)) == 301


def test_a_lock_is_waited_for_and_then_told(file):
    append_audit(file, make_past_audit())
    other = sqlite3.connect(file, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    words = r"locked by another process for more than 0.1 seconds\. Try again"
    with pytest.raises(InputError, match=words):
        append_audit(file, make_past_audit(1), wait=0.1)
    with pytest.raises(InputError, match=words):
        read_history(file, wait=0.1)
    other.execute("ROLLBACK")
    other.close()
    append_audit(file, make_past_audit(1))
    assert len(read_history(file)) == 2


def cut(file):
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def cut_the_end(file):
    file.write_bytes(file.read_bytes()[:-1])


def overwrite(file):
    data = bytearray(file.read_bytes())
    data[100:] = b"x" * (len(data) - 100)
    file.write_bytes(data)


def replace_by_text(file):
    file.write_text("id,verdict\n" * 100)


def break_a_column(file):
    run_statement(file, "UPDATE audits SET numbers = '[{]'")


def break_a_type(file):
    run_statement(file, "UPDATE audits SET time = 'yesterday'")


def break_a_number(file):
    run_statement(file, "UPDATE audits SET controls = '{\"null\": 1e999}'")


def drop_the_table(file):
    run_statement(file, "ALTER TABLE audits RENAME TO others")


def run_statement(file, statement):
    database = sqlite3.connect(file)
    database.execute(statement)
    database.commit()
    database.close()


@pytest.mark.parametrize(
    "damage",
    [
        cut,
        cut_the_end,
        overwrite,
        replace_by_text,
        break_a_column,
        break_a_type,
        break_a_number,
        drop_the_table,
    ],
)
def test_a_damaged_history_is_one_sentence(file, damage):
    write_many(file, 200)
    damage(file)
    words = r"^Expected a history of audits in .*, got a file that is damaged, cut off or something"
    with pytest.raises(InputError, match=words):
        read_history(file)


@pytest.mark.parametrize("damage", [cut, cut_the_end, overwrite, replace_by_text, drop_the_table])
def test_nothing_is_appended_to_a_damaged_history(file, damage):
    write_many(file, 200)
    damage(file)
    before = file.read_bytes()
    with pytest.raises(InputError, match=r"damaged, cut off or something else. Move it away"):
        append_audit(file, make_past_audit())
    assert file.read_bytes() == before


def test_a_newer_version_is_refused_and_left_as_it_is(file):
    append_audit(file, make_past_audit())
    run_statement(file, f"PRAGMA user_version = {VERSION + 1}")
    before = file.read_bytes()
    for use in (read_history, lambda file: append_audit(file, make_past_audit())):
        with pytest.raises(InputError, match=f"version {VERSION} or older .* got version 2, which"):
            use(file)
    assert file.read_bytes() == before


def test_a_database_of_another_program_is_not_written_to(tmp_path):
    file = tmp_path / "mlflow.db"
    run_statement(file, "CREATE TABLE runs (id INTEGER)")
    before = file.read_bytes()
    for use in (read_history, lambda file: append_audit(file, make_past_audit())):
        with pytest.raises(InputError, match="got a database of another program"):
            use(file)
    assert file.read_bytes() == before


def test_an_empty_file_is_an_empty_history(tmp_path):
    file = tmp_path / "h.sqlite"
    file.touch()
    assert read_history(file) == []
    append_audit(file, make_past_audit())
    assert len(read_history(file)) == 1


def test_no_file_and_a_folder_are_one_sentence(tmp_path):
    for path in (tmp_path / "none.sqlite", tmp_path):
        with pytest.raises(
            InputError, match=r"got .*, which is not there. Run `memberscope audit`"
        ):
            read_history(path)
    with pytest.raises(InputError, match="Expected a history that can be opened and written"):
        append_audit(tmp_path, make_past_audit())
    (tmp_path / "f").touch()
    with pytest.raises(InputError, match="Choose a folder that can be written"):
        append_audit(tmp_path / "f" / "h.sqlite", make_past_audit())


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_can_be_read(file):
    append_audit(file, make_past_audit())
    file.chmod(0o400)
    file.parent.chmod(0o500)
    try:
        assert len(read_history(file)) == 1
        with pytest.raises(InputError, match="that can be opened and written"):
            append_audit(file, make_past_audit())
    finally:
        file.parent.chmod(0o700)


def test_releases_on_the_same_records_are_one_series():
    placed = place_audits([make_past_audit(number) for number in range(3)])
    assert [audit.series for audit in placed] == [1, 1, 1]
    assert [audit.changed for audit in placed] == [(), ("model",), ("model",)]
    assert describe_shared_names(placed) == []


def test_another_model_under_the_same_name_is_told_and_shown_as_another_series():
    digests = [{"model": "a", "records": "r"}, {"model": "b", "records": "s"}]
    digests += [{"model": "a", "records": "t"}, {"model": "c", "records": "s"}]
    comparison = make_past_audit(kind="comparison", digests={})
    entries = [make_past_audit(number, digests=one) for number, one in enumerate(digests)]
    placed = place_audits([*entries[:2], comparison, *entries[2:]])
    assert [audit.series for audit in placed] == [1, 2, 0, 1, 2]
    assert [audit.changed for audit in placed] == [(), (), (), ("records",), ("model",)]
    (sentence,) = describe_shared_names(placed)
    assert sentence.startswith("The name 'fraud' stands for 2 different models: their audits have")
    console = Console(file=io.StringIO(), width=80)
    print_history(placed, console, 20)
    assert "fraud [2]" in console.file.getvalue() and "stands for 2" in console.file.getvalue()
    assert sentence.replace("'", "&#39;") in render_history(placed, ())


def test_audits_without_digests_have_nothing_in_common():
    placed = place_audits([make_past_audit(number, digests={}) for number in range(2)])
    assert [audit.series for audit in placed] == [1, 2]


@pytest.mark.parametrize("width", [80, 120])
def test_the_list_fits_the_terminal_and_shows_intervals(width):
    long = make_past_audit(1, title=HOSTILE + "x" * 200, verdict="INCONCLUSIVE", limited=True)
    change = make_past_audit(
        2,
        kind="comparison",
        title="v1 → v2",
        verdict="LEAKS_MORE",
        numbers=(make_past_number("label", "tpr", 0.08, low=-0.01),),
    )
    bare = make_past_audit(3, verdict=None, numbers=())
    console = Console(file=io.StringIO(), width=width)
    print_history(place_audits([make_past_audit(), long, change, bare]), console, 20)
    shown = console.file.getvalue()
    assert max(map(len, shown.splitlines())) <= width and "\x1b" not in shown
    lines = shown.splitlines()
    assert [line[:10] for line in lines[1:5]] == [
        "2026-01-04", "2026-01-03", "2026-01-02", "2026-01-01",
    ]  # fmt: skip
    assert "NO POLICY" in lines[1]
    assert "LEAKS MORE" in lines[2] and "+8 (-1 to +13) points" in lines[2]
    assert "PASS" in lines[4] and "1%" in lines[4] and "2% (0% to 7%)" in lines[4]
    assert ("0.520 (0.470 to 0.570)" in lines[4]) == (width == 120)


def test_the_list_says_what_it_leaves_out():
    placed = place_audits([make_past_audit(number) for number in range(5)])
    console = Console(file=io.StringIO(), width=80)
    print_history(placed, console, 2)
    assert "2 of 5 audits; --limit 5 lists all." in console.file.getvalue()
    assert console.file.getvalue().count("2026-01-0") == 2


def test_json_has_everything_and_can_be_read_back():
    entries = [make_past_audit(0), make_past_audit(1, title=HOSTILE)]
    text = format_history_json(place_audits(entries))
    document = json.loads(text)
    assert document["format"] == "memberscope-history/1" and "\x1b" not in text
    newest = document["audits"][0]
    assert newest["title"] == HOSTILE and newest["changed"] == ["model"]
    assert datetime.fromisoformat(newest["time"]) == entries[1].time
    assert set(newest) == {*COLUMNS, "series", "changed"}
    assert newest["numbers"] == json.loads(json.dumps(asdict(entries[1])["numbers"]))


def test_the_page_holds_hostile_names_as_text():
    hostile = make_past_audit(
        model=HOSTILE,
        title=HOSTILE,
        verdict="</script>",
        controls={HOSTILE: False},
        worst=make_past_number("label", "tpr", 0.5, group=HOSTILE),
        numbers=(make_past_number(HOSTILE, "tpr", 0.5),),
    )
    page = render_history(place_audits([hostile, replace(hostile, digests={})]), ())
    assert "<script>alert" not in page and page.count("</script>") == 3
    assert page.count("default-src 'none'") == 1


def test_ten_thousand_audits_are_a_page_of_less_than_two_megabytes(file):
    write_many(file, 10_000)
    placed = place_audits(read_history(file))
    assert len(placed) == 10_000
    page = render_history(placed, {audit.entry.id for audit in placed if audit.entry.id})
    assert len(page.encode()) < 2_000_000
    assert "This page shows the newest" not in page
    assert page.count("<tr>") == 51


def test_a_page_that_would_be_too_large_says_what_it_shows():
    long = tuple(
        make_past_number(f"level {level}", metric, 0.12345)
        for level in range(20)
        for metric in ("tpr", "auc")
    )
    entries = [make_past_audit(number, numbers=long, title=f"t{number}") for number in range(3000)]
    page = render_history(place_audits(entries), ())
    assert len(page.encode()) < 2_000_000
    assert "This page shows the newest" in page and '"t2999"' in page and '"t0"' not in page


def keep_result(result, folder, file):
    write_all(result, folder)
    report = shorten_report_path(folder / "report.html", file)
    digest = digest_file(folder / "result.json")
    append_audit(file, summarise_audit(result, time=START, report=report, digest=digest))
    return folder / "report.html"


def test_a_report_is_linked_as_long_as_it_is_that_of_the_audit(result, clean, file):
    project = file.parent.parent
    first = keep_result(result, project / "out", file)
    assert read_history(file)[0].report == "out/report.html"
    assert find_reports(read_history(file), file) == {1: first}
    # Another audit in the same folder replaces the page
    keep_result(clean, project / "out", file)
    assert find_reports(read_history(file), file) == {2: first}
    first.unlink()
    assert find_reports(read_history(file), file) == {}


def test_a_project_can_be_moved_with_its_reports(result, file, tmp_path):
    keep_result(result, file.parent.parent / "out", file)
    outside = keep_result(result, tmp_path / "elsewhere", file)
    file.parent.parent.rename(tmp_path / "moved")
    moved = tmp_path / "moved" / ".memberscope" / "history.sqlite"
    found = find_reports(read_history(moved), moved)
    assert found == {1: tmp_path / "moved" / "out" / "report.html", 2: outside}


@pytest.mark.parametrize("report", ["/etc/passwd", "../secret.html", "link.html", "a\0.html", ""])
def test_a_history_cannot_name_other_files(result, file, tmp_path, report):
    page = keep_result(result, file.parent.parent / "out", file)
    secret = tmp_path / "secret.html"
    secret.write_text("secret")
    (file.parent.parent / "link.html").symlink_to(secret)
    entry = replace(read_history(file)[0], report=report, digests={"result": "0" * 64})
    assert find_reports([entry], file) == {}
    # A page that is a link to another file is none that an audit wrote
    page.unlink()
    page.symlink_to(secret)
    assert find_reports(read_history(file), file) == {}


def test_a_bundle_has_the_page_and_the_reports_and_is_written_whole(result, clean, file, tmp_path):
    keep_result(result, file.parent.parent / "out", file)
    append_audit(file, make_past_audit())
    folder = tmp_path / "bundle"
    assert write_bundle(file, folder) == 1
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert names == {"index.html", "reports/1.html"}
    report = (file.parent.parent / "out" / "report.html").read_bytes()
    assert (folder / "reports" / "1.html").read_bytes() == report
    page = (folder / "index.html").read_text()
    assert 'href="reports/1.html"' in page and 'href="reports/2.html"' not in page
    assert str(tmp_path) not in page, "paths of this machine are not passed on"
    with pytest.raises(InputError, match=r"got .*bundle.*, which is there. Choose another name"):
        write_bundle(file, folder)
    keep_result(clean, file.parent.parent / "second", file)
    assert write_bundle(file, folder, overwrite=True) == 2
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_a_bundle_replaces_nothing_else(file, tmp_path):
    append_audit(file, make_past_audit())
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").touch()
    (tmp_path / "a file").touch()
    for name in ("mine", "a file"):
        with pytest.raises(InputError, match="replaces an earlier bundle and nothing else"):
            write_bundle(file, tmp_path / name, overwrite=True)
    assert (tmp_path / "mine" / "thesis.txt").exists()
    (tmp_path / "empty").mkdir()
    assert write_bundle(file, tmp_path / "empty") == 0
