"""Name the networks at whose expense a client's new records are kept."""

from __future__ import annotations

import ipaddress
from functools import lru_cache

# Whoever can use one address of a network often has all of it: a provider's customer, a provider
NARROW, WIDE = {4: 24, 6: 48}, {4: 16, 6: 32}


@lru_cache(maxsize=8192)
def find_client_networks(client: str) -> tuple[str, str]:
    """Find the wide and the narrow network around a client `kind:subject`.

    A client with credentials, or at no address, is both by itself. The answer depends on the client
    alone, as its buckets must always be found at the same place.

    >>> find_client_networks("network:2001:db8:1:2::/64"), find_client_networks("network:10.1.2.3/32")
    (('2001:db8::/32', '2001:db8:1::/48'), ('10.1.0.0/16', '10.1.2.0/24'))
    >>> find_client_networks("api_key:shop")
    ('api_key:shop', 'api_key:shop')
    """
    kind, _, subject = client.partition(":")
    try:
        network = ipaddress.ip_network(subject if kind == "network" else "", strict=False)
    except ValueError:
        return client, client
    wide, narrow = (
        str(network if network.prefixlen <= bits else network.supernet(new_prefix=bits))
        for bits in (WIDE[network.version], NARROW[network.version])
    )
    return wide, narrow
