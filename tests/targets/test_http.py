"""A target over HTTP against a real server that misbehaves on order.

What the server counted is compared with the ledger.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from unruly import Unruly, model, serving

from memberscope.errors import InputError, TargetError
from memberscope.outputs.chain import parse_restriction
from memberscope.signals import Store, collect_outputs, measure_signal
from memberscope.targets import HttpTarget, RestrictedTarget, read_class_names, wrap
from memberscope.targets.http.ledger import QuerySpending
from memberscope.types import Access, Records, SignalSpec, Target
from memberscope.wire.endpoint import Endpoint

X = np.random.default_rng(0).normal(size=(200, 2))
NAMES = ("cat", "dog", "eel")


def endpoint(url: str, **settings) -> Endpoint:
    given = {
        "protocol": "json",
        "body": '{"records": "$records"}',
        "answer": "predictions",
        "n_classes": 3,
        "backoff": 0.01,
    }
    given |= {"batch_size": 16, "timeout": 20.0} | settings
    return Endpoint(f"{url}/score", **given)


def counted(app: Unruly) -> int:
    return sum(app.reached.values())


@pytest.mark.parametrize(
    ("path", "settings"),
    [
        (
            "/score",
            {"protocol": "json", "body": '{"records": "$records"}', "answer": "predictions"},
        ),
        (
            "/score",
            {"protocol": "json", "body": '{"record": "$record"}', "answer": "predictions[0]"},
        ),
        ("", {"protocol": "mlflow"}),
        ("", {"protocol": "mlflow", "columns": ("a", "b")}),
        ("", {"protocol": "v2", "model_name": "m"}),
    ],
)
def test_each_protocol_gives_the_models_answers_and_pays_once(tmp_path, path, settings):
    with (
        serving(Unruly()) as url,
        HttpTarget(Endpoint(url + path, n_classes=3, **settings), ledger=tmp_path / "l") as target,
    ):
        np.testing.assert_allclose(target.query(X[:70]), model(X[:70]), atol=1e-15)
        assert target.spent() == QuerySpending(70, 70, 0)
        assert isinstance(target, Target) and wrap(target) is target
        assert (target.access, target.signal, target.costly, target.digest) == (
            Access.PROBABILITIES,
            "probabilities",
            True,
            None,
        )


@pytest.mark.parametrize(
    "fault", ["500", "503:0", "truncated", "429:0", "429", "429-date:0", "408"]
)
def test_a_fault_that_passes_is_tried_again_and_both_sides_count_the_same(fault):
    app = Unruly("fine", fault, "fine", fault, fault)
    with serving(app) as url, HttpTarget(endpoint(url)) as target:
        np.testing.assert_allclose(target.query(X), model(X), atol=1e-15)
        spent = target.spent()
    assert spent.sent == counted(app) >= len(X)
    assert (spent.sent == len(X)) == fault.startswith("429") or app.refused == 0
    assert app.largest == 16 and app.most_active <= 4


REFUSED = {
    "hang": (TargetError, "no whole answer within 0.4 s in 2 tries"),
    "drip": (TargetError, "no whole answer within 0.4 s"),
    "endless": (TargetError, "a body of more than 1000000 bytes"),
    "truncated": (TargetError, "a broken connection"),
    "half": (TargetError, "bytes that are not JSON or not complete"),
    "html": (TargetError, "Expected JSON from the server"),
    "shape": (TargetError, r"3 scores a record, got shape \(10, 2\)"),
    "nan": (TargetError, "3 that are NaN or infinite"),
    "fewer": (TargetError, "Expected 10 answers from .*, got 9"),
    "other": (TargetError, "an object with error"),
    "labels": (TargetError, "3 scores a record, got one"),
    "words": (TargetError, "got something else"),
    "500": (TargetError, r"status 500 \(broken\) in 2 tries"),
    "elsewhere": (TargetError, "a redirect to http://127.0.0.2:1/score, which was not followed"),
    "see": (TargetError, "which was not followed"),
    "moved": (TargetError, "more than 3 redirects"),
    "400:bad input": (TargetError, r"status 400 \(bad input\)"),
    "400:got -0.25 for -2.5e-07": (TargetError, r"status 400 \(got … for …\)"),
    "401": (InputError, "Check the token"),
    "404": (InputError, "Check --url"),
    "429:1000": (TargetError, "the wish to wait 1000 s"),
}


@pytest.mark.parametrize("order", REFUSED)
def test_a_fault_that_stays_is_one_sentence_and_never_a_score(order):
    kind, words = REFUSED[order]
    app = Unruly(always=order)
    settings = {
        "retries": 1,
        "timeout": 0.4 if order in ("hang", "drip") else 20.0,
        "max_bytes": 10**6,
    }
    with serving(app) as url, HttpTarget(endpoint(url, **settings)) as target:
        with pytest.raises(kind, match=words) as caught:
            target.query(X[:10])
        assert target.spent() == QuerySpending(counted(app), 0, 10 if counted(app) else 0)
    assert caught.value.exit_code == (4 if kind is TargetError else 2)
    assert str(caught.value).startswith("Expected ") and "\n" not in str(caught.value)


def test_nobody_there_is_a_sentence_and_costs_nothing():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with HttpTarget(endpoint(f"http://127.0.0.1:{port}", retries=2)) as target:
        with pytest.raises(TargetError, match=r"no connection .* in 3 tries"):
            target.query(X[:10])
        assert target.spent().sent == 0


def test_a_redirect_within_the_server_is_followed():
    app = Unruly("moved")
    with serving(app) as url, HttpTarget(endpoint(url)) as target:
        np.testing.assert_allclose(target.query(X[:10]), model(X[:10]))
        assert target.spent().sent == counted(app) == 10


@pytest.mark.parametrize("faults", [["429:1"], ["429-date:2"], ["503:1"]])
def test_retry_after_holds_every_request_back(faults):
    """On the server's own clock: nothing arrives before the time it named.

    Whole seconds being all that a date can say.
    """
    app = Unruly("fine", *faults)
    with serving(app) as url, HttpTarget(endpoint(url, concurrency=1)) as target:
        target.query(X[:64])
    assert app.times[2] - app.times[1] >= 0.95


def test_requests_leave_no_faster_than_the_rate():
    app = Unruly("fine", "500", "429:0")
    with serving(app) as url, HttpTarget(endpoint(url, rate=50.0, concurrency=8)) as target:
        target.query(X)
    assert app.times[-1] - app.times[0] >= (len(app.times) - 1) / 50 * 0.95


def test_as_many_requests_at_a_time_as_declared():
    app = Unruly(slow=0.05)
    with serving(app) as url, HttpTarget(endpoint(url, concurrency=5, batch_size=4)) as target:
        target.query(X)
    assert app.most_active == 5 and app.largest == 4


@pytest.mark.parametrize("budget", [1, 2, 3])
def test_no_record_is_sent_more_often_than_the_budget_under_retries_in_parallel(budget):
    rng = np.random.default_rng(budget)
    faults = [
        str(
            rng.choice(["fine", "500", "truncated", "429:0", "half"], p=[0.5, 0.2, 0.1, 0.15, 0.05])
        )
        for _ in range(60)
    ]
    app = Unruly(*faults, slow=0.002)
    with (
        serving(app) as url,
        HttpTarget(endpoint(url, concurrency=8, batch_size=7), query_budget=budget) as target,
    ):
        stopped = 0
        for _ in range(12):
            try:
                np.testing.assert_allclose(target.query(X), model(X), atol=1e-15)
                break
            except InputError as error:
                assert "queries a record" in str(error)
                stopped += 1
                break
            except TargetError:
                stopped += 1
        spent = target.spent()
    assert max(app.reached.values()) <= budget
    assert spent.sent == counted(app)
    assert stopped or spent.answered == len(X)


def test_the_total_is_never_passed_and_the_sentence_says_what_to_do():
    app = Unruly("fine", "500", slow=0.01)
    with serving(app) as url, HttpTarget(endpoint(url, max_queries=100)) as target:
        with pytest.raises(
            InputError, match="at most 100 queries, got 0 booked and 200 more to send"
        ):
            target.query(X)
        assert app.requests == 0
        target.query(X[:80])
        with pytest.raises(
            InputError, match="at most 100 queries, got 96 booked and 20 more to send"
        ):
            target.query(X[100:120])
        assert counted(app) == target.spent().sent == 96


def test_a_budget_holds_behind_a_defence_too():
    app = Unruly("fine", "500", "500")
    everything = Records(X, np.zeros(200, dtype=np.int64), np.arange(200).astype(str))
    with (
        serving(app) as url,
        HttpTarget(endpoint(url), query_budget=1) as target,
        pytest.raises(InputError, match="query-budget"),
    ):
        collect_outputs(RestrictedTarget(target, parse_restriction("top:1")), everything)
    assert max(app.reached.values()) == 1


def test_owners_share_a_budget_over_different_records():
    """Two views of one record are two queries of it."""
    with serving(Unruly()) as url, HttpTarget(endpoint(url), query_budget=2) as target:
        owners = [f"id {k}" for k in range(20)]
        target.query(X[:20], owners=owners)
        target.query(X[20:40], owners=owners)
        with pytest.raises(InputError, match="at most 2 queries a record"):
            target.query(X[40:60], owners=owners)


def test_a_search_stays_within_each_records_budget_although_requests_fail():
    """Moved copies count for the record they are copies of, sent again or not.

    The search keeps a tenth back for that.
    """
    app = Unruly(*["fine", "fine", "fine", "500"] * 4)
    records = Records(X[:60], model(X[:60]).argmax(axis=1), np.arange(60).astype(str))
    with serving(app) as url, HttpTarget(endpoint(url), query_budget=40) as target:
        found = measure_signal(
            target, records, SignalSpec("boundary", parameters=(("queries", 36.0),))
        )
        assert target.spent().sent == counted(app) > found.queries[:, -1].sum(), (
            "some were sent again"
        )
        assert found.queries.max() <= 36
        with pytest.raises(InputError, match="query-budget"):
            for _ in range(30):
                target.query(X[:1], owners=["boundary:0"])
        assert counted(app) <= 60 * 40


def test_asked_twice_is_sent_twice_and_on_resume_not_at_all(tmp_path):
    app = Unruly()
    with serving(app) as url:
        for _ in range(2):
            with HttpTarget(endpoint(url), ledger=tmp_path / "l") as target:
                once, twice = target.query(X), target.query(X[:32])
                np.testing.assert_array_equal(once[:32], twice)
                assert target.spent() == QuerySpending(232, 232, 0)
        assert counted(app) == 232
        assert all(app.reached[tuple(row)] == 2 for row in X[:32])


def test_progress_is_told_by_answer_and_only_of_the_first_asking(tmp_path):
    told: list[tuple[int, int]] = []
    everything = Records(X, np.zeros(200, dtype=np.int64), np.arange(200).astype(str))
    with (
        serving(Unruly()) as url,
        HttpTarget(endpoint(url, batch_size=50), ledger=tmp_path / "l") as target,
    ):
        collect_outputs(target, everything, progress=lambda *now: told.append(now))
        assert told == [(50, 200), (100, 200), (150, 200), (200, 200), (200, 200)]
        target.query(X)
        assert len(told) == 5


def test_records_that_are_alike_are_each_paid_for():
    app = Unruly()
    with serving(app) as url, HttpTarget(endpoint(url)) as target:
        target.query(np.repeat(X[:5], 4, axis=0))
    assert set(app.reached.values()) == {4}


def test_what_failed_is_asked_again_as_the_same_query():
    app = Unruly("fine", "fine", always="half")
    with serving(app) as url, HttpTarget(endpoint(url, concurrency=1)) as target:
        with pytest.raises(TargetError):
            target.query(X)
        paid = target.spent()
        assert paid.answered == 32 and paid.unanswered == 16
        app.always = "fine"
        np.testing.assert_allclose(target.query(X), model(X))
        assert target.spent().answered == 200 and counted(app) == 216


def test_a_wrong_declaration_costs_one_request():
    app = Unruly(always="labels", slow=0.02)
    with serving(app) as url, HttpTarget(endpoint(url, concurrency=8)) as target:
        with pytest.raises(TargetError, match="Declare --outputs labels"):
            target.query(X)
        assert counted(app) == 16


def test_after_an_error_what_is_in_flight_is_kept_and_nothing_else_is_sent():
    app = Unruly("fine", "wait", "wait", "400-of-four:no", "wait")
    with serving(app) as url, HttpTarget(endpoint(url, concurrency=4)) as target:
        done: list[TargetError] = []

        def ask() -> None:
            with pytest.raises(TargetError) as caught:
                target.query(X)
            done.append(caught.value)

        thread = threading.Thread(target=ask)
        thread.start()
        while not (app.refused and app.active == 3):
            time.sleep(0.01)
        app.open.set()
        thread.join()
        assert "status 400" in str(done[0])
        assert target.spent() == QuerySpending(64, 64, 0) and counted(app) == 64


CLIENT = """
import sys, numpy as np
from memberscope.signals import collect_outputs
from memberscope.targets import HttpTarget
from memberscope.types import Records
from memberscope.wire import Endpoint
x = np.random.default_rng(0).normal(size=(200, 2))
endpoint = Endpoint(sys.argv[1], protocol="json", body='{"records": "$records"}', answer="predictions", n_classes=3,
                    batch_size=8, concurrency=4)
