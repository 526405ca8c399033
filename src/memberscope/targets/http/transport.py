"""Send requests: rate-limited, retried with back-off, limited in time and size.

They never go to a host that was not named.
"""

from __future__ import annotations

import asyncio
import os
import re
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from random import SystemRandom
from typing import Any, Protocol
from urllib.parse import urljoin, urlsplit

from memberscope.errors import InputError, MemberscopeError, TargetError
from memberscope.wire import Credential, TransportSettings

RETRIED = (408, 425, 429, 500, 502, 503, 504)  # statuses after which a later try may succeed
HOPS = 3  # redirects within the same origin
# Seconds that an unused connection is kept: less than servers keep theirs, so that no request meets
# a closed one
IDLE = 2.0
FRACTION = re.compile(r"[-+]?\d*\.\d+(?:[eE][-+]?\d+)?")


class Booking(Protocol):
    """What must happen before a request leaves, and after one that was certainly not answered."""

    async def reserve(self) -> None:
        """Book one sending, or raise if none is left."""
        ...

    async def refund(self) -> None:
        """Cancel the booking."""
        ...


class NoBooking:
    """Booking of a request that is about no record."""

    async def reserve(self) -> None:
        """Book nothing."""

    async def refund(self) -> None:
        """Cancel nothing."""


