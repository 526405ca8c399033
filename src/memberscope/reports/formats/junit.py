"""Write JUnit XML, which any CI shows: one test case for each finding, with what was measured."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

from memberscope._files import write_bytes
from memberscope._text import escape_controls
from memberscope.auditing import Result, WaivedFinding
from memberscope.reports.formats.key_numbers import collect_numbers, describe_number, name_number
from memberscope.reports.formats.rules import (
    VERDICT,
    identify_rule,
    list_open_findings,
)
from memberscope.reports.waived_findings import (
    explain_waiver,
    list_waived_findings,
    write_advice,
)
from memberscope.types import Estimate, Finding

# Characters that XML 1.0 forbids even when escaped
FORBIDDEN = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def render_junit(result: Result) -> str:
    """Render XML text, in which FAIL is a failure.

    What is not decided, and a limited pass, is an error, so that no viewer shows it as passed. A
    claim that failed and is waived is skipped.
    """
    open_findings = list_open_findings(result)
    # What stands for an audit that was not judged is none of its findings
    cases = [*result.findings, *(entry for entry in open_findings if entry.attack == VERDICT)]
    failures = sum(entry.verdict == "FAIL" for entry in open_findings)
    suite = ElementTree.Element(
        "testsuite",
        name=_clean_xml(f"memberscope {result.title}"),
        tests=str(len(cases)),
        failures=str(failures),
        errors=str(len(open_findings) - failures),
        skipped=str(len(list_waived_findings(result))),
        time=str(result.cost.seconds),
    )
    properties = ElementTree.SubElement(suite, "properties")
    for name, value in _list_properties(result).items():
        ElementTree.SubElement(properties, "property", name=name, value=_clean_xml(value))
    for finding in cases:
        suite.append(_build_case(result, finding))
    ElementTree.indent(suite)
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        + ElementTree.tostring(suite, encoding="unicode")
        + "\n"
    )


def _list_properties(result: Result) -> dict[str, str]:
    """List what holds for all cases: the verdict, the policy, and what was audited."""
    policy = result.plan.policy
    return {
        "verdict": result.verdict or "NO POLICY",
        "limited": str(result.limited).lower(),
        "reason": result.reason,
        "policy": "" if policy is None else policy.name,
        "members": str(result.diagnostics.n_members),
        "non_members": str(result.diagnostics.n_non_members),
        "memberscope": result.tool.version,
    }


def _build_case(result: Result, finding: Finding) -> ElementTree.Element:
    """Build the case of a finding; what it measured stands in its output, which viewers show."""
    case = ElementTree.Element(
        "testcase",
        classname=_clean_xml(f"memberscope.{finding.attack}"),
        name=_clean_xml(f"{finding.claim} [{finding.access}]"),
    )
    if isinstance(finding, WaivedFinding):
        said = _clean_xml(f"WAIVED. {explain_waiver(finding)}")
        ElementTree.SubElement(case, "skipped", message=said)
    elif finding.verdict != "PASS" or finding.limited:
        # JUnit knows failures and errors; what could not be told is the latter
        kind = "failure" if finding.verdict == "FAIL" else "error"
        # A limited pass is not what the policy asked for, so the gate must not show it as one
        said = (
            f"PASS, limited: {result.reason}"
            if finding.limited
            else f"{finding.verdict}: {_describe_case(finding)}"
        )
        word = "INCONCLUSIVE" if finding.limited else finding.verdict
        node = ElementTree.SubElement(case, kind, message=_clean_xml(said), type=word)
        node.text = _clean_xml(f"{finding.rule}\n{write_advice(finding, result)}")
    output = ElementTree.SubElement(case, "system-out")
    lines = [f"rule: {identify_rule(result, finding).id}", f"judged by: {finding.rule}"]
    lines += [] if finding.estimate is None else _list_numbers(finding.estimate)
    output.text = _clean_xml("\n".join(lines))
    return case


def _describe_case(finding: Finding) -> str:
    """Write the claim and what was measured, or the rule where nothing was."""
    if finding.estimate is None:
        return f"{finding.claim} {finding.rule}"
    number = finding.estimate
    return f"{finding.claim} Measured: {describe_number(number)} by {number.reaching_attack}."


def _list_numbers(entry: Estimate) -> list[str]:
    """List what was measured: in words first, then each number by its name."""
    words = f"measured: {describe_number(entry)}, {name_number(entry)}"
    return [words, *(f"{name}={value}" for name, value in collect_numbers(entry).items())]


def _clean_xml(text: str) -> str:
    r"""Write control characters of a text as escapes, and replace what XML forbids besides.

    >>> _clean_xml("a\x1bb\ufffe")
    'a\\x1bb�'
    """
    return FORBIDDEN.sub("\ufffd", escape_controls(text))


def write_junit(result: Result, path: Path) -> None:
    """Write the XML, whole or not at all.

    Raises:
        InputError: The disk is full or the folder cannot be written.
    """
    write_bytes(path, render_junit(result).encode())
