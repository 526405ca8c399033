"""MLServer and MLflow behind the guard.

An audit through it reads what the audit's wrapper gives in process.
"""

from __future__ import annotations

import numpy as np
import pytest
from guarded import guarded, policy
from real import BIN, mlflow, mlserver
from sklearn.ensemble import RandomForestClassifier

from memberscope.outputs.chain import parse_restriction
from memberscope.targets import HttpTarget, RestrictedTarget
from memberscope.wire.endpoint import Endpoint

pytestmark = pytest.mark.skipif(
    not BIN.exists(),
    reason="needs MLServer and MLflow in an environment of their own: run `sh tests/environment.sh servers --no-deps`",
)
RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(200, 6)), RNG.integers(0, 3, 200)
FOREST = RandomForestClassifier(10, random_state=0).fit(X, Y)
NAMES = ("0", "1", "2")


@pytest.fixture(scope="module")
def urls(tmp_path_factory):
    folder = tmp_path_factory.mktemp("served")
    with (
        mlserver(folder / "mlserver", {"forest": FOREST}) as v2,
        mlflow(folder / "forest", FOREST) as invocations,
    ):
        yield {"v2": v2, "mlflow": invocations}


@pytest.mark.parametrize("protocol", ["v2", "mlflow"])
def test_each_defence_through_the_guard_is_that_of_the_wrapped_server(urls, protocol):
    declared = {"protocol": protocol, "classes": NAMES}
    declared |= {"model_name": "forest", "answer": "predict_proba"} if protocol == "v2" else {}
    with guarded(urls[protocol], policy(serving=declared)) as guard:
        for name in ("none", "top:1", "round:2", "label", "top:2+round:1"):
            guard.guard.swap(
                guard.guard.prepared(policy(serving=declared, default={"restrict": name}))
            )
            hidden = {"top_k": int(name[4])} if name.startswith("top") else {}
            level = {"outputs": "labels"} if name == "label" else {}
            with (
                HttpTarget(Endpoint(urls[protocol], batch_size=50, **declared)) as target,
                HttpTarget(
                    Endpoint(guard.url, batch_size=50, **declared | hidden | level)
                ) as through,
            ):
                expected = (
                    target if name == "none" else RestrictedTarget(target, parse_restriction(name))
                )
                np.testing.assert_array_equal(through.query(X), expected.query(X))
        assert guard.ask("GET", "/v2/health/ready" if protocol == "v2" else "/ping").status == 200
        assert (
            guard.ask("GET", "/v2/repository/index" if protocol == "v2" else "/docs").status == 404
        )
