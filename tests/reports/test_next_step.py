"""What is suggested after an audit follows from what it measured, and names its configuration."""

from __future__ import annotations

from dataclasses import replace

import pytest

from memberscope.auditing import STRONGEST, Claim, Policy
from memberscope.auditing.documents import AucClaim
from memberscope.auditing.documents.diagnostics import SpentQueries
from memberscope.reports import render_format, render_report, write_advice
from memberscope.reports.next_step import has_kept_outputs, suggest_next_step
from memberscope.reports.page.statements import compose_statements

RESTRICTED = "--restrict top:1+round:2 --out memberscope-restricted"


def limit_labels(result, high: float):
    """The same audit, had it searched labels and found at most `high` of the members by them."""
    estimates = [
        replace(entry, high=high)
        if (entry.attack, entry.access, entry.metric) == (STRONGEST, "label", "tpr")
        else entry
        for entry in result.estimates
    ]
    searches = {"boundary": SpentQueries(64, 64.0, 64)}
    diagnostics = result.diagnostics.model_copy(update={"searches": searches})
    passed = [replace(entry, verdict="PASS") for entry in result.findings[1:]]
    return result.model_copy(
        update={
            "estimates": estimates,
            "diagnostics": diagnostics,
            "findings": [result.findings[0], *passed],
        }
    )


def test_a_guard_is_suggested_only_where_weaker_outputs_kept_the_limits(result):
    assert result.plan.policy.max_tpr == (Claim(0.05, 0.1),)
    assert not has_kept_outputs(result)
    assert "guard init" not in suggest_next_step(result)
    kept = limit_labels(result, 0.1)
    assert suggest_next_step(kept, out="x").endswith(": memberscope guard init --from x")
    assert "guard init" not in suggest_next_step(limit_labels(result, 0.11))


@pytest.mark.parametrize("name", ["searches", "attacks", "control"])
def test_a_guard_is_not_suggested_where_it_could_not_be_set_up(result, name):
    kept = limit_labels(result, 0.1)
    changes = {
        "searches": {"diagnostics": result.diagnostics},
        "attacks": {"plan": kept.plan.model_copy(update={"attacks": ("gap", "loss")})},
        "control": {
            "findings": [*kept.findings[:-1], replace(kept.findings[-1], verdict="NOT_RUN")]
        },
    }
    assert has_kept_outputs(kept)
    assert not has_kept_outputs(kept.model_copy(update=changes[name]))


def test_the_step_and_every_report_name_the_configuration_of_the_audit(result):
    environment = {**result.environment, "config_file": "my gate.toml"}
    named = result.model_copy(update={"environment": environment})
    command = f"memberscope audit 'my gate.toml' {RESTRICTED}"
    assert suggest_next_step(named).endswith(f": {command}")
    failed = named.findings[0]
    # What is stored does not depend on how the audit was started
    assert "memberscope audit audit.toml --restrict" in failed.advice
    assert command in write_advice(failed, named)
    assert write_advice(failed, result) == failed.advice
    for name in ("sarif", "junit", "cyclonedx"):
        text = render_format(named, name).decode()
        assert "audit.toml" not in text and "my gate.toml" in text
    assert "audit.toml" not in render_report(named)


def test_what_was_typed_stands_in_the_command_of_the_advice(result):
    step = suggest_next_step(result, lambda verb: "--signals s.csv")
    assert step.endswith(f": memberscope audit --signals s.csv {RESTRICTED}")
    assert f": memberscope audit … {RESTRICTED}" in suggest_next_step(result)


def test_after_a_pass_the_next_audit_is_compared_with_this_one(clean):
    assert suggest_next_step(clean, out="v1").endswith(
        ": memberscope check NEXT_AUDIT --baseline v1"
    )


def test_an_open_claim_says_how_many_records_may_decide_it(clean):
    limit = clean.plan.policy.max_tpr[0].tpr
    number = replace(clean.findings[0].estimate, value=limit - 0.1, high=limit + 0.1)
    number = replace(number, low=limit - 0.3, n_members=100, n_non_members=210)
    first = replace(clean.findings[0], verdict="INCONCLUSIVE", estimate=number)
    update = {"verdict": "INCONCLUSIVE", "findings": [first, *clean.findings[1:]]}
    # Half the width needs four times the records
    step = suggest_next_step(clean.model_copy(update=update))
    assert "about 400 members and 840 non-members may decide it" in step
    close = replace(first, estimate=replace(number, value=limit - 0.001))
    update["findings"] = [close, *clean.findings[1:]]
    assert "over 100 times as many" in suggest_next_step(clean.model_copy(update=update))


def test_every_failed_claim_is_named_in_the_evidence(result):
    first = result.findings[0]
    second = replace(first, claim="No attack has an AUC above 0.6.")
    both = result.model_copy(update={"findings": [first, second, *result.findings[1:]]})
    (_, evidence, _) = compose_statements(both)
    assert "2 limits of the policy “gate” are exceeded" in evidence
    assert first.claim in evidence and second.claim in evidence and "were refuted" in evidence
    (_, alone, _) = compose_statements(result)
    assert f"a limit of the policy “gate” is exceeded: the claim “{first.claim}” was" in alone


def test_the_reason_counts_the_claims_that_failed_beside_the_first(fail_twice):
    assert ", and 1 more claim failed." in fail_twice.reason
    assert fail_twice.reason.startswith("Failed: ")


@pytest.fixture(scope="module")
def fail_twice():
    from releases import audit_release

    policy = Policy("two", (Claim(0.05, 0.15),), max_auc=(AucClaim(0.55),))
    found = audit_release(1.2, policy=policy)
    assert [entry.verdict for entry in found.findings[:2]] == ["FAIL", "FAIL"]
    return found
