"""Fine-tuning of causal language models: what is learned, from where, and the same each time."""

from __future__ import annotations

import pickle
from dataclasses import replace

import numpy as np
import pytest
from tiny_language_models import build_model, build_tokenizer, draw_text_records

from memberscope.errors import InputError
from memberscope.facts import read_recipe_facts, read_target_facts
from memberscope.recipes import CausalLMRecipe, FineTuning, LoRA
from memberscope.recipes.fleet import select_records, tune_recipe
from memberscope.recipes.texts.finetune import TrainedText, accumulate_gradient
from memberscope.recipes.texts.memory import estimate_model_bytes
from memberscope.texts import Completion
from memberscope.types import Records

QUICK = FineTuning(epochs=6, lr=1e-2, batch_size=8, rows_at_once=8)
MODULES = ("c_attn", "c_proj", "c_fc")


def make_recipe(settings: FineTuning = QUICK, dropout: float = 0.0) -> CausalLMRecipe:
    return CausalLMRecipe(build_model(dropout=dropout), settings, build_tokenizer())


def take(records: Records, n: int) -> Records:
    return select_records(records, np.arange(len(records)) < n)


def state_of(target):
    return {name: value.clone() for name, value in target.model.state_dict().items()}


def test_training_lowers_the_loss_of_its_own_texts_most_and_leaves_the_base_alone():
    records, recipe = draw_text_records(48), make_recipe()
    before = recipe.base_target.query(records.x)
    target = recipe(take(records, 24), seed=0)
    after = target.query(records.x)
    own, others = (before - after)[:24].mean(), (before - after)[24:].mean()
    assert own > 0.3 and own > others + 0.2
    np.testing.assert_array_equal(recipe.base_target.query(records.x), before)
    assert read_target_facts(target).base is recipe.base_target
    assert read_target_facts(target).task == "text"


def test_the_same_seed_gives_the_same_weights_and_another_one_others():
    records, recipe = draw_text_records(16), make_recipe(replace(QUICK, epochs=1), dropout=0.1)
    first, again, other = (state_of(recipe(records, seed)) for seed in (3, 3, 4))
    assert all((first[name] == again[name]).all() for name in first)
    assert any((first[name] != other[name]).any() for name in first)


def test_one_full_batch_step_is_that_of_the_gradient_of_the_mean_token_loss():
    import torch

    settings = FineTuning(epochs=1, lr=1e-3, batch_size=4, schedule="constant", clip=None)
    records, recipe = draw_text_records(4, length=5), make_recipe(settings)
    records.x[0] = "w1 w2 w3"
    trained = recipe(records, seed=0).model
    model = build_model()
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.0)
    total, n = 0.0, 0
    for text in records.x:
        ids = torch.tensor([build_tokenizer()(text)["input_ids"]])
        logits = model(input_ids=ids).logits[0, :-1]
        total = total + torch.nn.functional.cross_entropy(logits, ids[0, 1:], reduction="sum")
        n += ids.shape[1] - 1
    (total / n).backward()
    optimiser.step()
    for name, weight in model.named_parameters():
        torch.testing.assert_close(
            trained.get_parameter(name), weight, rtol=1e-4, atol=1e-5, msg=name
        )


def test_a_batch_in_parts_has_the_gradient_of_the_whole():
    import torch

    texts = [TrainedText((0, 5, 6, 7, 8)[:n], 1, n) for n in (5, 3, 4, 2, 5)]
    whole, parts = build_model(), build_model()
    accumulate_gradient(whole, texts, QUICK, rows=5)
    accumulate_gradient(parts, texts, QUICK, rows=2)
    for one, other in zip(whole.parameters(), parts.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-4, atol=1e-6)


def test_only_completions_are_learned_unless_the_whole_is():
    x = np.empty(2, dtype=object)
    x[:] = [Completion("w1 w2 w3", " w4 w5"), Completion("w6", " w7 w8")]
    records = Records(x, np.zeros(2, np.int64), np.array(["a", "b"]))
    learned = [
        [entry.n_learned for entry in make_recipe(settings)._encode(records)]
        for settings in (QUICK, replace(QUICK, completion_only=False))
    ]
    assert learned == [[2, 2], [5, 3]]


def test_an_end_of_text_token_is_learned_where_it_is_asked_for():
    records = draw_text_records(1, length=3)
    (entry,) = make_recipe(replace(QUICK, append_eos=True))._encode(records)
    assert entry.ids[-1] == 2 and entry.end == len(entry.ids) == 5


def test_texts_are_cut_at_the_length_given_and_at_the_context():
    records = draw_text_records(1, length=30)
    lengths = [
        len(make_recipe(replace(QUICK, max_length=length))._encode(records)[0].ids)
        for length in (5, None)
    ]
    assert lengths == [5, 16]


