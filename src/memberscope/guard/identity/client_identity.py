"""Who asks: the first source of the policy that a request proves, else the network it comes from.

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
import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from memberscope.errors import InputError
from memberscope.guard.policy.config import Identity, Jwt, Source
from memberscope.guard.refused import RequestRefused

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Origin = tuple[
    bool, Address | None, str
]  # whether a listed proxy says so, the address, and the network that it counts by

HOPS, FEW = (
    32,
    4,
)  # forwarded addresses that are read, from the right; headers of them that are remembered
KEY_LENGTH, TOKEN_LENGTH, SUBJECT_LENGTH, ADDRESS_LENGTH = 1024, 8192, 256, 64
ABSENT = ("", "(null)", "-")  # what proxies send where there is no certificate
NOWHERE = "unix"  # the peer of a Unix socket, in `trusted_proxies` too


@dataclass(frozen=True)
class Client:
    """Who asked: by which source, and under which name.

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
        """`kind:subject`."""
        return f"{self.kind}:{self.subject}"


class Identifier:
    """Tells clients apart as `identity` says.

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
        self.trusted = tuple(
            parse_network(entry) for entry in identity.trusted_proxies if entry != NOWHERE
        )
        self.trusts_sockets = NOWHERE in identity.trusted_proxies
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
        self._known = lru_cache(maxsize=8192)(self._origin)
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
        """Who sent the request of this ASGI scope.

        Raises:
            Refused: The policy requires a proof, and there is none.
        """
        found = self.headers(scope)
        trusted, address, network = self.origin(scope, found.get("network", []))
        for source in self.identity.by:
            if source == "network":
                break
            subject = self.proof(source, scope, found, trusted)
            if subject is not None:
                return Client(source, subject, True, address)
        if self.identity.required:
            scheme = "Bearer" if self.tokens else "ApiKey"
            raise RequestRefused("credentials-required", (("www-authenticate", scheme),))
        return Client("network", network, False, address)

    def headers(self, scope: Mapping[str, Any]) -> dict[str, list[bytes]]:
        """The values of each header that may identify and is there, in order."""
        found: dict[str, list[bytes]] = {}
        for name, value in scope.get("headers") or ():
            for source in self.names.get(name.lower(), ()):
                found.setdefault(source, []).append(value)
        return found

    def origin(self, scope: Mapping[str, Any], forwarded: list[bytes]) -> Origin:
        """Whether a listed proxy wrote the headers, and where the request came from.

        The same clients come again.

        What a stranger writes is not remembered, nor what is long.
        """
        peer = "" if _is_unix_socket(scope) else str(scope["client"][0])
        alone = self._known(peer, ())
        if not forwarded or not alone[0]:
            return alone
        short = len(forwarded) <= FEW and sum(map(len, forwarded)) <= ADDRESS_LENGTH
        return (self._known if short else self._origin)(peer, tuple(forwarded))

    def _origin(self, peer: str, forwarded: tuple[bytes, ...]) -> Origin:
        address = parse_address(peer.encode(errors="replace")) if peer else None
        trusted = self.trusts(address) if peer else self.trusts_sockets
        if trusted:
            address = self.forwarded([*forwarded], address)
        return trusted, address, self.prefix(address)

    def proof(
        self, source: str, scope: Mapping[str, Any], found: Mapping[str, list[bytes]], trusted: bool
    ) -> str | None:
        """The name that the request proves by this source, if any.

        A header that is there twice proves nothing.
        """
        if source == "mtls":
            return _read_certificate_subject(scope) or (
                _parse_subject(_take_single_value(found.get("mtls", []), SUBJECT_LENGTH))
                if trusted
                else None
            )
        if source == "api_key":
            value = _take_single_value(found.get("api_key", []), KEY_LENGTH)
            return None if value is None else self.keys.get(hashlib.sha256(value).digest())
        value = _take_single_value(found.get("jwt", []), TOKEN_LENGTH)
        return None if value is None or self.tokens is None else self.tokens.subject(value)

    def trusts(self, address: Address | None) -> bool:
        """Whether an address is a listed proxy's."""
        return address is not None and any(address in network for network in self.trusted)

    def forwarded(self, values: list[bytes], peer: Address | None) -> Address | None:
        """The rightmost forwarded address that is no listed proxy's.

        Where that cannot be read, the last that can.

        Several headers count as one list. It ends after `HOPS` addresses.
        """
        last = peer
        for entry in reversed(b",".join(values[-HOPS:]).rsplit(b",", HOPS)[-HOPS:]):
            address = parse_address(entry)
            if address is None:
                return last
            last = address
            if not self.trusts(address):
                return address
        return last

    def prefix(self, address: Address | None) -> str:
        """The network that an address counts by."""
        if address is None:
            return NOWHERE
        bits = self.identity.prefix_v4 if address.version == 4 else self.identity.prefix_v6
        hidden = address.max_prefixlen - bits
        return f"{type(address)(int(address) >> hidden << hidden)}/{bits}"


