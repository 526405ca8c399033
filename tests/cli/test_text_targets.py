"""Options of language models: long texts, and where the model before fine-tuning is served."""

from __future__ import annotations

import pytest
from tiny_language_models import SENTENCES, build_causal, train_tokenizer

from memberscope.cli.options.build import build_subject
from memberscope.cli.options.endpoint import build_text_endpoint_target
from memberscope.cli.options.table import Options
from memberscope.errors import InputError
from memberscope.targets import load_target


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    tokenizer = train_tokenizer()
    tokenizer.save_pretrained(folder)
    build_causal(tokenizer, n_positions=8).save_pretrained(folder)
    for side, texts in (("in", SENTENCES[:4]), ("out", SENTENCES[4:8])):
        (folder / f"{side}.txt").write_text("\n".join(texts))
    return folder


def test_long_texts_are_read_in_windows_where_that_is_asked_for(folder):
    given = {"members": f"{folder}/in.txt", "non_members": f"{folder}/out.txt"}
    given |= {"model": str(folder), "base_model": str(folder)}
    subjects = [build_subject(Options(**given, long=how)) for how in (None, "truncate", "windows")]
    counts = [
        [one.target.measure_tokens(one.records.x).counts.sum(), one.target.base.encoder.long]
        for one in subjects
    ]
    assert counts[0] == counts[1] and counts[0][1] == "truncate"
    assert counts[2][0] > counts[0][0] and counts[2][1] == "windows"


def test_what_cannot_be_read_in_windows_is_refused(folder):
    with pytest.raises(InputError, match="Expected long as truncate or windows, got 'fold'"):
        load_target(str(folder), long="fold")
    with pytest.raises(InputError, match="Expected the folder of a language model with --long"):
        load_target("module:factory", long="windows")
    with pytest.raises(InputError, match="a server says itself"):
        build_subject(
            Options(url="http://a", protocol="vllm", members="a", non_members="b", long="windows")
        )


@pytest.mark.parametrize(
    ("base", "url", "name"),
    [
        ("plain", "http://a/v1", "plain"),
        ("http://b/v1", "http://b/v1", "tuned"),
        ("http://b/v1#plain", "http://b/v1", "plain"),
    ],
)
def test_the_base_keeps_the_name_unless_another_is_given(tmp_path, base, url, name):
    options = Options(url="http://a/v1", protocol="vllm", model_name="tuned", out=tmp_path)
    endpoint = build_text_endpoint_target(options, base).endpoint
    assert (endpoint.url, endpoint.model_name) == (url, name)
