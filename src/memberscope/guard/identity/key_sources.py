"""Keep the keys of tokens fresh, from a file or from the issuer's address.

A file is read again when it has changed. An address is fetched in a thread, so that no request
waits for it: every few minutes, and when a token names an unknown key, for that at most once a
minute. Where keys cannot be read again, the last ones count for the policy's `stale_seconds`; then
no token can be verified, which is the guard's fault and not the client's.
"""

from __future__ import annotations

import asyncio
import logging
import os
import stat
import threading
import time
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol
from weakref import WeakValueDictionary, finalize, ref

from memberscope._files import is_open_to_all
from memberscope.errors import InputError, MemberscopeError
from memberscope.guard.identity.token_keys import LONGEST, TokenKey, parse_token_keys
from memberscope.guard.logs.operational_log import log_event
from memberscope.guard.policy.tables import Jwt

LOOKED = 1.0  # seconds between looks at a file
# Seconds between fetches: of good keys, after a failure, and for unknown keys
FETCHED, RETRIED, UNKNOWN = 300.0, 10.0, 60.0
PATIENCE = 10.0  # seconds for one fetch
FIRST = 3.0  # seconds that a start waits for keys
FILE, ADDRESS = "key_file of [identity.jwt]", "what jwks_url of [identity.jwt] answers"


class TokenKeysUnavailable(MemberscopeError):
    """Raised where no keys are known by which a token could be verified."""


class KeySource(Protocol):
    """Interface of where keys come from."""

    def find(self, kid: str | None) -> Sequence[TokenKey]:
        """List the keys of that name; all keys for None, also those without a name.

        Raises:
            TokenKeysUnavailable: There are no keys, or they are too old.
        """
        ...


def open_key_source(jwt: Jwt, home: Path) -> KeySource:
    """Open the source of a policy's keys.

    Raises:
        InputError: The file is not usable. An address is waited for at the start alone, and not
            for long: where it does not answer, tokens cannot be verified until it does.
    """
    if jwt.key_file is not None:
        return FileKeys(jwt, home / jwt.key_file)
    # A policy that is read again goes on with the keys that the one before has
    found = _OPENED.get(jwt)
    if found is None:
        found = _OPENED.setdefault(jwt, AddressKeys(jwt))
        if not _is_serving():
            found.wait_for_first()
    return found


