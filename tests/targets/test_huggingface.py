"""Hugging Face classifiers: texts in batches of like length, folders of safetensors.

And what is refused.
"""

from __future__ import annotations

import json
import shutil
from importlib.util import find_spec

import numpy as np
import pytest

from memberscope.errors import InputError, UnsafeFileError
from memberscope.frames.several_inputs import Inputs
from memberscope.targets import (
    HuggingFaceTarget,
    TableLayout,
    load_target,
    read_class_names,
    read_pair,
    wrap,
)
from memberscope.targets.frameworks.huggingface_folder import silence_transformers

pytestmark = pytest.mark.skipif(
    not (find_spec("transformers") and find_spec("torch")), reason="needs transformers and torch"
)
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "good", "bad", "film", "plot", "very", "not"]


def small(n_labels: int = 2, **more):
    import torch
    import transformers

    torch.manual_seed(0)
    sizes = {
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 16,
    }
    names = {k: name for k, name in enumerate(["negative", "positive", "neutral"][:n_labels])}
    config = transformers.BertConfig(
        vocab_size=len(WORDS),
        max_position_embeddings=12,
        num_labels=n_labels,
        id2label=names,
        initializer_range=1.0,
        **sizes,
        **more,
    )
    return transformers.BertForSequenceClassification(config).eval()


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    import transformers

    folder = tmp_path_factory.mktemp("bert")
    (folder / "vocab.txt").write_text("\n".join(WORDS))
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "BertTokenizer", "model_max_length": 12})
    )
    with silence_transformers(transformers):
        small().save_pretrained(folder)
    return folder


@pytest.fixture
def folder(home, tmp_path):
    return shutil.copytree(home, tmp_path / "bert")


def one_by_one(target, texts):
    """The naive reference: each text alone, unpadded."""
    import torch

    with torch.no_grad():
        return np.concatenate(
            [
                target.model(
                    **target.tokenizer(*text, truncation=True, return_tensors="pt")
                ).logits.numpy()
                for text in texts
            ]
        )


def test_batches_by_length_give_what_each_text_alone_gives(home):
    target = load_target(str(home)).target
    rng = np.random.default_rng(0)
    texts = np.array(
        [" ".join(rng.choice(WORDS[4:], rng.integers(1, 30))) for _ in range(150)], dtype=object
    )
    expected = one_by_one(target, [(text,) for text in texts])
    for x in (texts, texts[:, None], texts.tolist(), texts.astype(str)):
        np.testing.assert_allclose(target.query(x), expected, atol=1e-5)
    pairs = np.column_stack([texts, texts[::-1]])
    np.testing.assert_allclose(target.query(pairs), one_by_one(target, pairs.tolist()), atol=1e-5)
    assert (target.signal, target.n_classes, read_class_names(target)) == (
        "logits",
        2,
        ("negative", "positive"),
    )


def test_records_that_are_no_text_are_one_sentence(home):
    target = load_target(str(home)).target
    for x in (
        np.zeros((3, 2)),
        np.array([["a", "b", "c"]]),
        np.array([["good"], [None]], dtype=object),
    ):
        with pytest.raises(InputError, match="Expected one column of text"):
            target.query(x)


def test_without_a_tokenizer_records_are_token_ids():
    model = small(3)
    target = wrap(model)
    assert isinstance(target, HuggingFaceTarget) and target.n_classes == 3
    ids = np.array([[2, 4, 6, 3, 0, 0], [2, 5, 5, 6, 7, 3]])
    import torch

    with torch.no_grad():
        first = model(input_ids=torch.tensor(ids[:1, :4])).logits.numpy()
    np.testing.assert_allclose(target.query(ids)[:1], first, atol=1e-5, err_msg="padding is masked")
    with pytest.raises(InputError, match="token ids or pixel values"):
        target.query(np.array([["good"]]))
    digest = target.digest
    with torch.no_grad():
        model.classifier.bias += 1
    assert target.digest != digest


def test_images_as_pixel_values(tmp_path):
    import torch
    import transformers

    torch.manual_seed(0)
    config = transformers.ViTConfig(
        image_size=8, patch_size=4, num_channels=1, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        num_labels=4,
    )  # fmt: skip
    model = transformers.ViTForImageClassification(config).eval()
    with silence_transformers(transformers):
        model.save_pretrained(tmp_path / "vit")
    target = load_target(str(tmp_path / "vit")).target
    x = np.random.default_rng(0).normal(size=(70, 1, 8, 8))
    with torch.no_grad():
        expected = model(pixel_values=torch.from_numpy(x).float()).logits.numpy()
    np.testing.assert_allclose(target.query(x), expected, atol=1e-5)
    assert (target.n_classes, read_class_names(target)) == (4, None)


def test_pickles_are_refused_and_beside_safetensors_left_unopened(folder, tmp_path):
    (folder / "training_args.bin").write_bytes(b"\x80\x04would run")
    assert "training_args.bin" in load_target(str(folder)).notes[0]
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(UnsafeFileError, match=r"got pytorch_model\.bin, which could run code"):
        load_target(str(folder))


