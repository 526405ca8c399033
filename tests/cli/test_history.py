"""`history` and `view` as a user runs them, and what an audit does where the history fails."""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
from contextlib import contextmanager

import pytest
from commands import COMMAND, run_command
from signal_files import write_signals

from memberscope.reports.history import append_audit, read_history
from memberscope.reports.history.store import VERSION

FILE = ".memberscope/history.sqlite"
AUDIT = ("audit", "--signals", "s.csv", "--features", "x0", "--attacks", "gap,loss", "--fpr", "0.1")
AUDIT += ("--policy", "demo")


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """Two audits, one that leaks, and their comparison."""
    folder = tmp_path_factory.mktemp("project")
    write_signals(folder / "s.csv", n=200)
    write_signals(folder / "t.csv", n=200, shift=0.0)
    one = run_command(*AUDIT, "--title", "fraud", "--out", "one", cwd=folder)
    assert one.returncode == 1, one.stderr
    two = run_command(*AUDIT, "--signals", "t.csv", "--out", "two", cwd=folder)
    assert two.returncode in (0, 3), two.stderr
    compared = run_command("compare", "two", "one", "--out", "c.html", cwd=folder)
    said = one.stderr + two.stderr + compared.stderr
    assert compared.returncode in (0, 1, 3) and "memberscope: " not in said
    return folder


@pytest.fixture
def copied(project, tmp_path):
    shutil.copytree(project, tmp_path / "copy")
    return tmp_path / "copy"


def test_audits_and_comparisons_are_kept(project):
    kept = read_history(project / FILE)
    assert [(entry.kind, entry.title) for entry in kept] == [
        ("audit", "fraud"), ("audit", "t.csv"), ("comparison", "two → one"),
    ]  # fmt: skip
    document = json.loads((project / "one" / "result.json").read_text())
    assert kept[0].verdict == document["verdict"] == "FAIL"
    assert [entry.report for entry in kept] == ["one/report.html", "two/report.html", "c.html"]
    assert (project / FILE).stat().st_mode & 0o777 == 0o600


def test_the_history_is_listed(project):
    done = run_command("history", cwd=project, COLUMNS="80")
    assert done.returncode == 0 and not done.stderr
    assert re.search(r"fraud +FAIL +5% +[\d.]+% \([\d.]+% to [\d.]+%\)", done.stdout)
    assert max(map(len, done.stdout.splitlines())) <= 80
    newest = run_command("history", "--limit", "1", cwd=project)
    assert "two → one" in newest.stdout and "1 of 3 audits" in newest.stdout
    one = run_command("history", "--model", "t.csv", "--json", cwd=project)
    assert [entry["title"] for entry in json.loads(one.stdout)["audits"]] == ["t.csv"]
    every = run_command("history", "--json", cwd=project)
    assert len(json.loads(every.stdout)["audits"]) == 3


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("history", "--model", "frad"), "got 'frad'. Did you mean 'fraud'?"),
        (("history", "--limit", "0"), "at least 1 for --limit, got 0"),
        (("history", "--history", "none.sqlite"), "got 'none.sqlite', which is not there"),
        (("view", "--history", "none.sqlite"), "got 'none.sqlite', which is not there"),
        (("view", "--port", "70000"), "from 0 to 65535 for --port, got 70000"),
        (("view", "--bundle", "one"), "Expected a new folder for --bundle, got 'one'"),
    ],
)
def test_mistakes_are_one_sentence(project, arguments, words):
    done = run_command(*arguments, cwd=project)
    assert done.returncode == 2 and words in done.stderr and done.stderr.count("\n") == 1


