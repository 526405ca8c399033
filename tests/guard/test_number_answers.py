"""A guard in front of models that predict numbers, or a probability of each label."""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from running_guard import ask, running

from memberscope.errors import InputError
from memberscope.guard.policy.config import parse_guard_policy
from memberscope.guard.policy.tables import ServingConfig
from memberscope.guard.rewriting.exchange import Exchange
from memberscope.outputs import parse_restriction


def answer_with(serving, document, restrict, n=2):
    exchange = Exchange.of(ServingConfig(**serving))
    body, tops = exchange.answer(json.dumps(document).encode(), n, parse_restriction(restrict))
    assert tops.tolist() == [0] * n
    return json.loads(body)


REGRESSION = {"protocol": "mlflow", "task": "regression"}


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ([3.14159, 2.71828], [3.1, 2.7]),
        ([[3.14159], [2.71828]], [[3.1], [2.7]]),
        ([[3.14159, 10.06], [2.71828, -1.04]], [[3.1, 10.1], [2.7, -1.0]]),
        (
            [{"low": 3.14159, "high": 9.99}, {"low": 2.71828, "high": 4.04}],
            [{"low": 3.1, "high": 10.0}, {"low": 2.7, "high": 4.0}],
        ),
    ],
)
def test_numbers_keep_their_form(given, wanted):
    assert answer_with(REGRESSION, {"predictions": given}, "decimals:1") == {"predictions": wanted}


def test_what_else_an_answer_says_is_dropped():
    document = {"predictions": [3.14159, 2.71828], "exact": [3.14159265, 2.718281828]}
    assert answer_with(REGRESSION, document, "digits:2") == {"predictions": [3.1, 2.7]}


@pytest.mark.parametrize("shape", [[2], [2, 1]])
def test_a_tensor_keeps_its_shape(shape):
    tensor = {"name": "y", "shape": shape, "datatype": "FP32", "data": [3.14159, 2.71828]}
    serving = {"protocol": "v2", "model_name": "m", "answer": "y", "task": "forecast"}
    found = answer_with(serving, {"outputs": [tensor]}, "interval:1")
    assert found["outputs"] == [
        {"name": "y", "shape": shape, "datatype": "FP64", "data": [3.5, 2.5]}
    ]


def test_logits_of_labels_become_restricted_probabilities():
    serving = {"protocol": "mlflow", "task": "multilabel", "outputs": "logits", "n_classes": 3}
    found = answer_with(
        serving, {"predictions": [[-9.0, 0.1, 9.0], [2.0, -2.0, 0.0]]}, "labels:0.5"
    )
    assert set(np.ravel(found["predictions"])) <= {0.0, 1.0}
    assert found["predictions"][0] == [0.0, 1.0, 1.0]


@pytest.mark.parametrize(
    "given",
    [[3.1], [3.1, "a"], [[1.0, 2.0], [1.0]], [float("nan"), 1.0], [{"a": 1.0}, {"b": 1.0}], "x"],
)
def test_answers_that_are_no_numbers_never_pass(given):
    exchange = Exchange.of(ServingConfig(**REGRESSION))
    with pytest.raises(Exception, match="Expected"):
        exchange.answer(
            json.dumps({"predictions": given}).encode(), 2, parse_restriction("digits:2")
        )


@pytest.mark.parametrize(
    ("task", "restrict", "words"),
    [
        ("regression", "top:1", "a restriction for regression"),
        ("regression", "label", "a restriction for regression"),
        ("multilabel", "interval:5", "a restriction for multilabel"),
        ("classification", "decimals:1", "no restriction of numbers on a model of classification"),
    ],
)
def test_a_restriction_of_another_task_is_refused(task, restrict, words):
    serving = {"protocol": "mlflow", "task": task, "n_classes": 3}
    with pytest.raises(InputError, match=words):
        parse_guard_policy({"serving": serving, "default": {"restrict": restrict}})


def test_alarms_that_coarsen_need_a_restriction_of_the_task():
    serving = {"protocol": "mlflow", "task": "regression"}
    with pytest.raises(InputError, match="a restriction for regression, got label"):
        parse_guard_policy({"serving": serving, "respond": {"probing": "coarsen"}})
    respond = {"probing": "coarsen", "coarsen": "digits:1"}
    assert (
        parse_guard_policy({"serving": serving, "respond": respond}).respond.coarsen == "digits:1"
    )


class Regressor(BaseHTTPRequestHandler):
    """A server of a linear model with numbers of many digits."""

    def do_POST(self):
        records = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["inputs"]
        values = [float(np.dot(record, [1.0 / 3.0, 1.0 / 7.0])) for record in records]
        body = json.dumps({"predictions": values, "debug": "weights"}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *parts):
        pass


@contextmanager
def serving_numbers():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Regressor)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


POLICY = """
[serving]
protocol = "mlflow"
task = "regression"
[default]
restrict = "decimals:2"
per_record = "2/365d"
"""


def test_a_running_guard_rounds_numbers_and_keeps_budgets(tmp_path):
    (tmp_path / "guard.toml").write_text(POLICY)
    rows = {"inputs": [[1.0, 2.0], [4.0, 5.5]]}
    with serving_numbers() as upstream, running(tmp_path, upstream) as (guard, _):
        port = guard.said("serving")["port"]
        for _ in range(2):
            status, body = ask(port, "POST", "/invocations", rows)[:2]
            assert status == 200
            assert json.loads(body) == {"predictions": [0.62, 2.12]}
        assert ask(port, "POST", "/invocations", rows)[0] == 429


def test_a_policy_is_drafted_from_an_audit_of_numbers(tmp_path):
    import tomllib

    from sklearn.tree import DecisionTreeRegressor

    import memberscope
    from memberscope.auditing import Plan, load_policy
    from memberscope.policygen import choose_served_outputs, draft_policy, read_evidence
    from memberscope.reports import write_all

    rng = np.random.default_rng(0)
    x = rng.normal(size=(1200, 5))
    y = x[:, 0] * 3 + rng.normal(size=1200)
    model = DecisionTreeRegressor(max_depth=9, random_state=0).fit(x[:600], y[:600])
    (tmp_path / "policy.toml").write_text("[[policy.max_tpr]]\nfpr = 0.1\ntpr = 0.3\n")
    policy = load_policy(str(tmp_path / "policy.toml"))
    plan = Plan(restrictions=("interval:1", "interval:20"), policy=policy)
    result = memberscope.audit(model, (x[:600], y[:600]), (x[600:], y[600:]), plan=plan)
    write_all(result, tmp_path / "out")
    assert result.verdict == "FAIL"
    evidence = read_evidence(tmp_path / "out")
    assert evidence.gaps == ()
    assert [entry.restrict for entry in evidence.candidates] == [
        "none",
        "interval:1",
        "interval:20",
    ]
    chosen = choose_served_outputs(evidence).candidate
    assert chosen is not None and chosen.restrict == "interval:20"
    table = tomllib.loads(draft_policy(evidence, chosen, tmp_path))
    assert table["serving"]["task"] == "regression" and "n_classes" not in table["serving"]
    guard = parse_guard_policy(table)
    assert (guard.default.restrict, guard.measured.level) == ("interval:20", "interval:20")
