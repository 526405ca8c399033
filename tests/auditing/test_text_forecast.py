"""What is planned of a language model, before it is asked, and what a query budget rules out."""

from __future__ import annotations

import json

from language_models import draw_texts, make_text_target

import memberscope
from memberscope.auditing import Plan, make_text_subject
from memberscope.auditing.forecast import forecast_audit
from memberscope.targets import read_token_signals
from memberscope.types import ThreatModel

MEMBERS, OTHERS = draw_texts(60, 1), draw_texts(60, 2)


def test_the_attacks_of_texts_are_planned():
    subject = make_text_subject(make_text_target(), MEMBERS, OTHERS)
    found = forecast_audit(Plan(), subject)
    runs = {name for name, _ in found.runs}
    assert {"loss", "zlib", "lowercase", "min_k", "wbc", "ez"} <= runs
    assert not runs & {"boundary", "noise", "loss_per_class"}
    # One query a record, one about each in lower case, and 32 asked twice
    assert found.queries == 120 + 120 + 32


def test_copies_count_as_queries_and_a_small_budget_rules_them_out():
    def audit(budget):
        threat = ThreatModel(query_budget=budget)
        target = make_text_target(digest=None)
        return memberscope.audit(
            target, MEMBERS, OTHERS, threat=threat, attacks=["loss", "lowercase"]
        )

    one, two = audit(1), audit(2)
    reasons = {entry.attack: entry.why for entry in one.not_run}
    assert "at least 2 queries" in reasons["lowercase"] and one.cost.queries == 120
    assert "lowercase" not in {entry.attack for entry in two.not_run}
    assert two.cost.queries == 120 + 120 + 32


def test_missing_texts_are_advised_in_words_of_texts(tmp_path):
    rows = [{"id": str(k), "member": k < 40, "log_probs": [-1.0 - k % 7, -2.0]} for k in range(80)]
    path = tmp_path / "target.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    result = memberscope.audit_signals(read_token_signals(path), policy="demo")
    advice = {finding.attack: finding.advice for finding in result.findings}
    assert "text beside its token signals" in advice["blind"]
