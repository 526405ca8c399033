"""What a result says of texts that were cut: records count, and changed copies of them do not."""

from __future__ import annotations

from importlib.util import find_spec

import pytest
from language_models import draw_texts
from tiny_language_models import build_causal, train_tokenizer

import memberscope
from memberscope.auditing import Plan
from memberscope.targets import CausalLMTarget

pytestmark = pytest.mark.skipif(
    not (find_spec("transformers") and find_spec("torch")), reason="needs transformers and torch"
)


def test_notes_count_records_and_a_long_prefix_is_a_reason():
    tokenizer = train_tokenizer()
    members, others = [text.title() for text in draw_texts(60, 41, 6)], draw_texts(60, 42, 6)
    lengths = [len(tokenizer(text)["input_ids"]) for text in (*members, *others)]
    longest = sorted(lengths)[100]
    target = CausalLMTarget(
        build_causal(tokenizer, n_positions=longest), tokenizer, prefix="Rain fell. "
    )
    plan = Plan(attacks=("loss", "lowercase", "recall"), fprs=(0.1,))
    result = memberscope.audit(target, members, others, plan=plan)
    n_long = sum(n > longest for n in lengths)
    note = next(note for note in result.diagnostics.notes if "texts asked are longer" in note)
    assert note.startswith(f"{n_long} of {len({*members, *others})} texts")
    why = next(entry.why for entry in result.not_run if entry.attack == "recall")
    assert "Expected a prefix that leaves room for each record" in why
    assert any(entry.attack == "lowercase" for entry in result.estimates)
