"""The same model in process, behind MLServer and behind MLflow.

The same outputs, the same audit, one query a record.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
import pytest
from real import BIN, mlflow, mlserver
from sklearn.compose import make_column_transformer
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

import memberscope
from memberscope.errors import InputError, TargetError
from memberscope.targets import HttpTarget
from memberscope.targets.http.ledger import QuerySpending
from memberscope.wire.endpoint import Endpoint

pytestmark = pytest.mark.skipif(
    not BIN.exists(),
    reason="needs MLServer and MLflow in an environment of their own: run `sh tests/environment.sh servers --no-deps`",
)
N = 300
RNG = np.random.default_rng(0)
ARRAY = RNG.normal(size=(2 * N, 6))
FRAME = pd.DataFrame(
    {
        "age": RNG.normal(40, 9, 2 * N),
        "job": RNG.choice(["cook", "smith", "nurse"], 2 * N),
        "pay": ARRAY[:, 0],
    }
)
Y = RNG.integers(0, 3, 2 * N)
WORDS = np.array(["low", "mid", "top"])[Y]
FOREST = RandomForestClassifier(20, random_state=0).fit(ARRAY[:N], Y[:N])
PIPELINE = make_pipeline(
    make_column_transformer((OneHotEncoder(), ["job"]), (StandardScaler(), ["age", "pay"])),
    LogisticRegression(),
).fit(FRAME[:N], WORDS[:N])
PLAN = memberscope.Plan(attacks=("gap", "loss", "confidence", "modified_entropy"))


@pytest.fixture(scope="module")
def urls(tmp_path_factory) -> Iterator[dict[str, str]]:
    folder = tmp_path_factory.mktemp("served")
    with (
        mlserver(folder / "mlserver", {"forest": FOREST, "pipeline": PIPELINE}) as both,
        mlflow(folder / "forest", FOREST) as forest,
        mlflow(folder / "pipeline", PIPELINE) as pipeline,
    ):
        yield {"mlserver": both, "mlflow forest": forest, "mlflow pipeline": pipeline}


def endpoint(urls: dict[str, str], server: str, name: str) -> Endpoint:
    classes = tuple(map(str, (FOREST if name == "forest" else PIPELINE).classes_))
    if server == "mlserver":
        return Endpoint(
            urls["mlserver"],
            model_name=name,
            answer="predict_proba",
            classes=classes,
            batch_size=50,
        )
    return Endpoint(urls[f"mlflow {name}"], "mlflow", classes=classes, batch_size=50)


@pytest.mark.parametrize("server", ["mlserver", "mlflow"])
@pytest.mark.parametrize("name", ["forest", "pipeline"])
def test_outputs_and_audit_are_those_of_the_model_itself(urls, tmp_path, server, name):
    model, x, y = (FOREST, ARRAY, Y) if name == "forest" else (PIPELINE, FRAME, WORDS)
    members, others = (x[:N], y[:N]), (x[N:], y[N:])
    here = memberscope.audit(model, members, others, policy="demo", plan=PLAN)
    with HttpTarget(endpoint(urls, server, name), ledger=tmp_path / "ledger") as target:
        there = memberscope.audit(target, members, others, policy="demo", plan=PLAN)
        assert target.spent() == QuerySpending(2 * N + 32, 2 * N + 32, 0)
        np.testing.assert_allclose(target.query(x[:40]), model.predict_proba(x[:40]), atol=1e-5)
    assert there.verdict == here.verdict == ("FAIL" if name == "forest" else here.verdict)
    assert there.controls["determinism"].passed
    assert [(e.attack, e.metric, e.group, e.fpr) for e in there.estimates] == [
        (e.attack, e.metric, e.group, e.fpr) for e in here.estimates
    ]
    values = np.array(
        [[a.value, b.value] for a, b in zip(here.estimates, there.estimates, strict=True)]
    )
    np.testing.assert_allclose(values[:, 0], values[:, 1], atol=1e-5)


@pytest.mark.parametrize("server", ["mlserver", "mlflow"])
def test_labels_alone_and_what_the_server_refuses(urls, server):
    with (
        HttpTarget(endpoint(urls, server, "forest")) as target,
        pytest.raises(TargetError, match=r"status [45]00"),
    ):
        target.query(ARRAY[:5, :3])
    if server == "mlserver":
        only = Endpoint(
            urls["mlserver"], model_name="forest", answer="predict", outputs="labels", n_classes=3
        )
        with HttpTarget(only) as target:
            np.testing.assert_array_equal(target.query(ARRAY)[:, 0], FOREST.predict(ARRAY))
        nobody = Endpoint(urls["mlserver"], model_name="nobody", n_classes=3)
        with HttpTarget(nobody) as target, pytest.raises(InputError, match="status 404"):
            target.query(ARRAY)