def test_it_can_be_switched_off_and_put_elsewhere(tmp_path):
    write_signals(tmp_path / "s.csv", n=60)
    audit = ("audit", "--signals", "s.csv", "--attacks", "gap", "--fpr", "0.1")
    (tmp_path / "audit.toml").write_text('[audit]\nhistory = "kept/audits.sqlite"\n')
    for more, variables in (
        (("--no-history", "--seed", "1", "--out", "again"), {}),
        ((), {"MEMBERSCOPE_NO_HISTORY": "true"}),
        (("audit.toml",), {}),
        (("--history", "flag.sqlite"), {}),
        ((), {"MEMBERSCOPE_HISTORY": "variable.sqlite"}),
    ):
        done = run_command(*audit, *more, cwd=tmp_path, **variables)
        assert done.returncode == 0, done.stderr
    assert not (tmp_path / ".memberscope").exists()
    for name in ("kept/audits.sqlite", "flag.sqlite", "variable.sqlite"):
        assert len(read_history(tmp_path / name)) == 1
    shown = run_command("history", cwd=tmp_path, MEMBERSCOPE_HISTORY="variable.sqlite")
    assert shown.returncode == 0 and "s.csv" in shown.stdout
    compared = run_command("compare", "memberscope-out", "again", "--no-history", cwd=tmp_path)
    assert compared.returncode in (0, 1, 3) and not (tmp_path / ".memberscope").exists()


def lock(file):
    other = sqlite3.connect(file, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    return other


def cut_off(file):
    file.write_bytes(file.read_bytes()[:5000])


def make_newer(file):
    database = sqlite3.connect(file)
    database.execute(f"PRAGMA user_version = {VERSION + 7}")
    database.close()


def put_a_file_in_place_of_the_folder(file):
    shutil.rmtree(file.parent)
    file.parent.touch()


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lock, "locked by another process for more than 3 seconds"),
        (cut_off, "damaged, cut off or something else"),
        (make_newer, f"got version {VERSION + 7}, which a newer memberscope wrote"),
        (put_a_file_in_place_of_the_folder, "Choose a folder that can be written"),
    ],
)
def test_a_history_that_fails_loses_no_audit_and_changes_no_exit_code(copied, spoil, words):
    shutil.rmtree(copied / "one")
    held = spoil(copied / FILE)
    done = run_command(*AUDIT, "--title", "fraud", "--out", "one", cwd=copied)
    assert done.returncode == 1, "the verdict's"
    # Libraries may warn of their own
    assert done.stderr.count("memberscope: ") == 1 and words in done.stderr
    assert "Warning: this is not kept in the history; nothing else is lost." in done.stderr
    assert json.loads((copied / "one" / "result.json").read_text())["verdict"] == "FAIL"
    assert (copied / "one" / "report.html").is_file() and "FAIL" in done.stdout
    for verb in (("history",), ("view", "--bundle", "b"), ("view", "--port", "0")):
        shown = run_command(*verb, cwd=copied)
        assert shown.returncode == 2 and shown.stderr.count("\n") == 1, shown.stderr
        assert not shown.stdout and not (copied / "b").exists()
    if held is not None:
        held.close()


def test_two_audits_at_once_are_both_kept(tmp_path):
    write_signals(tmp_path / "s.csv", n=60)
    audit = [*COMMAND, "audit", "--signals", "s.csv", "--attacks", "gap", "--fpr", "0.1"]
    both = [
        subprocess.Popen(
            [*audit, "--out", name, "--title", name],
            cwd=tmp_path,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for name in ("one", "two")
    ]
    for process in both:
        _, said = process.communicate()
        assert process.returncode == 0 and "memberscope: " not in said
    assert sorted(entry.title for entry in read_history(tmp_path / FILE)) == ["one", "two"]


@contextmanager
def serve(folder, *arguments):
    process = subprocess.Popen(
        [*COMMAND, "view", "--port", "0", *arguments],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "NO_COLOR": "1"},
    )
    try:
        assert process.stdout is not None
        said = process.stdout.readline()
        found = re.search(r"http://127\.0\.0\.1:(\d+)/", said)
        assert found, said + process.stderr.read()
        yield process, int(found[1])
    finally:
        process.kill()
        process.communicate()


