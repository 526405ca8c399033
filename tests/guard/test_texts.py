"""Completions and chat behind a guard: what asks for log-probabilities gets what the policy shows."""

from __future__ import annotations

import gzip
import http.client
import json
import re
import threading
from urllib.parse import urlsplit

import numpy as np
import pytest
from generating import Generating, generate, list_tops, name_token
from guarded import Answer, guarded
from text_server import TABLE, TextServer, score, tokenize
from unruly import serving

from memberscope.errors import InputError, TargetError
from memberscope.guard.policy.config import parse_guard_policy
from memberscope.guard.rewriting.event_streams import EventStream
from memberscope.targets import TextServerTarget
from memberscope.wire import TextEndpoint

COMPLETIONS, CHAT = "/v1/completions", "/v1/chat/completions"
JSON = {"content-type": "application/json"}
TEXT = "text number 1"
SAID = [{"role": "user", "content": TEXT}]
UNTOLD = -9999.0
# Every way of asking that is read, and the path where it is
ASKED = {
    "logprobs": (COMPLETIONS, {"prompt": TEXT, "logprobs": 5}),
    "logprobs of none beside": (COMPLETIONS, {"prompt": TEXT, "logprobs": 0}),
    "echo": (COMPLETIONS, {"prompt": TEXT, "logprobs": 2, "echo": True}),
    "prompt_logprobs": (COMPLETIONS, {"prompt": TEXT, "prompt_logprobs": 3}),
    "several": (COMPLETIONS, {"prompt": [TEXT, "b"], "logprobs": 5, "n": 2}),
    "chat": (CHAT, {"messages": SAID, "logprobs": True, "top_logprobs": 4}),
    "chat of none beside": (CHAT, {"messages": SAID, "logprobs": True}),
    "chat in parts": (
        CHAT,
        {
            "messages": [{"role": "user", "content": [{"type": "text", "text": TEXT}]}],
            "logprobs": True,
            "top_logprobs": 4,
        },
    ),
}


def policy(restrict: str = "label", texts: dict | None = None, **tables):
    serving_table = {"protocol": "openai", "texts": {"max_samples": 2} | (texts or {})}
    default = {"restrict": restrict} | tables.pop("default", {})
    return parse_guard_policy({"serving": serving_table, "default": default} | tables)


def events(body: bytes) -> list:
    lines = [line for line in body.decode().split("\n") if line]
    assert all(line == ":" or line.startswith("data: ") for line in lines)
    told = [line.removeprefix("data: ") for line in lines if line != ":"]
    assert told[-1] == "[DONE]"
    return [json.loads(one) for one in told[:-1]]


def numbers(body: bytes) -> list[float]:
    """Every number with a fraction in a body."""
    return [float(word) for word in re.findall(rb"-?\d+\.\d+(?:[eE][-+]?\d+)?", body)]


@pytest.mark.parametrize("tells", [False, True])
@pytest.mark.parametrize("stream", [False, True])
def test_hidden_log_probabilities_pass_in_no_spelling(stream, tells):
    app = Generating(tells=tells, split=7)
    with serving(app) as upstream, guarded(upstream, policy()) as guard:
        for spelling, (path, document) in ASKED.items():
            answer = guard.ask("POST", path, document | {"stream": stream}, JSON)
            assert answer.status == 200 and numbers(answer.body) == [], spelling
            asked = app.bodies[-1].keys()
            assert not {"logprobs", "top_logprobs", "prompt_logprobs"} & asked
            choices = [choice for _, choice in list_choices(answer, stream)]
            assert all(choice.get("logprobs") is None for choice in choices)
            assert len({choice["index"] for choice in choices}) == (
                4 if spelling == "several" else 1
            )
            # The generated text itself is what it was
            if not document.get("echo"):
                said = " ".join(map(read_said, [c for c in choices if c["index"] == 0]))
                assert said.split() == [name_token(token) for token in generate(TEXT, 4)]


def list_choices(answer: Answer, stream: bool) -> list[tuple[int, dict]]:
    """The choices of an answer, or of all parts of one, each with its index."""
    chunks = events(answer.body) if stream else [answer.json]
    return [(choice["index"], choice) for chunk in chunks for choice in chunk["choices"]]


def read_said(choice: dict) -> str:
    """The generated text of a choice, in whatever form."""
    return choice.get("delta", choice.get("message", {})).get("content") or choice["text"]


