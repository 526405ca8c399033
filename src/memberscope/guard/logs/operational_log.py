"""Write the guard's own log as JSON lines, without inputs or credentials."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any

from memberscope.guard.logs.request_id import REQUEST_ID

LOGGER = logging.getLogger("memberscope.guard")
LONGEST = 300  # characters of one value


def log_event(level: int, event: str, **fields: Any) -> None:
    """Log `event` with its fields, and with the ID of the request under way."""
    if LOGGER.isEnabledFor(level):
        request = REQUEST_ID.get()
        if request:
            fields["request"] = request
        LOGGER.log(level, event, extra={"fields": fields})


class JsonLines(logging.Formatter):
    r"""Format each log record as one line of ASCII JSON.

    What a client may have written cannot begin a line of its own.

    >>> record = logging.LogRecord("a", logging.INFO, "", 0, "came", (), None)
    >>> record.created, record.fields = 0.0, {"client": "x\n{}"}
    >>> JsonLines().format(record)
    '{"time": "1970-01-01T00:00:00.000+00:00", "level": "info", "event": "came", "client":
    "x\\n{}"}'
    """

    def format(self, record: logging.LogRecord) -> str:
        """Format a record as one line."""
        found = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": record.getMessage()[:LONGEST],
            **{
                name: _shorten_value(value) for name, value in getattr(record, "fields", {}).items()
            },
        }
        if record.exc_info and record.exc_info[0] is not None:
            # The type alone: a message may quote an input
            found["error"] = record.exc_info[0].__name__
        # JSON escapes all control characters but this one
        return json.dumps(found).replace("\x7f", "\\u007f")


def _shorten_value(value: Any) -> Any:
    """Shorten a value for the log."""
    return value if isinstance(value, int | float | None) else str(value)[:LONGEST]


def log_to_stderr(level: str | int) -> None:
    """Log as JSON lines: the guard's own from `level` on, and warnings of the server."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    for logger in (LOGGER, logging.getLogger("uvicorn")):
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(logging.WARNING)
    LOGGER.setLevel(level.upper() if isinstance(level, str) else level)