target = HttpTarget(endpoint, ledger=sys.argv[2], query_budget=int(sys.argv[3]))
collect_outputs(target, Records(x, np.zeros(200, dtype=int), np.arange(200).astype(str)))
"""


def client(url: str, folder: Path, budget: int) -> subprocess.Popen[str]:
    command = [
        sys.executable,
        "-c",
        CLIENT,
        f"{url}/score",
        str(folder / "ledger"),
        str(budget),
    ]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ
    )


def run_again(url: str, folder: Path, budget: int) -> tuple[Any, int]:
    """Do what `CLIENT` does, without a process that can be killed: answers, and records sent."""
    asked = Endpoint(
        f"{url}/score",
        protocol="json",
        body='{"records": "$records"}',
        answer="predictions",
        n_classes=3,
        batch_size=8,
        concurrency=4,
    )
    target = HttpTarget(asked, ledger=folder / "ledger", query_budget=budget)
    try:
        seen = collect_outputs(target, Records(X, np.zeros(200, int), np.arange(200).astype(str)))
        return seen, target.spent().sent
    finally:
        target.close()


@pytest.mark.parametrize("orders", [0, 5, 12, 24, 27])
def test_a_killed_run_goes_on_and_pays_again_for_what_was_in_flight_only(tmp_path, orders):
    """Kill -9 while `orders` requests were answered.

    What was out, at most four requests of eight records, is asked again.

    27 requests are past the first 200 records: the second answers, of the determinism probe, are
    not taken for the first.
    """
    app = Unruly(*["fine"] * orders, always="wait")
    with serving(app) as url:
        process = client(url, tmp_path, 4)
        out = 1 if orders == 0 else min(4, 29 - orders) if orders >= 25 else min(4, 25 - orders)
        while not (app.requests == orders + out and app.active == out):
            assert process.poll() is None, process.communicate()
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
        before = counted(app)
        assert before <= 8 * (orders + out)
        app.always = "fine"
        app.open.set()
        seen, sent = run_again(url, tmp_path, 4)
        assert seen.deterministic
        in_flight = 8 * 4  # whose answers, if any, were not stored yet
        assert 232 <= counted(app) <= 232 + in_flight
        # What was booked and never left counts as spent too
        assert counted(app) <= sent <= 232 + 2 * in_flight
        np.testing.assert_allclose(seen.outputs, model(X), atol=1e-15)
        assert run_again(url, tmp_path, 4)[0].deterministic
        assert counted(app) <= 232 + in_flight


def test_after_kill_9_a_budget_of_one_stops_rather_than_asks_again(tmp_path):
    app = Unruly(*["fine"] * 5, always="wait")
    with serving(app) as url:
        process = client(url, tmp_path, 1)
        while app.requests < 9:
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
        app.always = "fine"
        app.open.set()
        with pytest.raises(InputError, match="Raise --query-budget to ask them again"):
            run_again(url, tmp_path, 1)
        assert max(app.reached.values()) == 1


def test_the_servers_order_of_classes_is_mapped_and_names_are_read():
    with serving(Unruly()) as url:
        with HttpTarget(endpoint(url, n_classes=None, classes=("2", "0", "1"))) as target:
            assert target.classes == ("0", "1", "2")
            np.testing.assert_allclose(target.query(X), model(X)[:, [1, 2, 0]])
        with HttpTarget(endpoint(url, n_classes=None, classes=("eel", "cat", "dog"))) as target:
            np.testing.assert_allclose(target.query(X), model(X))
            assert read_class_names(target) == ("eel", "cat", "dog")
    with serving(Unruly(always="words")) as url:
        settings = {"n_classes": None, "classes": ("eel", "cat", "dog"), "outputs": "labels"}
        with HttpTarget(endpoint(url, **settings)) as target:
            np.testing.assert_array_equal(
                target.query(X)[:, 0], np.array([1, 2, 0])[model(X).argmax(axis=1)]
            )
            assert (target.signal, target.access) == ("labels", Access.LABEL)
        with (
            HttpTarget(endpoint(url, **settings | {"classes": ("eel", "cat")})) as target,
            pytest.raises(TargetError, match=r"labels among eel, cat.*, got 'dog'"),
        ):
            target.query(X)


def test_hidden_classes_are_nan_where_top_k_is_declared_and_else_an_error():
    with serving(Unruly(always="top2")) as url:
        with HttpTarget(endpoint(url, n_classes=None, classes=NAMES, top_k=2)) as target:
            found, p = target.query(X), model(X)
            assert target.hides and (np.isnan(found).sum(axis=1) == 1).all()
            np.testing.assert_array_equal(np.isnan(found).argmax(axis=1), p.argmin(axis=1))
            np.testing.assert_allclose(found[~np.isnan(found)], p[~np.isnan(found)])
        with HttpTarget(endpoint(url, n_classes=None, classes=NAMES)) as target:
            assert not target.hides
            with pytest.raises(TargetError, match="Declare --top-k 2"):
                target.query(X)


def test_v2_metadata_give_the_classes_and_a_new_version_ends_the_run():
    app = Unruly()
    app.version = "1"
    app.metadata = {
        "name": "m",
        "inputs": [{"name": "x", "datatype": "FP64", "shape": [-1, 2]}],
        "outputs": [{"name": "p", "datatype": "FP64", "shape": [-1, 3]}],
    }
    with serving(app) as url, HttpTarget(Endpoint(url, model_name="m", batch_size=16)) as target:
        assert target.n_classes == 3 and app.requests == 0
        np.testing.assert_allclose(target.query(X), model(X))
        app.version = "2"
        with pytest.raises(TargetError, match="version 1, got one of 2: the model was replaced"):
            target.query(X + 1)


def test_the_token_goes_to_the_server_alone_and_into_no_text(tmp_path, monkeypatch):
    token = "s3cret-token-of-the-test"
    monkeypatch.setenv("MY_TOKEN", token)
    other = Unruly()
    app = Unruly("fine", f"401:wrong {token}")
    with serving(other) as there, serving(app) as url:
        app.elsewhere = f"{there}/score"
        with HttpTarget(endpoint(url, auth_env="MY_TOKEN"), ledger=tmp_path / "l") as target:
            target.query(X[:16])
            assert app.seen[0]["authorization"] == f"Bearer {token}"
            with pytest.raises(InputError, match="the token in MY_TOKEN") as refused:
                target.query(X[16:32])
            app.always = "elsewhere"
            with pytest.raises(TargetError, match="not followed"):
                target.query(X[32:])
            texts = [
                str(refused.value),
                repr(target.__dict__),
                repr(target.endpoint),
                repr(refused.value.__context__),
            ]
        with HttpTarget(endpoint(url, auth_env="MY_TOKEN", auth_header="X-Api-Key")) as target:
            app.always = "fine"
            target.query(X[:16])
            assert app.seen[-1]["x-api-key"] == token
    assert other.seen == []
    assert not any(token in text for text in texts)
    assert token.encode() not in b"".join(path.read_bytes() for path in tmp_path.iterdir())


def test_a_certificate_is_checked_and_one_of_your_own_can_be_trusted(tmp_path):
    key, cert = tmp_path / "key.pem", tmp_path / "cert.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=test"
    subprocess.run(
        [
            *command.split(),
            "-addext",
            "subjectAltName=IP:127.0.0.1",
            "-keyout",
            str(key),
            "-out",
            str(cert),
        ],
        check=True,
        capture_output=True,
    )
    app = Unruly()
    with serving(app, ssl_certfile=str(cert), ssl_keyfile=str(key)) as url:
        with HttpTarget(endpoint(url)) as target:
            with pytest.raises(TargetError, match="a certificate that is not trusted"):
                target.query(X[:10])
            assert counted(app) == 0 == target.spent().sent
        with HttpTarget(endpoint(url, ca_file=str(cert))) as target:
            np.testing.assert_allclose(target.query(X), model(X))
    with pytest.raises(InputError, match="--ca-file"):
        HttpTarget(endpoint("https://localhost", ca_file=str(tmp_path / "none.pem")))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"url": "ftp://h/x"}, "--url"),
        ({"url": "models.example"}, "--url"),
        ({"url": "http://me:pass@h/x"}, "--auth-env"),
        ({"protocol": "v3"}, "--protocol"),
        ({"protocol": "v2"}, "--model-name"),
        ({"body": None}, "--body"),
        ({"answer": "a["}, "--answer"),
        ({"outputs": "scores"}, "labels, probabilities or logits"),
        ({"n_classes": 1}, "--n-classes"),
        ({"classes": ("a", "a")}, "--classes"),
        ({"classes": ("a", "b")}, "--n-classes"),
        ({"top_k": 0}, "--top-k"),
        ({"batch_size": 0}, "--batch-size"),
        ({"concurrency": 0}, "--concurrency"),
        ({"retries": -1}, "--retries"),
        ({"rate": 0.0}, "--rate"),
        ({"timeout": float("nan")}, "--timeout"),
        ({"max_queries": 0}, "--max-queries"),
        ({"auth_env": "NOT_SET_ANYWHERE"}, "NOT_SET_ANYWHERE"),
        ({"auth_header": "a b"}, "--auth-header"),
    ],
)
def test_what_cannot_be_declared_is_refused_before_anything_is_sent(settings, words):
    given = {
        "url": "http://h/x",
        "protocol": "json",
        "body": '{"a": "$records"}',
        "answer": "b",
        "n_classes": 3,
    } | settings
    with pytest.raises(InputError, match=words) as caught:
        Endpoint(**given)
    assert "pass" not in str(caught.value).split() and str(caught.value).startswith("Expected ")


def test_a_token_that_cannot_be_sent_is_not_shown(monkeypatch):
    monkeypatch.setenv("MY_TOKEN", "two\nlines")
    with pytest.raises(InputError) as caught:
        endpoint("http://h", auth_env="MY_TOKEN")
    assert "lines" not in str(caught.value)


def test_the_identity_follows_what_decides_an_answer_and_nothing_else():
    base = endpoint("http://h")
    same = [
        endpoint("http://h", rate=3.0),
        endpoint("http://h", batch_size=3),
        endpoint("http://h", retries=9),
    ]
    others = [
        endpoint("http://g"),
        endpoint("http://h", outputs="logits"),
        endpoint("http://h", answer="outputs"),
        endpoint("http://h", n_classes=4),
        endpoint("http://h", model_version="2"),
    ]
    assert {entry.identity for entry in same} == {base.identity}
    assert len({base.identity, *(entry.identity for entry in others)}) == 1 + len(others)


def test_collect_resumes_through_the_ledger_and_asks_the_probe_again(tmp_path):
    """The store caches nothing of an endpoint.

    So that the second answers of a resumed run are not its first ones.
    """
    app = Unruly()
    records = Records(X, np.zeros(len(X), dtype=int), np.arange(len(X)).astype(str))
    with serving(app) as url:
        for _ in range(2):
            with HttpTarget(endpoint(url), ledger=tmp_path / "l") as target:
                seen = collect_outputs(target, records, store=Store(tmp_path / "s"))
                assert seen.deterministic and seen.queries == 232
        assert counted(app) == 232 and not (tmp_path / "s").exists()


def test_it_works_where_a_loop_runs_already_and_closes_itself():
    async def notebook(url: str) -> np.ndarray:
        return HttpTarget(endpoint(url)).query(X)

    with serving(Unruly()) as url:
        np.testing.assert_allclose(asyncio.run(notebook(url)), model(X))
    gc.collect()
    assert [
        thread.name for thread in threading.enumerate() if thread.name in ("endpoint", "ledger")
    ] == []


def test_no_records_are_no_request():
    app = Unruly()
    with serving(app) as url, HttpTarget(endpoint(url)) as target:
        assert target.query(X[:0]).shape == (0, 3) and app.requests == 0


def test_without_the_extra_a_sentence_says_what_to_install():
    code = (
        "import sys; sys.modules['httpx2'] = None\n"
        "from memberscope.targets import HttpTarget\n"
        "from memberscope.wire import Endpoint\n"
        "HttpTarget(Endpoint('http://h', model_name='m'))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "pip install memberscope[http]" in done.stderr


def test_json_without_orjson_is_the_same():
    code = (
        "import sys; sys.modules['orjson'] = None\n"
        "from memberscope.targets.http.target import dump_json, parse_json\n"
        "print(dump_json({'a': [0.1, 1, None, 'é']}).decode('ascii'), parse_json(b'[0.1]'))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout.split("}")[0] + "}") == {"a": [0.1, 1, None, "é"]}
