"""Give each request an ID, and refuse what is no HTTP request of this kind: gRPC."""

from __future__ import annotations

import logging

from memberscope.guard.asgi.asgi_types import JOINED, WHOLE, App, Message, Receive, Scope, Send
from memberscope.guard.asgi.refusals import build_refusal_reply
from memberscope.guard.logs.operational_log import log_event
from memberscope.guard.logs.request_id import REQUEST_ID, choose_request_id
from memberscope.guard.refused import RequestRefused

HEADER, GRPC = b"x-request-id", b"application/grpc"


async def serve_with_request_id(app: App, scope: Scope, receive: Receive, send: Send) -> None:
    """Serve one request by `app`, whose log lines and answer bear the request's ID.

    The ID is what X-Request-ID says, if that is of an ordinary form, else a new one. The application
    sees it in the place of what was sent. Requests of gRPC are refused (415).
    """
    if scope["type"] != "http":
        await app(scope, receive, send)
        return
    given, grpc = [], False
    # One pass, with names in lower case as ASGI has them: this runs for each request
    for name, value in scope["headers"]:
        if name == HEADER:
            given.append(value)
        elif name == b"content-type" and value[:16].lower() == GRPC:
            grpc = True
    chosen = choose_request_id(given)
    header = (HEADER, chosen.encode("ascii"))
    headers = [pair for pair in scope["headers"] if pair[0] != HEADER]
    headers.append(header)
    # Nothing is written behind the head that answers a HEAD, so it must not wait for more
    joined = scope.get(JOINED) if scope["method"] != "HEAD" else None

    async def marked(message: Message) -> None:
        if message["type"] == "http.response.start":
            kept = [pair for pair in message.get("headers", ()) if pair[0].lower() != HEADER]
            message = {**message, "headers": [*kept, header]}
            if joined is not None and message.get(WHOLE):
                joined.join()
        await send(message)

    before = REQUEST_ID.set(chosen)
    try:
        if grpc:
            log_event(logging.INFO, "grpc_refused", path=scope["path"])
            reply = build_refusal_reply(RequestRefused("grpc-not-spoken"))
            await reply.last().send(marked)
        else:
            await app({**scope, "headers": headers}, receive, marked)
    finally:
        REQUEST_ID.reset(before)
