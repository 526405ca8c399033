"""Describe the guarded requests as an OpenAPI document, for clients and for fuzzers."""

from __future__ import annotations

from memberscope.guard.asgi.refusals import PREFIX, PROBLEM_JSON, list_problems
from memberscope.guard.asgi.routes import OPEN, TEXT_PATHS
from memberscope.guard.policy.config import GuardPolicy
from memberscope.guard.policy.tables import ServingConfig

ANSWERS = {
    "200": "What the policy lets through of the answer.",
    "400": "The request is not what the protocol says.",
    "401": "Credentials are missing, or stronger ones are needed.",
    "403": "The client may not ask now.",
    "408": "The request took too long to arrive.",
    "411": "The body came in chunks, and must come with its length.",
    "413": "The request is too long, or holds too many records, columns or values.",
    "415": "The request is in a form that is not read.",
    "422": "The model's server did not accept the request.",
    "429": "A budget, a share or an allowance is used up; Retry-After tells when to ask again.",
    "500": "The model's server failed.",
    "502": "There is no answer that could be protected.",
    "503": "Too many requests at once, or what protection needs is away.",
    "504": "The model's server did not answer in time.",
}
PROBLEM = {
    "type": "object",
    "description": "A problem document of RFC 9457.",
    "required": ["type", "title", "status"],
    "properties": {
        "type": {"type": "string", "format": "uri"},
        "title": {"type": "string"},
        "status": {"type": "integer", "minimum": 400, "maximum": 599},
        "detail": {"type": "string"},
    },
    "additionalProperties": False,
}
TENSOR = {
    "type": "object",
    "required": ["name", "shape", "datatype", "data"],
    "properties": {
        "name": {"type": "string"},
        "shape": {"type": "array", "items": {"type": "integer", "minimum": 1}, "minItems": 1},
        "datatype": {"type": "string"},
        "data": {"type": "array"},
    },
}


def build_openapi(policy: GuardPolicy) -> dict[str, object]:
    """Build the OpenAPI document of the guarded requests and of those that pass.

    >>> from memberscope.guard.policy.config import parse_guard_policy
    >>> sorted(build_openapi(parse_guard_policy({"serving": {"protocol": "mlflow", "n_classes": 3}}))["paths"])
    ['/health', '/invocations', '/ping', '/version']
    """
    serving = policy.serving
    # What passes unchanged has whatever answer the model's server gives
    harmless = {path: {"get": _describe_passed_request()} for path in OPEN[serving.protocol]}
    if serving.protocol == "v2" and serving.model_name:
        home = f"/v2/models/{serving.model_name}"
        harmless |= {
            home: {"get": _describe_passed_request()},
            f"{home}/ready": {"get": _describe_passed_request()},
        }
    return {
        "openapi": "3.1.0",
        "info": {"title": "A guarded model", "version": "1"},
        "components": {"schemas": {"Problem": PROBLEM}},
        "paths": {
            serving.prefix + path: about
            for path, about in {
                **harmless,
                **{
                    path: {"post": _describe_guarded_query(serving)}
                    for path in _list_query_paths(serving)
                },
            }.items()
        },
    }


def _list_query_paths(serving: ServingConfig) -> tuple[str, ...]:
    """List the paths that queries are posted to."""
    if serving.protocol == "json":
        return (str(serving.path),)
    if serving.protocol == "openai":
        return TEXT_PATHS
    return (
        "/invocations"
        if serving.protocol == "mlflow"
        else f"/v2/models/{serving.model_name or 'model'}/infer",
    )


def _describe_passed_request() -> dict[str, object]:
    """Describe a request that passes unchanged."""
    return {"responses": {"default": {"description": "What the server answers."}}}


def _describe_answer(status: str) -> dict[str, object]:
    """Describe the content of an answer with a status."""
    if status == "200":
        return {"application/json": {"schema": {}}}
    types = [PREFIX + name for name in list_problems(int(status))]
    # Narrowed to the problem types that can come with this status
    own = {"properties": {"type": {"enum": types}, "status": {"const": int(status)}}}
    schema = {"allOf": [{"$ref": "#/components/schemas/Problem"}, own]}
    return {PROBLEM_JSON.decode(): {"schema": schema}}


def _describe_guarded_query(serving: ServingConfig) -> dict[str, object]:
    """Describe a query, its answer and its problem documents."""
    answers: dict[str, object] = {
        status: {"description": words, "content": _describe_answer(status)}
        for status, words in ANSWERS.items()
    }
    body: dict[str, object] = {"type": "object"}
    if serving.protocol == "v2":
        body |= {
            "required": ["inputs"],
            "properties": {"inputs": {"type": "array", "items": TENSOR, "minItems": 1}},
        }
    if serving.protocol == "mlflow":
        body |= {"required": ["inputs"], "properties": {"inputs": {"type": "array"}}}
    content = {"application/json": {"schema": body}}
    return {"requestBody": {"required": True, "content": content}, "responses": answers}
