"""Keep the ID of the request under way, which every line of its log bears."""

from __future__ import annotations

import os
import re
from contextvars import ContextVar

REQUEST_ID: ContextVar[str] = ContextVar("memberscope_request_id", default="")
# What common proxies and tracers send; nothing that could begin a line, a header or markup
ACCEPTED = re.compile(rb"[A-Za-z0-9][A-Za-z0-9._:=+/@-]{0,127}")


def choose_request_id(given: list[bytes]) -> str:
    """Choose the ID of a request: the one that its only X-Request-ID names, or a new one.

    >>> choose_request_id([b"a-1"]), len(choose_request_id([b"a b"])), len(choose_request_id([b"a", b"b"]))
    ('a-1', 32, 32)
    """
    if len(given) == 1 and ACCEPTED.fullmatch(given[0]):
        return given[0].decode("ascii")
    return os.urandom(16).hex()
