"""Audits of token signals that were stored elsewhere, with reference models or without."""

from __future__ import annotations

import json

import numpy as np
import pytest
from language_models import draw_texts, make_token_function

import memberscope
from memberscope.cli.main import run
from memberscope.targets import read_token_signals

N = 400  # texts a side
GAIN = 0.15  # log-probability of a token more, where a model was trained on the text


def _write_signals(folder, *, references=True, same=True):
    """Write the target's file, and those of four reference models, into a folder."""
    rng = np.random.default_rng(0)
    texts = draw_texts(2 * N, 3)
    member = np.arange(2 * N) < N
    models = {"target": member}
    if references:
        for pair in range(2):
            chosen = rng.permutation(2 * N) < N
            models |= {f"reference-{pair}a": chosen, f"reference-{pair}b": ~chosen}
    for name, inside in models.items():
        known = [text for text, is_in in zip(texts, inside, strict=True) if is_in]
        gain = GAIN if same or name == "target" else 0.0
        answers = make_token_function(known, gain, salt=name)(texts)
        base = make_token_function(salt="base")(texts)
        with (folder / f"{name}.jsonl").open("w") as lines:
            for row, (text, answer) in enumerate(zip(texts, answers, strict=True)):
                record = {"id": f"r{row}", "member": bool(inside[row]), "text": text}
                record["log_probs"] = answer["log_probs"].tolist()
                record["base"] = base[row]["log_probs"].tolist()
                lines.write(json.dumps(record) + "\n")
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return _write_signals(tmp_path_factory.mktemp("stored"))


def _area(result, attack):
    return next(
        entry
        for entry in result.estimates
        if (entry.attack, entry.metric, entry.group) == (attack, "auc", None)
    )


def test_stored_references_beat_the_base_model(folder):
    result = memberscope.audit_signals(read_token_signals(folder), policy="demo")
    # The gain stands .67 standard deviations from the loss, which shares its noise with other models
    assert _area(result, "loss").high < 0.8
    assert _area(result, "rmia_gamma1_t1").value > 0.95
    assert result.controls["references"].passed is True
    assert result.cost.queries >= 0 and "understated" not in result.reason


def test_references_that_were_trained_otherwise_fail_their_control(tmp_path):
    signals = read_token_signals(_write_signals(tmp_path, same=False))
    result = memberscope.audit_signals(signals, policy="demo")
    assert result.controls["references"].passed is False


def test_without_references_the_verdict_says_what_is_missing(tmp_path):
    signals = read_token_signals(_write_signals(tmp_path, references=False))
    result = memberscope.audit_signals(signals, policy="demo")
    assert "Leakage is likely understated" in result.reason
    reasons = {entry.attack: entry.why for entry in result.not_run}
    assert "got none" in reasons["lira"] and "got stored" in reasons["lowercase"]


def test_features_of_stored_references_are_not_made_up(folder):
    result = memberscope.audit_signals(read_token_signals(folder))
    reasons = {entry.attack: entry.why for entry in result.not_run}
    assert "got stored ones" in reasons["token_classifier"]


def test_texts_beside_the_signals_are_checked(folder):
    result = memberscope.audit_signals(read_token_signals(folder))
    assert result.controls["blind"].passed is True
    assert result.diagnostics.overlap.exact == 0


def test_duplicates_are_dropped_from_signals_and_references(folder):
    result = memberscope.audit_signals(
        read_token_signals(folder), plan=memberscope.Plan(drop_overlap=True)
    )
    assert result.diagnostics.n_members == N


def test_the_command_line_takes_a_folder_of_signals(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = ["audit", "--signals", str(folder), "--policy", "demo", "--out", "out", "--no-history"]
    monkeypatch.setattr("sys.argv", ["memberscope", *words])
    with pytest.raises(SystemExit) as stopped:
        run()
    assert stopped.value.code == 1, capsys.readouterr().err
    result = json.loads((tmp_path / "out" / "result.json").read_text())
    assert result["plan"]["task"] == "text" and result["plan"]["references"] == 4
