"""Write JUnit XML: one test case a finding, so that any CI shows the gate."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

from memberscope._files import write_bytes
from memberscope.auditing import Result, WaivedFinding

# Characters that XML 1.0 forbids even when escaped
FORBIDDEN = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def render_junit(result: Result) -> str:
    """Render XML text, in which FAIL is a failure.

    What is not decided, and a limited pass, is an error, so that no viewer shows it as passed. A
    claim that failed and is waived is skipped.
    """
    suite = ElementTree.Element(
        "testsuite",
        name=_strip_forbidden_characters(f"memberscope {result.title}"),
        tests=str(len(result.findings)),
    )
    counts = {"FAIL": 0, "INCONCLUSIVE": 0, "NOT_RUN": 0, "PASS": 0, "WAIVED": 0}
    for finding in result.findings:
        # A limited pass is not what the policy asked for, so the gate must not show it as one
        verdict: str = "INCONCLUSIVE" if finding.limited else finding.verdict
        waiver = finding.waiver if isinstance(finding, WaivedFinding) else None
        verdict = verdict if waiver is None else "WAIVED"
        counts[verdict] += 1
        name = f"{finding.claim} [{finding.access}]"
        case = ElementTree.SubElement(
            suite,
            "testcase",
            classname=_strip_forbidden_characters(f"memberscope.{finding.attack}"),
            name=_strip_forbidden_characters(name),
        )
        if verdict == "PASS":
            continue
        if waiver is not None:
            said = _strip_forbidden_characters(f"WAIVED. {waiver.explain()}")
            ElementTree.SubElement(case, "skipped", message=said)
            continue
        # JUnit knows failures and errors; what could not be told is the latter
        kind = "failure" if verdict == "FAIL" else "error"
        said = (
            f"PASS, limited: {result.reason}" if finding.limited else f"{verdict}: {finding.rule}"
        )
        node = ElementTree.SubElement(
            case, kind, message=_strip_forbidden_characters(said), type=verdict
        )
        node.text = _strip_forbidden_characters(finding.advice)
    suite.set("skipped", str(counts["WAIVED"]))
    suite.set("failures", str(counts["FAIL"]))
    suite.set("errors", str(counts["INCONCLUSIVE"] + counts["NOT_RUN"]))
    suite.set("time", str(result.cost.seconds))
    ElementTree.indent(suite)
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        + ElementTree.tostring(suite, encoding="unicode")
        + "\n"
    )


def _strip_forbidden_characters(text: str) -> str:
    """Strip the characters that XML forbids from a text."""
    return FORBIDDEN.sub("�", text)


def write_junit(result: Result, path: Path) -> None:
    """Write the XML, whole or not at all.

    Raises:
        InputError: The disk is full or the folder cannot be written.
    """
    write_bytes(path, render_junit(result).encode())
