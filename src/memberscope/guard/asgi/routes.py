"""Route requests: guarded, passed unchanged, or refused."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from memberscope.guard.policy.tables import ServingConfig

NAME = r"([A-Za-z0-9_.~:@=+-]{1,200})"
INFER = re.compile(rf"/v2/models/{NAME}(?:/versions/{NAME})?/infer")
DESCRIBED = re.compile(rf"/v2/models/{NAME}(?:/versions/{NAME})?(?:/ready)?")
OPEN = {
    "v2": ("/v2", "/v2/health/live", "/v2/health/ready"),
    "mlflow": ("/ping", "/health", "/version"),
    "json": (),
    "openai": ("/health", "/ping", "/version", "/v1/models"),
}
TEXT_PATHS = ("/v1/completions", "/v1/chat/completions")
# Escapes, control characters, `//`, `.` and `..`: what two servers could read in two ways
ODD = re.compile(r"[%\\\x00-\x20\x7f?#]|//|/\.{1,2}(?:/|$)")


@dataclass(frozen=True)
class Route:
    """Route of a request: `query` is guarded, `passed` is passed unchanged.

    Anything else is refused with `status`.
    """

    kind: Literal["query", "passed", "refused"]
    model: str | None = None
    status: int = 404


def read_request_path(scope: Mapping[str, Any]) -> str | None:
    """Read the path below the application's root.

    It is None where servers could read it in two ways (escapes, `..`, `//`).

    >>> read_request_path({"path": "/v2/models/a", "raw_path": b"/v2/models/a"}), read_request_path({"path": "/a/../b"})
    ('/v2/models/a', None)
    """
    path, raw = str(scope["path"]), scope.get("raw_path")
    # The path differs from what was sent: something in it was escaped
    if raw is not None and bytes(raw).partition(b"?")[0] != path.encode("utf-8", "replace"):
        return None
    root = str(scope.get("root_path") or "")
    path = path.removeprefix(root) if root and path.startswith(root + "/") else path
    return None if ODD.search(path) or not path.isascii() else path


def route_request(serving: ServingConfig, method: str, path: str | None) -> Route:
    """Find the route of `method path`.

    >>> iris = ServingConfig(model_name="iris", n_classes=3)
    >>> route_request(iris, "POST", "/v2/models/iris/infer").kind, route_request(iris, "GET", "/v2/health/ready").kind
    ('query', 'passed')
    >>> route_request(iris, "POST", "/v2/models/other/infer").kind, route_request(iris, "GET", "/v2/models/iris/infer").status
    ('refused', 405)
    """
    if path is None:
        return Route("refused")
    model = _match_query_path(serving, path)
    if model is not None:
        return Route("query", model) if method == "POST" else Route("refused", model, 405)
    if method in ("GET", "HEAD") and _is_metadata_path(serving, path):
        return Route("passed")
    # HEAD asks for no more than GET does
    spoken = "GET" if method == "HEAD" else method
    return Route(
        "passed"
        if any(_is_entry_match(entry, spoken, path) for entry in serving.passed)
        else "refused"
    )


def _match_query_path(serving: ServingConfig, path: str) -> str | None:
    """Match the model of a query path: "" where it has no name, None for another path."""
    if serving.protocol == "mlflow":
        return "" if path == "/invocations" else None
    if serving.protocol == "json":
        return "" if path == serving.path else None
    if serving.protocol == "openai":
        return "" if path in TEXT_PATHS else None
    found = INFER.fullmatch(path)
    return found[1] if found and serving.model_name in (None, found[1]) else None


def _is_metadata_path(serving: ServingConfig, path: str) -> bool:
    """Tell whether a GET reads the protocol's health or metadata alone."""
    if path in OPEN[serving.protocol]:
        return True
    found = DESCRIBED.fullmatch(path) if serving.protocol == "v2" else None
    # /v2/models/stats is no model but Triton's counts of all clients
    return bool(found and found[1] != "stats" and serving.model_name in (None, found[1]))


def _is_entry_match(entry: str, method: str, path: str) -> bool:
    """Tell whether `METHOD /path` of the policy, perhaps with `*` at its end, matches the request.

    >>> _is_entry_match("GET /docs*", "GET", "/docs/a"), _is_entry_match("GET /docs", "POST", "/docs")
    (True, False)
    """
    word, _, wanted = entry.strip().partition(" ")
    wanted = wanted.strip()
    return word.upper() == method and (
        path.startswith(wanted[:-1]) if wanted.endswith("*") else path == wanted
    )
