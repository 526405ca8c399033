"""Raised to refuse a request with a problem type and headers.

The types stand here, below every package that refuses; `asgi/refusals.py` writes their documents.
"""

from __future__ import annotations

from typing import Literal

Problem = Literal[
    "malformed-request",
    "credentials-required",
    "credentials-invalid",
    "credentials-throttled",
    "stronger-credentials-required",
    "forbidden",
    "not-found",
    "method-not-allowed",
    "request-timeout",
    "length-required",
    "content-too-large",
    "unsupported-media-type",
    "unsupported-tensor-encoding",
    "grpc-not-spoken",
    "unreadable-record",
    "budget-exhausted",
    "too-many-refusals",
    "too-many-at-once",
    "bad-gateway",
    "overloaded",
    "unavailable",
    "gateway-timeout",
]
STATUSES: dict[Problem, int] = {
    "malformed-request": 400,
    "credentials-required": 401,
    "credentials-invalid": 401,
    "credentials-throttled": 429,
    "stronger-credentials-required": 401,
    "forbidden": 403,
    "not-found": 404,
    "method-not-allowed": 405,
    "request-timeout": 408,
    "length-required": 411,
    "content-too-large": 413,
    "unsupported-media-type": 415,
    "unsupported-tensor-encoding": 415,
    "grpc-not-spoken": 415,
    "unreadable-record": 422,
    "budget-exhausted": 429,
    "too-many-refusals": 429,
    "too-many-at-once": 429,
    "bad-gateway": 502,
    "overloaded": 503,
    "unavailable": 503,
    "gateway-timeout": 504,
}

# Refusals that are the guard's own fault or its upstream's: they cost a client nothing
AT_FAULT: frozenset[Problem] = frozenset(("overloaded", "unavailable", "gateway-timeout"))


class RequestRefused(Exception):
    """Refuse a request before or after the model was asked.

    There is no room for a message: the client gets the fixed text of the problem type, so that no
    answer can quote a record, a threshold or the model.

    >>> RequestRefused("credentials-required", (("www-authenticate", "Bearer"),)).status
    401
    """

    def __init__(self, problem: Problem, headers: tuple[tuple[str, str], ...] = ()) -> None:
        super().__init__(problem)
        self.problem, self.headers = problem, headers

    @property
    def status(self) -> int:
        """HTTP status of the problem type."""
        return STATUSES[self.problem]


class CredentialRefused(RequestRefused):
    """Refuse a request whose credential proves nothing, or comes after too many that did not.

    `source` and `why` are for the log: which source of identity, and what was wrong. `client` is
    the network that the request came from, as `network:subject`. None of them holds the credential.

    >>> CredentialRefused("credentials-invalid", (), "api_key", "unknown", "network:unix").status
    401
    """

    def __init__(
        self,
        problem: Problem,
        headers: tuple[tuple[str, str], ...],
        source: str,
        why: str,
        client: str,
    ) -> None:
        super().__init__(problem, headers)
        self.source, self.why, self.client = source, why, client
