"""Deliver alerts to a webhook from one thread, signed and with retries."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

from memberscope.errors import InputError

SIGNATURE, DELIVERY = "X-Memberscope-Signature", "X-Memberscope-Delivery"
AGAIN = (408, 425, 429)  # and all from 500


def _sign_body(secret: bytes, body: bytes, time: int) -> str:
    """Give the signature header of a body: the time and an HMAC-SHA256.

    It is over that time, a full stop and the body, in hexadecimal digits.

    A receiver computes it from the body as it came, compares in constant time, and refuses times
    that are minutes away.

    >>> _sign_body(b"secret", b"{}", 0)[:24]
    't=0,v1=4bbe8d39de1ffea42'
    """
    return f"t={time},v1={hmac.new(secret, f'{time}.'.encode() + body, hashlib.sha256).hexdigest()}"


@dataclass(frozen=True)
class Patience:
    """Time limits and retries of a delivery.

    Seconds a try, tries, seconds before the second try (doubled each time), and how many wait.
    """

    timeout: float = 5.0
    tries: int = 5
    pause: float = 1.0
    waiting: int = 1000


class Webhook:
    """Post bodies to `url` one after the other.

    `lost()` is called for each that was given up or found no room.

    Raises:
        InputError: The address is no http or https address.

    >>> Webhook("ftp://example.org", None, lambda: 0.0)
    Traceback (most recent call last):
    memberscope.errors.InputError: Expected a webhook that begins with https:// or http://, got
    'ftp://…'. Give alerts.webhook such an address.
    """

    def __init__(
        self,
        url: str,
        secret: bytes | None,
        clock: Callable[[], float],
        *,
        lost: Callable[[], None] = lambda: None,
        patience: Patience | None = None,
    ) -> None:
        split = urlsplit(url)
        # The rest of an address can be a secret: it is not told
        if split.scheme not in ("http", "https") or not split.hostname:
            raise InputError(
                "Expected a webhook that begins with https:// or http://, got "
                f"{split.scheme + '://…'!r}. Give alerts.webhook such an address."
            )
        self.url, self.secret, self.clock, self.lost = url, secret, clock, lost
        self.patience = patience or Patience()
        self.bodies: queue.Queue[bytes | None] = queue.Queue(self.patience.waiting)
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self._work, name="memberscope-webhook", daemon=True)
        self.thread.start()

    def send(self, body: bytes) -> None:
        """Put a body in the queue; where it is full the body is lost, and counted."""
        try:
            self.bodies.put_nowait(body)
        except queue.Full:
            self.lost()

    def close(self, seconds: float) -> None:
        """Try once what still waits, for so long at most."""
        self.stopping.set()
        try:
            self.bodies.put(None, timeout=seconds)
        except queue.Full:
            return
        self.thread.join(seconds)

    def _work(self) -> None:
        while (body := self.bodies.get()) is not None:
            if not self._deliver(body):
                self.lost()

    def _deliver(self, body: bytes) -> bool:
        for number in range(self.patience.tries):
            # At the end there are no more retries
            if number and self.stopping.wait(self.patience.pause * 2 ** (number - 1)):
                return False
            status = self._post(body)
            if status is not None and status not in AGAIN and status < 500:
                # A redirect is not followed: the alert is for the address that was written down
                return 200 <= status < 300
        return False

    def _post(self, body: bytes) -> int | None:
        headers = {
            "Content-Type": "application/json",
            # The same for each try, so that a receiver can drop what it has already
            DELIVERY: hashlib.sha256(body).hexdigest()[:32],
        }
        if self.secret is not None:
            headers[SIGNATURE] = _sign_body(self.secret, body, int(self.clock()))
        try:
            return asyncio.run(_post_body(self.url, body, headers, self.patience.timeout))
        # Whatever a receiver does, the next try or the count of lost alerts tells
        except Exception:
            return None


async def _post_body(url: str, body: bytes, headers: dict[str, str], timeout: float) -> int:
    """Post a body within `timeout` seconds and give the status; the answer's body is not read."""
    import aiohttp

    async with (
        aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=timeout), trust_env=True
        ) as session,
        session.post(url, data=body, headers=headers, allow_redirects=False) as answer,
    ):
        return int(answer.status)
