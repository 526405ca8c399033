"""The guard as middleware of an application.

The monitor that its policy names begins and ends with it.
"""

from __future__ import annotations

import json

import numpy as np
import pytest
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from memberscope.errors import InputError
from memberscope.guard import GuardMiddleware, parse_guard_policy
from memberscope.guard.asgi.compiled_policy import hash_guard_policy
from memberscope.guard.hashing.secret_key import Secret, write_secrets
from memberscope.guard.policy.tables import ClientLimits
from memberscope.guard.server.assembly import assemble_guard
from memberscope.guard.sketching.sketcher import Sketcher, write_sketcher
from memberscope.wire.batch import Batch

RNG = np.random.default_rng(0)
SERVING = {"protocol": "mlflow", "n_classes": 2}


async def predict(request):
    return JSONResponse({"predictions": [[0.25, 0.75] for _ in (await request.json())["inputs"]]})


def guarded(policy) -> Starlette:
    app = Starlette(routes=[Route("/invocations", predict, methods=["POST"])])
    app.add_middleware(GuardMiddleware, policy=policy)
    return app


@pytest.fixture
def policy(tmp_path):
    secret = Secret.new()
    write_secrets(tmp_path / "guard.key", [secret])
    write_sketcher(
        tmp_path / "sketch", Sketcher.fit("tabular", Batch(RNG.normal(size=(50, 3))), secret)
    )
    watch = {"key": "guard.key", "sketch": "sketch", "log": "access.jsonl", "memory": "memory"}
    return parse_guard_policy(
        {
            "serving": SERVING,
            "monitor": watch,
            "default": {"restrict": "top:1"},
            "home": str(tmp_path),
        }
    )


@pytest.mark.parametrize("lifespan", [True, False])
def test_the_monitor_logs_what_was_asked(policy, tmp_path, lifespan):
    app = guarded(policy)
    if lifespan:
        with TestClient(app) as client:
            answers = [
                client.post("/invocations", json={"inputs": RNG.normal(size=(2, 3)).tolist()})
                for _ in range(5)
            ]
        lines = (tmp_path / "access.jsonl").read_text().splitlines()
        assert [len(json.loads(line)["record"]) for line in lines] == [2] * 5, (
            "the end waits for what was asked"
        )
        assert (tmp_path / "memory").stat().st_size > 0
    else:  # a server that knows no lifespan, where each request has a loop of its own
        answers = [TestClient(app).post("/invocations", json={"inputs": [[1.0, 2.0, 3.0]]})]
    assert all(
        answer.json() == {"predictions": [{"1": 0.75}] * len(answer.json()["predictions"])}
        for answer in answers
    )


def test_workers_that_share_a_redis_need_a_key():
    with pytest.raises(InputError, match=r"Expected key in \[monitor\]"):
        GuardMiddleware(
            predict,
            policy=parse_guard_policy(
                {"serving": SERVING, "state": {"redis": "redis://localhost:1"}}
            ),
        )


def test_the_metrics_tell_which_policy_is_in_force(policy):
    parts = assemble_guard(policy, b"")
    first, second = policy, policy.model_copy(update={"default": ClientLimits(restrict="label")})
    assert hash_guard_policy(first)[:16].encode() in parts.metrics()
    parts.follow(second)
    assert (
        hash_guard_policy(second)[:16].encode() in parts.metrics()
        and hash_guard_policy(first)[:16].encode() not in parts.metrics()
    )
