"""Find where requests come from, also behind listed proxies."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from memberscope.errors import InputError
from memberscope.guard.policy.tables import Identity

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
# Whether a listed proxy says so, the address, and the network that it counts by.
Origin = tuple[bool, Address | None, str]

HOPS = 32  # forwarded addresses that are read, from the right
FEW = 4  # headers of them that are remembered
ADDRESS_LENGTH = 64
NOWHERE = "unix"  # the peer of a Unix socket, in `trusted_proxies` too


class ForwardedAddresses:
    """Find where requests come from, as far as the listed proxies tell.

    >>> found = ForwardedAddresses(Identity(trusted_proxies=("10.0.0.0/8",)))
    >>> found.origin({"client": ("10.0.0.1", 1)}, [b"192.0.2.7"])
    (True, IPv4Address('192.0.2.7'), '192.0.2.7/32')
    """

    def __init__(self, identity: Identity) -> None:
        """Read the listed proxies.

        Raises:
            InputError: A network cannot be read.
        """
        self.identity = identity
        self.trusted = tuple(
            parse_network(entry) for entry in identity.trusted_proxies if entry != NOWHERE
        )
        self.trusts_sockets = NOWHERE in identity.trusted_proxies
        self._known = lru_cache(maxsize=8192)(self._origin)

    def origin(self, scope: Mapping[str, Any], forwarded: list[bytes]) -> Origin:
        """Find whether a listed proxy wrote the headers, and where the request came from.

        Answers are remembered, as the same clients come again, but not for what a stranger writes,
        nor for what is long.
        """
        peer = "" if _is_unix_socket(scope) else str(scope["client"][0])
        # Without a listed proxy at the other end, forwarded addresses count for nothing
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

    def trusts(self, address: Address | None) -> bool:
        """Tell whether an address is a listed proxy's."""
        return address is not None and any(address in network for network in self.trusted)

    def forwarded(self, values: list[bytes], peer: Address | None) -> Address | None:
        """Find the rightmost forwarded address that is no listed proxy's.

        Where that cannot be read, it is the last that can. Several headers count as one list, which
        ends after `HOPS` addresses.
        """
        # From the right, where each proxy adds the address that it saw
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
        """Give the network that an address counts by."""
        if address is None:
            return NOWHERE
        bits = self.identity.prefix_v4 if address.version == 4 else self.identity.prefix_v6
        # The bits of single hosts are set to zero
        hidden = address.max_prefixlen - bits
        return f"{type(address)(int(address) >> hidden << hidden)}/{bits}"


def _is_unix_socket(scope: Mapping[str, Any]) -> bool:
    """Tell whether the request came over a Unix socket, whose other end has no address."""
    client = scope.get("client")
    return not client or not client[0]


def read_peer_address(scope: Mapping[str, Any]) -> Address | None:
    """Read the address at the other end of the connection, if it has one."""
    client = scope.get("client")
    return parse_address(str(client[0]).encode(errors="replace")) if client else None


def parse_address(value: bytes) -> Address | None:
    """Parse an address, perhaps with a port or in brackets, or give None; IPv4 in IPv6 is IPv4.

    >>> parse_address(b"[::ffff:192.0.2.7]:443"), parse_address(b"unknown")
    (IPv4Address('192.0.2.7'), None)
    """
    return _parse_short_address(value) if len(value) <= ADDRESS_LENGTH else None


@lru_cache(maxsize=8192)
def _parse_short_address(value: bytes) -> Address | None:
    """Parse a short address, cached: the same clients and proxies come again."""
    text = value.decode("latin-1").strip(" \t")
    if text.startswith("["):
        text, _, rest = text[1:].partition("]")
        if rest and not (rest[0] == ":" and rest[1:].isdecimal()):
            return None
    # One colon is a port behind IPv4, as IPv6 has two at least
    elif text.count(":") == 1:
        text, _, port = text.partition(":")
        if not port.isdecimal():
            return None
    try:
        # What follows a per cent sign is the zone of a link-local address
        found = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    # Else the same client would have two budgets
    return getattr(found, "ipv4_mapped", None) or found


def parse_network(text: str) -> Network:
    """Parse a network such as `10.0.0.0/8`, or one address.

    Raises:
        InputError: It is none.

    >>> parse_network("10.0.0.0/8")
    IPv4Network('10.0.0.0/8')
    """
    try:
        return ipaddress.ip_network(text.strip())
    except ValueError as error:
        raise InputError(
            f"Expected a network such as 10.0.0.0/8, got {text!r}: {error}. Correct it in "
            "the policy."
        ) from error