def test_code_of_the_models_own_is_not_run(folder):
    marker = folder.parent / "ran"
    (folder / "own.py").write_text(f"open({str(marker)!r}, 'w')\n")
    config = json.loads((folder / "config.json").read_text())
    config |= {
        "model_type": "own",
        "auto_map": {"AutoConfig": "own.C", "AutoModelForSequenceClassification": "own.M"},
    }
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises((UnsafeFileError, InputError), match=r"^Expected [^\n]*$"):
        load_target(str(folder))
    assert not marker.exists()


def test_incomplete_folders_are_one_sentence(folder, tmp_path):
    import torch
    from safetensors.torch import load_file, save_file

    for name, words in (
        ("config.json", "config.json"),
        ("vocab.txt", "a tokenizer"),
        ("model.safetensors", "got no weights"),
    ):
        aside = tmp_path / name
        (folder / name).rename(aside)
        with pytest.raises(InputError, match=words):
            load_target(str(folder))
        aside.rename(folder / name)
    weights = load_file(folder / "model.safetensors")
    save_file(
        {name: value for name, value in weights.items() if "classifier" not in name},
        folder / "model.safetensors",
        {"format": "pt"},
    )
    with pytest.raises(InputError, match="got none for classifier"):
        load_target(str(folder))
    save_file(
        {**weights, "classifier.bias": torch.zeros(5)},
        folder / "model.safetensors",
        {"format": "pt"},
    )
    with pytest.raises(InputError, match=r"^Expected [^\n]*$"):
        load_target(str(folder))
    (folder / "config.json").write_text("{")
    with pytest.raises(InputError, match="Expected JSON"):
        load_target(str(folder))


def test_other_tasks_are_refused(folder):
    for model in (small(problem_type="multi_label_classification"), small(n_labels=1)):
        with pytest.raises(InputError, match="one label a record"):
            wrap(model)
    config = json.loads((folder / "config.json").read_text())
    other = {"architectures": ["T5ForConditionalGeneration"]}
    (folder / "config.json").write_text(json.dumps(config | other))
    with pytest.raises(InputError, match="got the language model T5ForConditionalGeneration"):
        load_target(str(folder))


def test_the_text_column_is_chosen_and_labels_are_words_or_numbers(home, tmp_path):
    target = load_target(str(home)).target
    for name, labels in (("a", ("negative", "positive")), ("b", ("0", "1"))):
        (tmp_path / f"{name}.csv").write_text(
            f"id,text,y\n{name}1,good film,{labels[1]}\n{name}2,bad,{labels[0]}\n"
        )
    layout = TableLayout(id_column="id", features=("text",))
    inside, outside, _ = read_pair(
        tmp_path / "a.csv", tmp_path / "b.csv", layout, read_class_names(target)
    )
    assert inside.y.tolist() == outside.y.tolist() == [1, 0]
    np.testing.assert_allclose(
        target.query(inside.x), target.query(["good film", "bad"]), atol=1e-6
    )
    with pytest.raises(InputError, match="column 'words'"):
        read_pair(
            tmp_path / "a.csv",
            tmp_path / "b.csv",
            TableLayout(features=("words",)),
            read_class_names(target),
        )


def test_tuples_and_half_precision_give_the_same_logits():
    import torch

    ids = np.array([[2, 4, 3, 0], [2, 5, 6, 3]])
    expected = wrap(small(3)).query(ids)
    model = small(3)
    model.config.return_dict = False
    np.testing.assert_allclose(wrap(model).query(ids), expected, atol=1e-6)
    for kind in (torch.float16, torch.bfloat16):
        np.testing.assert_allclose(wrap(small(3).to(kind)).query(ids), expected, atol=0.2)
    np.testing.assert_allclose(
        wrap(torch.nn.DataParallel(small(3))).query(ids), expected, atol=1e-6
    )


def test_what_a_tokenizer_gives_is_taken_as_it_is():
    ids, mask = np.array([[2, 4, 3, 0], [2, 5, 6, 3]]), np.array([[1, 1, 1, 0], [1, 1, 1, 1]])
    target = wrap(small(3))
    expected = target.query(ids)
    np.testing.assert_allclose(
        target.query(Inputs((mask, ids), ("attention_mask", "input_ids"))), expected, atol=1e-6
    )
    np.testing.assert_allclose(target.query(Inputs((ids, mask))), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("labels", "more", "words"),
    [
        (1, {}, "the regressor BertForSequenceClassification"),
        (3, {"problem_type": "regression"}, "the regressor BertForSequenceClassification"),
        (
            3,
            {"problem_type": "multi_label_classification"},
            "the multi-label classifier BertForSequenceClassification",
        ),
    ],
)
def test_other_tasks_are_one_true_sentence(labels, more, words):
    with pytest.raises(
        InputError, match=f"Expected a classifier with one label a record, got .*{words}"
    ):
        wrap(small(labels, **more))
