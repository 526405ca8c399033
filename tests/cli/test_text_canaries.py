"""Text canaries on the command line: from the training file to what a fine-tuned GPT-2 shows."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from commands import run_command
from text_server import TextServer
from tiny_language_models import SENTENCES, build_causal, train_tokenizer
from unruly import serving

from memberscope.cli.commands.canaries import export_canaries, score_canaries
from memberscope.errors import InputError
from memberscope.recipes import read_canary_record

WORDS = " ".join(SENTENCES).split()


def call(*arguments: object, cwd: Path):
    return run_command(*arguments, cwd=cwd, COLUMNS="200")


def export_here(folder: Path, **more: object) -> None:
    """Export in this process, which has loaded the libraries already."""
    paths = ("members", "tokenizer", "own", "pool", "out")
    given = {"members": "texts.jsonl", "tokenizer": "base", "seed": 1} | more
    export_canaries(**{k: folder / str(v) if k in paths else v for k, v in given.items()})


def write_rows(path: Path, rows) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def read_rows(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("texts")
    tokenizer = train_tokenizer()
    tokenizer.save_pretrained(folder / "base")
    build_causal(tokenizer, n_positions=64, n_embd=64, n_head=4).save_pretrained(folder / "base")
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(WORDS, 12)) for _ in range(200)]
    write_rows(folder / "texts.jsonl", [{"text": text} for text in texts])
    write_rows(
        folder / "pairs.jsonl",
        [{"prompt": text[:20], "completion": text[20:]} for text in texts],
    )
    more = ("--tokenizer", "base", "--seed", 1, "--number", 150, "--suffix-tokens", 6)
    done = call("canaries", "export", "--members", "texts.jsonl", *more, cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder


def score_by_hand(folder: Path, gain: float = 0.0) -> list[dict]:
    """Token signals as a user's own cluster would write them, `gain` nats more for those in."""
    kept, rng = read_canary_record(folder / "canaries/planted.json"), np.random.default_rng(0)
    return [
        {
            "id": name,
            "log_probs": (rng.normal(-9, 1, canary.tokens) + gain * canary.inside).tolist(),
        }
        for name, canary in zip(kept.ids, kept.canaries, strict=True)
    ]


def test_export_writes_the_training_file_both_sides_and_the_record(folder):
    out = folder / "canaries"
    kept = read_canary_record(out / "planted.json")
    train = [row["text"] for row in read_rows(out / "train.jsonl")]
    texts = [row["text"] for row in read_rows(folder / "texts.jsonl")]
    copies = sum(one.repetitions * one.inside for one in kept.canaries)
    assert len(train) == len(texts) + copies and set(texts) <= set(train)
    inside, outside = (read_rows(out / f"{side}.jsonl") for side in ("in", "out"))
    assert len(inside) == sum(one.inside for one in kept.canaries)
    assert {row["id"] for row in inside + outside} == set(kept.ids)
    for row in outside:
        assert row["prompt"] + row["completion"] not in train


def test_prompts_with_completions_and_unlikely_suffixes(folder, capsys):
    more = {"number": 12, "kind": "unlikely", "model": str(folder / "base"), "out": "pairs"}
    export_here(folder, members="pairs.jsonl", **more)
    assert "12 of 12 canaries survive" in capsys.readouterr().out
    rows = read_rows(folder / "pairs/train.jsonl")
    assert {tuple(row) for row in rows} == {("prompt", "completion")}


