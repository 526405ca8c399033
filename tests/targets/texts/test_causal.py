"""Causal language models: token by token as a naive loop has it, whatever the batches are."""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np
import pytest
from tiny_language_models import LENGTH, SENTENCES, build_adapter, build_causal, train_tokenizer

from memberscope.errors import InputError, TargetError, UnmetNeedError
from memberscope.facts import read_target_facts
from memberscope.targets import CausalLMTarget, wrap
from memberscope.texts import Chat, Completion
from memberscope.types import Access, Differentiable, SignalSpec, Target

pytestmark = pytest.mark.skipif(
    not (find_spec("transformers") and find_spec("torch") and find_spec("peft")),
    reason="needs transformers, torch and peft",
)
TEMPLATE = (
    "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
PAIRS = [Completion("The harbour was", " quiet, and rain fell."), Completion("A", " letter came")]


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer()


@pytest.fixture(scope="module")
def model(tokenizer):
    return build_causal(tokenizer)


def naive(model, ids, begin=1):
    """One text alone, without padding: log-probability, mean, variance and top, in float64."""
    import torch

    with torch.no_grad():
        logits = model(input_ids=torch.tensor([ids])).logits[0].double()
    log_p = torch.log_softmax(logits, -1).numpy()[begin - 1 : -1]
    p, came = np.exp(log_p), np.array(ids[begin:])
    mean = (p * log_p).sum(1)
    variance = (p * log_p**2).sum(1) - mean**2
    return log_p[np.arange(len(came)), came], mean, variance, log_p.argmax(1) == came


def list_likely_texts(model, tokenizer):
    """List texts of two tokens, the second of which is the model's most probable one."""
    import torch

    found = []
    for letter in range(4, 260):
        with torch.no_grad():
            top = int(model(input_ids=torch.tensor([[letter]])).logits[0, 0].argmax())
        text = tokenizer.decode([letter, top])
        if tokenizer(text, add_special_tokens=False)["input_ids"] == [letter, top]:
            found.append(text)
    return found


def assert_same(signals, expected):
    """Compare token signals with a list of naive results."""
    assert signals.counts.tolist() == [len(one[0]) for one in expected]
    parts = (signals.log_probability, signals.mean, signals.variance)
    for part, values in enumerate(parts):
        wanted = np.concatenate([one[part] for one in expected])
        np.testing.assert_allclose(values, wanted, atol=2e-5, rtol=2e-5)
    assert signals.is_top.tolist() == np.concatenate([one[3] for one in expected]).tolist()


def test_every_token_is_as_a_loop_over_the_texts_has_it(model, tokenizer):
    target = CausalLMTarget(model, tokenizer)
    texts = [*SENTENCES, *list_likely_texts(model, tokenizer)]
    ids = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
    expected = [naive(model, one) for one in ids]
    signals = target.measure_tokens(texts)
    assert_same(signals, expected)
    assert signals.log_probability.dtype == np.float32
    assert sum(one[3].sum() for one in expected) > 0
    losses = [[-one[0].mean()] for one in expected]
    np.testing.assert_allclose(target.query(texts), losses, rtol=1e-5)
    assert target.count_tokens(texts).tolist() == list(map(len, ids))


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("batch_size", [1, 3, None])
def test_batches_and_the_tokenizers_padding_change_nothing(model, tokenizer, side, batch_size):
    tokenizer.padding_side = side
    expected = CausalLMTarget(model, tokenizer).measure_tokens(SENTENCES)
    target = CausalLMTarget(model, tokenizer, batch_size=batch_size)
    found = target.measure_tokens(SENTENCES[::-1]).take(slice(None, None, -1))
    for name in ("log_probability", "mean", "variance"):
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), atol=1e-5)


def test_prompts_are_given_and_not_scored(model, tokenizer):
    joint = [
        tokenizer(one.prompt + one.completion, add_special_tokens=False)["input_ids"]
        for one in PAIRS
    ]
    n_prompt = [len(tokenizer(one.prompt, add_special_tokens=False)["input_ids"]) for one in PAIRS]
    signals = CausalLMTarget(model, tokenizer).measure_tokens(PAIRS)
    assert_same(signals, [naive(model, ids, n) for ids, n in zip(joint, n_prompt, strict=True)])
    whole = CausalLMTarget(model, tokenizer, completion_only=False).measure_tokens(PAIRS)
    assert_same(whole, [naive(model, ids) for ids in joint])