def read_told(told: list[dict]) -> tuple[list, list]:
    """Values of the tokens themselves and those of the most probable ones, in whatever form."""
    own, tops = [], []
    for one in told:
        if "content" in one:
            tops += [{e["token"]: e["logprob"] for e in x["top_logprobs"]} for x in one["content"]]
            own += [x["logprob"] for x in one["content"]]
        else:
            tops += one["top_logprobs"]
            own += one["token_logprobs"]
    return own, tops


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("k", [1, 3])
def test_the_most_probable_tokens_alone_are_shown(stream, k):
    app = Generating(split=11)
    whole = tokenize(TEXT) + generate(TEXT, 4)
    with serving(app) as upstream, guarded(upstream, policy(f"top:{k}")) as guard:
        for spelling, (path, document) in ASKED.items():
            if spelling == "prompt_logprobs":
                continue
            answer = guard.ask("POST", path, document | {"stream": stream}, JSON)
            assert app.bodies[-1]["top_logprobs" if path == CHAT else "logprobs"] == k
            choices = [choice for index, choice in list_choices(answer, stream) if index == 0]
            own, tops = read_told([choice["logprobs"] for choice in choices])
            start = 0 if document.get("echo") else len(whole) - 4
            places = range(start, start + len(tops))
            expected = [dict(list_tops(whole[place - 1], k)) if place else None for place in places]
            assert tops == expected
            # The generated token is the second one, those of the prompt are any
            values = [None, *score(whole).tolist()][start : start + len(own)]
            assert own == [
                value if top is None or value >= min(top.values()) else UNTOLD
                for value, top in zip(values, tops, strict=True)
            ]
            assert k == 3 or UNTOLD in own


@pytest.mark.parametrize("digits", [1, 0])
@pytest.mark.parametrize("stream", [False, True])
def test_values_are_rounded_and_nothing_finer_passes(stream, digits):
    app = Generating(split=5)
    with serving(app) as upstream, guarded(upstream, policy(f"round:{digits}")) as guard:
        for path, document in ASKED.values():
            answer = guard.ask("POST", path, document | {"stream": stream}, JSON)
            found = numbers(answer.body)
            assert found and all(value == round(value, digits) for value in found)
            assert b"rank" not in answer.body and b"cumulative" not in answer.body
        answer = guard.ask("POST", *ASKED["logprobs"], JSON)
    expected = np.round(score(tokenize(TEXT) + generate(TEXT, 4))[-4:], digits)
    assert answer.json["choices"][0]["logprobs"]["token_logprobs"] == expected.tolist()


def test_of_a_prompt_only_the_most_probable_tokens_are_shown():
    app = Generating()
    with serving(app) as upstream, guarded(upstream, policy("top:2")) as guard:
        answer = guard.ask("POST", COMPLETIONS, ASKED["prompt_logprobs"][1], JSON)
    entries = answer.json["choices"][0]["prompt_logprobs"]
    ids = tokenize(TEXT)
    assert app.bodies[0]["prompt_logprobs"] == 2 and entries[0] is None
    for before, entry in zip(ids, entries[1:], strict=False):
        expected = {str(token): TABLE[before, token] for token in np.argsort(-TABLE[before])[:2]}
        assert {token: about["logprob"] for token, about in entry.items()} == expected
        assert all(about.keys() == {"logprob", "decoded_token"} for about in entry.values())


REFUSED = {
    "a bias": ({"prompt": "a", "logit_bias": {"7": 100}}, 400),
    "a biased chat": ({"messages": SAID, "logit_bias": {"7": 100}}, 400),
    "llama.cpp's": ({"prompt": "a", "n_probs": 5}, 400),
    "allowed tokens": ({"prompt": "a", "allowed_token_ids": [7]}, 400),
    "a grammar": ({"messages": SAID, "response_format": {"type": "json_schema"}}, 400),
    "another case": ({"prompt": "a", "LogProbs": 5}, 400),
    "the whole vocabulary": ({"prompt": "a", "prompt_logprobs": -1}, 400),
    "too many": ({"prompt": "a", "logprobs": 21}, 400),
    "of another kind": ({"prompt": "a", "logprobs": "5"}, 400),
    "true as a number": ({"prompt": "a", "logprobs": True}, 400),
    "a number as true": ({"messages": SAID, "logprobs": 1}, 400),
    "more samples": ({"prompt": "a", "n": 3}, 400),
    "the best of more": ({"prompt": "a", "best_of": 3}, 400),
    "both": ({"prompt": "a", "messages": SAID}, 400),
    "neither": ({"input": "a"}, 400),
    "no text": ({"prompt": " "}, 400),
    "no prompts": ({"prompt": []}, 400),
    "texts and numbers": ({"prompt": ["a", [1]]}, 400),
    "a number": ({"prompt": ["a", 1]}, 400),
    "an image": ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, 400),
    "a hidden part": ({"messages": [{"role": "user", "content": "a", "prefix": True}]}, 400),
    "a stream of another kind": ({"prompt": "a", "stream": "yes"}, 400),
    "a list": ([{"prompt": "a"}], 400),
    "token numbers": ({"prompt": [5, 6]}, 422),
    "lists of them": ({"prompt": [[5, 6], [7]]}, 422),
    "another model": ({"prompt": "a", "model": "other"}, 404),
}


