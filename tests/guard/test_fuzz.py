"""Requests made up from the proxy's own OpenAPI document.

And the guard inside a Starlette application.
"""

from __future__ import annotations

import numpy as np
import pytest
import schemathesis
from guarded import JSON, ROWS, guarded, policy
from hypothesis import HealthCheck, settings
from unruly import Unruly, model, serving

from memberscope.guard import GuardMiddleware
from memberscope.guard.asgi.openapi import ANSWERS, build_openapi
from memberscope.guard.policy import config as policies

X = np.array(ROWS["records"])
DECLARED = {
    "json": JSON,
    "mlflow": {"protocol": "mlflow", "n_classes": 3},
    "v2": {"protocol": "v2", "model_name": "m", "n_classes": 3},
}


@pytest.mark.parametrize("protocol", DECLARED)
def test_no_request_of_the_openapi_document_gets_an_answer_that_it_does_not_name(protocol):
    given = policy(serving=DECLARED[protocol], default={"restrict": "label"})
    document = build_openapi(given)
    (path,) = [path for path, methods in document["paths"].items() if "post" in methods]
    operation = schemathesis.openapi.from_dict(document)[path]["POST"]
    app = Unruly()
    app.metadata = {}
    with serving(app) as upstream, guarded(upstream, given) as guard:

        @settings(max_examples=40, database=None, suppress_health_check=list(HealthCheck))
        def ask(case):
            response = case.call(base_url=guard.url)
            assert str(response.status_code) in ANSWERS
            assert response.status_code == 200 or (
                response.headers["content-type"] == ["application/problem+json"]
                and response.json()["status"] == response.status_code
                and set(response.json()) <= {"type", "title", "status", "detail"}
            )
            assert set(map(str.lower, response.headers)) <= {
                "content-type",
                "content-length",
                "date",
                "connection",
            }

        from hypothesis import given as over

        over(operation.as_strategy())(ask)()
        assert guard.ask("GET", "/v2/health/live" if protocol == "v2" else "/anything").status in (
            200,
            404,
        )


def test_inside_a_starlette_application():
    from starlette.applications import Starlette
    from starlette.middleware import Middleware
    from starlette.requests import Request
    from starlette.responses import JSONResponse
    from starlette.routing import Route
    from starlette.testclient import TestClient

    async def score(request: Request) -> JSONResponse:
        records = np.array((await request.json())["records"])
        if records.shape[1] != 2:
            raise ValueError("a fault that would quote the record")
        return JSONResponse({"predictions": model(records).tolist(), "hidden": [1, 2]})

    async def raw(request: Request) -> JSONResponse:
        return JSONResponse({"weights": [1.0]})

    routes = [Route("/score", score, methods=["POST"]), Route("/raw", raw)]
    app = Starlette(
        routes=routes,
        middleware=[Middleware(GuardMiddleware, policy=policy(default={"restrict": "label"}))],
    )
    client = TestClient(app)
    assert client.post("/score", json=ROWS).json() == {
        "predictions": model(X).argmax(axis=1).tolist()
    }
    assert client.get("/raw").status_code == 404
    answer = client.post("/score", json={"records": [[1.0]]})
    assert answer.status_code == 502 and "quote" not in answer.text
    assert client.post("/score", content=b"x").status_code == 400


def test_a_policy_is_named_by_its_file(tmp_path):
    file = tmp_path / "guard.toml"
    file.write_text(
        '[serving]\nprotocol = "mlflow"\nn_classes = 3\n[default]\nrestrict = "top:1"\n'
    )
    assert GuardMiddleware(None, policy=file).rules.policy == policies.read_policy(file)
