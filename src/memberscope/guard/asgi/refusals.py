"""Problem documents (RFC 9457) for every answer of the guard that refuses or fails.

A type is a URN, not a relative reference: it means the same wherever the guard is mounted, and the
guard needs no public page behind it. Titles belong to the type and never change. A detail stands
only where the client can do something about it; none depends on the record, the model, thresholds
or what the monitor found.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import orjson

from memberscope.guard.asgi.asgi_types import Headers
from memberscope.guard.asgi.bodies import GuardReply, select_neutral_headers
from memberscope.guard.refused import STATUSES, Problem, RequestRefused

PROBLEM_JSON = b"application/problem+json"
PREFIX = "urn:memberscope:guard:"


class ProblemText(NamedTuple):
    """Title and, where it helps the client, detail of one problem type."""

    title: str
    detail: str | None = None


PROBLEMS: dict[str, ProblemText] = {
    "malformed-request": ProblemText(
        "Bad Request",
        "The body must be valid for the serving protocol, with records of one shape.",
    ),
    "malformed-http": ProblemText("Bad Request"),
    "credentials-required": ProblemText(
        "Unauthorized", "Send an API key, token or certificate that this service accepts."
    ),
    "credentials-invalid": ProblemText(
        "Unauthorized",
        "The API key, token or certificate is unknown, expired, malformed or sent twice.",
    ),
    "credentials-throttled": ProblemText(
        "Too Many Requests",
        "Too many wrong credentials came from this network; Retry-After says how long to wait.",
    ),
    "stronger-credentials-required": ProblemText(
        "Unauthorized", "Sign in again with a stronger method."
    ),
    "forbidden": ProblemText("Forbidden", "Contact the operator of this service."),
    "not-found": ProblemText("Not Found"),
    "method-not-allowed": ProblemText("Method Not Allowed"),
    "request-timeout": ProblemText("Request Timeout", "Send the whole body without pauses."),
    "length-required": ProblemText(
        "Length Required", "Send the body with Content-Length, not in chunks."
    ),
    "content-too-large": ProblemText("Content Too Large", "Send fewer records in one request."),
    "unsupported-media-type": ProblemText(
        "Unsupported Media Type",
        "Send application/json, uncompressed or compressed with gzip or deflate.",
    ),
    "unsupported-tensor-encoding": ProblemText(
        "Unsupported Media Type", "Send tensor data as JSON, without the binary extension."
    ),
    "grpc-not-spoken": ProblemText(
        "Unsupported Media Type",
        "This service does not speak gRPC. Send the request as JSON over HTTP/1.1.",
    ),
    "unreadable-record": ProblemText(
        "Unprocessable Content",
        "Send records with the service's columns alone, each value of its column's type.",
    ),
    "budget-exhausted": ProblemText(
        "Too Many Requests", "Wait before the next request; Retry-After, where sent, says how long."
    ),
    "too-many-refusals": ProblemText(
        "Too Many Requests",
        "Too many of your requests were refused; correct them, and wait as Retry-After says.",
    ),
    "too-many-at-once": ProblemText(
        "Too Many Requests", "Have fewer requests and connections under way at once."
    ),
    "bad-gateway": ProblemText("Bad Gateway"),
    "overloaded": ProblemText("Service Unavailable", "Send the request again later."),
    "unavailable": ProblemText("Service Unavailable", "Send the request again later."),
    "gateway-timeout": ProblemText("Gateway Timeout", "Send the request again later."),
    "upstream-rejected": ProblemText("Request Rejected by the Model Server"),
    "upstream-failed": ProblemText("Model Server Error"),
    # From here on of the admin interface
    "not-ready": ProblemText("Service Unavailable"),
    "policy-rejected": ProblemText(
        "Conflict", "The policy file is not usable; the policy before it stays in force."
    ),
    "internal-error": ProblemText("Internal Server Error"),
}
# A gateway status of the model server means the same to the client when the guard sends it.
GATEWAY: dict[int, Problem] = {502: "bad-gateway", 503: "unavailable", 504: "gateway-timeout"}
# How a refused query is counted and logged
REASONS: dict[int, str] = {
    400: "unreadable",
    401: "identity",
    403: "blocked",
    408: "slow",
    411: "form",
    413: "size",
    415: "form",
    422: "record",
    429: "budget",
    503: "busy",
}
# Where the problem type says more than the status
TELLING_REASONS: dict[Problem, str] = {
    "too-many-refusals": "refusals",
    "too-many-at-once": "share",
}


def find_refusal_reason(refused: RequestRefused) -> str:
    """Find how a refused query is counted and logged.

    >>> find_refusal_reason(RequestRefused("too-many-at-once")), find_refusal_reason(RequestRefused("forbidden"))
    ('share', 'blocked')
    """
    return TELLING_REASONS.get(refused.problem) or REASONS.get(refused.status, "other")


def list_problems(status: int) -> list[str]:
    """List the problem types that a query's answer of this status may have.

    >>> list_problems(403), list_problems(418)
    (['forbidden', 'upstream-rejected'], ['upstream-rejected'])
    """
    names: list[str] = [name for name, of in STATUSES.items() if of == status]
    # The server itself answers 400 too, to what is no HTTP
    if status == 400:
        names.append("malformed-http")
    if status not in GATEWAY:
        names.append("upstream-rejected" if status < 500 else "upstream-failed")
    return names


def encode_problem(name: str, status: int, **members: Any) -> bytes:
    """Encode the problem document of type `name`; `members` extend it.

    >>> encode_problem("not-found", 404)
    b'{"type":"urn:memberscope:guard:not-found","title":"Not Found","status":404}'
    """
    title, detail = PROBLEMS[name]
    helpful = {} if detail is None else {"detail": detail}
    return orjson.dumps(
        {"type": PREFIX + name, "title": title, "status": status, **helpful, **members}
    )


def build_refusal_reply(refused: RequestRefused) -> GuardReply:
    """Build the answer to a refused request."""
    headers = tuple(
        (name.encode("latin-1"), value.encode("latin-1")) for name, value in refused.headers
    )
    body = encode_problem(refused.problem, refused.status)
    return GuardReply(refused.status, body, headers, PROBLEM_JSON)


def build_failure_reply(status: int, headers: Headers) -> GuardReply:
    """Build the answer in the place of a model server's answer that is no success.

    The server's status passes where it is an error. Its text never does: it may quote the record.
    """
    # Redirects and the like are no answer that a client should act on
    if not 400 <= status < 600:
        status = 502
    name = GATEWAY.get(status, "upstream-rejected" if status < 500 else "upstream-failed")
    return GuardReply(
        status, encode_problem(name, status), select_neutral_headers(headers), PROBLEM_JSON
    )