def test_an_untrained_model_and_stored_signals_show_what_they_should(folder):
    done = call("canaries", "score", "canaries", "--model", "base", "--claimed", 1, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "Not refuted" in done.stdout and done.stdout.count("epsilon >= 0.000") == 6
    document = json.loads((folder / "canaries/scores.json").read_text())
    assert [row["repetitions"] for row in document["classes"]] == [1, 4, 16]
    write_rows(folder / "mine.jsonl", score_by_hand(folder, gain=4.0))
    more = ("--signals", "mine.jsonl", "--claimed", 1)
    done = call("canaries", "score", "canaries", *more, cwd=folder)
    assert done.returncode == 1 and "REFUTED: epsilon 1" in done.stdout


def test_without_canaries_planted_once_no_claim_is_tested(folder, capsys):
    export_here(folder, number=40, repetitions="4", out="four")
    score_canaries(result=folder / "four", model=str(folder / "base"), claimed=0.1)
    assert "Not tested" in capsys.readouterr().out


def test_a_served_model_is_scored_over_http(folder, tmp_path):
    shutil.copytree(folder / "canaries", tmp_path / "canaries")
    app, before = TextServer(), TextServer()
    with serving(app) as url, serving(before) as other:
        score_canaries(
            result=tmp_path / "canaries",
            url=f"{url}/v1",
            model_name="m",
            base_model=f"{other}/v1",
        )
    for one in (app, before):
        assert {body["model"] for body in one.bodies} == {"m"}
    found = json.loads((tmp_path / "canaries/scores.json").read_text())
    # The same model before and after: nothing was learned, to the last digit
    assert all(row["auc"]["value"] == 0.5 for row in found["classes"])
    assert (tmp_path / "canaries/ledger-base.sqlite").is_file()


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"number": 9}, "at least 10 canaries, got 9"),
        ({"members": "nothing.jsonl"}, "nothing.jsonl"),
        ({"members": "empty.jsonl"}, "empty.jsonl"),
        ({"tokenizer": "nowhere"}, "Expected --tokenizer FOLDER"),
        ({"repetitions": "1,often"}, "whole numbers as --repetitions"),
        ({"task": "odd"}, "classification or text, got 'odd'"),
        ({"task": "classification"}, "Expected --pool"),
        ({"kind": "natural"}, "random, unlikely, new-token, own, got 'natural'"),
        ({"kind": "own"}, "Give --own FILE"),
        (
            {"kind": "own", "own": "own.jsonl", "members": "pairs.jsonl"},
            "differ in their prompts alone",
        ),
        ({"pool": "pairs.jsonl"}, "Expected records of one kind"),
        ({"max_length": 12}, "longer than the context"),
    ],
)
def test_mistakes_of_export_are_one_sentence(folder, more, words):
    (folder / "empty.jsonl").write_text("")
    own = [{"prompt": f"The key is {k}.", "completion": " Thanks"} for k in range(12)]
    write_rows(folder / "own.jsonl", own)
    with pytest.raises(InputError) as caught:
        export_here(folder, out="new", **more)
    assert words in str(caught.value) and "\n" not in str(caught.value)
    assert not (folder / "new").exists()


def test_mistakes_of_score_are_one_sentence(folder, tmp_path):
    shutil.copytree(folder / "canaries", tmp_path / "canaries")
    rows, base = score_by_hand(folder), str(folder / "base")
    write_rows(tmp_path / "some.jsonl", rows[3:])
    write_rows(tmp_path / "other.jsonl", [{**row, "id": f"x{row['id']}"} for row in rows])
    short = [{**row, "log_probs": row["log_probs"][:1]} for row in rows]
    write_rows(tmp_path / "short.jsonl", short)
    some = tmp_path / "some.jsonl"
    for more, words in (
        ({}, "got neither"),
        ({"model": base, "signals": some}, "got both"),
        ({"signals": some}, "got none for 3 of them: the first is"),
        ({"signals": tmp_path / "other.jsonl"}, "they are of another run"),
        ({"signals": tmp_path / "short.jsonl"}, "got fewer of 150 of 150"),
        ({"signals": some, "base_model": base}, "Leave it out"),
        ({"url": "http://localhost:1", "model": base}, "got both"),
        ({"model": base, "model_name": "m"}, "Expected --url with --protocol and --model-name"),
    ):
        with pytest.raises(InputError) as caught:
            score_canaries(result=tmp_path / "canaries", **more)
        assert words in str(caught.value)
    train = tmp_path / "canaries/train.jsonl"
    train.write_text(train.read_text() + '{"text": "one more"}\n')
    with pytest.raises(InputError, match="the canaries are of another run"):
        score_canaries(result=tmp_path / "canaries", signals=some)


def test_exposure_of_a_fine_tuned_gpt2_grows_with_repetition(folder):
    from memberscope.recipes import CausalLMRecipe, FineTuning
    from memberscope.targets import read_text_records

    settings = FineTuning(epochs=5, lr=3e-3, batch_size=16)
    records = read_text_records(folder / "canaries/train.jsonl")
    tuned = CausalLMRecipe(str(folder / "base"), settings)(records, 0)
    tuned.model.save_pretrained(folder / "tuned")
    tuned.tokenizer.save_pretrained(folder / "tuned")
    models = {"model": str(folder / "tuned"), "base_model": str(folder / "base")}
    score_canaries(result=folder / "canaries", **models)
    classes = json.loads((folder / "canaries/scores.json").read_text())["classes"]
    medians = [row["exposure"]["median"]["value"] for row in classes]
    assert medians == sorted(medians) and medians[2] > medians[0] + 1.5
    assert classes[2]["auc"]["low"] > 0.8
