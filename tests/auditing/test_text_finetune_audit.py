"""A whole audit of a fine-tuned language model, with references trained like it and unlike it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tiny_language_models import WORDS, build_tokenizer, draw_text_records

import memberscope
from memberscope.auditing import Plan
from memberscope.recipes import CausalLMRecipe, Execution, FineTuning
from memberscope.recipes.fleet import select_records

FOUR = FineTuning(epochs=4, lr=1.5e-3, batch_size=1, rows_at_once=1)
N = 120


def _build_base():
    """Build an untrained GPT-2 that is wide enough to learn texts by heart in four epochs."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    sizes = {"n_positions": 16, "n_embd": 128, "n_layer": 1, "n_head": 2}
    ends = {"bos_token_id": 0, "eos_token_id": 2}
    none = dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0)
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        return GPT2LMHeadModel(GPT2Config(vocab_size=len(WORDS) + 3, **sizes, **ends, **none))


@pytest.fixture(scope="module")
def audit_with():
    """Audit one target of four epochs with references of so many."""
    recipe = CausalLMRecipe(_build_base(), FOUR, build_tokenizer())
    # Each text its own document, so that members are exchangeable with the others
    records = draw_text_records(N, length=12)
    own = np.random.default_rng(1).permutation(N) < N // 2
    target = recipe(select_records(records, own), 7)

    def audit(epochs: int):
        return memberscope.audit(
            target,
            list(records.x[own]),
            list(records.x[~own]),
            recipe=replace(recipe, settings=replace(FOUR, epochs=epochs)),
            references=4,
            execution=Execution("sequential"),
            plan=Plan(attacks=("loss", "rmia_gamma1_t1")),
            policy="demo",
        )

    return audit


def _read_judgement(result) -> str:
    """Read what the verdict was told of the references."""
    (found,) = [entry for entry in result.findings if entry.attack == "references"]
    return found.verdict


def test_references_of_as_many_epochs_are_like_the_target(audit_with):
    result = audit_with(4)
    control = result.controls["references"]
    assert control.passed is True
    assert "trained like the audited model" in control.why
    assert min(control.details["reference_gain"], control.details["target_gain"]) > 0.2
    (area,) = [
        entry
        for entry in result.estimates
        if entry.attack == "rmia_gamma1_t1" and entry.metric == "auc" and not entry.group
    ]
    assert area.value > 0.95
    assert _read_judgement(result) == "PASS"


def test_references_of_one_epoch_leave_the_verdict_open(audit_with):
    result = audit_with(1)
    control = result.controls["references"]
    assert control.passed is False
    assert "trained in another way" in control.why
    assert control.details["reference_gain"] < 0.5 * control.details["target_gain"]
    assert _read_judgement(result) == "INCONCLUSIVE"
    assert result.verdict == "INCONCLUSIVE" and control.why in result.reason
