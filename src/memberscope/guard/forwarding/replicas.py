"""Choose among the addresses of a model's server, and leave out those that do not answer.

Of requests, only a connection that cannot be made counts against an address. An error or a late
answer does not: a client could send what the model fails on, and so take every address out. An
answer does not count for an address either that its own check of health says is not well.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import urlsplit

from memberscope.errors import InputError


@dataclass(eq=False)
class Replica:
    """One address of the server, with what is known of it."""

    url: str
    in_flight: int = 0
    refused: int = 0  # connections that could not be made for requests, in a row
    unwell: int = 0  # checks that failed, in a row
    last: int = 0  # the number of the request that it got last

    @property
    def place(self) -> tuple[str, int]:
        """Host and port of the address."""
        parts = urlsplit(self.url)
        return str(parts.hostname), parts.port or (443 if parts.scheme == "https" else 80)


class Replicas:
    """Addresses of one model's server; a request goes to the one with the fewest under way.

    Of equals the one that waited longest is taken. An address with `fail_after` failed connections
    or failed checks in a row gets nothing until a check succeeds, unless no other is left.

    >>> both = Replicas(["http://a:1", "http://b:1"], fail_after=1)
    >>> [both.pick().url for _ in range(3)]
    ['http://a:1', 'http://b:1', 'http://a:1']
    >>> both.note_request(both.entries[0], connected=False)
    True
    >>> both.pick().url
    'http://b:1'
    """

    def __init__(self, urls: Sequence[str], fail_after: int = 2) -> None:
        """Begin with all addresses in use.

        Raises:
            InputError: One is no URL of a server, or there is none.
        """
        self.fail_after, self.entries, self._count = fail_after, [], 0
        self.follow(urls)

    entries: list[Replica]

    def follow(self, urls: Sequence[str]) -> None:
        """Use these addresses from now on; what is known of those that stay is kept.

        Raises:
            InputError: One is no URL of a server, or there is none.
        """
        if not urls:
            raise InputError(
                "Expected the address of the model's server, got none. Give --upstream, or urls in "
                "[upstreams]."
            )
        known = {entry.url: entry for entry in self.entries}
        wanted = dict.fromkeys(map(_parse_upstream_url, urls))
        self.entries = [known.get(url) or Replica(url) for url in wanted]

    def pick(self, tried: Sequence[Replica] = ()) -> Replica:
        """Pick the address for a request, not one of those `tried` for it before."""
        rest = [entry for entry in self.entries if entry not in tried] or self.entries
        # Where none is well, trying one is the only way to learn that it is back
        well = [entry for entry in rest if not self.is_out(entry)] or rest
        found = min(well, key=lambda entry: (entry.in_flight, entry.last))
        self._count += 1
        found.last = self._count
        return found

    def is_out(self, replica: Replica) -> bool:
        """Tell whether an address is left out."""
        return max(replica.refused, replica.unwell) >= self.fail_after

    def note_request(self, replica: Replica, *, connected: bool) -> bool:
        """Keep whether a request could be sent; tell whether that puts the address in or out."""
        was_out = self.is_out(replica)
        replica.refused = 0 if connected else replica.refused + 1
        return self.is_out(replica) != was_out

    def note_check(self, replica: Replica, *, well: bool) -> bool:
        """Keep what a check of health found; tell whether that puts the address in or out."""
        was_out = self.is_out(replica)
        if well:
            replica.refused = replica.unwell = 0
        else:
            replica.unwell += 1
        return self.is_out(replica) != was_out


async def can_connect(
    replica: Replica, seconds: float, context: ssl.SSLContext | None = None
) -> bool:
    """Tell whether an address accepts connections within so many seconds.

    With a `context` an address of TLS must show a certificate that this trusts.
    """
    wrapped = context if replica.url.startswith("https:") else None
    try:
        async with asyncio.timeout(seconds):
            _, writer = await asyncio.open_connection(*replica.place, ssl=wrapped)
    except (OSError, TimeoutError):
        return False
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()
    return True


def _parse_upstream_url(url: str) -> str:
    """Check the address of a server, and give it without a slash at its end.

    Raises:
        InputError: It is no URL of a server.
    """
    parts = urlsplit(url)
    usable = parts.scheme in ("http", "https") and parts.hostname and not parts.username
    if not usable or parts.query or parts.fragment:
        raise InputError(
            f"Expected a URL such as http://localhost:8080 as upstream, got {parts.hostname!r}. "
            "Give --upstream a scheme and a host, without a user, a query or a fragment."
        )
    return url.rstrip("/")
