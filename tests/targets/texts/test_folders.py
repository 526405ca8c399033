"""Language models from folders: whole ones, adapters and masked ones, and what is refused."""

from __future__ import annotations

import json
import shutil
from importlib.util import find_spec

import numpy as np
import pytest
from tiny_language_models import (
    SENTENCES,
    build_adapter,
    build_causal,
    build_masked,
    train_tokenizer,
)

from memberscope.errors import InputError, UnsafeFileError
from memberscope.facts import read_target_facts
from memberscope.targets import (
    CausalLMTarget,
    MaskedLMTarget,
    load_causal_lm,
    load_language_model,
    load_target,
    wrap,
)
from memberscope.targets.frameworks.huggingface_folder import silence_transformers

pytestmark = pytest.mark.skipif(
    not (find_spec("transformers") and find_spec("torch") and find_spec("peft")),
    reason="needs transformers, torch and peft",
)


@pytest.fixture(scope="module")
def homes(tmp_path_factory):
    """Folders of a causal model, of an adapter of it, and of a masked model."""
    import transformers

    folder = tmp_path_factory.mktemp("models")
    tokenizer = train_tokenizer(mask_token="<mask>")
    with silence_transformers(transformers):
        plain = build_causal(tokenizer)
        plain.save_pretrained(folder / "plain")
        tokenizer.save_pretrained(folder / "plain")
        build_masked(tokenizer).save_pretrained(folder / "masked")
        tokenizer.save_pretrained(folder / "masked")
        adapted = build_adapter(plain)
        # Otherwise peft asks the hub whether the base model's vocabulary grew
        adapted.save_pretrained(str(folder / "adapter"), save_embedding_layers=False)
    file = folder / "adapter" / "adapter_config.json"
    settings = json.loads(file.read_text()) | {"base_model_name_or_path": "plain"}
    file.write_text(json.dumps(settings))
    return folder


@pytest.fixture
def copy(homes, tmp_path):
    return shutil.copytree(homes, tmp_path / "models")


def test_a_folder_is_the_model_that_was_saved(homes):
    tokenizer = train_tokenizer()
    expected = CausalLMTarget(build_causal(tokenizer), tokenizer)
    loaded = load_target(str(homes / "plain"))
    assert isinstance(loaded.target, CausalLMTarget) and loaded.notes == ()
    np.testing.assert_array_equal(loaded.target.query(SENTENCES), expected.query(SENTENCES))
    target = load_causal_lm(homes / "plain", bos=True, batch_size=2)
    assert target.encoder.prefix == [0] and target.batch_size == 2
    assert target.digest == load_causal_lm(homes / "plain", bos=True).digest
    assert target.digest != loaded.target.digest
    # A model from a local folder brings its tokenizer along
    again = wrap(loaded.target.model)
    np.testing.assert_array_equal(again.query(SENTENCES), expected.query(SENTENCES))


def test_a_masked_model_is_loaded_as_such(homes):
    loaded = load_target(str(homes / "masked")).target
    assert isinstance(loaded, MaskedLMTarget)
    assert loaded.query(SENTENCES[:2]).shape == (2, 1)
    with pytest.raises(InputError, match=r"Expected a causal language model in .*, got a masked"):
        load_causal_lm(homes / "masked")


def test_an_adapter_is_put_on_the_folder_beside_it(homes):
    tokenizer = train_tokenizer()
    plain = build_causal(tokenizer)
    before = CausalLMTarget(plain, tokenizer).query(SENTENCES)
    expected = CausalLMTarget(build_adapter(plain), tokenizer).query(SENTENCES)
    target = load_target(str(homes / "adapter")).target
    np.testing.assert_allclose(target.query(SENTENCES), expected, atol=1e-6)
    np.testing.assert_allclose(target.base.query(SENTENCES), before, atol=1e-6)
    assert np.abs(expected - before).max() > 0.01
    assert "Read the LORA adapter of adapter on the base model in plain" in target.notes[0]
    assert read_target_facts(target).base is target.base
    assert target.n_parameters == sum(
        part.numel() for name, part in target.model.named_parameters() if "lora_" in name
    )


def test_an_adapter_whose_base_is_elsewhere_is_one_sentence(copy):
    file = copy / "adapter" / "adapter_config.json"
    settings = json.loads(file.read_text())
    file.write_text(json.dumps(settings | {"base_model_name_or_path": "some-org/some-model"}))
    with pytest.raises(InputError, match="in a local folder, got 'some-org/some-model'"):
        load_target(str(copy / "adapter"))
    file.write_text(json.dumps(settings | {"task_type": "SEQ_CLS"}))
    with pytest.raises(InputError, match="got one for SEQ_CLS"):
        load_target(str(copy / "adapter"))
    file.write_text(json.dumps(settings | {"megatron_config": {}}))
    with pytest.raises(UnsafeFileError, match="imports no modules, got megatron_config"):
        load_target(str(copy / "adapter"))
    file.write_text("{")
    with pytest.raises(InputError, match="Expected JSON in"):
        load_target(str(copy / "adapter"))


def test_an_adapter_without_all_its_weights_is_one_sentence(copy):
    from safetensors.torch import load_file, save_file

    file = copy / "adapter" / "adapter_model.safetensors"
    weights = load_file(file)
    weights.pop(sorted(weights)[0])
    save_file(weights, file)
    with pytest.raises(InputError, match="Expected all weights of the adapter"):
        load_target(str(copy / "adapter"))
    file.write_bytes(file.read_bytes()[:40])
    with pytest.raises(InputError, match="Expected a complete model in"):
        load_target(str(copy / "adapter"))


@pytest.mark.parametrize(
    ("home", "kept", "pickle"),
    [
        ("plain", "model.safetensors", "pytorch_model.bin"),
        ("adapter", "adapter_model.safetensors", "adapter_model.bin"),
    ],
)
def test_pickles_are_refused_and_left_unopened(copy, home, kept, pickle):
    import torch

    torch.save({"a": torch.zeros(1)}, copy / home / pickle)
    target = load_target(str(copy / home)).target
    assert any(f"could run code: {pickle}" in note for note in target.notes)
    (copy / home / kept).unlink()
    with pytest.raises(UnsafeFileError, match=f"got {pickle}, which could run code"):
        load_target(str(copy / home))
    (copy / home / pickle).unlink()
    with pytest.raises(InputError, match="got no weights"):
        load_target(str(copy / home))


def test_code_of_a_models_own_is_refused(copy):
    file = copy / "plain" / "config.json"
    config = json.loads(file.read_text())
    own = {
        "model_type": "own",
        "auto_map": {"AutoConfig": "own.A", "AutoModelForCausalLM": "own.B"},
    }
    file.write_text(json.dumps(config | own))
    (copy / "plain" / "own.py").write_text("raise SystemExit('code was run')")
    with pytest.raises(UnsafeFileError, match="Expected a model that needs no code of its own"):
        load_target(str(copy / "plain"))


def test_what_is_missing_in_a_folder_is_one_sentence(copy):
    (copy / "plain" / "tokenizer.json").unlink()
    with pytest.raises(InputError, match="Expected a tokenizer in"):
        load_target(str(copy / "plain"))
    with pytest.raises(InputError, match="Expected a folder, got 'nowhere'"):
        load_language_model("nowhere")
    (copy / "masked" / "config.json").write_text(json.dumps({"architectures": ["T5Model"]}))
    with pytest.raises(InputError, match="Expected a causal or masked language model in"):
        load_language_model(copy / "masked")
