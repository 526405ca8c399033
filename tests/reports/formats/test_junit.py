"""JUnit by an independent reader, in no more than the elements and attributes that readers know."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from memberscope.reports.formats.junit import render_junit

junitparser = pytest.importorskip("junitparser")
# What Jenkins, GitLab and Surefire read alike
KNOWN = {
    "testsuite": (
        {"name", "tests", "failures", "errors", "skipped", "time"},
        {"properties", "testcase"},
    ),
    "properties": (set(), {"property"}),
    "property": ({"name", "value"}, set()),
    "testcase": ({"name", "classname"}, {"failure", "error", "skipped", "system-out"}),
    "failure": ({"message", "type"}, set()),
    "error": ({"message", "type"}, set()),
    "skipped": ({"message"}, set()),
    "system-out": (set(), set()),
}


def read_suite(result):
    (suite,) = junitparser.JUnitXml.fromstring(render_junit(result).encode())
    return suite


def test_every_verdict_is_in_known_elements_and_attributes(case):
    root = ElementTree.fromstring(render_junit(case).encode())
    assert root.tag == "testsuite" and float(root.get("time")) >= 0
    for node in root.iter():
        attributes, children = KNOWN[node.tag]
        assert set(node.attrib) == attributes and {child.tag for child in node} <= children


@pytest.mark.parametrize(
    ("name", "failures", "errors"),
    [
        ("fail", 1, 0),
        ("pass", 0, 0),
        ("not run", 0, 1),
        ("limited", 0, 1),
        ("unjudged", 0, 1),
        ("empty", 0, 1),
    ],
)
def test_a_reader_counts_only_a_full_pass_as_passed(cases, name, failures, errors):
    suite = read_suite(cases[name])
    told = suite.failures, suite.errors, suite.tests
    suite.update_statistics()
    assert (
        told
        == (failures, errors, len(list(suite)))
        == (
            suite.failures,
            suite.errors,
            suite.tests,
        )
    )
    assert suite.tests >= 1
    passed = [case.is_passed for case in suite]
    assert all(passed) == (name == "pass")


def test_everything_that_is_open_is_an_error(cases):
    suite = read_suite(cases["inconclusive"])
    assert suite.errors == suite.tests == len(cases["inconclusive"].findings)


def test_the_output_of_a_case_has_the_number_and_its_interval(result):
    entry = next(finding.estimate for finding in result.findings if finding.estimate)
    (case,) = [case for case in read_suite(result) if case.classname == "memberscope.strongest"]
    lines = case.system_out.splitlines()
    numbers = dict(line.split("=", 1) for line in lines if "=" in line.split(" ")[0])
    assert float(numbers["value"]) == entry.value
    assert (float(numbers["low"]), float(numbers["high"])) == (entry.low, entry.high)
    assert numbers["n_members"] == "800" and numbers["confidence"] == "0.95"
    assert lines[0] == "rule: max_tpr/fpr=0.05" and lines[2].startswith("measured: ")


def test_the_message_of_a_failure_is_what_viewers_need(result):
    (case,) = [case for case in read_suite(result) if case.classname == "memberscope.strongest"]
    failure, finding = case.result[0], result.findings[0]
    entry = finding.estimate
    assert failure.message.startswith(f"FAIL: {finding.claim} Measured: {100 * entry.value:.3g}% (")
    assert failure.message.endswith(f"by {entry.reaching_attack}.")
    assert finding.rule in failure.text and finding.advice in failure.text


def test_properties_say_what_was_judged(cases):
    found = {entry.name: entry.value for entry in read_suite(cases["limited"]).properties()}
    assert found["verdict"] == "PASS" and found["limited"] == "true" and found["policy"] == "gate"
    found = {entry.name: entry.value for entry in read_suite(cases["unjudged"]).properties()}
    assert found["verdict"] == "NO POLICY" and found["policy"] == ""


def test_texts_stay_texts(cases):
    text = render_junit(cases["harsh"])
    assert "\x1b" not in text and "\u202e" not in text and "<img" not in text
    suite = read_suite(cases["harsh"])
    assert "<img src=x>" in suite.name and "\\x1b[2J" in suite.name
    assert len(list(suite)) == len(cases["harsh"].findings)
