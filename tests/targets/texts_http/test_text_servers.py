"""Served language models against a real server of a model whose log-probabilities are known."""

from __future__ import annotations

import numpy as np
import pytest
from text_server import BOS, TABLE, TextServer, score, tokenize
from unruly import serving

from memberscope.errors import InputError, MemberscopeError, TargetError
from memberscope.targets import TextServerTarget
from memberscope.texts import Chat, Completion
from memberscope.types import Access, Target
from memberscope.wire import TextEndpoint

SCORING = ("vllm", "openai-completions", "llama.cpp")
TEXTS = [f"text number {k}, {'x' * k}" for k in range(1, 10)]
PAIR = Completion("two and two are", " four")
CHAT = Chat((("user", "What is two and two?"), ("assistant", "It is four.")))


def endpoint(url: str, protocol: str, **settings) -> TextEndpoint:
    given = {"model_name": "m", "backoff": 0.01, "timeout": 20.0, "batch_size": 4}
    return TextEndpoint(url, protocol, **given | settings)


def is_top(ids: list[int]) -> np.ndarray:
    return TABLE[ids[:-1]].argmax(axis=1) == ids[1:]


@pytest.mark.parametrize("protocol", SCORING)
@pytest.mark.parametrize("bos", [False, True])
def test_each_server_gives_the_models_log_probabilities(protocol, bos):
    records = np.array([*TEXTS, PAIR], dtype=object)
    with (
        serving(TextServer(bos=bos)) as url,
        TextServerTarget(endpoint(url + "/v1", protocol)) as target,
    ):
        signals = target.measure_tokens(records)
        spent = target.spent()
        assert isinstance(target, Target)
    ids = [tokenize(text, bos) for text in TEXTS]
    expected = [score(one) for one in ids] + [score(tokenize(PAIR.prompt + PAIR.completion))[14:]]
    np.testing.assert_allclose(signals.log_probability, np.concatenate(expected), atol=1e-5)
    assert signals.counts.tolist() == [len(one) for one in expected]
    assert signals.log_probability.dtype == np.float32 and signals.is_top is not None
    tops = np.concatenate([is_top(one) for one in ids])
    assert (signals.is_top[: len(tops)] == tops).all() and tops.any()
    # Forced tokens are asked for one by one
    once = len(signals.log_probability) if protocol == "llama.cpp" else len(records)
    assert spent.sent == spent.answered == once


@pytest.mark.parametrize("protocol", ["vllm", "llama.cpp"])
def test_only_the_answer_of_a_chat_is_scored_behind_the_template_of_the_server(protocol):
    unanswered = Chat(CHAT.messages[:1])
    with (
        serving(TextServer()) as url,
        TextServerTarget(endpoint(url, protocol)) as target,
    ):
        signals = target.measure_tokens([CHAT, unanswered])
    prompt, answer = CHAT.messages[0][1], CHAT.messages[1][1]
    whole = score(tokenize(f"<u>{prompt}<a>{answer}"))
    expected = np.concatenate([whole[-len(answer) :], score(tokenize(f"<u>{prompt}"))])
    np.testing.assert_allclose(signals.log_probability, expected, atol=1e-5)


REFUSED = {
    "ignored": (["vllm", "openai-completions"], "got (none|those of 1 generated tokens)"),
    "fewer": (["vllm", "openai-completions"], "Expected log-probabilities of all .* tokens"),
    "first": (["vllm", "openai-completions"], "no log-probability for the first token"),
    "nan": (SCORING, "at most 0 for each token, got nan"),
    "positive": (SCORING, "at most 0 for each token, got 9"),
    "constant": (SCORING, "that are alike"),
    "jitter": (SCORING, "that differ by .* nats in two calls. Turn off"),
    "cache": (["vllm", "openai-completions"], "that differ by .* nats in two calls. Turn off"),
    "unbiased": (["llama.cpp"], "Expected the forced token .* it ignores logit_bias"),
    "post-sampling": (["llama.cpp"], "got (0.0000|6 that are alike)"),
    "replaced": (SCORING, None),
}


