"""Load the server's certificate again when its files change, without ending connections."""

from __future__ import annotations

import logging
import ssl
from pathlib import Path

from memberscope.guard.logs.operational_log import log_event


class ServedCertificates:
    """Files of a server's certificate, its key, and the authorities of its clients.

    `context` is the one that the server uses: connections that are made later get what was loaded.
    An authority that is no longer in its file is trusted until the next start.
    """

    def __init__(
        self, context: ssl.SSLContext, certificate: Path, key: Path, authorities: Path | None
    ) -> None:
        """Take the files as they are loaded now."""
        self._context, self._certificate, self._key = context, certificate, key
        self._authorities = authorities
        self._known = self._look()

    def reload_changed(self) -> None:
        """Load the files again if one of them has changed since they were last looked at."""
        if self._look() != self._known:
            self.reload()

    def reload(self) -> bool:
        """Load the files again; what is not usable leaves the certificate as it is."""
        self._known = self._look()
        try:
            # Tried on another context first: half of a pair must not come into force
            trial = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            for context in (trial, self._context):
                context.load_cert_chain(self._certificate, self._key)
                if self._authorities is not None:
                    context.load_verify_locations(self._authorities)
        except OSError as error:  # as an error of TLS is, too
            log_event(
                logging.ERROR,
                "certificates_not_reloaded",
                file=self._certificate,
                error=error.strerror or type(error).__name__,
            )
            return False
        log_event(logging.INFO, "certificates_reloaded", file=self._certificate)
        return True

    def _look(self) -> list[tuple[int, int, int] | None]:
        """Look at the files: inode, time of change and size, None for one that is not there."""
        found: list[tuple[int, int, int] | None] = []
        for file in (self._certificate, self._key, self._authorities):
            try:
                about = None if file is None else file.stat()
            except OSError:
                about = None
            found.append(about and (about.st_ino, about.st_mtime_ns, about.st_size))
        return found