@pytest.mark.parametrize("restrict", ["label", "round:2"])
def test_what_is_not_known_is_refused_before_the_model(restrict):
    app, tables = Generating(), {"limits": {"refused": "999/s"}}
    serving_table = {"protocol": "openai", "model_name": "m", "texts": {"max_samples": 2}}
    tables |= {"serving": serving_table, "default": {"restrict": restrict}}
    with serving(app) as upstream, guarded(upstream, parse_guard_policy(tables)) as guard:
        for way, (document, status) in REFUSED.items():
            path = CHAT if "messages" in document else COMPLETIONS
            answer = guard.ask("POST", path, document, JSON)
            assert answer.status == status and app.bodies == [], way
            assert answer.headers["content-type"] == "application/problem+json"
        # The model's name goes with every request
        assert guard.ask("POST", COMPLETIONS, {"prompt": "a", "user": None}, JSON).status == 200
    assert app.bodies == [{"prompt": "a", "model": "m"}]


def test_further_paths_do_not_reach_the_server():
    app = Generating()
    with serving(app) as upstream, guarded(upstream, policy()) as guard:
        for path in ("/completion", "/completions", "/v1/embeddings", "/infill", "/slots"):
            assert guard.ask("POST", path, {"prompt": TEXT, "n_probs": 5}, JSON).status == 404
            assert guard.ask("GET", path).status == 404
    assert app.bodies == []


def test_what_the_policy_names_passes_and_asking_may_be_refused():
    app = Generating()
    texts = {"logit_bias": True, "parameters": ["top_k"], "on_hidden": "refuse", "token_ids": True}
    with serving(app) as upstream, guarded(upstream, policy("label", texts)) as guard:
        biased = {"prompt": [5, 6], "logit_bias": {"7": 100}, "top_k": 3}
        assert (
            guard.ask("POST", COMPLETIONS, biased, JSON).json["choices"][0]["text"]
            == "t7 " * 3 + "t7"
        )
        assert guard.ask("POST", *ASKED["chat"], JSON).status == 400
        plain = {"prompt": TEXT, "logprobs": None}
        assert guard.ask("POST", COMPLETIONS, plain, JSON).status == 200
    assert app.bodies == [biased, {"prompt": TEXT}]


def test_a_forced_token_shows_no_more_than_the_policy_does():
    forced = {"prompt": TEXT, "logprobs": 1, "max_tokens": 1, "logit_bias": {"7": 100}}
    raw = TABLE[ord("1"), 7]
    for restrict, expected in (("round:1", round(raw, 1)), ("top:1", UNTOLD)):
        given = policy(restrict, {"logit_bias": True})
        with serving(Generating()) as upstream, guarded(upstream, given) as guard:
            told = guard.ask("POST", COMPLETIONS, forced, JSON).json["choices"][0]["logprobs"]
        assert told["tokens"] == ["t7"] and told["token_logprobs"] == [expected]


def test_each_prompt_spends_a_record_and_spellings_of_a_text_spend_the_same():
    app = Generating()
    given = policy(default={"per_client": "5/h", "per_record": "2/d"})
    ways = ["A  text", "a\ttext\n", "A TEXT"]
    with serving(app) as upstream, guarded(upstream, given) as guard:
        status = [
            guard.ask("POST", COMPLETIONS, {"prompt": prompt, "stream": stream}, JSON).status
            for prompt, stream in zip(ways, (False, True, False), strict=True)
        ]
        assert status == [200, 200, 429]
        # A chat about it is the same text
        chat = {"messages": [{"role": "user", "content": "a text"}]}
        assert guard.ask("POST", CHAT, chat, JSON).status == 429
        # Of five records, two are spent: four more are too many, and three are not
        assert guard.ask("POST", COMPLETIONS, {"prompt": [*"abcd"]}, JSON).status == 429
        answer = guard.ask("POST", COMPLETIONS, {"prompt": [*"abc"], "stream": True}, JSON)
        assert answer.status == 200 and "ratelimit" in answer.headers
        assert guard.ask("POST", COMPLETIONS, {"prompt": "d"}, JSON).status == 429
        seen = guard.watched(7)
        assert [event.records for event in seen] == [1, 1, 1, 1, 4, 3, 1]
        assert [event.status for event in seen] == [200, 200, 429, 429, 429, 200, 429]
    assert len(app.bodies) == 3


