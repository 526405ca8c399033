"""Declare how a server is reached: its address, how fast it is asked, and with what credential."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import ClassVar
from urllib.parse import urlsplit

from memberscope.errors import InputError
from memberscope.wire.credentials import Credential, TransportSettings


@dataclass(frozen=True)
class ServerConnection:
    """What every endpoint declares, whatever its protocol.

    `timeout` is the seconds one request may take in all.

    >>> ServerConnection("http://localhost:8080", "v2", retries=2).wire.retries
    2
    """

    url: str
    protocol: str
    model_name: str | None = None
    model_version: str | None = None
    batch_size: int = 64
    concurrency: int = 4
    rate: float | None = None
    timeout: float = 60.0
    connect_timeout: float | None = None
    read_timeout: float | None = None
    retries: int = 4
    backoff: float = 0.5
    auth_env: str | None = None
    auth_header: str = "Authorization"
    ca_file: str | None = None
    max_queries: int | None = None
    max_bytes: int = 64 * 2**20

    # Fields that decide an answer as it is read: not time limits, rates and credentials
    decisive: ClassVar[tuple[str, ...]] = ("url", "protocol", "model_name", "model_version")

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise InputError(
                "Expected a URL such as https://models.example/…, got something else. Begin --url "
                "with https:// or http:// and the name of a host."
            )
        # A password in an address would end up in logs and results
        if parts.username or parts.password:
            raise InputError(
                "Expected a URL without a password, got one with it. Put it into a variable and "
                "name it with --auth-env."
            )
        for name in ("batch_size", "concurrency", "max_bytes"):
            _refuse_below_minimum(name, getattr(self, name), 1)
        _refuse_below_minimum("retries", self.retries, 0)
        _refuse_below_minimum("backoff", self.backoff, 0)
        _refuse_below_minimum("max_queries", self.max_queries, 1)
        for name in ("rate", "timeout", "connect_timeout", "read_timeout"):
            value = getattr(self, name)
            if value is not None and not 0 < value < float("inf"):
                raise InputError(
                    f"Expected a positive {name}, got {value}. Give --{name.replace('_', '-')} a "
                    "number above 0."
                )
        if self.auth_env is not None:
            # Read once, so that a missing variable is told before anything is asked
            Credential(self.auth_env, self.auth_header).secret()
        if not self.auth_header.replace("-", "").isalnum():
            raise InputError(
                f"Expected the name of a header, got {self.auth_header!r}. Write --auth-header with "
                "letters, digits and hyphens."
            )

    @property
    def wire(self) -> TransportSettings:
        """Time limits."""
        # No part may take longer than the whole
        return TransportSettings(
            connect=min(self.connect_timeout or 10.0, self.timeout),
            read=min(self.read_timeout or self.timeout, self.timeout),
            total=self.timeout,
            retries=self.retries,
            backoff=self.backoff,
            rate=self.rate,
            max_bytes=self.max_bytes,
        )

    @property
    def credential(self) -> Credential | None:
        """Credential, if the endpoint wants one."""
        return None if self.auth_env is None else Credential(self.auth_env, self.auth_header)

    @property
    def scope(self) -> bytes:
        """Hash of the address and the model's name: what a budget is counted for."""
        return _hash_values([self.url, self.model_name])[:16]

    @property
    def identity(self) -> str:
        """Hash of all that decides an answer as it is read."""
        settings = asdict(self)
        return _hash_values([[key, settings[key]] for key in self.decisive]).hex()


def _refuse_below_minimum(name: str, value: float | None, least: int) -> None:
    """Refuse a number below `least`.

    Raises:
        InputError: It is.
    """
    if value is not None and not value >= least:
        raise InputError(
            f"Expected {name} of at least {least}, got {value}. Give --{name.replace('_', '-')} "
            f"{least} or more."
        )


def _hash_values(parts: list[object]) -> bytes:
    """Hash plain values by SHA-256."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).digest()
