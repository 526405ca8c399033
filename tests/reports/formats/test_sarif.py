"""SARIF by its official schema, by what code scanning requires, and by what must not change."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import date
from pathlib import Path

import jsonschema
import pytest

from memberscope.auditing.documents.policy import AucClaim, Claim, EpsilonClaim, Policy, PpvClaim
from memberscope.auditing.gate import conclude_gate, show_gate
from memberscope.auditing.gate.waivers import Waiver
from memberscope.reports.formats.rules import identify_rule
from memberscope.reports.formats.sarif import render_sarif
from memberscope.types import Finding

SCHEMA = Path(__file__).with_name("schemas") / "sarif-2.1.0.schema.json"


@pytest.fixture(scope="module")
def validator():
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    kind = jsonschema.validators.validator_for(schema)
    return kind(schema, format_checker=kind.FORMAT_CHECKER)


def read_run(result, document=None) -> dict:
    (run,) = json.loads(render_sarif(result, document))["runs"]
    return run


def test_every_verdict_fits_the_official_schema(case, validator):
    document = json.loads(render_sarif(case))
    assert [error.message for error in validator.iter_errors(document)] == []
    document["runs"][0]["results"] = [{"level": "bad"}]
    assert list(validator.iter_errors(document)), "the schema would take anything"


def test_code_scanning_gets_what_it_requires(case):
    run = read_run(case)
    rules = run["tool"]["driver"]["rules"]
    for rule in rules:
        assert rule["shortDescription"]["text"] and rule["fullDescription"]["text"]
        assert rule["help"]["text"] and rule["help"]["markdown"]
        severity = rule["properties"]["security-severity"]
        assert isinstance(severity, str) and 0 < float(severity) <= 10
    assert len({rule["id"] for rule in rules}) == len(rules)
    for found in run["results"]:
        assert rules[found["ruleIndex"]]["id"] == found["ruleId"] and found["message"]["text"]
        place = found["locations"][0]["physicalLocation"]
        uri = place["artifactLocation"]["uri"]
        assert uri and ".." not in uri and ":" not in uri and place["region"]["startLine"] >= 1
        assert found["partialFingerprints"]["primaryLocationLineHash"]


@pytest.mark.parametrize(
    ("name", "levels"),
    [
        ("fail", {"error"}),
        ("pass", set()),
        ("inconclusive", {"warning"}),
        ("not run", {"warning"}),
        ("limited", {"note"}),
        ("unjudged", {"warning"}),
        ("empty", {"warning"}),
    ],
)
def test_levels_follow_the_verdict_and_only_a_full_pass_is_silent(cases, name, levels):
    assert {found["level"] for found in read_run(cases[name])["results"]} == levels


def test_the_message_has_the_number_with_its_interval_and_what_to_do(result):
    run = read_run(result)
    (found,) = [entry for entry in run["results"] if entry["ruleId"].startswith("max_tpr")]
    entry = next(finding.estimate for finding in result.findings if finding.estimate)
    said = found["message"]["text"]
    assert f"{100 * entry.value:.3g}% ({100 * entry.low:.3g}% to {100 * entry.high:.3g}%)" in said
    assert "5% false positives" in said and "95% interval" in said and "800 members" in said
    assert found["properties"]["value"] == entry.value
    assert found["properties"]["n_members"] == 800


def make_run(result, *findings: Finding, policy: Policy) -> list[dict]:
    plan = result.plan.model_copy(update={"policy": policy})
    return read_run(result.model_copy(update={"findings": list(findings), "plan": plan}))["results"]


def test_fingerprints_keep_through_other_numbers_limits_and_versions(result):
    claim, entry = Claim(0.01, 0.03, "sex"), result.findings[0].estimate
    first = Finding(
        "FAIL", replace(claim, group="sex=f").sentence(), "strongest", "logits", "r", "a", entry
    )
    before = make_run(result, first, policy=Policy("p", (claim,)))
    stricter = replace(claim, tpr=0.02)
    again = replace(
        first,
        verdict="INCONCLUSIVE",
        claim=replace(stricter, group="sex=f").sentence(),
        rule="other",
        estimate=replace(entry, value=0.9, low=0.8, high=0.95, reached_by="rmia"),
    )
    later = result.model_copy(update={"digests": {"target": "another model"}, "reason": "other"})
    after = make_run(later, again, policy=Policy("p", (stricter,)))
    assert before[0]["partialFingerprints"] == after[0]["partialFingerprints"]
    assert before[0]["ruleId"] == after[0]["ruleId"] == "max_tpr/fpr=0.01/sex"


def test_fingerprints_differ_by_group_claim_access_and_model(result):
    claim = Claim(0.01, 0.03, "sex")
    base = Finding("FAIL", "", "strongest", "logits", "r", "a", None)
    sentences = [
        replace(claim, group="sex=f").sentence(),
        replace(claim, group="sex=m").sentence(),
        AucClaim(0.6).sentence(),
    ]
    findings = [replace(base, claim=words) for words in sentences]
    findings.append(replace(findings[0], access="label"))
    policy = Policy("p", (claim,), max_auc=(AucClaim(0.6),))
    other = result.model_copy(update={"title": "other"})
    runs = make_run(result, *findings, policy=policy) + make_run(other, *findings, policy=policy)
    prints = {found["partialFingerprints"]["primaryLocationLineHash"] for found in runs}
    assert len(prints) == 8


def test_a_configuration_is_the_model_whatever_its_title(result):
    placed = {"environment": {**result.environment, "config_file": "audit.toml"}}
    titles = [
        result.model_copy(update={"title": title, **placed}) for title in ("v1.onnx", "v2.onnx")
    ]
    one, two = (read_run(entry) for entry in titles)
    assert [entry["partialFingerprints"] for entry in one["results"]] == [
        entry["partialFingerprints"] for entry in two["results"]
    ]
    assert one["automationDetails"] == two["automationDetails"]
    assert one["automationDetails"] != read_run(result)["automationDetails"]


@pytest.mark.parametrize(
    ("environment", "document", "uri", "line"),
    [
        (
            {"config_file": "ml/audit.toml", "config_line": "7"},
            "out/result.json",
            "ml/audit.toml",
            7,
        ),
        ({"config_file": "audit.toml"}, "out/result.json", "audit.toml", 1),
        ({}, "out/result.json", "out/result.json", 1),
        ({}, None, "result.json", 1),
        ({"config_file": "/etc/passwd", "config_line": "٣"}, None, "passwd", 1),
        ({"config_file": "../../a b.toml", "config_line": "9" * 5000}, None, "a%20b.toml", 1),
        ({"config_file": "C:\\x\\..\\y.toml", "config_line": "0"}, None, "y.toml", 1),
        ({"config_file": "javascript:alert(1)"}, None, "javascript%3Aalert%281%29", 1),
    ],
)
def test_findings_are_shown_at_the_model_in_the_configuration(
    result, environment, document, uri, line
):
    placed = result.model_copy(update={"environment": environment})
    for found in read_run(placed, document)["results"]:
        place = found["locations"][0]["physicalLocation"]
        assert place["artifactLocation"]["uri"] == uri and place["region"]["startLine"] == line


def test_severity_follows_the_claim_and_the_verdict(result):
    claims = {
        "max_tpr": (Claim(0.01, 0.03), 7.5),
        "max_tpr/fpr=0.1": (Claim(0.1, 0.2), 6.0),
        "max_ppv": (PpvClaim(0.5, 0.01, 0.1), 7.5),
        "max_auc": (AucClaim(0.6), 5.0),
        "max_epsilon": (EpsilonClaim(2.0), 8.0),
    }
    policy = Policy(
        "p",
        (claims["max_tpr"][0], claims["max_tpr/fpr=0.1"][0]),
        max_auc=(claims["max_auc"][0],),
        max_ppv=(claims["max_ppv"][0],),
        max_epsilon=(claims["max_epsilon"][0],),
    )
    plan = result.plan.model_copy(update={"policy": policy})
    for claim, severity in claims.values():
        for verdict, limited, rated in (
            ("FAIL", False, severity),
            ("INCONCLUSIVE", False, 4.0),
            ("PASS", True, 2.0),
        ):
            finding = Finding(
                verdict, claim.sentence(), "strongest", "logits", "r", "a", limited=limited
            )
            run = read_run(result.model_copy(update={"findings": [finding], "plan": plan}))
            (rule,) = run["tool"]["driver"]["rules"]
            assert float(rule["properties"]["security-severity"]) == rated


def test_every_finding_of_a_real_audit_has_a_rule_of_its_kind(result, clean):
    for audited in (result, clean):
        kinds = {identify_rule(audited, entry).kind for entry in audited.findings}
        assert kinds == {"max_tpr", "control"}


def test_texts_make_no_links_arguments_or_controls(cases):
    text = render_sarif(cases["harsh"])
    run = json.loads(text)["runs"][0]
    for found in run["results"]:
        said = found["message"]["text"]
        assert "\x1b" not in said and "\u202e" not in said and "\\[e\\](" in said
        assert "{{0}}" in said and "\n" not in said
    for rule in run["tool"]["driver"]["rules"]:
        assert "<img" not in rule["help"]["markdown"] and "[e](" not in rule["help"]["markdown"]


def test_the_same_result_gives_the_same_file(result):
    assert render_sarif(result) == render_sarif(result.model_copy())


def test_a_waived_finding_is_a_note_and_says_so_even_without_suppressions(result, validator):
    waiver = Waiver("max_tpr", "The customers were told.", "Ada Jones", date(2027, 1, 31))
    text = render_sarif(show_gate(result, conclude_gate(result, [waiver])))
    assert [error.message for error in validator.iter_errors(json.loads(text))] == []
    (run,) = json.loads(text)["runs"]
    (found,) = [entry for entry in run["results"] if entry.pop("suppressions", None)]
    assert found["level"] == "note"
    rule = run["tool"]["driver"]["rules"][found["ruleIndex"]]
    assert rule["defaultConfiguration"]["level"] == "note"
    claim = next(entry for entry in result.findings if entry.verdict == "FAIL").claim
    begin = "Waived until 2027-01-31 by Ada Jones: The customers were told. The claim that failed: "
    assert found["message"]["text"].startswith(f"{begin}{claim} Measured: ")
    assert found["message"]["text"].count("Ada Jones") == 1
