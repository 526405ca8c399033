"""The audit through the guard is the audit of the wrapped model.

And nothing around an answer tells members from others.
"""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import orjson
import pytest
from guarded import guarded, policy
from unruly import serving

from memberscope import audit
from memberscope.auditing import Plan
from memberscope.guard.hashing.secret_key import create_key_file
from memberscope.guard.policy.keyed_defence import build_keyed_defence
from memberscope.targets import FunctionTarget, HttpTarget, RestrictedTarget
from memberscope.types import Records
from memberscope.wire.endpoint import Endpoint

N, CLASSES = 60, 4
RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(2 * N, 5)), RNG.integers(0, CLASSES, 2 * N)
MEMBER = np.arange(2 * N) < N
PLAN = Plan(restrictions=(), search_queries=0, fprs=(0.1,), priors=(0.01,))
V2 = {"protocol": "v2", "model_name": "m", "answer": "p", "n_classes": CLASSES}


def memorising(x: np.ndarray) -> np.ndarray:
    """Probabilities by the nearest member's label, surer the nearer it is.

    Each row by itself, whatever the batch.
    """
    rows = []
    for row in np.asarray(x, dtype=np.float64):
        distance = np.sqrt(((X[MEMBER] - row) ** 2).sum(axis=1))
        weights = np.exp(-2 * distance)
        rows.append(np.bincount(Y[MEMBER], weights, CLASSES) + 1e-3)
    found = np.array(rows)
    return found / found.sum(axis=1, keepdims=True)


async def model_server(scope, receive, send):
    body, more = b"", True
    while more:
        event = await receive()
        body, more = body + event.get("body", b""), event.get("more_body", False)
    status, told = 404, b"{}"
    if scope["method"] == "POST":
        tensor = orjson.loads(body)["inputs"][0]
        p = memorising(np.reshape(tensor["data"], tensor["shape"]))
        output = {
            "name": "p",
            "datatype": "FP64",
            "shape": list(p.shape),
            "data": p.ravel().tolist(),
        }
        status, told = 200, orjson.dumps({"model_name": "m", "outputs": [output]})
    headers = [
        (b"content-type", b"application/json"),
        (b"x-model-time", b"%d" % len(told)),
        (b"etag", b'"%d"' % hash(told)),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": told})


def records(side: np.ndarray) -> Records:
    return Records(X[side], Y[side], np.flatnonzero(side).astype(str))


def estimates(target) -> list[str]:
    """All of the audit's estimates with their intervals.

    An endpoint does not say which restriction is in force behind it.
    """
    found = audit(target, records(MEMBER), records(~MEMBER), plan=PLAN).estimates
    return sorted(repr(asdict(estimate) | {"restriction": None}) for estimate in found)


@pytest.mark.parametrize(
    ("restrict", "declared"),
    [("top:3+round:2", {"top_k": 3}), ("noise:0.5", {}), ("label", {"outputs": "labels"})],
)
def test_an_audit_through_the_guard_is_that_of_the_wrapped_model(restrict, declared, tmp_path):
    create_key_file(tmp_path / "guard.key")
    given = policy(
        serving=V2,
        default={"restrict": restrict, "per_client": "100000/h", "per_record": "1000/h"},
        monitor={"key": "guard.key"},
        home=str(tmp_path),
    )
    with serving(model_server) as upstream, guarded(upstream, given) as guard:
        wrapped = RestrictedTarget(
            FunctionTarget(memorising, n_classes=CLASSES), build_keyed_defence(given, restrict)
        )
        with HttpTarget(
            Endpoint(guard.url, model_name="m", answer="p", n_classes=CLASSES, **declared)
        ) as target:
            np.testing.assert_array_equal(target.query(X), wrapped.query(X))
            assert estimates(target) == estimates(wrapped)

        shown: dict[bool, set] = {True: set(), False: set()}
        for row, member in zip(X, MEMBER.tolist(), strict=True):
            body = {
                "inputs": [{"name": "x", "shape": [1, 5], "datatype": "FP64", "data": row.tolist()}]
            }
            answer = guard.ask(
                "POST", "/v2/models/m/infer", body, {"content-type": "application/json"}
            )
            values = {
                name: value
                for name, value in answer.headers.items()
                # What is left of the client's own budget falls with each request
                if name not in ("date", "content-length", "ratelimit")
            }
            shown[member].add((answer.status, tuple(answer.headers), tuple(values.items())))
            assert answer.headers["content-length"] == str(len(answer.body))
        assert shown[True] == shown[False] and len(shown[True]) == 1