@pytest.mark.parametrize(
    ("fault", "protocol"), [(fault, one) for fault in REFUSED for one in REFUSED[fault][0]]
)
def test_a_server_is_refused_before_the_first_record_if_it_does_not_score_texts(fault, protocol):
    app, sentence = TextServer(fault), REFUSED[fault][1]
    with serving(app) as url, TextServerTarget(endpoint(url, protocol)) as target:
        # A model by another name is only seen where the name changes
        if sentence is None:
            target.prove()
            return
        with pytest.raises(TargetError, match=sentence):
            target.measure_tokens(TEXTS)
        assert target.spent().sent == 0 and target.tokens_identity is None
    assert not any("text number" in str(body) for body in app.bodies)


@pytest.mark.parametrize("protocol", SCORING)
@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        ("fewer", "Expected log-probabilities of all|forced token|completion_probabilities"),
        ("nan", "got nan"),
        ("500", r"status 500 \(broken\) in 2 tries"),
        ("hang", "no whole answer within 1 s in 2 tries"),
        ("replaced", "the model was replaced meanwhile"),
    ],
)
def test_a_fault_in_the_audit_ends_it_and_what_was_answered_is_not_asked_again(
    tmp_path, protocol, fault, sentence
):
    if (fault, protocol) == ("fewer", "llama.cpp"):
        pytest.skip("one value a request cannot be fewer")
    after = 40 if protocol == "llama.cpp" else 3
    app, ledger = TextServer(fault, after=after), tmp_path / "ledger"
    limited = {"timeout": 1.0 if fault == "hang" else 20.0, "retries": 1, "concurrency": 2}
    with serving(app) as url:
        with TextServerTarget(endpoint(url, protocol, **limited), ledger=ledger) as target:
            with pytest.raises(TargetError, match=sentence):
                target.measure_tokens(TEXTS)
            before = target.spent()
        assert before.answered > 0
        app.fault, app.scored = "", 0
        with TextServerTarget(endpoint(url, protocol), ledger=ledger) as target:
            signals = target.measure_tokens(TEXTS)
            after_all = target.spent()
    expected = np.concatenate([score(tokenize(text)) for text in TEXTS])
    np.testing.assert_allclose(signals.log_probability, expected, atol=1e-5)
    total = len(expected) if protocol == "llama.cpp" else len(TEXTS)
    assert after_all.answered == total
    # Apart from the proof, only what was missing is asked
    proof = 14 if protocol == "llama.cpp" else 3
    assert app.scored == total - before.answered + proof


def test_answers_that_change_during_the_audit_end_it(monkeypatch):
    monkeypatch.setattr("memberscope.targets.http.texts.target.RECHECKED", 5)
    app = TextServer("jitter", after=4)
    with serving(app) as url, TextServerTarget(endpoint(url, "vllm")) as target:
        with pytest.raises(TargetError, match=r"differ by .* nats during the audit"):
            target.measure_tokens(TEXTS)
        assert target.spent().answered == len(TEXTS)


def test_generations_come_from_chat_and_completions_and_are_asked_once(tmp_path):
    app = TextServer()
    for protocol in ("openai-chat", "vllm", "llama.cpp", "openai-completions"):
        with serving(app) as url:
            declared = endpoint(url, protocol)
            for _ in range(2):
                with TextServerTarget(declared, ledger=tmp_path / protocol) as target:
                    found = target.generate(["ab", "cd"], n=2, max_tokens=4, seed=0)
                    assert target.spent().sent == 2
        assert found == [["ba0", "ba1"], ["dc0", "dc1"]]


def test_a_server_that_only_generates_scores_no_texts():
    with serving(TextServer()) as url:
        with TextServerTarget(endpoint(url, "openai-chat")) as target:
            assert target.access is Access.GENERATIONS
            with pytest.raises(InputError, match="only continues them"):
                target.query(TEXTS)
        with (
            TextServerTarget(endpoint(url, "openai-chat", top_k=3)) as target,
            pytest.raises(TargetError, match="Leave out --top-k"),
        ):
            target.prove()
    with serving(TextServer("fewer")) as url:
        target = TextServerTarget(endpoint(url, "openai-completions"))
        with target, pytest.raises(MemberscopeError):
            target.generate(["ab"], n=2, max_tokens=4, seed=0)


