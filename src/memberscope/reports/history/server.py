"""Serve the page over past audits, and their reports, to browsers on this machine alone.

Only the loopback address is listened on. A request must name it in `Host`, so that no website whose
name points to this machine can read what is served (DNS rebinding). Nothing can be changed, and no
path of a request becomes the path of a file: a report is asked for by its number in the history.
"""

from __future__ import annotations

import errno
import re
import sys
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from memberscope._files import read_regular_file
from memberscope.errors import InputError
from memberscope.reports.history.linked_reports import LARGEST, find_reports
from memberscope.reports.history.page import render_history
from memberscope.reports.history.series import place_audits
from memberscope.reports.history.store import read_history

ADDRESS = "127.0.0.1"
REPORT = re.compile(r"/reports/([1-9][0-9]{0,17})\.html")
TIMEOUT = 10  # seconds that a browser may be silent within a request
HTML, TEXT = "text/html; charset=utf-8", "text/plain; charset=utf-8"
# Beside the policy that each page has of its own; scripts may run, and nothing may be loaded
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'unsafe-inline'; style-src "
    "'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class HistoryServer(ThreadingHTTPServer):
    """A server of one history file."""

    def __init__(self, file: Path, port: int) -> None:
        self.file = file
        super().__init__((ADDRESS, port), _HistoryHandler)

    @property
    def url(self) -> str:
        """The address of the page."""
        return f"http://{ADDRESS}:{self.server_port}/"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Let a browser leave in the middle of an answer; print what else went wrong."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


class _HistoryHandler(BaseHTTPRequestHandler):
    """Answer one request."""

    server: HistoryServer
    server_version = "memberscope"
    sys_version = ""
    timeout = TIMEOUT

    def do_GET(self) -> None:
        """Answer with the page, or with a report."""
        status, kind, data = self._choose_answer()
        self.send_response(status)
        for name, value in (*HEADERS.items(), ("Content-Type", kind)):
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    do_HEAD = do_GET

    def log_message(self, format: str, *args: Any) -> None:
        """Print no line for a request."""

    def _choose_answer(self) -> tuple[HTTPStatus, str, bytes]:
        """Choose status, type and body."""
        port = self.server.server_port
        hosts = self.headers.get_all("Host") or [""]
        if len(hosts) > 1 or hosts[0] not in (f"{ADDRESS}:{port}", f"localhost:{port}"):
            return _say(
                HTTPStatus.FORBIDDEN,
                f"Expected a request for {self.server.url}, got another name of the host. Open that "
                "address.",
            )
        path = self.path.partition("?")[0]
        try:
            if path == "/":
                return HTTPStatus.OK, HTML, _render_page(self.server.file)
            report = REPORT.fullmatch(path)
            page = report and _read_report(self.server.file, int(report[1]))
        except InputError as error:
            return _say(HTTPStatus.INTERNAL_SERVER_ERROR, str(error))
        if page:
            return HTTPStatus.OK, HTML, page
        if path == "/favicon.ico":
            return HTTPStatus.NO_CONTENT, TEXT, b""
        return _say(
            HTTPStatus.NOT_FOUND,
            f"Expected the page or a report that it links, got another path. Open {self.server.url}",
        )


def _say(status: HTTPStatus, sentence: str) -> tuple[HTTPStatus, str, bytes]:
    """Answer with a sentence."""
    return status, TEXT, (sentence + "\n").encode(errors="backslashreplace")


def _render_page(file: Path) -> bytes:
    """Render the page from what the history holds now.

    Raises:
        InputError: The history cannot be read.
    """
    entries = read_history(file)
    return render_history(place_audits(entries), set(find_reports(entries, file))).encode()


def _read_report(file: Path, ident: int) -> bytes | None:
    """Read the report of an audit; None where there is none, or no longer that of the audit.

    Raises:
        InputError: The history cannot be read.
    """
    page = find_reports(read_history(file, id=ident), file).get(ident)
    try:
        return None if page is None else read_regular_file(page, LARGEST)
    except OSError:
        return None


def open_server(file: Path, port: int) -> HistoryServer:
    """Open a server on a port of the loopback address; 0 takes any that is free.

    Raises:
        InputError: The history cannot be read, or the port cannot be had.
    """
    if not 0 <= port <= 65535:
        raise InputError(
            f"Expected a port from 0 to 65535 for --port, got {port}. 0 takes any free one."
        )
    # Refused before it is served
    read_history(file)
    try:
        return HistoryServer(file, port)
    except OSError as error:
        reason = "one that is taken" if error.errno == errno.EADDRINUSE else str(error.strerror)
        raise InputError(
            f"Expected a free port for --port, got {port}: {reason}. Choose another, or 0 for any."
        ) from error


def serve_until_interrupted(server: HistoryServer, announce: Callable[[], None]) -> None:
    """Serve until Ctrl-C, then close the port.

    `announce` is called once browsers can connect; Ctrl-C ends that cleanly too.
    """
    try:
        announce()
        server.serve_forever()
    except KeyboardInterrupt:
        pass
    finally:
        server.server_close()