def _is_serving() -> bool:
    """Tell whether requests would wait for whoever waits here."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _select_keys(keys: Sequence[TokenKey], kid: str | None) -> list[TokenKey]:
    """Select the keys that may have signed a token which names `kid`."""
    return [key for key in keys if kid is None or key.kid in (None, kid)]


class FileKeys:
    """Keys in a file, which is read again when it has changed."""

    def __init__(self, jwt: Jwt, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        """Read the file.

        Raises:
            InputError: It cannot be read, or holds no usable keys.
        """
        self._jwt, self._path, self._clock = jwt, path, clock
        try:
            self._form = _describe_file(path)
            if jwt.algorithms[0].startswith("HS") and is_open_to_all(path):
                raise InputError(
                    "Expected a secret in key_file of [identity.jwt] that its owner and group "
                    "alone may read, got one for everybody. Run chmod 640 on it."
                )
            self._keys = parse_token_keys(_read_regular_file(path), jwt, FILE)
        except OSError as error:
            # Without the path, in whose place a key may have been pasted
            raise InputError(
                f"Expected {FILE} to be a file of keys, got {error.strerror}. Check key_file."
            ) from None
        self._good = self._looked = clock()
        self._fails = False

    def find(self, kid: str | None) -> Sequence[TokenKey]:
        """List the keys of that name; all keys for None."""
        now = self._clock()
        if now - self._looked >= LOOKED:
            self._looked = now
            self._look(now)
        if now - self._good > self._jwt.stale_seconds:
            raise TokenKeysUnavailable("The keys of tokens could not be read for too long.")
        return _select_keys(self._keys, kid)

    def _look(self, now: float) -> None:
        """Read the file again if it has changed, or could not be read."""
        try:
            form = _describe_file(self._path)
            if form != self._form or self._fails:
                self._keys = parse_token_keys(_read_regular_file(self._path), self._jwt, FILE)
                log_event(logging.INFO, "token_keys", n=len(self._keys))
            self._form, self._good, self._fails = form, now, False
        except (OSError, InputError) as error:
            if not self._fails:
                _log_failure(error)
            self._fails = True


def _describe_file(path: Path) -> tuple[int, ...]:
    """Describe a file so that a change shows.

    Raises:
        OSError: There is none, or it is no regular file, which could block whoever reads it.
    """
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):
        raise OSError(0, "something that is no regular file")
    return found.st_ino, found.st_size, found.st_mtime_ns


def _read_regular_file(path: Path) -> bytes:
    """Read a file, not more of it than keys may have.

    Raises:
        OSError: It cannot be read.
    """
    # What took the file's place since it was looked at must not block either
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
        return file.read(LONGEST + 1)


def _log_failure(error: Exception) -> None:
    """Log that keys could not be read, in words of this package alone."""
    said = str(error) if isinstance(error, InputError) else type(error).__name__
    log_event(logging.ERROR, "token_keys_failed", said=said)


class AddressKeys:
    """Keys that the issuer publishes at an address; a thread fetches them while they are in use."""

    def __init__(self, jwt: Jwt, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin to fetch, and wait for nothing."""
        self._jwt, self._clock = jwt, clock
        self._keys: tuple[TokenKey, ...] = ()
        self._good: float | None = None
        self._asked = float("-inf")
        self._first = threading.Event()
        # Set to fetch at once, also where nobody uses these keys any more and the thread must end
        self._wake = threading.Event()
        finalize(self, self._wake.set)
        threading.Thread(
            target=_keep_fetching,
            args=(ref(self), self._wake),
            name="memberscope-keys",
            daemon=True,
        ).start()

    def find(self, kid: str | None) -> Sequence[TokenKey]:
        """List the keys of that name; all keys for None."""
        now = self._clock()
        if self._good is None or now - self._good > self._jwt.stale_seconds:
            raise TokenKeysUnavailable("The keys of tokens could not be fetched for too long.")
        found = _select_keys(self._keys, kid)
        # Not for this token, as no request waits for another server
        if not found and now - self._asked >= UNKNOWN:
            self._asked = now
            self._wake.set()
        return found

    def wait_for_first(self) -> None:
        """Wait until the first keys have come, for `FIRST` seconds at most."""
        self._first.wait(FIRST)

    def fetch(self) -> float:
        """Fetch the keys, and give the seconds until the next time."""
        try:
            assert self._jwt.jwks_url is not None
            content = fetch_key_document(self._jwt.jwks_url)
            self._keys = parse_token_keys(content, self._jwt, ADDRESS)
        # Whatever the issuer's server does, the last keys stay
        except Exception as error:
            _log_failure(error)
            return RETRIED
        self._good = self._clock()
        self._first.set()
        log_event(logging.INFO, "token_keys", n=len(self._keys))
        return FETCHED


def _keep_fetching(source: ref[AddressKeys], wake: threading.Event) -> None:
    """Fetch the keys of a source now and then, until nobody uses it."""
    while (found := source()) is not None:
        wake.clear()
        pause = found.fetch()
        # While it waits, the thread must not be who uses it
        del found
        wake.wait(pause)


_OPENED: WeakValueDictionary[Jwt, AddressKeys] = WeakValueDictionary()


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Follow no redirect: keys are those of the address that the policy names."""

    def redirect_request(self, *given: Any, **named: Any) -> None:
        """Give no further request."""


def fetch_key_document(url: str) -> bytes:
    """Fetch a document of keys; proxies of the environment are used.

    Raises:
        OSError: There is none in time, or not with status 200.
    """
    until = time.monotonic() + PATIENCE
    opener = urllib.request.build_opener(_NoRedirects)
    request = urllib.request.Request(url, headers={"Accept": "application/json"})
    with opener.open(request, timeout=PATIENCE / 2) as answer:
        if answer.status != 200:
            raise OSError("another status than 200")
        found = b""
        # The limit of a socket holds for each part, so that a slow server could go on for ever
        while part := answer.read1(65536):
            found += part
            if len(found) > LONGEST or time.monotonic() > until:
                raise OSError("too long")
    return found