@dataclass(frozen=True)
class ServerReply:
    """A server's complete answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class LostError(Exception):
    """Raised where no complete answer came.

    `sent` is true if the server may have seen the request, `final` if a retry is of no use.
    """

    def __init__(self, why: str, *, sent: bool = True, final: bool = False) -> None:
        super().__init__(why)
        self.sent, self.final = sent, final


class RequestPacer:
    """Clock that decides when the next request may leave.

    Requests leave `rate` a second, evenly, and none while the server asked for a pause.
    """

    def __init__(self, rate: float | None) -> None:
        self.gap = 0.0 if rate is None else 1.0 / rate
        self.free_at = self.quiet = 0.0

    async def turn(self, gone: Callable[[], object]) -> None:
        """Wait for a rate-limit slot; queue again after a pause that the server asked for.

        `gone` is called before a wait.
        """
        clock = asyncio.get_running_loop().time
        while True:
            # Taken before the wait, so that the next request queues behind this one
            mine = max(clock(), self.free_at)
            self.free_at = mine + self.gap
            if mine > clock():
                gone()
                await asyncio.sleep(mine - clock())
            # The server may have asked for a pause while this request waited
            if self.quiet <= mine:
                return

    def hold(self, seconds: float) -> None:
        """Let no request leave for `seconds`."""
        self.quiet = max(self.quiet, asyncio.get_running_loop().time() + seconds)
        # Requests that wait already must not all leave when the pause ends
        self.free_at = max(self.free_at, self.quiet)


class Sender:
    """Sender of requests to one origin, over connections that are kept.

    All its coroutines run in one event loop.
    """

    def __init__(
        self,
        url: str,
        wire: TransportSettings,
        credential: Credential | None = None,
        ca_file: str | None = None,
    ) -> None:
        """Check the settings; nothing is sent.

        Raises:
            InputError: httpx2 is missing, or the file of certificates cannot be read.
        """
        try:
            import httpx2
        except ImportError as error:
            raise InputError(
                "Expected httpx2 for an endpoint, got none. Run `pip install memberscope[http]`."
            ) from error
        self.url, self.wire, self.credential = url, wire, credential
        # One pace for the origin: its limit holds for all connections together
        self.pace = RequestPacer(wire.rate)
        self._random = SystemRandom()
        self._client = httpx2.AsyncClient(
            verify=_choose_certificates(url, ca_file),
            # No limit on the wait for a connection, which is our own doing
            timeout=httpx2.Timeout(wire.read, connect=wire.connect, pool=None),
            limits=httpx2.Limits(
                max_connections=None, max_keepalive_connections=None, keepalive_expiry=IDLE
            ),
            # `_follow` does it, since a token must not go to another host
            follow_redirects=False,
        )

    async def deliver(
        self,
        method: str,
        url: str,
        body: bytes | None,
        booking: Booking,
        gone: Callable[[], object] = bool,
    ) -> ServerReply:
        """Send a request and give the server's answer, with retries.

        Each sending is booked first. A GET may find that there is nothing. `gone` is called once
        the request was written to the connection, or has to wait for its turn.

        Raises:
            TargetError: The server cannot be reached, does not answer, or fails.
            InputError: It refuses the token or knows no such address, or the booking is refused.
        """
        tries = 0
        while True:
            # The wait comes before the booking, so that a run killed meanwhile spent nothing
            await self.pace.turn(gone)
            await booking.reserve()
            try:
                reply = await self._follow(method, url, body, gone)
            except LostError as lost:
                # What the server cannot have seen costs nothing
                if not lost.sent:
                    await booking.refund()
                if lost.final:
                    raise self._failed(str(lost), tries + 1) from None
                why, wait = str(lost), 0.0
            else:
                # Metadata is optional, and only it is requested by GET
                if 200 <= reply.status < 300 or (method == "GET" and reply.status in (404, 405)):
                    return reply
                # The server refused it before the model answered
                if reply.status < 500:
                    await booking.refund()
                why, wait = (
                    f"status {reply.status}{self._said(reply, body)}",
                    _read_retry_after(reply.headers),
                )
                if reply.status not in RETRIED:
                    # The same request would be refused again
                    raise self._refused(reply.status, why)
            tries += 1
            if tries > self.wire.retries:
                raise self._failed(why, tries)
            # A pause of hours is the user's decision, not ours
            if wait > self.wire.longest:
                raise TargetError(
                    f"Expected an answer from {strip_url(url)}, got {why} and the wish to wait "
                    f"{wait:.0f} s. Run the same command again then."
                )
            if wait:
                self.pace.hold(wait)
            # The pause doubles with each try, up to a limit
            slow = min(self.wire.backoff * 2 ** (tries - 1), self.wire.longest)
            # Jitter: clients that failed together must not all return at the same moment
            await asyncio.sleep(max(wait, slow * (0.5 + self._random.random() / 2)))

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def _follow(
        self, method: str, url: str, body: bytes | None, gone: Callable[[], object]
    ) -> ServerReply:
        """Make one request.

        A redirect is followed only where it keeps the method and leads to the same origin.
        """
        for _ in range(HOPS):
            reply = await self._once(method, url, body, gone)
            if not 300 <= reply.status < 400:
                return reply
            there = urljoin(url, reply.headers.get("location", ""))
            # Other redirects turn a POST into a GET, and another origin must not see the records
            if reply.status not in (307, 308) or _parse_origin(there) != _parse_origin(url):
                raise LostError(
                    f"a redirect to {strip_url(there)}, which was not followed (give that URL if "
                    "you trust it)",
                    sent=False,
                    final=True,
                )
            url = there
        raise LostError(f"more than {HOPS} redirects", sent=False, final=True)

    async def _once(
        self, method: str, url: str, body: bytes | None, gone: Callable[[], object]
    ) -> ServerReply:
        import httpx2

        headers, content = {}, None
        if body is not None:
            # With its length, so that the body is not sent in chunks
            headers = {"Content-Type": "application/json", "Content-Length": str(len(body))}
            content = _write_body(body, gone)
        # Read at each request, so that a token may be renewed while the run goes on
        headers |= {} if self.credential is None else self.credential.headers()
        try:
            # The read timeout starts anew with every byte; a slow server needs this one too
            async with asyncio.timeout(self.wire.total):
                async with self._client.stream(
                    method, url, content=content, headers=headers
                ) as response:
                    return ServerReply(
                        response.status_code, response.headers, await self._whole(response)
                    )
        except (
            httpx2.ConnectError,
            httpx2.ConnectTimeout,
            httpx2.ProxyError,
            httpx2.UnsupportedProtocol,
        ) as error:
            # A certificate does not become valid by a retry
            untrusted = "certificate" in str(error).lower()
            why = (
                f"a certificate that is not trusted ({error}); see --ca-file"
                if untrusted
                else f"no connection ({error})"
            )
            raise LostError(self._redacted(why), sent=False, final=untrusted) from None
        # From here on the server may have answered, so that the query counts as sent
        except httpx2.TimeoutException:
            raise LostError(f"nothing for {self.wire.read:g} s") from None
        except TimeoutError:
            raise LostError(f"no whole answer within {self.wire.total:g} s") from None
        except httpx2.DecodingError:
            raise LostError("a compressed body that is damaged", final=True) from None
        except httpx2.TransportError as error:
            raise LostError(
                self._redacted(f"a broken connection ({str(error) or type(error).__name__})")
            ) from None

    async def _whole(self, response: Any) -> bytes:
        """Read the body, unless it is longer than the limit."""
        parts, size = [], 0
        async for part in response.aiter_bytes():
            size += len(part)
            # Counted while it is read, since the length that a server declares may be wrong
            if size > self.wire.max_bytes:
                raise LostError(f"a body of more than {self.wire.max_bytes} bytes", final=True)
            parts.append(part)
        return b"".join(parts)

    def _failed(self, why: str, tries: int) -> TargetError:
        times = f" in {tries} tries" if tries > 1 else ""
        return TargetError(
            f"Expected an answer from {strip_url(self.url)}, got {why}{times}. Check the server, "
            "then run it again."
        )

    def _refused(self, status: int, why: str) -> MemberscopeError:
        """Give the error for a status that no retry can change.

        Address and token are the user's errors, all else the server's.
        """
        # The name of the variable is shown, never the token in it
        if status in (401, 403):
            what = (
                f"the token in {self.credential.env}"
                if self.credential
                else "requests without a token (see --auth-env)"
            )
            return InputError(
                f"Expected {strip_url(self.url)} to accept {what}, got {why}. Check the token."
            )
        if status in (404, 405):
            return InputError(
                f"Expected an endpoint at {strip_url(self.url)}, got {why}. Check --url, "
                "--protocol and --model-name."
            )
        return self._failed(why, 1)

    def _said(self, reply: ServerReply, sent: bytes | None) -> str:
        """Quote the start of what a server said with an error, without token or record."""
        shown = self._redacted(reply.body[:2000].decode("utf-8", "replace"))
        text = " ".join(_hide_sent_values(shown, sent or b"").split())[:160].rstrip(".")
        return f" ({text})" if text.isprintable() and text else ""

    def _redacted(self, text: str) -> str:
        # Servers and proxies repeat request headers in their errors
        secret = os.environ.get(self.credential.env, "").strip() if self.credential else ""
        for part in secret.split():
            # Short parts, such as a scheme's name, would blank ordinary words
            text = text.replace(part, "…") if len(part) > 3 else text
        return text


async def _write_body(body: bytes, gone: Callable[[], object]) -> AsyncIterator[bytes]:
    """Give the body, and call `gone` when it is on its way."""
    yield body
    gone()


def _hide_sent_values(text: str, sent: bytes) -> str:
    """Hide words of `sent`, and all fractions, in what a server said; it may repeat a record.

    >>> _hide_sent_values("Expected 5 values, got ['Ada', 0.250]", b'{"inputs": [["Ada", 0.25]]}')
    "Expected 5 values, got ['…', …]"
    """
    words = {
        found.decode("utf-8", "replace") for found in re.findall(rb"[^\s\"'\[\]{},:]{2,}", sent)
    }
    return re.sub(
        r"[^\s\"'\[\]{},:]{2,}",
        lambda found: "…" if found[0] in words or FRACTION.fullmatch(found[0]) else found[0],
        text,
    )


def _read_retry_after(headers: Mapping[str, str]) -> float:
    """Read the seconds that `Retry-After` asks to wait.

    Given as such or as a date by the server's own clock; 0 without it.

    >>> _read_retry_after({"retry-after": "3"})
    3.0
    >>> _read_retry_after({"retry-after": "Wed, 21 Oct 2026 07:28:10 GMT", "date": "Wed, 21 Oct 2026 07:28:00 GMT"})
    10.0
    """
    text = headers.get("retry-after", "").strip()
    if text.isdigit():
        return float(text)
    try:
        # Compared with the server's own clock, as ours may be wrong
        until = parsedate_to_datetime(text).timestamp()
        now = (
            parsedate_to_datetime(headers["date"]).timestamp() if "date" in headers else time.time()
        )
    except (TypeError, ValueError):
        return 0.0
    return max(0.0, until - now)


def strip_url(url: str) -> str:
    """Strip a URL for a message: without its query, which may hold a key.

    >>> strip_url("https://models.example/v1/score?code=secret")
    'https://models.example/v1/score'
    """
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _parse_origin(url: str) -> tuple[str, str | None, int | None]:
    """Parse scheme, host and port of a URL, the port as the scheme implies it.

    >>> _parse_origin("https://a.example/x") == _parse_origin("https://a.example:443/y")
    True
    """
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or {"http": 80, "https": 443}.get(parts.scheme)


def _choose_certificates(url: str, ca_file: str | None) -> Any:
    """Choose what makes a server's certificate valid.

    The file's certificates, or else the system's, which are not read where no certificate is shown.
    """
    if ca_file is not None:
        return _load_ca_certificates(ca_file)
    # The system's certificates
    if _parse_origin(url)[0] == "https":
        return True
    import ssl

    # Trusts nobody, which is enough: no redirect leads from http to https
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def _load_ca_certificates(ca_file: str) -> Any:
    """Load a TLS context that trusts the certificates in a file, and no others.

    Raises:
        InputError: The file is missing or holds no certificates.
    """
    import ssl

    try:
        return ssl.create_default_context(cafile=ca_file)
    except (OSError, ssl.SSLError) as error:
        raise InputError(
            f"Expected certificates in PEM form in {ca_file}, got: {error}. Check --ca-file."
        ) from error
