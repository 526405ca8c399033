"""Identify a client by the first source of the policy that it proves, else by its network.

What is not certain is not believed. A credential that is unknown, expired, oversized or sent twice
proves nothing, and its sender counts by network, so that a new random key is no new budget. A chain
of forwarded addresses is read from its right end, and as far as it is written by listed proxies;
where one of its addresses is garbage, the last proxy is the client.

The server in front must hand over the peer as it is: run uvicorn with `proxy_headers=False`. A
proxy that terminates TLS must remove the header of the certificate's subject from what clients
send.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from memberscope.errors import InputError
from memberscope.guard.identity.forwarded import Address, ForwardedAddresses
from memberscope.guard.identity.jwt import Tokens
from memberscope.guard.identity.subjects import SUBJECT_LENGTH, parse_subject
from memberscope.guard.policy.tables import Identity, Source
from memberscope.guard.refused import RequestRefused

# Bytes of a credential that is looked at; longer ones prove nothing
KEY_LENGTH, TOKEN_LENGTH = 1024, 8192


@dataclass(frozen=True)
class Client:
    """Client: the source that identified it, and its name there.

    `proven` tells credentials from a mere network.

    `address` is where the request came from as far as listed proxies tell, or None on a Unix
    socket.

    >>> Client("api_key", "partner", True).text
    'api_key:partner'
    """

    kind: Source
    subject: str
    proven: bool
    address: Address | None = None

    @property
    def text(self) -> str:
        """Text `kind:subject`."""
        return f"{self.kind}:{self.subject}"


class Identifier:
    """Identify clients as `identity` says.

    Files that it names are in the folder `home`, and read once.

    >>> found = Identifier(Identity(), Path(".")).client({"client": ("192.0.2.7", 40000), "headers": []})
    >>> found.text, found.proven
    ('network:192.0.2.7/32', False)
    """

    def __init__(self, identity: Identity, home: Path) -> None:
        """Read keys and networks.

        Raises:
            InputError: The key file or a network is not usable, two keys are the same, or what is
                required cannot be proven.
        """
        self.identity = identity
        self.origins = ForwardedAddresses(identity)
        # Found by the hash of what was sent, so that no comparison runs on the key itself
        self.keys = {bytes.fromhex(key.sha256): key.name for key in identity.keys}
        if len(self.keys) < len(identity.keys):
            raise InputError(
                "Expected different keys in [[identity.keys]], got one sha256 twice. Give each "
                "client its own."
            )
        if "network" in identity.by[:-1]:
            raise InputError(
                "Expected network last in identity.by, got sources behind it, which would never be "
                "asked. Move it."
            )
        if identity.required and set(identity.by) <= {"network"}:
            raise InputError(
                "Expected a source that proves who asks for required = true, got network alone. "
                "Add api_key to by."
            )
        self.tokens = (
            Tokens(identity.jwt, home)
            if identity.jwt is not None and "jwt" in identity.by
            else None
        )
        self.names: dict[bytes, list[str]] = {}
        for source, name in (
            ("api_key", identity.api_key_header),
            ("jwt", "authorization"),
            ("mtls", identity.mtls_header),
            ("network", "x-forwarded-for"),
        ):
            self.names.setdefault(name.lower().encode("latin-1", errors="replace"), []).append(
                source
            )

    def client(self, scope: Mapping[str, Any]) -> Client:
        """Identify the sender of the request of this ASGI scope.

        Raises:
            RequestRefused: The policy requires a proof, and there is none.
        """
        # One pass over the headers for all sources
        found = self.headers(scope)
        trusted, address, network = self.origins.origin(scope, found.get("network", []))
        for source in self.identity.by:
            if source == "network":
                break
            subject = self.proof(source, scope, found, trusted)
            if subject is not None:
                return Client(source, subject, True, address)
        # A network is no proof
        if self.identity.required:
            scheme = "Bearer" if self.tokens else "ApiKey"
            raise RequestRefused("credentials-required", (("www-authenticate", scheme),))
        return Client("network", network, False, address)

    def headers(self, scope: Mapping[str, Any]) -> dict[str, list[bytes]]:
        """Collect the values of each header that may identify, in order."""
        found: dict[str, list[bytes]] = {}
        for name, value in scope.get("headers") or ():
            for source in self.names.get(name.lower(), ()):
                found.setdefault(source, []).append(value)
        return found

    def proof(
        self, source: str, scope: Mapping[str, Any], found: Mapping[str, list[bytes]], trusted: bool
    ) -> str | None:
        """Give the name that the request proves by this source, if any.

        A header that is there twice proves nothing.
        """
        # The server's own check of a certificate counts more than a header
        if source == "mtls":
            return _read_certificate_subject(scope) or (
                parse_subject(_take_single_value(found.get("mtls", []), SUBJECT_LENGTH))
                if trusted
                else None
            )
        if source == "api_key":
            value = _take_single_value(found.get("api_key", []), KEY_LENGTH)
            return None if value is None else self.keys.get(hashlib.sha256(value).digest())
        value = _take_single_value(found.get("jwt", []), TOKEN_LENGTH)
        return None if value is None or self.tokens is None else self.tokens.subject(value)


def _read_certificate_subject(scope: Mapping[str, Any]) -> str | None:
    """Read the subject of the certificate that the server verified (ASGI TLS extension)."""
    tls = (scope.get("extensions") or {}).get("tls") or {}
    name = tls.get("client_cert_name")
    if not isinstance(name, str) or tls.get("client_cert_error") is not None:
        return None
    return parse_subject(name.encode(errors="replace"))


def _take_single_value(values: list[bytes], longest: int) -> bytes | None:
    """Take the value of a header that is there once, without blanks around it.

    It is None if it is absent, repeated or too long.
    """
    if len(values) != 1 or len(values[0]) > longest:
        return None
    return values[0].strip() or None
