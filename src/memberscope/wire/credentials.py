"""Declare time limits, certificates and the credential, which the environment holds."""

from __future__ import annotations

import os
from dataclasses import dataclass

from memberscope._text import quote_value
from memberscope.errors import InputError


@dataclass(frozen=True)
class TransportSettings:
    """Time limits of a sender: seconds to `connect`, between two pieces (`read`) and in `total`.

    There are `retries` after the first try.

    The wait before retry r is `backoff` × 2^r seconds, at most `longest`, times a random factor
    between a half and one, and at least what `Retry-After` asks; a server that asks for more than
    `longest` ends the run. `rate` is requests a second.
    """

    connect: float = 10.0
    read: float = 60.0
    total: float = 60.0
    retries: int = 4
    backoff: float = 0.5
    longest: float = 300.0
    rate: float | None = None
    max_bytes: int = 64 * 2**20


@dataclass(frozen=True)
class Credential:
    """Secret in the environment variable `env`, sent in `header`.

    It is sent as a bearer token unless it names its own scheme. The value is read when it is sent,
    and kept nowhere.
    """

    env: str
    header: str = "Authorization"

    def secret(self) -> str:
        """Read the variable's value.

        Raises:
            InputError: It is not set, or cannot be sent; the sentence does not show it.
        """
        value = os.environ.get(self.env, "").strip()
        # A line break in a header would begin another one
        if not value or not value.isascii() or not value.isprintable():
            # A token that was pasted in the place of the variable's name is not shown either
            name = self.env if quote_value(self.env) == repr(self.env) else "that is named"
            raise InputError(
                f"Expected a token in the environment variable {name}, got "
                f"{'another text' if value else 'none'}. Set it."
            )
        return value

    def headers(self) -> dict[str, str]:
        """Build the header to send."""
        value = self.secret()
        # A blank parts a scheme such as Basic from what follows it
        bearer = self.header.lower() == "authorization" and " " not in value
        return {self.header: f"Bearer {value}" if bearer else value}