class Tokens:
    """Verifies JSON Web Tokens with the listed algorithms alone."""

    def __init__(self, jwt: Jwt, home: Path) -> None:
        """Read the key.

        Raises:
            InputError: It cannot be read, does not fit the algorithms, or is too short to be a
        secret.
        """
        self.jwt = jwt
        if not jwt.algorithms or len({word[:2] for word in jwt.algorithms}) > 1:
            raise InputError(
                "Expected algorithms of one family in [identity.jwt], got "
                f"{', '.join(jwt.algorithms) or 'none'}. "
                "A public key must not serve as the secret of HS256; list those that your issuer "
                "signs with."
            )
        self.key = _read_jwt_key(jwt, home / jwt.key_file)

    def subject(self, header: bytes) -> str | None:
        """Whom the Authorization header's token names, if it is signed, in date.

        And made for this audience by this issuer.
        """
        import jwt

        scheme, _, token = header.partition(b" ")
        if scheme.lower() != b"bearer":
            return None
        try:
            claims = jwt.decode(
                token.strip(),
                self.key,
                algorithms=list(self.jwt.algorithms),
                audience=self.jwt.audience,
                issuer=self.jwt.issuer,
                options={"require": self.required()},
            )
        except (
            jwt.PyJWTError,
            ValueError,
            TypeError,
            OverflowError,
            RecursionError,
        ):  # odd tokens raise more than the library's own
            return None
        found = claims.get(self.jwt.subject)
        return _parse_subject(found.encode()) if isinstance(found, str) else None

    def required(self) -> list[str]:
        """Claims that a token must have."""
        given = [("aud", self.jwt.audience), ("iss", self.jwt.issuer)]
        return ["exp", self.jwt.subject, *(name for name, value in given if value is not None)]


def _read_jwt_key(jwt: Jwt, path: Path) -> Any:
    """The public key, or the secret, in a file.

    Raises:
        InputError: It cannot be read, does not fit the algorithms, or is too short to be a secret.
    """
    from jwt import PyJWTError
    from jwt.algorithms import get_default_algorithms

    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(
            f"Expected the key of [identity.jwt] in {str(path)!r}, got {error.strerror}. Check "
            "key_file."
        ) from error
    secret = jwt.algorithms[0].startswith("HS")
    if secret:
        content = content.strip()
        least = max(int(word[2:]) // 8 for word in jwt.algorithms)
        if len(content) < least:
            raise InputError(
                f"Expected a secret of at least {least} bytes in {str(path)!r}, got "
                f"{len(content)}. Draw a longer one."
            )
    try:
        key = get_default_algorithms()[jwt.algorithms[0]].prepare_key(content)
    except (PyJWTError, ValueError, TypeError) as error:
        raise InputError(
            f"Expected a key for {jwt.algorithms[0]} in {str(path)!r}, got something else. Give "
            "the issuer's public key (PEM)."
        ) from error
    if not secret and not hasattr(key, "verify"):
        raise InputError(
            f"Expected a public key in {str(path)!r}, got a private one. The guard only verifies: "
            "keep it away."
        )
    return key


def _read_certificate_subject(scope: Mapping[str, Any]) -> str | None:
    """The subject of the client's certificate as the server verified it (the TLS extension of ASGI)."""
    tls = (scope.get("extensions") or {}).get("tls") or {}
    name = tls.get("client_cert_name")
    if not isinstance(name, str) or tls.get("client_cert_error") is not None:
        return None
    return _parse_subject(name.encode(errors="replace"))


def _take_single_value(values: list[bytes], longest: int) -> bytes | None:
    """The value of a header that is there once, without blanks around it.

    None if it is absent, repeated or too long.
    """
    if len(values) != 1 or len(values[0]) > longest:
        return None
    return values[0].strip() or None


def _parse_subject(value: bytes | None) -> str | None:
    r"""A name that can be kept and printed.

    None for what is empty, too long or holds control characters.

    >>> _parse_subject(b"CN=partner,O=Example"), _parse_subject(b"a\nb"), _parse_subject(b"(null)")
    ('CN=partner,O=Example', None, None)
    """
    if value is None or len(value) > SUBJECT_LENGTH:
        return None
    text = value.decode(errors="replace").strip()
    return None if text in ABSENT or not text.isprintable() or "\ufffd" in text else text


def _is_unix_socket(scope: Mapping[str, Any]) -> bool:
    """Whether the request came over a Unix socket: the other end has no address."""
    client = scope.get("client")
    return not client or not client[0]


def read_peer_address(scope: Mapping[str, Any]) -> Address | None:
    """The address at the other end of the connection, if it has one."""
    client = scope.get("client")
    return parse_address(str(client[0]).encode(errors="replace")) if client else None


def parse_address(value: bytes) -> Address | None:
    """An address, perhaps with a port or in brackets; None for anything else. IPv4 in IPv6 is IPv4.

    >>> parse_address(b"[::ffff:192.0.2.7]:443"), parse_address(b"unknown")
    (IPv4Address('192.0.2.7'), None)
    """
    return _parse_short_address(value) if len(value) <= ADDRESS_LENGTH else None


@lru_cache(maxsize=8192)
def _parse_short_address(value: bytes) -> Address | None:
    """`parse_address` a short value; the same clients and proxies come again."""
    text = value.decode("latin-1").strip(" \t")
    if text.startswith("["):
        text, _, rest = text[1:].partition("]")
        if rest and not (rest[0] == ":" and rest[1:].isdecimal()):
            return None
    elif text.count(":") == 1:
        text, _, port = text.partition(":")
        if not port.isdecimal():
            return None
    try:
        found = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return getattr(found, "ipv4_mapped", None) or found


def parse_network(text: str) -> Network:
    """A network such as `10.0.0.0/8`, or one address.

    Raises:
        InputError: It is none.

    >>> parse_network("10.0.0.0/8")
    IPv4Network('10.0.0.0/8')
    """
    try:
        return ipaddress.ip_network(text.strip())
    except ValueError as error:
        raise InputError(
            f"Expected a network such as 10.0.0.0/8, got {text!r}: {error}. Repair the policy."
        ) from error