def test_a_token_across_the_boundary_is_scored(model, tokenizer):
    """The space before the completion belongs to the completion's first token."""
    record = Completion("The harbour was ", "quiet")
    ids = tokenizer("The harbour was quiet", add_special_tokens=False)["input_ids"]
    before = tokenizer("The harbour was", add_special_tokens=False)["input_ids"]
    assert ids[: len(before)] == before
    signals = CausalLMTarget(model, tokenizer).measure_tokens([record])
    assert_same(signals, [naive(model, ids, len(before))])


def test_a_slow_tokenizer_finds_the_same_boundary(model, tokenizer):
    class Slow:
        """The same tokenizer without offsets, as those in Python are."""

        is_fast = False

        def __getattr__(self, name):
            return getattr(tokenizer, name)

        def __call__(self, *given, return_offsets_mapping=False, **more):
            assert not return_offsets_mapping
            return tokenizer(*given, **more)

    expected = CausalLMTarget(model, tokenizer).measure_tokens(PAIRS)
    found = CausalLMTarget(model, Slow()).measure_tokens(PAIRS)
    np.testing.assert_array_equal(found.log_probability, expected.log_probability)


def test_with_a_bos_token_the_first_token_is_scored(model, tokenizer):
    target = CausalLMTarget(model, tokenizer, bos=True)
    ids = [[0, *tokenizer(text, add_special_tokens=False)["input_ids"]] for text in SENTENCES]
    assert_same(target.measure_tokens(SENTENCES), [naive(model, one) for one in ids])
    assert target.tokens_identity != CausalLMTarget(model, tokenizer).tokens_identity
    # Not twice where the text begins with it
    assert_same(target.measure_tokens(["<s>" + SENTENCES[0]]), [naive(model, ids[0])])


def test_special_tokens_are_those_of_the_tokenizer(model):
    from tokenizers import processors

    tokenizer = train_tokenizer()
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 1)]
    )
    ids = tokenizer(SENTENCES[0])["input_ids"]
    assert ids[0] == 0 and ids[-1] == 1
    found = CausalLMTarget(model, tokenizer).measure_tokens(SENTENCES[:1])
    assert_same(found, [naive(model, ids)])
    found = CausalLMTarget(model, tokenizer, bos=False).measure_tokens(SENTENCES[:1])
    assert_same(found, [naive(model, ids[1:])])


def test_only_the_last_answer_of_a_chat_is_scored(model):
    tokenizer = train_tokenizer(chat_template=TEMPLATE)
    chat = Chat((("user", "which river?"), ("assistant", "the one behind the mill")))
    start = "<user>which river?\n<assistant>"
    ids = tokenizer(f"{start}the one behind the mill\n", add_special_tokens=False)["input_ids"]
    n = len(tokenizer(start, add_special_tokens=False)["input_ids"])
    target = CausalLMTarget(model, tokenizer)
    assert_same(target.measure_tokens([chat]), [naive(model, ids, n)])
    asked = Chat(chat.messages[:1])
    ids = tokenizer("<user>which river?\n", add_special_tokens=False)["input_ids"]
    assert_same(target.measure_tokens([asked]), [naive(model, ids)])


def test_chats_need_a_template_that_takes_them(model, tokenizer):
    chat = [Chat((("user", "which river?"), ("assistant", "none")))]
    with pytest.raises(InputError, match=r"^Expected a tokenizer with a chat template"):
        CausalLMTarget(model, tokenizer).measure_tokens(chat)
    strict = train_tokenizer(chat_template="{{ raise_exception('only a system role') }}")
    with pytest.raises(InputError, match=r"got: only a system role. Check the order"):
        CausalLMTarget(model, strict).measure_tokens(chat)