def ask(port, path, method="GET", **headers):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.putrequest(method, path, skip_host="Host" in headers)
    for name, value in headers.items():
        connection.putheader(name, value)
    connection.endheaders()
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer.status, body, answer


def test_view_serves_the_page_and_its_reports_and_nothing_else(copied):
    with serve(copied) as (_, port):
        status, page, answer = ask(port, "/")
        assert status == 200 and b"Past audits" in page and b"fraud" in page
        assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]
        assert answer.headers["Cache-Control"] == "no-store"
        status, report, _ = ask(port, "/reports/1.html")
        assert (status, report) == (200, (copied / "one" / "report.html").read_bytes())
        assert ask(port, "/reports/3.html")[1] == (copied / "c.html").read_bytes()
        assert ask(port, "/", method="HEAD")[:2] == (200, b"")
        for path in (
            "/reports/4.html", "/reports/01.html", "/reports/1.html/", "/reports/", "/s.csv",
            "/.memberscope/history.sqlite", "/reports/../../one/records.csv", "/reports/1.json",
            "/reports/%2e%2e/one/records.csv", "//etc/passwd", "/../../../etc/passwd",
            "/reports/99999999999999999999.html", "/one/report.html",
        ):  # fmt: skip
            status, body, _ = ask(port, path)
            assert status == 404 and b"got another path" in body, path
        # A whole address names a host, and this one is not the server's
        assert ask(port, "http://127.0.0.1/")[0] == 403
        for method in ("POST", "PUT", "DELETE", "OPTIONS"):
            assert ask(port, "/", method=method)[0] == 501


def test_view_answers_no_other_host(copied):
    with serve(copied) as (_, port):
        for host in ("rebound.example", f"rebound.example:{port}", "127.0.0.1", "", "localhost:1"):
            status, body, _ = ask(port, "/", Host=host)
            assert status == 403 and b"fraud" not in body, host
        assert ask(port, "/", Host=f"localhost:{port}")[0] == 200
        # Other addresses of this machine, even its other loopback ones, are not listened on
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.2", port), timeout=5)


def test_view_shows_what_is_kept_meanwhile_and_no_report_of_another_audit(copied):
    with serve(copied) as (_, port):
        first = read_history(copied / FILE)[0]
        append_audit(copied / FILE, first)
        assert b"4 entries" in ask(port, "/")[1]
        done = run_command(*AUDIT, "--seed", "5", "--overwrite", "--out", "one", cwd=copied)
        assert done.returncode == 1, done.stderr
        assert ask(port, "/reports/1.html")[0] == 404
        assert ask(port, "/reports/5.html")[0] == 200
        (copied / FILE).write_text("no database")
        status, body, _ = ask(port, "/")
        assert status == 500 and b"damaged, cut off" in body


def test_view_ends_cleanly_by_ctrl_c_and_frees_its_port(copied):
    with serve(copied) as (process, port):
        silent = socket.create_connection(("127.0.0.1", port))
        # Answered, so the line that names the address is out
        assert ask(port, "/")[0] == 200
        process.send_signal(signal.SIGINT)
        out, said = process.communicate(timeout=60)
        silent.close()
        assert (process.returncode, out, said) == (0, "Ended.\n", "")
        with socket.socket() as free:
            free.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            free.bind(("127.0.0.1", port))


def test_a_port_that_is_taken_is_one_sentence(copied):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        done = run_command("view", "--port", taken.getsockname()[1], cwd=copied)
    assert done.returncode == 2 and "one that is taken. Choose another, or 0" in done.stderr


def test_view_writes_a_bundle(copied):
    done = run_command("view", "--bundle", "b", cwd=copied)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "Written to b/: index.html, and 3 reports in reports/\n"
    assert sorted(path.name for path in (copied / "b" / "reports").iterdir()) == [
        "1.html", "2.html", "3.html",
    ]  # fmt: skip
    again = run_command("view", "--bundle", "b", "--overwrite", cwd=copied)
    assert again.returncode == 0, again.stderr
