"""Build the request that the model's application gets in the place of the client's."""

from __future__ import annotations

from memberscope.guard.asgi.asgi_types import Headers, Receive, Scope
from memberscope.guard.asgi.bodies import FORWARDED, JSON, REROUTING, list_hop_headers

# What described the old body, or asks for another form of answer than the guard reads, or makes the
# answer depend on whether a guess of it is right
DROPPED = {
    b"content-length",
    b"content-type",
    b"content-encoding",
    b"transfer-encoding",
    b"accept",
    b"accept-encoding",
    b"connection",
    b"expect",
    b"range",
    b"inference-header-content-length",
    b"if-match",
    b"if-none-match",
    b"if-modified-since",
    b"if-unmodified-since",
    b"if-range",
} | REROUTING


def rewrite_scope(scope: Scope, body: bytes, accept: bytes = JSON) -> Scope:
    """Build the scope of a query whose body was written anew.

    Headers and extensions that ask for another form of answer are dropped: the guard reads JSON, or
    what it says in `accept`.
    Those that the client keeps to its own connection end here, so that what it lists cannot take
    away what the guard writes.
    """
    sent: Headers = scope["headers"]
    hops = list_hop_headers(sent)
    dropped = DROPPED | hops - FORWARDED if hops else DROPPED
    headers: Headers = [(name, value) for name, value in sent if name.lower() not in dropped]
    headers += [
        (b"content-type", JSON),
        (b"accept", accept),
        (b"accept-encoding", b"identity"),
        (b"content-length", b"%d" % len(body)),
    ]
    extensions = scope.get("extensions")
    extensions = {"tls": extensions["tls"]} if extensions and "tls" in extensions else {}
    # A query string could ask for another form too
    return {**scope, "headers": headers, "query_string": b"", "extensions": extensions}


def replay_body(body: bytes, receive: Receive) -> Receive:
    """Build a `receive` that gives `body` and then goes on with the client's messages."""
    given = False

    async def again() -> dict[str, object] | object:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again  # type: ignore[return-value]
