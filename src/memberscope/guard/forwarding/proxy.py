"""Forward requests to an upstream server.

Each is sent once, part by part, and never retried; where no connection could be made, nothing was
sent, and another replica gets it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from typing import Any

from memberscope.errors import InputError
from memberscope.guard.asgi.asgi_types import Headers, Receive, Scope, Send
from memberscope.guard.asgi.bodies import FORWARDED, REROUTING, list_hop_headers, read_header
from memberscope.guard.asgi.refusals import build_refusal_reply
from memberscope.guard.forwarding.replicas import Replica, Replicas, can_connect
from memberscope.guard.identity.client_identity import list_credential_headers
from memberscope.guard.identity.forwarded import parse_network, read_peer_address
from memberscope.guard.logs.operational_log import log_event
from memberscope.guard.policy.config import GuardPolicy
from memberscope.guard.refused import RequestRefused

# Headers that hold for one connection, and those that the client of the upstream writes itself
HOPS = {
    b"connection",
    b"keep-alive",
    b"proxy-authenticate",
    b"proxy-authorization",
    b"proxy-connection",
    b"te",
    b"trailer",
    b"transfer-encoding",
    b"upgrade",
    b"expect",
    b"host",
}
OWN = HOPS | {b"server", b"date"}  # of an answer: this server writes its own
IDLE = 1.5  # seconds that a connection may wait for reuse: less than common servers keep theirs


class UpstreamInterrupted(Exception):
    """Raised when the upstream's answer ends too early; the client's connection ends too."""


class Proxy:
    """Forward to `upstream`, without headers in `stripped`.

    `upstream` is one address, or those of several replicas; without one, the policy's hold.
    Credentials do not pass on, unless the policy names their headers in `identity.forward`, or only
    observes. Addresses of forwarded requests are written anew.

    >>> proxy = Proxy("http://localhost:8080/", GuardPolicy.model_validate({"serving": {"n_classes": 2}}))
    >>> [entry.url for entry in proxy.replicas.entries]
    ['http://localhost:8080']
    """

    def __init__(
        self,
        upstream: str | Sequence[str],
        policy: GuardPolicy,
        *,
        stripped: tuple[str, ...] = (),
        ca_file: str | None = None,
    ) -> None:
        """Declare the upstream; nothing is sent yet.

        Raises:
            InputError: It is no URL of a server, or a proxy's network cannot be read.
        """
        self._fixed = (upstream,) if isinstance(upstream, str) else tuple(upstream)
        self.replicas = Replicas(self._fixed or policy.upstreams.urls, policy.upstreams.fail_after)
        self._ca_file = ca_file
        self._session: Any = None
        self._stripped = {name.lower().encode("latin-1") for name in stripped}
        self.follow(policy)

    def follow(self, policy: GuardPolicy) -> None:
        """Keep to the time-outs, the listed proxies and the upstreams of `policy`.

        Raises:
            InputError: A proxy's network cannot be read, or an upstream is no URL.
        """
        if not self._fixed:
            self.replicas.follow(policy.upstreams.urls)
        self.health = policy.upstreams
        self.limits, identity = policy.limits, policy.identity
        # In mode observe nothing changes
        observed = policy.guard.mode == "observe"
        self._withheld = set() if observed else list_credential_headers(identity) | REROUTING
        # Connections over a Unix socket have no address to look for in a network
        listed = [entry for entry in identity.trusted_proxies if entry != "unix"]
        self._trusted = [parse_network(entry) for entry in listed]
        self._unix = len(listed) < len(identity.trusted_proxies)
        # Only a listed proxy may say which certificate it verified
        self._spoofable = FORWARDED | {identity.mtls_header.lower().encode("latin-1")}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Forward one request."""
        if scope["type"] != "http":
            raise InputError(
                f"Expected an HTTP request, got {scope['type']}. Serve the proxy with lifespan off."
            )
        import aiohttp

        body = Body(receive)
        try:
            data = await body.start()
            await self._ask_replicas(scope, body, data, send)
        except (aiohttp.ClientError, TimeoutError, ConnectionError) as error:
            # The client of the upstream wraps what the body raised
            if body.refused is not None:
                raise body.refused from None
            # No connection in time is a bad gateway; no answer in time is a late one
            late = isinstance(error, TimeoutError) and not isinstance(
                error, aiohttp.ConnectionTimeoutError
            )
            refused = RequestRefused("gateway-timeout" if late else "bad-gateway")
            await build_refusal_reply(refused).send(send)

    async def _ask_replicas(self, scope: Scope, body: Body, data: Any, send: Send) -> None:
        """Ask one replica, and another one where no connection could be made."""
        import aiohttp

        tried: list[Replica] = []
        while True:
            replica = self.replicas.pick(tried)
            replica.in_flight += 1
            try:
                async with self._client().request(
                    scope["method"],
                    self._url(replica, scope),
                    data=data,
                    headers=self._onward(scope, body.alone),
                    timeout=self._patience(),
                    allow_redirects=False,
                ) as answer:
                    if replica.refused and self.replicas.note_request(replica, connected=True):
                        self._log_use(replica)
                    await _relay_answer(answer, send)
                return
            except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError):
                if self.replicas.note_request(replica, connected=False):
                    self._log_use(replica)
                tried.append(replica)
                # A body in parts is used up; one in a single piece can be sent again
                if not body.alone or len(tried) >= len(self.replicas.entries):
                    raise
            finally:
                replica.in_flight -= 1

    def _log_use(self, replica: Replica) -> None:
        """Log that a replica is now left out, or in use again."""
        out = self.replicas.is_out(replica)
        place = "{}:{}".format(*replica.place)
        level = logging.WARNING if out else logging.INFO
        log_event(level, "replica_left_out" if out else "replica_back", upstream=place)

    async def reachable(self) -> bool:
        """Tell whether a replica of the upstream accepts connections."""
        for replica in self.replicas.entries:
            if await can_connect(replica, self.limits.connect_timeout):
                return True
        return False

    async def check_health(self) -> None:
        """Check every replica once: its health path where the policy names one, else a connection."""
        entries = list(self.replicas.entries)
        found = await asyncio.gather(*map(self._is_healthy, entries))
        for replica, well in zip(entries, found, strict=True):
            if self.replicas.note_check(replica, well=well):
                self._log_use(replica)

    async def _is_healthy(self, replica: Replica) -> bool:
        if self.health.health_path is None:
            return await can_connect(replica, self.limits.connect_timeout)
        import aiohttp
        from yarl import URL

        url, patience = URL(replica.url + self.health.health_path), self._patience()
        try:
            async with asyncio.timeout(self.limits.connect_timeout):
                async with self._client().get(
                    url, timeout=patience, allow_redirects=False
                ) as answer:
                    return bool(200 <= answer.status < 300)
        except (aiohttp.ClientError, TimeoutError, OSError):
            return False

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    def _client(self) -> Any:
        if self._session is None:
            import aiohttp

            context: Any = True
            if self._ca_file is not None:
                import ssl

                context = ssl.create_default_context(cafile=self._ca_file)
            # Answers pass as they are: not decompressed, with no cookies kept and no headers added
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=IDLE, ssl=context),
                auto_decompress=False,
                cookie_jar=aiohttp.DummyCookieJar(),
                skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
                trust_env=False,
            )
        return self._session

    def _patience(self) -> Any:
        import aiohttp

        limits = self.limits
        # No limit in all: an answer may be long as long as its parts keep coming
        return aiohttp.ClientTimeout(
            total=None, sock_connect=limits.connect_timeout, sock_read=limits.answer_timeout
        )

    def _url(self, replica: Replica, scope: Scope) -> Any:
        from yarl import URL

        # The path as it was sent: decoding and encoding it again could make it another one
        path = (
            bytes(scope.get("raw_path") or scope["path"].encode())
            .decode("latin-1")
            .partition("?")[0]
        )
        # The server knows nothing of the prefix that tells models apart
        path = path.removeprefix(str(scope.get("root_path") or ""))
        query = bytes(scope.get("query_string") or b"").decode("latin-1")
        return URL(replica.url + path + (f"?{query}" if query else ""), encoded=True)

    def _onward(self, scope: Scope, alone: bool) -> list[tuple[str, str]]:
        """Select the headers for the upstream.

        Those that name a client or an address pass only from listed proxies.
        """
        headers: Headers = scope["headers"]
        trusted = self._trusts(scope)
        dropped = (
            HOPS
            | self._stripped
            | self._withheld
            | list_hop_headers(headers)
            | (set() if trusted else self._spoofable)
        )
        # The client of the upstream writes the length of a body in one piece
        if alone:
            dropped = dropped | {b"content-length"}
        # Servers may read an underscore as a hyphen, by which a dropped name would come back
        kept = [
            (name, value)
            for name, value in headers
            if name.lower() not in dropped and b"_" not in name
        ]
        peer = (scope.get("client") or ("unknown", 0))[0]
        before = read_header(headers, b"x-forwarded-for") if trusted else None
        kept = [(name, value) for name, value in kept if name.lower() != b"x-forwarded-for"]
        chain = peer.encode() if before is None else before + b", " + peer.encode()
        kept.append((b"x-forwarded-for", chain))
        if not trusted:
            kept += [
                (b"x-forwarded-proto", scope["scheme"].encode()),
                (b"x-forwarded-host", read_header(headers, b"host") or b""),
            ]
        return [(name.decode("latin-1"), value.decode("latin-1")) for name, value in kept]

    def _trusts(self, scope: Scope) -> bool:
        peer = read_peer_address(scope)
        return self._unix if peer is None else any(peer in network for network in self._trusted)


