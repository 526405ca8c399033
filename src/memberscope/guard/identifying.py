"""Who asks, as the middleware needs to know it."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from memberscope.guard.policy import GuardPolicy


class Client(Protocol):
    """A client, by the source that proves who it is."""

    @property
    def kind(self) -> str:
        """The source."""
        ...

    @property
    def subject(self) -> str:
        """Its name there."""
        ...

    @property
    def text(self) -> str:
        """`kind:subject`."""
        ...


Identify = Callable[[Mapping[str, Any]], Client]


@dataclass(frozen=True)
class Neighbour:
    """A client known by its network alone."""

    subject: str
    kind: str = "network"

    @property
    def text(self) -> str:
        """`kind:subject`."""
        return f"{self.kind}:{self.subject}"


def identifier(policy: GuardPolicy) -> Identify:
    """How the policy tells clients apart."""
    settings = policy.identity

    def client(scope: Mapping[str, Any]) -> Client:
        address = ipaddress.ip_address((scope.get("client") or ("127.0.0.1", 0))[0])
        bits = settings.prefix_v4 if address.version == 4 else settings.prefix_v6
        return Neighbour(str(ipaddress.ip_network(f"{address}/{bits}", strict=False)))

    return client


def meant(who: str, client: Client) -> bool:
    """Whether `kind:subject` of a client class, perhaps with `*` at its end, or a network, holds for this client.

    >>> meant("network:10.0.0.0/8", Neighbour("10.1.2.3/32")), meant("network:10.0.0.0/8", Neighbour("11.1.2.3/32"))
    (True, False)
    """
    kind, _, subject = who.partition(":")
    if kind == "network":
        return inside(subject, client)
    if kind != client.kind:
        return False
    return client.subject.startswith(subject[:-1]) if subject.endswith("*") else client.subject == subject


def inside(network: str, client: Client) -> bool:
    """Whether a client that is known by its network is in this one."""
    try:
        outer, inner = ipaddress.ip_network(network), ipaddress.ip_network(client.subject)
    except ValueError:
        return False
    if client.kind != "network" or outer.version != inner.version:
        return False
    return outer.supernet_of(inner)  # type: ignore[arg-type]
