"""Let in to the operators' port whoever sends its token."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import os
from collections.abc import Iterable

from memberscope._files import require_private_file
from memberscope.errors import InputError
from memberscope.guard.policy.config import GuardPolicy

SHORTEST = 16  # characters of a token: fewer can be guessed


class AdminToken:
    """Token of the operators' port; None lets everybody in.

    >>> token = AdminToken("0123456789abcdef")
    >>> token.accepts([(b"authorization", b"Bearer 0123456789abcdef")]), token.accepts([])
    (True, False)
    """

    def __init__(self, token: str | None) -> None:
        # The digest alone is kept, so that comparing takes the same time for every length
        self._digest = None if token is None else hashlib.sha256(token.encode()).digest()

    @property
    def required(self) -> bool:
        """Whether there is a token to send."""
        return self._digest is not None

    def accepts(self, headers: Iterable[tuple[bytes, bytes]]) -> bool:
        """Tell whether a request with these headers may pass; compares in constant time."""
        if self._digest is None:
            return True
        given = [value for name, value in headers if name.lower() == b"authorization"]
        # Two headers could be read as one or the other by two readers
        if len(given) != 1:
            return False
        scheme, _, token = given[0].partition(b" ")
        found = hashlib.sha256(token.strip()).digest()
        return hmac.compare_digest(found, self._digest) and scheme.lower() == b"bearer"


def read_admin_token(policy: GuardPolicy) -> AdminToken:
    """Read the token that [admin] names.

    Raises:
        InputError: The file or the variable is not there, others may read the file, or the token
            can be guessed.
    """
    admin = policy.admin
    if admin.token_file is None and admin.token_env is None:
        return AdminToken(None)
    if admin.token_env is not None:
        place, text = f"the environment variable {admin.token_env}", os.environ.get(admin.token_env)
    else:
        path = policy.path(str(admin.token_file))
        place = repr(str(path))
        require_private_file(path)
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            text = None
    token = (text or "").strip()
    if len(token) < SHORTEST or not token.isascii() or not token.isprintable() or " " in token:
        raise InputError(
            f"Expected a token of at least {SHORTEST} letters and digits in {place}, got "
            f"{'none' if not token else 'another text'}. Make one with openssl rand -hex 32."
        )
    return AdminToken(token)


def read_required_token(policy: GuardPolicy, host: str) -> AdminToken:
    """Read the token, which a port that other machines reach must have.

    Raises:
        InputError: There is none for such a port, or it is not usable.
    """
    token = read_admin_token(policy)
    if not token.required and not is_loopback(host):
        raise InputError(
            f"Expected a token for an operators' port at {host}, got none: whoever reaches it could "
            "read counts of all clients. Name token_file in [admin], or leave --admin-host at "
            "127.0.0.1."
        )
    return token


def is_loopback(host: str) -> bool:
    """Tell whether only this machine reaches a listener at `host`.

    >>> is_loopback("127.0.0.1"), is_loopback("localhost"), is_loopback("0.0.0.0")
    (True, True, False)
    """
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