class Body:
    """Send a request's body whole where it came whole, else part by part."""

    def __init__(self, receive: Receive) -> None:
        """Read from `receive`."""
        self._receive = receive
        self.refused: Exception | None = None
        self.alone = False  # whether it is in one piece

    async def start(self) -> bytes | AsyncIterator[bytes] | None:
        """Give what to send."""
        first = await self._receive()
        if first["type"] == "http.disconnect":
            raise ConnectionError
        part = first.get("body", b"")
        if not first.get("more_body", False):
            self.alone = True
            return part or None
        return self._rest(part)

    async def _rest(self, part: bytes) -> AsyncIterator[bytes]:
        more = True
        try:
            while True:
                if part:
                    yield part
                if not more:
                    return
                message = await self._receive()
                if message["type"] == "http.disconnect":
                    raise ConnectionError
                part, more = message.get("body", b""), message.get("more_body", False)
        except RequestRefused as refused:
            self.refused = refused
            raise


async def _relay_answer(answer: Any, send: Send) -> None:
    """Pass an upstream's answer on, part by part.

    Raises:
        UpstreamInterrupted: It ended too early, or too late, after its start had passed.
    """
    import aiohttp

    raw = answer.raw_headers
    dropped = OWN | list_hop_headers(raw)
    headers = [(name.lower(), value) for name, value in raw if name.lower() not in dropped]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    try:
        async for part in answer.content.iter_any():
            await send({"type": "http.response.body", "body": part, "more_body": True})
    except (aiohttp.ClientError, TimeoutError, ConnectionError) as error:
        raise UpstreamInterrupted(type(error).__name__) from None
    await send({"type": "http.response.body", "body": b"", "more_body": False})