@pytest.mark.parametrize(
    ("told", "sentence"),
    [
        ({"owned_by": "sglang"}, "engine sglang instead of vllm"),
        ({"quantization": "awq"}, "quantisation awq instead of not told"),
        ({"max_model_len": 190}, "context 190 instead of 200"),
        ({"bos": True}, f"tokenizer .* instead of .*, bos {BOS} instead of none"),
        ({"fault": "no tokenizer"}, "tokenizer .* instead of .*, chat template not told"),
    ],
)
def test_a_base_that_is_served_in_another_way_is_refused(told, sentence):
    with serving(TextServer()) as here, serving(TextServer(**told)) as there:
        base = TextServerTarget(endpoint(there, "vllm"))
        with (
            base,
            TextServerTarget(endpoint(here, "vllm"), base=base) as target,
            pytest.raises(InputError, match=f"Expected the base to be served .*{sentence}"),
        ):
            target.measure_tokens(TEXTS)
        assert target.tokens_identity is None


def test_a_base_that_is_served_alike_is_taken_and_the_target_itself_is_not():
    with serving(TextServer()) as here, serving(TextServer()) as there:
        base = TextServerTarget(endpoint(there, "vllm"))
        with base, TextServerTarget(endpoint(here, "vllm"), base=base) as target:
            target.measure_tokens(TEXTS[:2])
            assert target.tokens_identity == base.tokens_identity is not None
        with pytest.raises(InputError, match="got the target itself"):
            TextServerTarget(endpoint(here, "vllm"), base=TextServerTarget(endpoint(here, "vllm")))


@pytest.mark.parametrize("protocol", ["vllm", "llama.cpp"])
def test_texts_beyond_the_context_are_cut_and_counted(protocol):
    long = Completion("y" * 150, "z" * 20)
    app = TextServer(max_model_len=160)
    with serving(app) as url, TextServerTarget(endpoint(url, protocol)) as target:
        counts = target.measure_tokens([TEXTS[0], long, long]).counts
        assert counts.tolist() == [len(TEXTS[0]) - 1, 9, 9]
        assert target.notes == (
            "1 texts of more than 159 tokens were cut to the server's context.",
        )
        with pytest.raises(InputError, match="got 159 tokens of which 170 come before it"):
            target.measure_tokens([Completion("y" * 170, "z")])


@pytest.mark.parametrize("protocol", SCORING)
@pytest.mark.parametrize(
    ("record", "sentence"),
    [
        ("", "a text in each record, got 1 empty ones, the first at position 1 of 2"),
        (Completion("a prompt", ""), "1 empty ones"),
        ("a", "token to score behind a first one"),
    ],
)
def test_records_without_a_token_to_score_are_refused(protocol, record, sentence):
    with (
        serving(TextServer()) as url,
        TextServerTarget(endpoint(url, protocol)) as target,
        pytest.raises(InputError, match=sentence),
    ):
        target.measure_tokens([TEXTS[0], record])


def test_a_chat_needs_a_server_that_applies_its_template():
    with (
        serving(TextServer()) as url,
        TextServerTarget(endpoint(url, "openai-completions")) as target,
        pytest.raises(InputError, match="Apply the chat template yourself"),
    ):
        target.measure_tokens([CHAT])


def test_budgets_count_each_forced_token_and_are_never_exceeded():
    app = TextServer()
    with serving(app) as url:
        with TextServerTarget(endpoint(url, "llama.cpp"), query_budget=5) as target:
            with pytest.raises(InputError, match=r"budget of at least 15, .* asked once a token"):
                target.measure_tokens(TEXTS[:1])
            assert target.spent().sent == 0
        with TextServerTarget(endpoint(url, "vllm", max_queries=5)) as target:
            with pytest.raises(InputError, match="Raise --max-queries"):
                target.measure_tokens(TEXTS)
            assert target.measure_tokens(TEXTS[:5]).counts.min() > 0


def test_the_same_texts_again_are_asked_again_and_a_resumed_run_asks_nothing(tmp_path):
    app = TextServer()
    with serving(app) as url:
        declared = endpoint(url, "openai-completions")
        for _ in range(2):
            with TextServerTarget(declared, ledger=tmp_path / "ledger") as target:
                first = target.query(TEXTS[:6])
                again = target.query(TEXTS[:6])
                assert target.spent().sent == 12
            np.testing.assert_array_equal(first, again)
    assert app.scored == 12 + 2 * 3


def test_tokens_of_one_text_are_forced_one_after_the_other():
    app = TextServer()
    with serving(app) as url:
        declared = endpoint(url, "llama.cpp", concurrency=1)
        with TextServerTarget(declared) as target:
            target.measure_tokens(TEXTS[:3])
    lengths = [len(body["prompt"]) for body in app.bodies[14:]]
    assert lengths == [k for text in TEXTS[:3] for k in range(1, len(text))]