def test_long_texts_are_cut_and_counted(model, tokenizer):
    text = " ".join(SENTENCES)
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert len(ids) > 2 * LENGTH
    target = CausalLMTarget(model, tokenizer)
    assert_same(target.measure_tokens([text]), [naive(model, ids[:LENGTH])])
    target.measure_tokens([text, SENTENCES[0]])
    assert target.notes == read_target_facts(target).notes
    assert target.notes[0].startswith("1 of 2 texts asked are longer")
    assert "cut after 32 tokens" in target.notes[0]
    short = CausalLMTarget(model, tokenizer, max_length=10)
    assert_same(short.measure_tokens([text]), [naive(model, ids[:10])])


def test_windows_score_every_token_once_with_half_a_window_before_it(model, tokenizer):
    text = " ".join(SENTENCES)
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    target = CausalLMTarget(model, tokenizer, long="windows")
    expected, step = [naive(model, ids[:LENGTH])], LENGTH // 2
    for start in range(LENGTH, len(ids), step):
        stop = min(start + step, len(ids))
        window = ids[stop - LENGTH : stop]
        expected.append(naive(model, window, LENGTH - (stop - start)))
    whole = [tuple(np.concatenate(parts) for parts in zip(*expected, strict=True))]
    assert_same(target.measure_tokens([text]), whole)
    assert len(whole[0][0]) == len(ids) - 1
    assert "windows of 32 tokens" in target.notes[0]
    # A long prompt leaves only the windows of its completion
    pair = target.measure_tokens([Completion(text, " The end."), SENTENCES[0]])
    after = tokenizer(text + " The end.", add_special_tokens=False)["input_ids"]
    n = len(after) - len(ids)
    assert_same(pair.take([0]), [naive(model, after[-LENGTH:], LENGTH - n)])


def test_a_prompt_beyond_the_context_is_one_sentence(model, tokenizer):
    record = Completion(" ".join(SENTENCES), " The end.")
    with pytest.raises(InputError, match="Expected a prompt shorter than the 32 tokens"):
        CausalLMTarget(model, tokenizer).measure_tokens([record])


@pytest.mark.parametrize("record", ["", Completion("a prompt", "")])
def test_records_without_text_are_one_sentence(model, tokenizer, record):
    with pytest.raises(InputError, match="Expected text to score in each record"):
        CausalLMTarget(model, tokenizer).measure_tokens([record])


def test_one_token_has_no_prediction_without_bos(model, tokenizer):
    with pytest.raises(InputError, match=r"got 1 in 'a': the first token has no prediction"):
        CausalLMTarget(model, tokenizer).measure_tokens(["a"])
    assert CausalLMTarget(model, tokenizer, bos=True).measure_tokens(["a"]).counts.tolist() == [1]
    # A completion of one token has one
    found = CausalLMTarget(model, tokenizer).measure_tokens([Completion("a b", "c")])
    assert found.counts.tolist() == [1]


def test_special_tokens_that_are_unknown_are_noted_or_refused(model, tokenizer):
    target = CausalLMTarget(model, tokenizer)
    target.query(["<|im_start|>user what", "[no mark] at all", "</s> is known"])
    assert [note for note in target.notes if "'<|im_start|>'" in note and "1 of 3" in note]
    other = train_tokenizer()
    other.add_special_tokens({"additional_special_tokens": ["<new>"]})
    with pytest.raises(InputError, match=r"Expected token ids below \d+.*'<new>'"):
        CausalLMTarget(model, other).query(["a <new> b"])
    without = train_tokenizer(bos_token=None)
    with pytest.raises(InputError, match="Expected a tokenizer with a BOS token"):
        CausalLMTarget(model, without, bos=True)


def test_values_that_are_no_numbers_are_one_sentence(tokenizer):
    import torch

    model = build_causal(tokenizer)
    with torch.no_grad():
        model.transformer.wte.weight[:, 0] = float("nan")
    with pytest.raises(TargetError, match=r"NaN or infinity in 2 records, the first 'The"):
        CausalLMTarget(model, tokenizer).query(SENTENCES[:2])


