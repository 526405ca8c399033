"""Check names of clients from tokens and certificates before they are kept."""

from __future__ import annotations

from typing import Literal, NamedTuple

SUBJECT_LENGTH = 256
ABSENT = ("", "(null)", "-")  # what proxies send where there is no certificate


def parse_subject(value: bytes | None) -> str | None:
    r"""Parse a name that can be kept and printed.

    It is None for what is empty, too long or holds control characters.

    >>> parse_subject(b"CN=partner,O=Example"), parse_subject(b"a\nb"), parse_subject(b"(null)")
    ('CN=partner,O=Example', None, None)
    """
    if value is None or len(value) > SUBJECT_LENGTH:
        return None
    text = value.decode(errors="replace").strip()
    return None if text in ABSENT or not text.isprintable() or "\ufffd" in text else text


class WrongCredential(NamedTuple):
    """Credential that was sent and proves nothing; `why` is for the log."""

    why: Literal[
        "unknown",
        "malformed",
        "repeated",
        "expired",
        "early",
        "signature",
        "algorithm",
        "claims",
        "unknown_key",
        "certificate",
    ]