def test_events_pass_as_they_come():
    app = Generating()
    app.gate = threading.Event()
    with serving(app) as upstream, guarded(upstream, policy("round:1")) as guard:
        parts = urlsplit(guard.url)
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=30)
        asked = json.dumps({"prompt": TEXT, "logprobs": 1, "stream": True}).encode()
        connection.request("POST", COMPLETIONS, asked, JSON)
        response = connection.getresponse()
        assert response.headers["content-type"] == "text/event-stream"
        assert response.readline() == b":\n" and response.readline() == b"\n"
        # The server sends the second event only when the first has arrived
        first = json.loads(response.readline().removeprefix(b"data: "))
        assert first["choices"][0]["text"] == name_token(generate(TEXT, 1)[0])
        app.gate.set()
        assert len(events(b"data: {}\n\n" + response.read())) == 5
        connection.close()


def test_a_client_that_leaves_a_stream_frees_its_place():
    app = Generating()
    app.gate = threading.Event()
    try:
        with serving(app) as upstream, guarded(upstream, policy()) as guard:
            parts = urlsplit(guard.url)
            connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=30)
            connection.request("POST", COMPLETIONS, b'{"prompt": "a", "stream": true}', JSON)
            response = connection.getresponse()
            response.readline()
            places = guard.guard.rules.admission.places
            assert places._free == 63
            response.close()
            connection.close()
            # The server still holds the rest of its answer back
            assert [event.status for event in guard.watched(1)] == [499]
            assert places._free == 64
    finally:
        app.gate.set()


@pytest.mark.parametrize("fault", ["broken", "other", "whole", "gzip", "500"])
def test_streams_that_cannot_be_read_are_cut_off_and_tell_nothing(fault):
    app = Generating(fault, tells=True)
    asked = {"prompt": TEXT, "logprobs": 1, "stream": True}
    with serving(app) as upstream, guarded(upstream, policy("round:1")) as guard:
        if fault in ("broken", "other"):
            with pytest.raises((http.client.IncompleteRead, ConnectionError)) as found:
                guard.ask("POST", COMPLETIONS, asked, JSON)
            assert b"1.25" not in getattr(found.value, "partial", b"")
        else:
            answer = guard.ask("POST", COMPLETIONS, asked, JSON)
            assert answer.status == (500 if fault == "500" else 502)
            assert answer.headers["content-type"] == "application/problem+json"
            assert TEXT.encode() not in answer.body and numbers(answer.body) == []
        # Its place is free again
        assert guard.guard.rules.admission.places._free == 64


def test_an_error_within_a_stream_quotes_nothing():
    asked = {"prompt": "a", "stream": True}
    with serving(Generating("error")) as upstream, guarded(upstream, policy()) as guard:
        answer = guard.ask("POST", COMPLETIONS, asked, JSON)
    assert TEXT.encode() not in answer.body
    (error,) = [one["error"] for one in events(answer.body) if "error" in one]
    assert error["type"] == "urn:memberscope:guard:upstream-failed"


@pytest.mark.parametrize(("fault", "status"), [("gzip", 200), ("broken", 502), ("fewer", 502)])
def test_whole_answers_in_other_forms(fault, status):
    asked = gzip.compress(json.dumps({"prompt": [TEXT, "b", "c"], "logprobs": 5}).encode())
    coded = JSON | {"content-encoding": "gzip"}
    with (
        serving(Generating(fault, tells=True)) as upstream,
        guarded(upstream, policy("label")) as guard,
    ):
        answer = guard.ask("POST", COMPLETIONS, asked, coded)
        assert answer.status == status and numbers(answer.body) == []
        assert "content-encoding" not in answer.headers


