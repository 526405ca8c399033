"""Slow down the guessing of credentials: a token bucket of failures for each network.

While a network's bucket is empty, its credentials are refused unseen, right or wrong, so that the
next guess tells nothing. Those that the same network proved before are still looked at: one program
with an old key must not lock out its neighbours behind the same address.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Hashable

from memberscope.guard.identity.forwarded import Address
from memberscope.guard.policy.tables import RateLimit

# Networks with failures, and proven credentials, that are remembered; the oldest go first
NETWORKS, PROVEN = 65_536, 65_536
SITE_BITS = 48  # of an IPv6 address: what one site has, which can choose among 65,536 networks


class FailedCredentials:
    """Count failures by network, in this process.

    >>> failures = FailedCredentials(RateLimit(n=2, seconds=60.0), clock=lambda: 0.0)
    >>> failures.count("192.0.2.7/32"), failures.count("192.0.2.7/32")
    (None, None)
    >>> failures.find_wait("192.0.2.7/32"), failures.find_wait("192.0.2.8/32")
    (30.0, 0.0)
    """

    def __init__(self, rate: RateLimit, clock: Callable[[], float] = time.monotonic) -> None:
        self._refill, self._whole, self._clock = rate.seconds / rate.n, rate.seconds, clock
        # When the bucket of each network will be full again
        self._full_at: OrderedDict[str, float] = OrderedDict()
        self._proven: OrderedDict[int, None] = OrderedDict()

    def find_wait(self, network: str) -> float:
        """Find the seconds until the network may send another wrong credential."""
        lacking = self._full_at.get(network, 0.0) - self._clock()
        wait = lacking - self._whole + self._refill
        # Sums of refills may err by a little
        return wait if wait > 1e-9 * self._whole else 0.0

    def count(self, network: str) -> None:
        """Take a token from the network's bucket."""
        now = self._clock()
        self._full_at[network] = max(now, self._full_at.get(network, now)) + self._refill
        self._full_at.move_to_end(network)
        if len(self._full_at) > NETWORKS:
            self._full_at.popitem(last=False)

    def remember(self, network: str, offered: Hashable) -> None:
        """Remember that the network proved these credentials; they themselves are not kept."""
        # Python's keyed hash: whoever could hit one would still have to prove the credential
        name = hash((network, offered))
        self._proven[name] = None
        self._proven.move_to_end(name)
        if len(self._proven) > PROVEN:
            self._proven.popitem(last=False)

    def forget(self, network: str, offered: Hashable) -> None:
        """Forget credentials that count no longer."""
        self._proven.pop(hash((network, offered)), None)

    def has_proven(self, network: str, offered: Hashable) -> bool:
        """Tell whether the network proved these credentials before."""
        return hash((network, offered)) in self._proven


def find_site(address: Address | None, network: str) -> str:
    """Find what failures count by: the network, for IPv6 at least the site's 48 bits.

    >>> import ipaddress
    >>> find_site(ipaddress.ip_address("2001:db8:1:2::3"), "2001:db8:1:2::/64")
    '2001:db8:1::/48'
    """
    if address is None or address.version == 4 or int(network.rpartition("/")[2]) <= SITE_BITS:
        return network
    hidden = 128 - SITE_BITS
    return f"{type(address)(int(address) >> hidden << hidden)}/{SITE_BITS}"
