"""Identify clients by the first source of the policy that they prove, else by their network.

A request without credentials counts by its network. A credential that is unknown, expired,
oversized or sent twice refuses the whole request: a client that believes to be known must not be
answered as a stranger, and a new random key is no new budget. A chain of forwarded addresses is
read from its right end, and as far as it is written by listed proxies; where one of its addresses
is garbage, the last proxy is the client.

The server in front must hand over the peer as it is: run uvicorn with `proxy_headers=False`. A
proxy that terminates TLS must remove the header of the certificate's subject from what clients
send.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from memberscope.errors import InputError
from memberscope.guard.identity.failed_credentials import FailedCredentials, find_site
from memberscope.guard.identity.forwarded import Address, ForwardedAddresses
from memberscope.guard.identity.jwt import Tokens
from memberscope.guard.identity.subjects import (
    ABSENT,
    SUBJECT_LENGTH,
    WrongCredential,
    parse_subject,
)
from memberscope.guard.policy.tables import Identity, Source
from memberscope.guard.refused import CredentialRefused, RequestRefused

# Bytes of a credential that is looked at; longer ones are wrong
KEY_LENGTH, TOKEN_LENGTH = 1024, 8192
# An ASGI extension: the trailers behind this body in chunks may stand among the headers
MIXED_TRAILERS = "memberscope.mixed_trailers"


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

    Files that it names are in the folder `home`. `clock` is in seconds, for failed credentials.

    >>> found = Identifier(Identity(), Path(".")).client({"client": ("192.0.2.7", 40000), "headers": []})
    >>> found.text, found.proven
    ('network:192.0.2.7/32', False)
    """

    def __init__(
        self, identity: Identity, home: Path, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Read keys and networks.

        Raises:
            InputError: The key file or a network is not usable, two keys are the same, or what is
                required cannot be proven.
        """
        self.identity = identity
        self.origins = ForwardedAddresses(identity)
        self.failures = FailedCredentials(identity.failures, clock)
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
        self.sources = tuple(source for source in identity.by if source != "network")
        self.header_of: dict[str, bytes] = {
            source: name.lower().encode("latin-1", errors="replace")
            for source, name in (
                ("api_key", identity.api_key_header),
                ("jwt", "authorization"),
                ("mtls", identity.mtls_header),
                ("network", "x-forwarded-for"),
            )
        }
        self.names: dict[bytes, list[str]] = {}
        for source, name in self.header_of.items():
            self.names.setdefault(name, []).append(source)

    def client(self, scope: Mapping[str, Any]) -> Client:
        """Identify the sender of the request of this ASGI scope.

        Raises:
            CredentialRefused: A credential proves nothing, or too many of this network did not.
            RequestRefused: The policy requires a proof, and none was sent; or what is sent could be a
                trailer.
            TokenKeysUnavailable: There are no keys to verify a token with.
        """
        # One pass over the headers for all sources
        found = self.headers(scope)
        if found and MIXED_TRAILERS in (scope.get("extensions") or {}):
            self._require_no_counted_header(found)
        trusted, address, network = self.origins.origin(scope, found.pop("network", []))
        # Most strangers send nothing that could prove anything
        if not found and not self.identity.required and not scope.get("extensions"):
            return Client("network", network, False, address)
        # Certificates are not among them, as nobody guesses those
        offered = tuple(
            value
            for source in self.sources
            if source != "mtls"
            for value in found.get(source, ())
            if value.strip()
        )
        site = find_site(address, network)
        if offered:
            self._require_few_failures(network, site, offered)
        proven, wrong = self._find_proof(scope, found, trusted)
        if wrong:
            source, failure = wrong
            if source != "mtls":
                self.failures.count(site)
                self.failures.forget(site, offered)
            raise CredentialRefused(
                "credentials-invalid",
                (("www-authenticate", self._challenge(source)),),
                source,
                failure.why,
                f"network:{network}",
            )
        if proven is not None:
            if offered:
                self.failures.remember(site, offered)
            return Client(*proven, True, address)
        # A network is no proof
        if self.identity.required:
            raise RequestRefused(
                "credentials-required",
                (("www-authenticate", "Bearer" if self.tokens else "ApiKey"),),
            )
        return Client("network", network, False, address)

    def _require_no_counted_header(self, found: Mapping[str, list[bytes]]) -> None:
        """Refuse a header that says who asks, where it could be a trailer behind the body.

        A proxy strips or writes headers, and leaves trailers as the client sent them.

        Raises:
            RequestRefused: There is one that would count.
        """
        counted = {*self.sources, "network"}
        # Addresses and certificates count from listed proxies alone
        if not self.origins.trusted and not self.origins.trusts_sockets:
            counted -= {"network", "mtls"}
        if counted & found.keys():
            raise RequestRefused("length-required", (("connection", "close"),))

    def _require_few_failures(self, network: str, site: str, offered: tuple[bytes, ...]) -> None:
        """Refuse credentials of a network that has sent too many wrong ones, before any hash.

        Raises:
            CredentialRefused: It has.
        """
        wait = self.failures.find_wait(site)
        if wait and not self.failures.has_proven(site, offered):
            raise CredentialRefused(
                "credentials-throttled",
                (("retry-after", str(math.ceil(wait))),),
                "any",
                "guesses",
                f"network:{network}",
            )

    def _find_proof(
        self, scope: Mapping[str, Any], found: Mapping[str, list[bytes]], trusted: bool
    ) -> tuple[tuple[Source, str] | None, tuple[str, WrongCredential] | None]:
        """Find the first source that is proven and the first credential that is wrong, if any.

        Sources behind the first that is proven are not asked. Two sources may read one header: a
        value that proves one of them is not wrong.
        """
        wrong: dict[bytes, tuple[str, WrongCredential]] = {}
        proven: tuple[Source, str] | None = None
        for source in self.sources:
            subject = self.proof(source, scope, found, trusted)
            if isinstance(subject, str):
                wrong.pop(self.header_of[source], None)
                proven = (source, subject)
                break
            if subject is not None:
                wrong.setdefault(self.header_of[source], (source, subject))
        return proven, next(iter(wrong.values()), None)

    def _challenge(self, source: str) -> str:
        """Give the challenge that answers a wrong credential (RFC 6750 for tokens)."""
        return 'Bearer error="invalid_token"' if source == "jwt" else "ApiKey"

    def headers(self, scope: Mapping[str, Any]) -> dict[str, list[bytes]]:
        """Collect the values of each header that may identify, in order."""
        found: dict[str, list[bytes]] = {}
        for name, value in scope.get("headers") or ():
            for source in self.names.get(name.lower(), ()):
                found.setdefault(source, []).append(value)
        return found

    def proof(
        self, source: str, scope: Mapping[str, Any], found: Mapping[str, list[bytes]], trusted: bool
    ) -> str | WrongCredential | None:
        """Give the name that the request proves by this source; None where it sends nothing."""
        if source == "mtls":
            # The server's own check of a certificate counts more than a header
            own = _read_certificate_subject(scope)
            if own is not None or not trusted:
                return own
            value = _take_single_value(found.get("mtls", []), SUBJECT_LENGTH)
            return value if not isinstance(value, bytes) else _name_certificate(value)
        value = _take_single_value(
            found.get(source, []), KEY_LENGTH if source == "api_key" else TOKEN_LENGTH
        )
        if not isinstance(value, bytes):
            return value
        if source == "api_key":
            return self.keys.get(hashlib.sha256(value).digest()) or WrongCredential("unknown")
        return None if self.tokens is None else self.tokens.check(value)


def _read_certificate_subject(scope: Mapping[str, Any]) -> str | WrongCredential | None:
    """Read the subject of the certificate that the server verified (ASGI TLS extension)."""
    tls = (scope.get("extensions") or {}).get("tls") or {}
    if tls.get("client_cert_error") is not None:
        return WrongCredential("certificate")
    name = tls.get("client_cert_name")
    return _name_certificate(name.encode(errors="replace")) if isinstance(name, str) else None


def _name_certificate(value: bytes) -> str | WrongCredential | None:
    """Give the subject of a certificate; None where a proxy says that there is none."""
    if value.decode(errors="replace").strip() in ABSENT:
        return None
    return parse_subject(value) or WrongCredential("certificate")


def _take_single_value(values: list[bytes], longest: int) -> bytes | WrongCredential | None:
    """Take the value of a header, without blanks around it; None where nothing is sent.

    One that is repeated or too long is wrong.
    """
    sent = [value for value in values if value.strip()]
    if not sent:
        return None
    if len(values) > 1:
        return WrongCredential("repeated")
    return WrongCredential("malformed") if len(sent[0]) > longest else sent[0].strip()


# Headers by which clients prove who they are, whether this guard reads them or not
CREDENTIAL_HEADERS = (
    "authorization",
    "cookie",
    "x-api-key",
    "api-key",
    "apikey",
    "x-auth-token",
    "x-access-token",
)


def list_credential_headers(identity: Identity) -> set[bytes]:
    """List the headers with credentials that the model's server does not get.

    >>> b"cookie" in list_credential_headers(Identity(forward=("Authorization",)))
    True
    """
    forwarded = {name.lower() for name in identity.forward}
    names = {*CREDENTIAL_HEADERS, identity.api_key_header.lower()} - forwarded
    return {name.encode("latin-1", errors="replace") for name in names}