def test_unrestricted_answers_pass_and_count():
    given = policy("none", default={"per_client": "2/h"})
    with serving(Generating()) as upstream, guarded(upstream, given) as guard:
        whole = guard.ask("POST", *ASKED["logprobs"], JSON)
        assert "cumulative_logprob" in whole.json["choices"][0]
        streamed = guard.ask("POST", COMPLETIONS, {"prompt": TEXT, "stream": True}, JSON)
        assert streamed.status == 200 and b"id: 7" in streamed.body
        assert guard.ask("POST", *ASKED["logprobs"], JSON).status == 429


@pytest.mark.parametrize(("fault", "status"), [("", 200), ("broken", 502), ("500", 500)])
def test_observe_changes_no_stream_and_tells_what_enforcing_would_do(fault, status, capsys):
    counted: list[int] = []
    given = policy("round:1", guard={"mode": "observe"})
    asked = {"prompt": TEXT, "logprobs": 1, "stream": True}
    with serving(Generating(fault)) as upstream, guarded(upstream, given) as guard:
        guard.guard.queries.counters.would = counted.append  # type: ignore[method-assign]
        answer = guard.ask("POST", COMPLETIONS, asked, JSON)
        guard.watched(1)
    assert counted == [status]
    assert answer.status == (500 if fault == "500" else 200) and b"1" in answer.body


@pytest.mark.parametrize("protocol", ["vllm", "openai-completions"])
def test_an_audit_through_the_guard_sees_rounded_values(protocol):
    given = parse_guard_policy(
        {
            "serving": {
                "protocol": "openai",
                "texts": {"token_ids": True},
                "passed": ["POST /tokenize"],
            },
            "default": {"restrict": "round:1"},
        }
    )
    with serving(TextServer()) as upstream, guarded(upstream, given) as guard:
        endpoint = TextEndpoint(guard.url, protocol, model_name="m", backoff=0.01, timeout=20.0)
        with TextServerTarget(endpoint) as target:
            signals = target.measure_tokens(np.array([TEXT], dtype=object))
    expected = np.round(score(tokenize(TEXT)), 1)
    np.testing.assert_allclose(signals.log_probability, expected, atol=1e-6)


@pytest.mark.parametrize("protocol", ["vllm", "openai-completions", "llama.cpp"])
def test_an_audit_of_given_tokens_finds_nothing_where_they_are_hidden(protocol):
    given = parse_guard_policy(
        {
            "serving": {
                "protocol": "openai",
                "texts": {"token_ids": True},
                "passed": ["POST /tokenize", "GET /props"],
            },
            "default": {"restrict": "label"},
        }
    )
    app = TextServer()
    with serving(app) as upstream, guarded(upstream, given) as guard:
        endpoint = TextEndpoint(guard.url, protocol, model_name="m", backoff=0.01, timeout=20.0)
        with pytest.raises((TargetError, InputError)), TextServerTarget(endpoint) as target:
            target.measure_tokens(np.array([TEXT], dtype=object))
    # llama.cpp's own path of forced tokens does not exist behind the guard
    assert protocol != "llama.cpp" or app.bodies == []


@pytest.mark.parametrize(
    ("tables", "said"),
    [
        ({"default": {"restrict": "noise:0.5"}}, "noise:0.5"),
        ({"respond": {"coarsen": "temperature:2"}}, "temperature"),
        ({"serving": {"protocol": "openai", "n_classes": 3}}, "n_classes"),
        ({"serving": {"protocol": "openai", "columns": ["a"]}}, "columns"),
        ({"monitor": {"sketch": "a", "kind": "image"}}, "kind"),
    ],
)
def test_a_policy_that_does_not_fit_texts_is_refused(tables, said):
    with pytest.raises(InputError, match=said):
        parse_guard_policy({"serving": {"protocol": "openai"}} | tables)


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_events_do_not_depend_on_how_bytes_are_cut(end):
    lines = [
        b"\xef\xbb\xbf: hello",
        b"",
        b"event: a",
        b'data: {"a":',
        b"data: 1}",
        b"",
        b"data",
        b"",
    ]
    data = end.join([*lines, b"data:[DONE]", b"", b"data: {"]) + end
    expected = b':\n\ndata: {"a":1}\n\ndata: [DONE]\n\n'
    for size in range(1, len(data) + 1):
        stream = EventStream(lambda document: document)
        cut = [data[start : start + size] for start in range(0, len(data), size)]
        assert b"".join(map(stream.feed, cut)) == expected, size
    with pytest.raises(TargetError):
        EventStream(lambda document: document, most=10).feed(b"data: " + b"1" * 20)