def test_lora_trains_adapters_alone_by_their_rank():
    records = draw_text_records(24)
    recipe = make_recipe(replace(QUICK, lr=3e-2, lora=LoRA(2, 4.0, MODULES)))
    target = recipe(records, seed=0)
    trained = [name for name, p in target.model.named_parameters() if p.requires_grad]
    assert trained and all("lora_" in name for name in trained)
    base = build_model().state_dict()
    frozen = target.model.get_base_model().state_dict()
    assert all(
        (frozen[name.replace("c_attn.w", "c_attn.base_layer.w")] == base[name]).all()
        for name in base
        if "attn.c_attn.weight" in name or "ln" in name
    )
    gain = recipe.base_target.query(records.x) - target.query(records.x)
    assert gain.mean() > 0.01
    # Adapters start with other random numbers, and the result says so
    assert (target.query(records.x) != recipe(records, seed=1).query(records.x)).any()


def test_the_digest_names_base_settings_and_tokenizer():
    digest = make_recipe().digest
    assert digest == make_recipe().digest
    others = [
        make_recipe(replace(QUICK, epochs=5)),
        make_recipe(replace(QUICK, lora=LoRA(2))),
        CausalLMRecipe(build_model(seed=1), QUICK, build_tokenizer()),
    ]
    tokenizer = build_tokenizer()
    tokenizer.add_tokens(["w99"])
    model = build_model()
    model.resize_token_embeddings(len(tokenizer))
    others.append(CausalLMRecipe(model, QUICK, tokenizer))
    digests = {digest, *(recipe.digest for recipe in others)}
    assert len(digests) == 5


def test_a_folder_trains_the_models_of_the_object_that_was_saved_there(tmp_path):
    build_model().save_pretrained(tmp_path)
    build_tokenizer().save_pretrained(tmp_path)
    records = draw_text_records(16)
    recipe = CausalLMRecipe(tmp_path, replace(QUICK, epochs=2))
    found = recipe(records, seed=0).query(records.x)
    wanted = make_recipe(replace(QUICK, epochs=2))(records, seed=0).query(records.x)
    np.testing.assert_array_equal(found, wanted)
    # A worker gets the folder's name, not what was loaded from it
    assert len(pickle.dumps(recipe)) < 2000


def test_facts_and_the_choice_that_memory_allows():
    records, recipe = (
        draw_text_records(12),
        make_recipe(replace(QUICK, rows_at_once=None, threads=2)),
    )
    facts = read_recipe_facts(recipe)
    assert (facts.threads, facts.device, facts.reads_seed) == (2, "cpu", True)
    tuned, choice = tune_recipe(recipe, records, 6, 4, None)
    assert tuned.settings.rows_at_once == choice["rows_at_once"] == 8
    assert choice["processes"] >= 1 and "no packing" in choice["note"]
    assert recipe.chosen(choice).digest == tuned.digest != recipe.digest


@pytest.mark.parametrize("lora", [None, LoRA(rank=4, modules=MODULES)])
def test_the_memory_of_weights_is_what_a_fine_tune_holds(lora):
    """Measured in a step: weights, gradients and what the optimiser keeps, beside the base."""
    from torch.optim.optimizer import register_optimizer_step_post_hook

    recipe, held = make_recipe(replace(QUICK, epochs=1, lora=lora)), []

    def measure(optimiser, *_):
        tensors = [weight for group in optimiser.param_groups for weight in group["params"]]
        kept = [weight.grad for weight in tensors]
        kept += [one for state in optimiser.state.values() for one in state.values()]
        held.append(sum(one.numel() * one.element_size() for one in kept if one.ndim))

    handle = register_optimizer_step_post_hook(measure)
    try:
        target = recipe(draw_text_records(8), 0)
    finally:
        handle.remove()
    weights, base = (
        sum(weight.numel() * weight.element_size() for weight in one.model.parameters())
        for one in (target, recipe.base_target)
    )
    estimate = estimate_model_bytes(target.model)
    assert estimate == pytest.approx(base + weights + max(held), rel=0.1 if lora else 0.01)
    assert (estimate < 3 * weights) == (lora is not None)


def test_schedules_end_where_they_should():
    rates = {
        name: [
            replace(QUICK, lr=1.0, schedule=name, warmup=0.2).compute_rate(k, 10)
            for k in (0, 1, 2, 6, 9)
        ]
        for name in ("constant", "linear", "cosine")
    }
    assert rates["constant"] == [0.5, 1.0, 1.0, 1.0, 1.0]
    np.testing.assert_allclose(rates["linear"], [0.5, 1.0, 1.0, 0.5, 0.125])
    np.testing.assert_allclose(rates["cosine"][2:4], [1.0, 0.5])


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: FineTuning(epochs=0), "epochs of at least 1, got 0"),
        (lambda: FineTuning(schedule="step"), "schedule among constant, linear, cosine"),
        (lambda: FineTuning(lr=0.0), "learning rate above 0"),
        (lambda: LoRA(rank=0), "rank of at least 1"),
        (lambda: make_recipe()(take(draw_text_records(2), 0), 0), "texts to train on, got none"),
        (
            lambda: make_recipe(replace(QUICK, lora=LoRA(2, modules=("nothing",))))(
                draw_text_records(2), 0
            ),
            "names of layers that can be adapted",
        ),
    ],
)
def test_wrong_settings_are_one_sentence(make, words):
    with pytest.raises(InputError, match=words) as raised:
        make()
    assert "\n" not in str(raised.value)