def test_options_that_do_not_fit_are_one_sentence(model, tokenizer):
    with pytest.raises(InputError, match="max_length of at most 32"):
        CausalLMTarget(model, tokenizer, max_length=64)
    with pytest.raises(InputError, match="long as truncate or windows, got 'cut'"):
        CausalLMTarget(model, tokenizer, long="cut")
    with pytest.raises(InputError, match="available device, got 'nowhere'"):
        CausalLMTarget(model, tokenizer, device="nowhere")
    with pytest.raises(InputError, match="batch_size of at least 1"):
        CausalLMTarget(model, tokenizer, batch_size=0)
    with pytest.raises(InputError, match="no prefix with completion_only=False"):
        CausalLMTarget(model, tokenizer, prefix="Once.", completion_only=False)
    with pytest.raises(InputError, match="Expected a tokenizer beside the language model"):
        CausalLMTarget(model, None)


def test_other_models_are_refused_by_their_kind(tokenizer):
    import torch
    from transformers import T5Config, T5ForConditionalGeneration

    sizes = {"d_model": 8, "d_kv": 4, "d_ff": 8, "num_layers": 1, "num_heads": 2}
    encoder = T5ForConditionalGeneration(T5Config(vocab_size=9, **sizes))
    for other in (encoder, torch.nn.Linear(2, 2)):
        with pytest.raises(InputError, match="Expected a causal language model of transformers"):
            CausalLMTarget(other, tokenizer)


def test_it_is_a_target_of_texts(model, tokenizer):
    base = build_causal(tokenizer, seed=1)
    target = CausalLMTarget(model, tokenizer, base=base, prefix="Some text.")
    facts = read_target_facts(target)
    assert isinstance(target, Target) and isinstance(target, Differentiable)
    assert (facts.task, target.signal, target.n_classes) == ("text", "loss", 1)
    assert target.access == Access.WEIGHTS and facts.prefix == "Some text."
    assert facts.base.tokens_identity == target.tokens_identity == facts.tokens_identity
    assert facts.base.digest != target.digest == CausalLMTarget(model, tokenizer).digest
    assert target.digest != CausalLMTarget(model, tokenizer, bos=True).digest
    assert target.n_parameters == model.num_parameters()
    expected = CausalLMTarget(base, tokenizer).query(SENTENCES)
    np.testing.assert_array_equal(facts.base.query(SENTENCES), expected)


def test_asking_leaves_the_model_as_it_was(tokenizer):
    model = build_causal(tokenizer)
    first = CausalLMTarget(model, tokenizer).query(SENTENCES)
    model.train()
    np.testing.assert_array_equal(CausalLMTarget(model, tokenizer).query(SENTENCES), first)
    assert model.training and all(part.requires_grad for part in model.parameters())


def test_wrapping_finds_language_models(model, tokenizer, tmp_path):
    from transformers import pipeline

    expected = CausalLMTarget(model, tokenizer).query(SENTENCES)
    whole = pipeline("text-generation", model=model, tokenizer=tokenizer)
    for given in ((model, tokenizer), whole):
        target = wrap(given)
        assert isinstance(target, CausalLMTarget)
        np.testing.assert_array_equal(target.query(SENTENCES), expected)
    with pytest.raises(InputError, match="Expected a tokenizer beside GPT2LMHeadModel"):
        wrap(model)


def test_memory_that_runs_out_makes_batches_smaller(model, tokenizer, monkeypatch):
    expected = CausalLMTarget(model, tokenizer).query(SENTENCES)
    target, forward, asked = CausalLMTarget(model, tokenizer), model.forward, []

    def limited(input_ids, **more):
        """Do as a device that holds two texts."""
        asked.append(len(input_ids))
        if len(input_ids) > 2:
            raise RuntimeError("CUDA out of memory. Tried to allocate 20 GiB")
        return forward(input_ids=input_ids, **more)

    monkeypatch.setattr(model, "forward", limited)
    np.testing.assert_allclose(target.query(SENTENCES), expected, atol=1e-5)
    failed = sum(n > 2 for n in asked)
    asked.clear()
    np.testing.assert_allclose(target.query(SENTENCES), expected, atol=1e-5)
    assert failed > 0 and sum(n > 2 for n in asked) < failed


