"""`guard init` from audits of language models: the policy serves what was measured."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from language_models import WORDS, draw_texts, make_text_target

import memberscope
from memberscope.auditing import Claim, Plan, Policy
from memberscope.cli.main import run
from memberscope.guard import read_policy
from memberscope.guard.policy.measured_level import find_looser_classes
from memberscope.policygen import choose_served_outputs, read_evidence
from memberscope.reports import write_all
from memberscope.types import Access, ThreatModel

MEMBERS, OTHERS = draw_texts(300, 31), draw_texts(300, 32)
ROOMY = Policy("roomy", (Claim(0.1, 0.3),))


def _write_on(prompts, n, max_tokens, seed):
    """Write words that have nothing to do with what was learned, the same for the same prompt."""
    found = []
    for prompt in prompts:
        own = int.from_bytes(hashlib.sha256(prompt.encode()).digest()[:8], "little")
        rng = np.random.default_rng([own, seed])
        found.append([" ".join(rng.choice(WORDS, 10)) for _ in range(n)])
    return found


def _audit(folder, restriction, *, known=(), writes=True):
    target = make_text_target(known)
    if writes:
        target.generate = _write_on
    threat = ThreatModel(access=Access.TOKEN_PROBABILITIES, restriction=restriction)
    plan = Plan(title="letters", threat=threat, effort="normal", fprs=(0.1,))
    result = memberscope.audit(target, MEMBERS, OTHERS, plan=plan, policy=ROOMY)
    write_all(result, folder)
    return folder


def _init(monkeypatch, capsys, folder, out):
    """Run the command as a user types it."""
    monkeypatch.setattr(
        "sys.argv", ["memberscope", "guard", "init", "--from", str(folder), "--out", str(out)]
    )
    with pytest.raises(SystemExit) as stopped:
        run()
    return stopped.value.code, " ".join(capsys.readouterr().out.split())


def test_a_restriction_that_keeps_the_limit_is_served(tmp_path, monkeypatch, capsys):
    folder = _audit(tmp_path / "audit", "round:1")
    code, said = _init(monkeypatch, capsys, folder, tmp_path / "guard.toml")
    assert code == 0 and said.startswith("round:1 meets every limit: at most ")
    policy = read_policy(tmp_path / "guard.toml")
    assert policy.serving.protocol == "openai" and policy.monitor.kind == "text"
    assert policy.default.restrict == policy.measured.level == "round:1"
    assert policy.default.per_record.n >= 5  # continuations that the attacker sampled of each
    assert {"loss", "ez", "ngram_coverage"} <= set(policy.measured.attacks)
    assert not find_looser_classes(policy)
    looser = policy.model_copy(
        update={"default": policy.default.model_copy(update={"restrict": "none"})}
    )
    assert find_looser_classes(looser) == ["default"]


def test_log_probabilities_that_leak_are_left_out(tmp_path):
    evidence = read_evidence(_audit(tmp_path, None, known=MEMBERS))
    assert [(entry.restrict, entry.outcome) for entry in evidence.candidates] == [
        ("none", "breaks"),
        ("label", "meets"),
    ]
    assert choose_served_outputs(evidence).candidate.restrict == "label"


def test_texts_that_were_not_measured_leave_no_policy(tmp_path, monkeypatch, capsys):
    folder = _audit(tmp_path / "audit", "round:1", writes=False)
    code, said = _init(monkeypatch, capsys, folder, tmp_path / "guard.toml")
    assert code == 3 and "Generated texts alone were not measured" in said
    assert not (tmp_path / "guard.toml").exists()
