"""The gate: what a baseline decides, and what a waiver may and may not accept."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import date
from xml.etree import ElementTree

import pytest
from releases import STRICT, audit_release

from memberscope.auditing import (
    Claim,
    Control,
    Policy,
    WaivedFinding,
    conclude_gate,
    judge_against_baseline,
    read_waivers,
    show_gate,
)
from memberscope.auditing.gate.waivers import Waiver
from memberscope.errors import InputError
from memberscope.reports import format_result_json, render_format, render_report
from memberscope.reports.next_step import suggest_next_step
from memberscope.types import Access

DAY = date(2026, 11, 30)
WRITTEN = ("sarif", "junit", "markdown", "model-card", "cyclonedx")
ENTRY = """[[waiver]]
claim = "max_tpr"
reason = "The customers were told."
owner = "Ada Jones"
expires = 2027-01-31
"""


@pytest.fixture(scope="module")
def clean():
    return audit_release(0.0)


@pytest.fixture(scope="module")
def worse():
    found = audit_release(0.6)
    assert found.verdict == "PASS"
    return found


@pytest.fixture(scope="module")
def failing():
    found = audit_release(1.0, policy=STRICT)
    assert found.verdict == "FAIL"
    return found


def waiver(**more) -> Waiver:
    return Waiver("max_tpr", "The customers were told.", "Ada Jones", date(2027, 1, 31), **more)


def test_a_worse_release_leaks_more_than_the_baseline_though_its_policy_passes(clean, worse):
    found = judge_against_baseline(clean, worse, ("v1", "v2"))
    assert found.verdict == "LEAKS_MORE" and not found.leaks_less
    assert found.reason.startswith("v2 leaks more than v1")
    assert conclude_gate(worse, baseline=found).verdict == "PASS"


def test_a_better_release_is_shown_to_leak_less_and_an_equal_one_is_not(clean, worse):
    assert judge_against_baseline(worse, clean).leaks_less
    again = audit_release(0.0, seed=1)
    for before, after in ((clean, again), (again, clean)):
        found = judge_against_baseline(before, after)
        assert (found.verdict, found.leaks_less) == ("NOT_MORE", False)


def test_the_baseline_may_be_this_very_audit(clean):
    found = judge_against_baseline(clean, clean)
    assert (found.verdict, found.comparison, found.leaks_less) == ("NOT_MORE", None, False)


def test_the_rates_are_those_of_the_policy_that_judges(clean, worse):
    found = judge_against_baseline(clean, worse, policy=Policy("p", (Claim(0.2, 0.9),)))
    rates = {entry.fpr for entry in found.comparison.compared if entry.claim}
    assert rates == {0.2, None}


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"title": "churn"}, "Expected a baseline of the model 'credit', got one of 'churn'"),
        ({"classes": 3}, "got 3 classes, of which '2' is on one side only"),
    ],
)
def test_a_baseline_of_another_model_is_refused(clean, more, words):
    other = audit_release(0.0, **more)
    with pytest.raises(InputError, match="--keep-baseline") as refused:
        judge_against_baseline(other, clean)
    assert words in str(refused.value)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"access": Access.LABEL}, "The access differs"),
        ({"attacks": ("gap", "loss")}, "ran confidence, and this one did not"),
        ({"confidence": 0.99}, "the confidence is 0.99, and 0.95 in the baseline"),
        ({"n": 300}, "this audit has 150 members, and the baseline's has 400"),
        (
            {"policy": Policy("p", (Claim(0.2, 0.9),))},
            "what is found at an fpr of 0.05, and nothing",
        ),
    ],
)
def test_a_release_that_was_attacked_by_less_is_inconclusive(worse, more, words):
    weaker = audit_release(0.0, **more)
    found = judge_against_baseline(worse, weaker)
    assert found.verdict == "INCONCLUSIVE" and words in found.reason


def test_a_threat_model_that_grants_less_is_weaker(worse):
    weaker = audit_release(0.0)
    granted = [replace(level, query_budget=3) for level in weaker.threat_models]
    changed = weaker.model_copy(
        update={"threat_models": granted, "digests": {**weaker.digests, "plan": "another"}}
    )
    found = judge_against_baseline(worse, changed)
    assert (
        found.verdict == "INCONCLUSIVE" and "grants less of queries for each record" in found.reason
    )


def test_an_attack_of_another_version_does_not_count_as_the_same(clean, worse):
    plan = clean.plan.model_copy(update={"versions": {**clean.plan.versions, "loss": 99}})
    digests = {**clean.digests, "plan": "another"}
    changed = clean.model_copy(update={"plan": plan, "digests": digests})
    found = judge_against_baseline(worse, changed)
    assert found.verdict == "INCONCLUSIVE" and "loss ran in another version" in found.reason


def test_more_leakage_that_a_weaker_audit_found_counts(clean):
    found = judge_against_baseline(clean, audit_release(1.0, attacks=("loss",)))
    assert found.verdict == "LEAKS_MORE"


def test_a_waived_failure_leaves_the_rest_to_decide(failing):
    found = conclude_gate(failing, [waiver()])
    assert (found.verdict, found.limited, found.notes) == ("PASS", False, ())
    assert list(found.waived) == ["No attack finds more than 15% of members at 5% false positives."]


def test_what_is_written_shows_what_is_waived_and_stores_nothing_of_it(failing):
    shown = show_gate(failing, conclude_gate(failing, [waiver()]))
    (found,) = [entry for entry in shown.findings if isinstance(entry, WaivedFinding)]
    assert (found.verdict, found.waiver) == ("FAIL", waiver())
    assert shown.verdict == "PASS" and shown.reason.startswith("Failed claims that are waived: 1.")
    assert "Ada" not in format_result_json(shown)
    unwaived = show_gate(failing, conclude_gate(failing))
    assert format_result_json(unwaived) == format_result_json(failing)


def test_what_is_written_shows_the_baseline_as_one_more_finding(clean, worse):
    gate = conclude_gate(worse, baseline=judge_against_baseline(clean, worse, ("v1", "v2")))
    shown = show_gate(worse, gate)
    assert (shown.verdict, shown.findings[-1].verdict) == ("FAIL", "FAIL")
    assert shown.findings[-1].claim == "This release leaks no more than its baseline."
    assert shown.reason.startswith("v2 leaks more than v1") and worse.reason in shown.reason
    gate = conclude_gate(clean, baseline=judge_against_baseline(worse, clean))
    shown = show_gate(clean, gate)
    assert (shown.verdict, shown.reason) == ("PASS", clean.reason)
    assert shown.findings[-1].verdict == "PASS" and len(shown.findings) == len(clean.findings) + 1


def test_a_waiver_leaves_a_limited_pass_limited():
    policy = Policy("p", (Claim(0.05, 0.15),), references=4)
    found = conclude_gate(audit_release(1.0, policy=policy), [waiver()])
    assert (found.verdict, found.limited) == ("PASS", True)
    assert "more reference models" in found.notes[0]


def test_a_limited_pass_after_a_waiver_is_no_pass_in_any_file():
    limited = audit_release(1.0, policy=replace(STRICT, references=4))
    shown = show_gate(limited, conclude_gate(limited, [waiver()]))
    assert (shown.verdict, shown.limited) == ("PASS", True)
    suite = ElementTree.fromstring(render_format(shown, "junit"))
    assert (suite.get("failures"), suite.get("errors"), suite.get("skipped")) == ("0", "1", "1")
    (run,) = json.loads(render_format(shown, "sarif"))["runs"]
    assert [entry["level"] for entry in run["results"]] == ["warning", "note"]


def test_no_file_says_that_limits_were_kept_where_a_failure_is_waived(failing):
    shown = show_gate(failing, conclude_gate(failing, [waiver()]))
    assert shown.verdict == "PASS"
    page = render_report(shown)
    assert "No attack that ran exceeded" not in page and "limits of the policy" in page
    for text in (page, *(render_format(shown, name).decode() for name in WRITTEN)):
        assert "Ada Jones" in text and "The customers were told" in text
    assert suggest_next_step(shown).startswith("Waived claims remain open")


def test_a_release_that_leaks_more_is_not_said_to_exceed_a_limit(clean, worse):
    shown = show_gate(worse, conclude_gate(worse, baseline=judge_against_baseline(clean, worse)))
    assert shown.verdict == "FAIL"
    assert "this release leaks more than the one that it was compared with" in render_report(shown)
    (run,) = json.loads(render_format(shown, "sarif"))["runs"]
    (found,) = run["results"]
    assert (found["ruleId"], found["level"]) == ("baseline", "error")


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"at_most": 0.2}, "it accepts at most 0.2, and 0."),
        ({"title": "churn"}, "it is about the audit 'churn', and this one is 'credit'"),
    ],
)
def test_a_waiver_ends_where_its_owner_drew_the_line(failing, more, words):
    outcome = conclude_gate(failing, [waiver(**more)])
    assert outcome.verdict == "FAIL" and words in " ".join(outcome.notes)
    assert conclude_gate(failing, [waiver(at_most=0.99, title="credit")]).verdict == "PASS"


def test_what_is_not_waived_still_fails():
    both = Policy("p", (Claim(0.05, 0.15), Claim(0.1, 0.2)))
    failing = audit_release(1.0, policy=both)
    assert conclude_gate(failing, [waiver(fpr=0.05)]).verdict == "FAIL"
    assert conclude_gate(failing, [waiver(fpr=0.05), waiver(fpr=0.1)]).verdict == "PASS"
    with pytest.raises(InputError, match="none that tells which of 2 claims is meant"):
        conclude_gate(failing, [waiver()])


def test_a_group_may_be_waived_whole_or_by_value():
    failing = audit_release(1.8, policy=Policy("p", (Claim(0.05, 0.15, "sex"),)))
    assert len(conclude_gate(failing, [waiver(group="sex")]).waived) == 2
    one = conclude_gate(failing, [waiver(group="sex=f")])
    assert (one.verdict, list(one.waived)) == (
        "FAIL",
        ["No attack finds more than 15% of members in sex=f at 5% false positives."],
    )
    for group in (None, "age", "sex=x"):
        with pytest.raises(InputError, match="which matches none"):
            conclude_gate(failing, [waiver(group=group)])
    with pytest.raises(InputError, match="got two for"):
        conclude_gate(failing, [waiver(group="sex"), waiver(group="sex=f")])


@pytest.mark.parametrize("more", [{"fpr": 0.01}, {"group": "sex"}, {"prior": 0.5}])
def test_a_waiver_that_matches_no_claim_is_refused(failing, more):
    with pytest.raises(InputError, match="The policy 'strict' claims under max_tpr: No attack"):
        conclude_gate(failing, [waiver(**more)])


def test_a_waiver_of_what_passes_has_no_effect_and_says_so(clean):
    found = conclude_gate(clean, [waiver()])
    assert (found.verdict, dict(found.waived)) == ("PASS", {})
    assert found.notes == ("The waiver of max_tpr has no effect: its claim passes.",)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"attack": "gap"}, "it is about gap, and logit fails the claim"),
        ({"access": "label"}, "it is about label access, and the claim fails at probabilities"),
    ],
)
def test_a_waiver_of_another_attack_or_access_has_no_effect(failing, more, words):
    reached = next(entry.estimate.reached_by for entry in failing.findings if entry.estimate)
    words = words.replace("logit", reached)
    found = conclude_gate(failing, [waiver(**more)])
    assert found.verdict == "FAIL" and words in found.notes[0]
    assert conclude_gate(failing, [waiver(attack=reached)]).verdict == "PASS"


def test_what_could_not_be_told_cannot_be_waived():
    near = audit_release(0.0, policy=Policy("p", (Claim(0.05, 0.051),)))
    assert near.verdict == "INCONCLUSIVE"
    found = conclude_gate(near, [waiver()])
    assert found.verdict == "INCONCLUSIVE" and not found.waived
    assert "only a claim that failed can be waived" in found.notes[0]


def test_a_failed_control_cannot_be_waived(failing):
    """A failure beside a control that failed is no failure to accept."""
    control = Control(False, "Members differ without the model.")
    found = failing.model_copy(
        update={
            "verdict": "INCONCLUSIVE",
            "controls": {**failing.controls, "blind": control},
            "findings": [
                replace(entry, verdict="INCONCLUSIVE") if entry.attack == "blind" else entry
                for entry in failing.findings
            ],
        }
    )
    judged = conclude_gate(found, [waiver()])
    assert judged.verdict == "INCONCLUSIVE" and not judged.waived
    assert "not to be trusted" in judged.notes[0]


def test_a_waiver_needs_a_policy():
    with pytest.raises(InputError, match="Name it with --policy"):
        conclude_gate(audit_release(1.0, policy=None), [waiver()])


def test_a_file_of_waivers_is_read(tmp_path):
    file = tmp_path / "waivers.toml"
    file.write_text(ENTRY + 'fpr = 0.01\nattack = "loss"\naccess = "logits"\n\n' + ENTRY)
    first, second = read_waivers(file, DAY)
    assert first == replace(second, fpr=0.01, attack="loss", access="logits")
    assert second == waiver()
    file.write_text("")
    assert read_waivers(file, DAY) == ()


def test_a_waiver_holds_up_to_and_with_its_last_day(tmp_path):
    file = tmp_path / "waivers.toml"
    file.write_text(ENTRY.replace("2027-01-31", '"2027-01-31"'))
    assert len(read_waivers(file, date(2027, 1, 31))) == 1
    with pytest.raises(InputError, match=r"owner Ada Jones.*expired on 2027-01-31"):
        read_waivers(file, date(2027, 2, 1))


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ('owner = "Ada Jones"\n', "", "Expected owner as a text for waiver 1"),
        ('"Ada Jones"', '"  "', "Expected owner as a text for waiver 1"),
        ('"Ada Jones"', "7", "Expected owner as a text for waiver 1"),
        ('reason = "The customers were told."\n', "", "Expected reason as a text for waiver 1"),
        ("expires = 2027-01-31\n", "", "Expected a date for expires of waiver 1"),
        ("2027-01-31", '"soon"', "Expected a date for expires of waiver 1"),
        ("2027-01-31", '"2027-W05-1"', "Expected a date for expires of waiver 1"),
        ("2027-01-31", "2027-01-31T10:00:00", "Expected a date for expires of waiver 1"),
        ("2027-01-31", "2027-02-30", "Expected a TOML file of waivers"),
        ("2027-01-31", "2026-11-29", "which expired on 2026-11-29"),
        ('claim = "max_tpr"\n', "", "Expected a claim of a policy"),
        ("max_tpr", "max_tprs", "Did you mean 'max_tpr'?"),
        ("max_tpr", "blind", "Controls and required attacks cannot be waived"),
        ("owner", "ownr", "got 'ownr'. Did you mean 'owner'?"),
        ("reason =", "fpr = true\nreason =", "Expected fpr strictly between 0 and 1"),
        ("reason =", "fpr = 1.5\nreason =", "Expected fpr strictly between 0 and 1"),
        ("reason =", 'access = "root"\nreason =', "Expected access label, probabilities"),
        ("reason =", "group = 3\nreason =", "Expected group as a text"),
        ("[[waiver]]", "[waiver]", "Expected entries [[waiver]]"),
        ("[[waiver]]", "[[waivers]]", "Expected entries [[waiver]]"),
        ("[[waiver]]", "x = [[", "Expected a TOML file of waivers"),
        ("[[waiver]]", "\x00", "Expected a TOML file of waivers"),
    ],
)
def test_each_mistake_in_a_file_of_waivers_is_one_sentence(tmp_path, before, after, words):
    assert before in ENTRY
    file = tmp_path / "waivers.toml"
    file.write_text(ENTRY.replace(before, after, 1))
    with pytest.raises(InputError) as refused:
        read_waivers(file, DAY)
    assert words in str(refused.value) and "\n" not in str(refused.value)


def test_files_that_are_none_are_refused(tmp_path):
    with pytest.raises(InputError, match="which is not there"):
        read_waivers(tmp_path / "none.toml", DAY)
    with pytest.raises(InputError, match="Expected a TOML file of waivers"):
        read_waivers(tmp_path, DAY)
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match="Expected a TOML file of waivers"):
        read_waivers(tmp_path / "bytes.toml", DAY)