def test_one_text_beyond_the_memory_is_one_sentence(model, tokenizer, monkeypatch):
    def limited(**more):
        """Do as a full device."""
        raise RuntimeError("CUDA out of memory. Tried to allocate 20 GiB")

    monkeypatch.setattr(model, "forward", limited)
    with pytest.raises(TargetError, match="Expected memory for one text of"):
        CausalLMTarget(model, tokenizer).query(SENTENCES)


def test_continuations_follow_the_models_distribution(model, tokenizer):
    import torch

    target = CausalLMTarget(model, tokenizer)
    first = target.generate([SENTENCES[0], "A letter"], 3, 5, seed=1)
    assert [len(texts) for texts in first] == [3, 3]
    assert target.generate(["A letter"], 3, 5, seed=1) == first[1:]
    assert target.generate(["A letter"], 3, 5, seed=2) != first[1:]
    torch.manual_seed(7)
    state = torch.random.get_rng_state()
    texts = target.generate(["A letter"], 2000, 1, seed=3)[0]
    assert torch.equal(torch.random.get_rng_state(), state)
    ids = tokenizer("A letter", add_special_tokens=False)["input_ids"]
    with torch.no_grad():
        p = model(input_ids=torch.tensor([ids])).logits[0, -1].softmax(-1)
    top = int(p.argmax())
    share = np.mean([text == tokenizer.decode([top]) for text in texts])
    # Five standard errors of a share of 2,000
    assert abs(share - float(p[top])) < 5 * np.sqrt(0.25 / 2000)


@pytest.mark.parametrize("long", ["truncate", "windows"])
def test_gradient_norms_are_those_of_the_mean_loss(model, tokenizer, long):
    import torch

    texts = [*SENTENCES[:2], " ".join(SENTENCES[:5])]
    target = CausalLMTarget(model, tokenizer, long=long)
    found = target.inside(texts, np.zeros(3, int), SignalSpec("gradient_norm"))
    assert found.shape == (3, 1)
    for row, text in enumerate(texts[:2]):
        ids = torch.tensor([tokenizer(text, add_special_tokens=False)["input_ids"]])
        model.zero_grad()
        model(input_ids=ids, labels=ids).loss.backward()
        norm = sum(part.grad.double().square().sum() for part in model.parameters()).sqrt()
        assert found[row, 0] == pytest.approx(-np.log(float(norm)), abs=1e-4)
    model.zero_grad(set_to_none=True)
    assert np.isfinite(found).all() and all(part.requires_grad for part in model.parameters())
    with pytest.raises(UnmetNeedError, match="Expected gradient_norm of a language model"):
        target.inside(texts, np.zeros(3, int), SignalSpec("activations"))


def test_an_adapter_is_scored_on_the_model_below_it(tokenizer):
    plain = build_causal(tokenizer)
    before = CausalLMTarget(plain, tokenizer).query(SENTENCES)
    adapted = build_adapter(plain)
    target = CausalLMTarget(adapted, tokenizer)
    ids = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in SENTENCES]
    assert_same(target.measure_tokens(SENTENCES), [naive(adapted, one) for one in ids])
    flags = [part.requires_grad for part in adapted.parameters()]
    for part in adapted.parameters():
        part.requires_grad_(False)
    np.testing.assert_allclose(target.base.query(SENTENCES), before, atol=1e-6)
    assert not any(part.requires_grad for part in adapted.parameters())
    assert np.abs(target.query(SENTENCES) - before).max() > 0.01
    assert target.base.digest != target.digest
    assert wrap((adapted, tokenizer)).digest == target.digest
    # The norm is that of the adapter's weights, frozen or not
    frozen = target.inside(SENTENCES[:1], np.zeros(1, int), SignalSpec("gradient_norm"))
    for part, flag in zip(adapted.parameters(), flags, strict=True):
        part.requires_grad_(flag)
    trained = target.inside(SENTENCES[:1], np.zeros(1, int), SignalSpec("gradient_norm"))
    np.testing.assert_allclose(frozen, trained)
